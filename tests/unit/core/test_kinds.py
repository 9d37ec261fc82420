"""Kinds come from the entry points of installed packages."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import EntryPoint

import pytest

from hil.core import kinds
from hil.errors import ConfigurationError


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    points = [
        EntryPoint("clock", "time:monotonic", "hil.outlets"),
        EntryPoint("broken", "hil_no_such_module:X", "hil.outlets"),
        EntryPoint("twice", "time:time", "hil.outlets"),
        EntryPoint("twice", "time:sleep", "hil.outlets"),
    ]
    monkeypatch.setattr(kinds, "entry_points", lambda *, group: [p for p in points if p.group == group])
    for function in (kinds._points, kinds.names, kinds.load):
        function.cache_clear()
    yield
    for function in (kinds._points, kinds.names, kinds.load):
        function.cache_clear()


def test_a_kind_is_loaded_by_the_name_that_a_lab_file_uses() -> None:
    import time

    assert kinds.load("hil.outlets", "clock") is time.monotonic
    assert kinds.names("hil.outlets") == ("broken", "clock", "twice")


@pytest.mark.parametrize(
    ("name", "message"),
    [("clok", "did you mean 'clock'"), ("broken", "hil_no_such_module"), ("twice", "two packages claim 'twice'")],
)
def test_a_kind_that_cannot_be_had_says_why(name: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        kinds.load("hil.outlets", name)


def test_without_packages_there_are_no_kinds() -> None:
    assert kinds.all_of("hil.engines") == {}
