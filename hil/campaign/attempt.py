"""One attempt of a test, in parts that can be repeated: all that this project uses of pytest's private names.

pytest has no public way to run a test again.  ``pyproject.toml`` bounds pytest's version, and
``tests/unit/campaign/test_attempt.py`` lists the private names, so that a pytest without one of them is noticed there.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from _pytest.runner import call_and_report

RETRIED = "rerun"
"""Outcome of an abandoned attempt; the word that report plug-ins (pytest-html, allure) know."""


@contextmanager
def fresh_request(item: pytest.Item) -> Generator[None]:
    """Give a test that ran before a new fixture request for one attempt, as ``_pytest.runner.runtestprotocol`` does."""
    function: Any = item
    has_request = hasattr(function, "_request")
    if has_request and not function._request:
        function._initrequest()
    try:
        yield
    finally:
        if has_request:
            function._request = False
            function.funcargs = None


def fixture_module(item: pytest.Item, name: str) -> str:
    """Return the module of the fixture of that name that a test uses; empty when it uses none."""
    info = getattr(item, "_fixtureinfo", None)
    definitions = info.name2fixturedefs.get(name) if info else None
    return str(definitions[-1].func.__module__) if definitions else ""


def run_phase(item: pytest.Item, phase: Literal["setup", "call", "teardown"], **options: Any) -> pytest.TestReport:
    """Run one phase of a test without logging its report, and return the report."""
    return call_and_report(item, phase, log=False, **options)


def forget_failed_fixtures(item: pytest.Item) -> None:
    """Drop the results of fixtures that raised, so that the next attempt sets them up again.

    They are finished as at their teardown: pytest takes a fixture without a result that still has finalizers for a
    bug of its own.  Fixtures that were set up, the bench among them, stay.
    """
    info = getattr(item, "_fixtureinfo", None)
    for definitions in info.name2fixturedefs.values() if info else ():
        for definition in definitions:
            if definition.cached_result is not None and definition.cached_result[2] is not None:
                definition.finish(SimpleNamespace(node=item))  # it needs the node for a message


def show_as_retry(reports: Sequence[pytest.TestReport]) -> None:
    """Show an abandoned attempt as one yellow R instead of an error."""
    for report in reports:
        if report.failed:
            setattr(report, "outcome", RETRIED)  # noqa: B010 - a word that the declared type lacks
