"""`hil runs show`: what a run's links delivered is listed with limits and directions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from hil.cli.app import cli
from hil.core import paths
from hil.report.make import finish_run


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    directory = tmp_path / "runs" / "20261129T012430Z-six-gpu-801e"
    shutil.copytree(paths.ROOT / "tests" / "data" / "old_run", directory)
    finish_run(directory, tmp_path)
    monkeypatch.setattr(paths, "reports_out", lambda: tmp_path)
    return directory


def test_the_figures_of_every_link_are_listed(runs: Path) -> None:
    shown = CliRunner().invoke(cli, ["runs", "show"], env={"COLUMNS": "160"})
    assert shown.exit_code == 0, shown.output
    (p50,) = [
        line for line in shown.output.splitlines() if "isl-ab" in line and "a_to_b" in line and "delay_p50" in line
    ]
    assert "within 150 us of 14,386 us" in p50
    assert p50.rstrip().endswith("ok")


def test_json_has_every_measurement_with_its_dimensions(runs: Path) -> None:
    document = json.loads(CliRunner().invoke(cli, ["runs", "show", "--json"]).output)
    figures = [m for m in document["measurements"] if m["dimensions"].get("link")]
    assert len(figures) == 56
    assert {"name", "value", "unit", "limit", "ok", "dimensions"} <= figures[0].keys()
