"""`hil twin run`: the figures, the picture, and what they rest on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli.app import run
from hil.core import paths


def test_a_prediction_names_every_board_and_what_is_assumed(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    picture, kepler = tmp_path / "heat.svg", str(paths.lab_file(Path("kepler")))
    assert run(["twin", "run", kepler, "--orbits", "1", "--step", "10s", "-o", str(picture), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [row["board"] for row in document["boards"]][:2] == ["k01a", "k01b"]
    assert len(document["boards"]) == 40
    assert document["assumed"] == ["radiator", "structure", "bus"]
    assert document["energy_error"] < 0.001
    assert "assumed: radiator, structure, bus" in picture.read_text()
    assert run(["twin", "run", kepler, "--orbits", "0.1", "--step", "10s"]) == 0
    out = capsys.readouterr()
    assert "sc-10/k10d" in out.out
    assert "assumed, not published" in out.err


def test_a_lab_without_a_twin_is_a_wrong_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["twin", "run", str(paths.lab_file(Path("virtual")))]) == 2
    assert "has no section twin" in capsys.readouterr().err
