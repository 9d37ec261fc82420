"""The package as a customer has it: a wheel in an environment of its own, a repository of their own, no checkout."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from hil.core import paths

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

OWN_OPTION = """
def pytest_addoption(parser):
    parser.addoption("--lab", help="a lab of ours that has nothing to do with satellites")
"""
NEWER = ("python3.13", "python3.12", *map(str, Path.home().glob(".pyenv/versions/3.1[2-9].*/bin/python")))


@dataclass(frozen=True)
class Environment:
    """A repository with the package installed in ``.venv``, as its owner works in it."""

    directory: Path

    @classmethod
    def make(cls, directory: Path, python: str, wheel: Path) -> Environment:
        environment = cls(directory)
        directory.mkdir()
        subprocess.run([python, "-m", "venv", "--without-pip", str(directory / ".venv")], check=True)
        pip = (sys.executable, "-m", "pip", "--python", str(directory / ".venv/bin/python"))
        subprocess.run([*pip, "install", "-q", "--no-compile", str(wheel)], cwd=directory, check=True)
        return environment

    def run(self, program: str, *arguments: str, timeout_s: float = 300.0) -> subprocess.CompletedProcess[str]:
        """Run a program of the environment in the repository."""
        ours = ("PYTHON", "PYTEST", "HIL_REPORTS", "VIRTUAL_ENV")
        return subprocess.run(
            [str(self.directory / ".venv/bin" / program), *arguments],
            cwd=self.directory,
            env={name: value for name, value in os.environ.items() if not name.startswith(ours)},
            capture_output=True,
            text=True,
            timeout=timeout_s,
        )

    def good(self, program: str, *arguments: str) -> str:
        """Run a program that ends with 0 and return what it printed."""
        done = self.run(program, *arguments)
        assert done.returncode == 0, f"{program} {' '.join(arguments)}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Customer", "-c", "user.email=customer@example.invalid")
        argv = ["git", "-C", str(self.directory), *identity, *arguments]
        return subprocess.run(argv, check=True, capture_output=True, text=True).stdout.strip()

    @property
    def package(self) -> Path:
        return next(self.directory.glob(".venv/lib/python3*/site-packages/hil"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("wheel")
    argv = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", str(target)]
    subprocess.run([*argv, str(paths.ROOT)], check=True)
    return next(target.glob("*.whl"))


@pytest.fixture(scope="module")
def customer(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    environment = Environment.make(tmp_path_factory.mktemp("wheel") / "customer", sys.executable, wheel)
    environment.good("hil", "lab", "init")
    assert _differences(filecmp.dircmp(paths.ROOT / "examples/customer", environment.directory)) == []
    (environment.directory / "conftest.py").write_text(OWN_OPTION)
    environment.git("init", "--quiet")
    environment.git("add", "--all")
    environment.git("commit", "--quiet", "--message", "Our rehearsals")
    return environment


def _differences(compared: filecmp.dircmp[str]) -> Sequence[str]:
    below = [name for sub in compared.subdirs.values() for name in _differences(sub)]
    return [*(n for n in compared.left_only if n != "__pycache__"), *compared.diff_files, *below]


def test_programs_of_the_boards_root_are_executable_in_the_installed_package(customer: Environment) -> None:
    recipes = Path("images/os")
    programs = [p for p in (paths.PACKAGE / recipes).rglob("*") if p.is_file() and p.stat().st_mode & 0o111]
    assert programs
    for program in programs:
        installed = customer.package / program.relative_to(paths.PACKAGE)
        assert installed.stat().st_mode & 0o111, installed


def test_a_campaign_of_the_customers_own_passes_and_its_evidence_names_the_customers_commit(
    customer: Environment,
) -> None:
    customer.good("hil", "setup")
    customer.good("hil", "campaign", "run", "plans/first_contact", "--lab", "lab/first.yaml")
    (report,) = customer.directory.glob("reports/out/runs/*/report.html")
    meta = json.loads((report.parent / "run.json").read_text("utf-8"))
    assert meta["git"] == {"commit": customer.git("rev-parse", "HEAD"), "dirty": False}
    assert (meta["hil_version"], meta["hil_commit"]) == (metadata.version("orbital-hil"), None)
    assert meta["fidelity_gaps"] and meta["board_packages"]
    assert "FC-010" in report.read_text("utf-8")


def test_a_plain_test_of_the_customer_has_a_bench(customer: Environment) -> None:
    assert "1 passed" in customer.good("pytest", "tests", "--hil-lab", "lab/first.yaml", "--lab", "ours")


def test_the_shipped_campaign_and_labs_are_found_by_name_and_have_no_commit(customer: Environment) -> None:
    assert "6 boards" in customer.good("hil", "lab", "validate", "virtual")
    listed = customer.good("hil", "campaign", "run", "six_gpu", "--lab", "virtual", "--collect-only", "-q")
    assert "test_six_boards_run_the_factory_os" in listed
    code = (
        "from hil.core import paths; from hil.evidence.environment import host_facts as facts\n"
        "print(facts(paths.shipped('testplans'), paths.shipped('lab'))['git'])"
    )
    assert customer.good("python", "-c", code).strip() == "{'commit': None, 'dirty': None}"


def test_nothing_is_written_beside_the_installed_package(customer: Environment) -> None:
    allowed = {"__pycache__"}
    here = {p.relative_to(customer.package) for p in customer.package.rglob("*") if not allowed & {*p.parts}}
    known = json.dumps(sorted(map(str, here)))
    assert "reports" not in {path.parts[0] for path in here} and ".pytest_cache" not in known


def test_a_newer_python_imports_validates_and_loads_the_plugin(tmp_path: Path, wheel: Path) -> None:
    python = next(filter(_works, NEWER), None)
    if python is None:
        pytest.skip("no Python newer than 3.11 on this machine")
    newer = Environment.make(tmp_path / "newer", python, wheel)
    modules = "import importlib, pkgutil, hil\n" + (
        "for m in pkgutil.walk_packages(hil.__path__, 'hil.'):\n"
        "    if not m.name.endswith('__main__'): importlib.import_module(m.name)\n"
    )
    newer.good("python", "-W", "error", "-c", modules)
    assert "campaign" in newer.good("hil", "--help")
    newer.good("hil", "lab", "init")
    newer.good("hil", "lab", "validate", "lab/first.yaml", "kepler")
    assert "--hil-lab" in newer.good("pytest", "--help")
    assert "test_light_takes_its_time" in newer.good("pytest", "plans", "--collect-only", "-q")


def _works(python: str) -> bool:
    found = shutil.which(python)
    return bool(found) and subprocess.run([python, "--version"], capture_output=True).returncode == 0
