"""`hil orbit links`: every phase in every format."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from hil.cli.app import run
from hil.orbit.phases import LinkPlan, Phase
from tests.kits.orbits import ORBITS, phases


@pytest.mark.parametrize("format_", ["table", "csv", "json"])
def test_the_links_command_writes_every_phase_in_every_format(format_: str, tmp_path: Path) -> None:
    out = tmp_path / "plan"
    arguments = ["orbit", "links", str(ORBITS / "brief-gap.yaml"), "--span", "15m", "--seed", "3"]
    assert run([*arguments, "--format", format_, "-o", str(out)]) == 0
    text = out.read_text()
    if format_ == "json":
        plan = LinkPlan.from_json(json.loads(text))
        assert plan.seed == 3 and Phase.ACQUIRE in phases(plan, "sc-a--sc-b")
    elif format_ == "csv":
        rows = list(csv.DictReader(text.splitlines()))
        assert {"slew", "acquire", "track", "blocked"} == {r["phase"] for r in rows if "gs" not in r["link"]}
    else:
        assert "acquisition drawn" in text and "2026-03-21T00:03:59.474Z" in text


def test_one_link_can_be_asked_for_and_an_unknown_one_is_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["orbit", "links", str(ORBITS / "brief-gap.yaml"), "--span", "15m", "--link"]
    assert run([*arguments, "sc-a--sc-b"]) == 0
    assert "gs-1" not in capsys.readouterr().out
    assert run([*arguments, "sc-a--sc-c"]) == 2
