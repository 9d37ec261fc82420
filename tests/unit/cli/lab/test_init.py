"""`hil lab init` writes a repository that is whole and that it does not overwrite."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.cli.app import run
from hil.evidence.test_plan import load_plan


def test_the_lab_and_the_plan_that_it_writes_are_valid(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["lab", "init", str(tmp_path / "new")]) == 0
    assert str(tmp_path / "new/lab/first.yaml") in capsys.readouterr().out
    assert run(["lab", "validate", str(tmp_path / "new/lab/first.yaml")]) == 0
    assert load_plan(tmp_path / "new/plans/first_contact").id == "first-contact"


def test_a_file_that_is_there_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "README.md").write_text("ours")
    assert run(["lab", "init", str(tmp_path)]) == 2
    assert str(tmp_path / "README.md") in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["README.md"]


def test_a_shipped_lab_is_checked_by_name_with_the_files_that_it_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["lab", "validate", "kepler"]) == 0
