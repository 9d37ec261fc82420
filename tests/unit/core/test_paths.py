"""Where shipped files are found and where runs go, in a checkout and from a wheel."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from hil.core import paths
from hil.evidence.environment import NO_COMMIT, git_facts


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package as a wheel leaves it in ``site-packages``, inside of a repository."""
    site = tmp_path / "customer/.venv/lib/site-packages"
    plan = site / "hil/shipped/testplans/six_gpu"
    plan.mkdir(parents=True)
    (plan / "plan.yaml").touch()
    monkeypatch.setattr(paths, "ROOT", site)
    monkeypatch.setattr(paths, "PACKAGE", site / "hil")
    monkeypatch.delenv("HIL_REPORTS", raising=False)
    return site


def test_a_name_is_the_shipped_lab_or_plan_and_a_path_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.lab_file("virtual") == paths.ROOT / "lab/virtual.yaml"
    assert paths.plan_folder("six_gpu") == paths.ROOT / "testplans/six_gpu"
    assert paths.lab_file("lab/virtual.yaml") == Path("lab/virtual.yaml")
    assert paths.lab_file("nothing") == Path("nothing")
    (tmp_path / "six_gpu").mkdir()
    assert paths.plan_folder("six_gpu") == Path("six_gpu")


def test_a_wheel_finds_what_it_brought(installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.plan_folder("six_gpu") == installed / "hil/shipped/testplans/six_gpu"
    assert paths.checkout() is None


def test_runs_of_an_installed_package_go_to_the_working_directory(
    installed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert paths.reports_out() == tmp_path / "reports/out"


def test_runs_go_to_the_checkout_for_one_who_works_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HIL_REPORTS", raising=False)
    monkeypatch.chdir(paths.ROOT / "docs")
    assert paths.reports_out() == paths.ROOT / "reports/out"
    monkeypatch.chdir(tmp_path)
    assert paths.reports_out() == tmp_path / "reports/out"


def test_a_repository_around_the_environment_says_nothing_about_a_shipped_plan(installed: Path) -> None:
    repository = installed.parents[2]
    for command in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", "Foreign"]):
        identity = ["-c", "user.name=x", "-c", "user.email=x@example.invalid"]
        subprocess.run(["git", "-C", str(repository), *identity, *command], check=True)
    assert git_facts(repository)["commit"]
    assert git_facts(installed / "hil/shipped/testplans/six_gpu") == NO_COMMIT
