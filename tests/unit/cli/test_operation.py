"""`hil operation check`: what it prints, and its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hil.cli.app import run
from tests.kits.pod_api import EM

FILE = "schema: 1\nname: test\nbundle: {size_bytes: 50000000}\nsteps: {upload: {deadline: 3s}}\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIL_HOME", str(tmp_path / "home"))
    path = tmp_path / "operation.yaml"
    path.write_text(FILE)
    return path


def test_what_does_not_fit_is_exit_code_2_with_the_constraint_in_one_sentence(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["operation", "check", str(file), "--lab", "virtual"]) == 2
    page = capsys.readouterr().out.splitlines()
    assert page[-1].startswith("Infeasible: upload: gs-1 to sc-a needs 50 MB and has 33.8 MB")
    assert next(line for line in page if line.startswith("->")).split()[1] == "upload:"
    assert run(["operation", "check", str(file), "--lab", "virtual", "--json"]) == 2
    document = json.loads(capsys.readouterr().out)
    assert document["feasible"] is False and document["binding"] == "upload: gs-1 to sc-a"
    assert document["sentence"] == page[-1]


def test_what_fits_is_exit_code_0(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(FILE.replace("3s", "3m"))
    assert run(["operation", "check", str(file), "--lab", "virtual"]) == 0
    assert "Feasible; the binding constraint is storage of a board" in capsys.readouterr().out


def test_a_fault_of_the_file_is_an_error_and_no_answer(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text(FILE + "more: 1\n")
    assert run(["operation", "check", str(file), "--lab", "virtual", "--json"]) == 2
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["blame"] == "configuration" and "operation.yaml:5: more: unknown key" in error["message"]
    assert run(["operation", "check", str(file.with_name("x")), "--lab", "virtual"]) == 2
    assert run(["operation", "check", "six_gpu", "--lab", "virtual", "--epoch", "2026-03-21T00:00:00Z"]) == 2


def test_the_reference_is_markdown_or_a_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["operation", "reference"]) == 0
    assert "# Operation file: every key" in capsys.readouterr().out
    assert run(["operation", "reference", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Operation"


class Campaign:
    """Stands in for the process of pytest."""

    argv: tuple[str, ...] = ()


@pytest.fixture
def campaign(monkeypatch: pytest.MonkeyPatch) -> Campaign:
    started = Campaign()
    monkeypatch.setattr("hil.cli.campaign.group.prepare", lambda: None)
    monkeypatch.setattr("os.execv", lambda program, argv: setattr(started, "argv", tuple(argv)))
    return started


def test_an_operation_runs_as_the_campaign_that_is_made_of_it(file: Path, tmp_path: Path, campaign: Campaign) -> None:
    file.write_text(FILE.replace("3s", "3m") + "boards: {split: 2+2}\n")
    words = ["operation", "run", str(file), "--lab", "virtual", "-o", str(tmp_path / "out"), "--from", "upload", "-x"]
    assert run(words) == 0
    folder = next((tmp_path / "out/operations").iterdir())
    argv = " ".join(campaign.argv)
    assert f"pytest -v {folder} --hil-lab " in argv
    assert "--hil-split 2+2" in argv and "--hil-from upload" in argv and argv.endswith(" -x")


def test_an_infeasible_operation_is_not_run_unless_it_is_meant(
    file: Path, tmp_path: Path, campaign: Campaign, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["operation", "run", str(file), "--lab", "virtual", "-o", str(tmp_path / "out")]
    assert run(words) == 2
    assert not campaign.argv and not (tmp_path / "out").exists()
    assert "Infeasible: upload: gs-1 to sc-a needs 50 MB" in capsys.readouterr().err
    assert run([*words, "--unchecked"]) == 0
    assert campaign.argv


def test_an_operation_is_checked_and_run_on_an_engineering_model(
    file: Path, tmp_path: Path, campaign: Campaign, capsys: pytest.CaptureFixture[str]
) -> None:
    (model := tmp_path / "em.yaml").write_text(EM)
    place = ["--model", str(model)]
    assert run(["operation", "check", str(file), *place]) == 0
    assert "one node of em for all boards" in capsys.readouterr().out
    assert run(["operation", "run", str(file), *place, "-o", str(tmp_path / "out"), "-x"]) == 0
    folder = next((tmp_path / "out/operations").iterdir())
    argv = " ".join(campaign.argv)
    assert f"pytest -v {folder} " in argv and "--hil-lab" not in argv and argv.endswith(" -x")
    assert (folder / "engineering-model.yaml").is_file()
    model.write_text(EM + "call_bytes: 1000\n")
    assert run(["operation", "run", str(file), *place]) == 2
    assert "Infeasible: one call of the uplink needs 50 MB" in capsys.readouterr().err


@pytest.mark.parametrize("words", [[], ["--lab", "virtual", "--model", "em.yaml"]])
def test_an_operation_is_for_a_lab_or_for_a_model(
    file: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["operation", "check", str(file), *words]) == 2
    assert "give --lab or --model" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["--epoch", "2026-03-21T06:00:00Z"], ["--tenant", "alpha"]])
def test_a_model_has_no_orbit_and_no_tenants(
    file: Path, tmp_path: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (model := tmp_path / "em.yaml").write_text(EM)
    assert run(["operation", "check", str(file), "--model", str(model), *words]) == 2
    assert "are for a lab" in capsys.readouterr().err
