"""requirements/dev.lock is what `make venv` installs: whole, with hashes, and true to pyproject.toml."""

from __future__ import annotations

import re
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from hil.core import paths

LOCK = (paths.ROOT / "requirements/dev.lock").read_text("utf-8")
LOCKED = [Requirement(line.rstrip("\\ ")) for line in LOCK.splitlines() if re.match(r"[A-Za-z]", line)]


def _wanted() -> list[Requirement]:
    project = tomllib.loads((paths.ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return [Requirement(text) for text in (*project["dependencies"], *project["optional-dependencies"]["dev"])]


def test_every_package_of_the_project_is_locked_to_a_version_that_it_allows() -> None:
    versions: dict[str, list[str]] = {}
    for locked in LOCKED:
        (specifier,) = locked.specifier
        assert specifier.operator == "=="
        versions.setdefault(canonicalize_name(locked.name), []).append(specifier.version)
    for wanted in _wanted():
        locked_versions = versions.get(canonicalize_name(wanted.name), [])
        assert locked_versions, f"{wanted.name} is not locked: run `make lock`"
        assert all(v in wanted.specifier for v in locked_versions), f"{wanted}: {locked_versions}: run `make lock`"


def test_every_locked_package_has_hashes_and_none_an_address() -> None:
    assert LOCK.count("--hash=sha256:") >= len(LOCKED)
    assert len(re.findall(r"^\S+==\S+.*\\\n    --hash=sha256:", LOCK, re.MULTILINE)) == len(LOCKED)
    assert "://" not in LOCK
