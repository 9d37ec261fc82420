"""An operation as a campaign: its file and its steps, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.core import paths
from hil.evidence.test_plan import load_plan
from hil.operation.campaign import write_campaign
from hil.operation.model import load_operation

SHORT = """\
schema: 1
name: short
bundle: {file: os.raucb, version: 7.1.0, image_sha256: %s}
steps: {upload: {}, verify: {}}
""" % ("a" * 64)  # fmt: skip


def test_an_operation_has_the_tests_and_requirements_of_its_steps(tmp_path: Path) -> None:
    file = tmp_path / "short.yaml"
    file.write_text(SHORT)
    folder = write_campaign(load_operation(file), tmp_path / "out")
    assert folder.parent == tmp_path / "out/operations"
    tests = ["test_1_preview.py", "test_2_upload.py", "test_3_verify.py"]
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["conftest.py", "operation.yaml", "plan.yaml", *tests]
    )
    plan = load_plan(folder)
    assert plan.id == "op-short" and [r.id for r in plan.requirements] == ["OPE-010", "OPE-020", "OPE-030"]
    copied = load_operation(folder / "operation.yaml")
    assert copied.bundle_path == tmp_path / "os.raucb" and copied.steps == load_operation(file).steps


def test_the_same_operation_is_the_same_campaign(tmp_path: Path) -> None:
    first = write_campaign(load_operation("six_gpu"), tmp_path)
    assert len(load_plan(first).requirements) == 8
    before = {path.name: path.stat().st_mtime_ns for path in first.iterdir()}
    assert write_campaign(load_operation("six_gpu"), tmp_path) == first
    assert {path.name: path.stat().st_mtime_ns for path in first.iterdir()} == before
    changed = tmp_path / "six.yaml"
    text = (paths.shipped("operations") / "six_gpu.yaml").read_text("utf-8")
    changed.write_text(text.replace("duration: 1m", "duration: 2m"))
    assert write_campaign(load_operation(changed), tmp_path) != first


def test_pytest_collects_what_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from hil.campaign.validate import validate

    found = validate(write_campaign(load_operation("six_gpu"), tmp_path))
    assert found.steps == ["preview", "upload", "verify", "install", "activate", "configure", "run", "collect"]
    assert not found.uncovered
