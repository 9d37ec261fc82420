"""`hil campaign new` writes what `hil campaign validate` takes; validate names what is wrong and writes nothing."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import pytest

from hil.boards import kinds
from hil.boards.capabilities import Feature
from hil.campaign.run import CampaignRun
from hil.cli.app import run
from hil.core import paths
from hil.errors import ConfigurationError
from hil.lab.model import load_lab


class Validate(Protocol):
    """Runs `hil campaign validate` for a folder: exit code, and what it said on stdout and stderr."""

    def __call__(self, folder: Path, *arguments: str) -> tuple[int, str, str]: ...


@pytest.fixture
def validated(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Validate:
    def validate(folder: Path, *arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "path", [*sys.path])
        monkeypatch.chdir(folder.parent)
        code = run(["campaign", "validate", str(folder), *arguments])
        for name, module in list(sys.modules.items()):  # pytest keeps what it has imported
            if str(getattr(module, "__file__", None)).startswith(str(folder)):
                del sys.modules[name]
        return code, *capsys.readouterr()

    return validate


def test_a_new_campaign_is_in_order_and_no_file_is_overwritten(
    tmp_path: Path, validated: Validate, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HIL_REPORTS", str(tmp_path / "out"))
    folder = tmp_path / "plans" / "heat_one"
    assert run(["campaign", "new", str(folder)]) == 0
    before = (folder / "plan.yaml").read_text("utf-8")
    _, stdout, _ = validated(folder, "--lab", "virtual", "--json")
    found = json.loads(stdout)
    assert (found["plan"], found["uncovered"], found["absent"]) == ("heat-one", [], {})
    assert found["steps"] == ["boards", "the_other_spacecraft_is_reached_again_after_an_outage"]
    assert found["participants"]["split"] == "3+3"
    assert run(["campaign", "new", str(folder)]) == 2
    assert "are there already" in capsys.readouterr().err
    assert (folder / "plan.yaml").read_text("utf-8") == before
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["7up", "_", "x" * 41])
def test_a_name_that_is_no_campaign_is_refused(name: str, tmp_path: Path) -> None:
    assert run(["campaign", "new", str(tmp_path / name)]) == 2
    assert not (tmp_path / name).exists()


def test_each_fault_of_a_campaign_is_named(tmp_path: Path, validated: Validate) -> None:
    folder = tmp_path / "demo"
    run(["campaign", "new", str(folder)])
    for text, says in (
        ("import nothing_here\n", "No module named 'nothing_here'"),
        ('import pytest\n@pytest.mark.requirement("DEMO-9")\ndef test_x(): pass\n', "no requirement DEMO-9"),
        ("", ""),
    ):
        (folder / "test_more.py").write_text(text, "utf-8")
        code, _, stderr = validated(folder)
        assert (code, says in stderr) == (2 if says else 0, True), stderr
        assert stderr.count("remedy") == bool(says)


def test_a_feature_that_the_plan_needs_and_a_board_lacks_is_said(tmp_path: Path, validated: Validate) -> None:
    folder = tmp_path / "demo"
    run(["campaign", "new", str(folder)])
    plan = folder / "plan.yaml"
    text = plan.read_text("utf-8")
    for needs, code, says in (("[power, slots]", 0, ""), ("[power, wings]", 2, "there is no feature wings")):
        plan.write_text(f"{text}needs: {needs}\n", "utf-8")
        found, _, stderr = validated(folder, "--lab", "virtual")
        assert (found, says in stderr) == (code, True), stderr


def test_a_campaign_does_not_begin_on_boards_without_what_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poor = replace(
        kinds.kind_of(load_lab(paths.lab_file("virtual")).boards[0]), lacks=lambda _: {Feature.SLOTS: "no B"}
    )
    monkeypatch.setattr(kinds, "kind_of", lambda spec: poor)
    with pytest.raises(ConfigurationError, match=r"board a1 has no slots, which .*plan\.yaml needs: no B"):
        CampaignRun.check(paths.plan_folder("six_gpu"), lab=load_lab(paths.lab_file("virtual")))


def test_what_a_lab_cannot_show_and_a_choice_that_does_not_fit_are_said(tmp_path: Path, validated: Validate) -> None:
    six = paths.ROOT / "testplans/six_gpu"
    code, _, stderr = validated(six, "--lab", "virtual")
    assert code == 0 and "SIX-015 cannot be shown there" in stderr
    code, _, stderr = validated(six, "--lab", "virtual", "--split", "4+2")
    assert code == 2 and "sc-a has 3 boards" in stderr
