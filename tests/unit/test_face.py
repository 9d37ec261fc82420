"""The public face: every name is there, typed as it is imported, and ``import hil`` brings nothing along."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import hil


@pytest.mark.parametrize("name", hil.__all__)
def test_every_public_name_is_imported_when_it_is_used(name: str) -> None:
    assert getattr(hil, name).__name__ == name
    assert name in dir(hil)


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'bensh'"):
        hil.bensh  # noqa: B018


def test_importing_the_package_imports_no_room() -> None:
    code = "import sys, hil; print([m for m in sys.modules if m.startswith('hil.')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_folder_says_what_it_holds() -> None:
    assert hil.__file__
    silent = [
        str(path)
        for path in Path(hil.__file__).parent.rglob("__init__.py")
        if not path.read_text("utf-8").startswith('"""')
    ]
    assert not silent
