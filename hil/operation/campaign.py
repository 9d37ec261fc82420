"""From an operation file to a campaign: the plan `testplans/operation` with the file and its steps only."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

from hil.core import paths
from hil.core.files import write_atomic
from hil.lab.yaml_tree import read_tree
from hil.operation.engineering_model import EngineeringModelSpec
from hil.operation.model import Operation

PLAN = "operation"
ON_MODEL = "engineering_model"
"""The plan of the same steps on an engineering model."""
MODEL_FILE = "engineering-model.yaml"
FOLDER = "operations"


def write_campaign(operation: Operation, out: Path, model: EngineeringModelSpec | None = None) -> Path:
    """Write the campaign of an operation, on a bench or on an engineering model, below a reports folder; its folder.

    Its name has a digest of all that is in it: the same operation is the same campaign, so runs have a history.
    """
    source = paths.shipped("testplans") / (ON_MODEL if model else PLAN)
    tests = {name: path for path in sorted(source.glob("test_*.py")) if (name := _step(path)) in _steps(operation)}
    files = {"conftest.py": (source / "conftest.py").read_text("utf-8")}
    files |= {path.name: path.read_text("utf-8") for path in tests.values()}
    named = set(re.findall(r"OPE-\d+", "".join(files.values())))
    plan: dict[str, Any] = read_tree(source / "plan.yaml")[1]
    plan["id"], plan["title"] = f"op-{operation.name}", f"{operation.name}: {operation.description}".strip(": ")
    if model is not None:
        plan["id"], plan["title"] = f"op-{operation.name}-{model.name}", f"{plan['title']}; on {model.name}"
    plan["requirements"] = [each for each in plan["requirements"] if each["id"] in named]
    files["plan.yaml"] = _yaml(plan)
    document = operation.model_dump(mode="json", by_alias=True, exclude_none=True)
    if operation.bundle_path is not None:
        document["bundle"]["file"] = str(operation.bundle_path.resolve())
    files["operation.yaml"] = _yaml(document)
    if model is not None:
        there = model.model_dump(mode="json", by_alias=True, exclude_none=True)
        if model.tar is not None:
            there["image"]["tar"] = str(model.tar.resolve())
        files[MODEL_FILE] = _yaml(there)
    digest = hashlib.sha256("\0".join(f"{name}\0{files[name]}" for name in sorted(files)).encode()).hexdigest()
    folder = out / FOLDER / f"{operation.name}-{digest[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        if not (folder / name).is_file() or (folder / name).read_text("utf-8") != text:
            write_atomic(folder / name, text)
    return folder


def _steps(operation: Operation) -> list[str]:
    """Return the names of the tests that belong to an operation."""
    return ["preview", *operation.steps.names()]


def _step(path: Path) -> str:
    """Return the step that a test file ``test_2_upload.py`` is about."""
    return path.stem.split("_", 2)[2]


def _yaml(document: object) -> str:
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120)
