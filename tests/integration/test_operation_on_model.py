"""The shipped operation on an engineering model's counterpart: no bench, no root."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hil.core import paths
from hil.operation.model import load_operation
from tests.kits.pod_api import PASSWORD, PodApi

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

SHIPPED = paths.shipped("operations") / "six_gpu.yaml"
"""Its payload runs for a minute: here for seconds, of which each is one of a processor that others need."""
FILE = """\
schema: 1
name: counterpart
api: pods
url: {url}
user: client1
password: env:EM_PASSWORD
image: {{name: cloud-mask, tar: cloud-mask.tar}}
uplink_bps: 100000000
poll_s: 0.1
"""


def run(api: PodApi, folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "cloud-mask.tar").write_bytes(b"stands for a container image")
    (folder / "em.yaml").write_text(FILE.format(url=api.url))
    (folder / "six_gpu.yaml").write_text(SHIPPED.read_text().replace("duration: 1m", "duration: 5s"))
    argv = [sys.executable, "-m", "hil.cli", "operation", "run", "six_gpu.yaml", "--model", "em.yaml"]
    environment = os.environ | {"EM_PASSWORD": PASSWORD, "HIL_HOME": os.environ.get("HIL_HOME", "")}
    environment = {name: text for name, text in environment.items() if text}
    argv += ["-o", str(folder / "out"), "-q"]
    return subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True, timeout=400)


def result_of(folder: Path) -> tuple[Path, dict[str, object]]:
    (path,) = folder.glob("out/runs/*/result.json")
    return path.parent, json.loads(path.read_text())


def test_the_shipped_operation_runs_on_a_model_that_is_slow_and_locked(tmp_path: Path) -> None:
    (volume := tmp_path / "volume").mkdir()
    with PodApi(volume) as api:
        api.locked, api.slow_start, api.slow_s, api.token_uses = 5, 3, 0.02, 60
        done = run(api, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        assert list(volume.iterdir()) == [], "what was brought there is removed"
        directory, result = result_of(tmp_path)
        assert [each["verdict"] for each in result["requirements"]] == ["PASS"] * 8  # type: ignore[attr-defined]
        assert result["fidelity"] == "virtual"
        given, ran = map(load_operation, (tmp_path / "six_gpu.yaml", directory / "artefacts/operation.yaml"))
        assert ran.model_dump(exclude={"file"}) == given.model_dump(exclude={"file"})
        written = [path for path in tmp_path.glob("out/**/*") if path.is_file()]
        secrets = (PASSWORD.encode(), api.token.encode())
        assert written and not [path for path in written for each in secrets if each in path.read_bytes()]


def test_a_model_that_keeps_other_bytes_fails_the_verification(tmp_path: Path) -> None:
    (volume := tmp_path / "volume").mkdir()
    with PodApi(volume) as api:
        api.corrupt = ".raucb"
        done = run(api, tmp_path)
        assert done.returncode == 1, done.stdout + done.stderr
        _, result = result_of(tmp_path)
        verdicts = {each["id"]: each["verdict"] for each in result["requirements"]}  # type: ignore[attr-defined]
        assert (verdicts["OPE-020"], verdicts["OPE-030"], verdicts["OPE-040"]) == ("PASS", "FAIL", "NOT RUN")
