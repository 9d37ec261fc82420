"""The private names of pytest that a retry needs are there."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

PRIVATE = """
_pytest.runner.call_and_report(item, when, log, **kwds)
Function._initrequest(), Function._request, Function.funcargs, Function._fixtureinfo.name2fixturedefs
FixtureDef.cached_result (value, key, exception), FixtureDef.finish(request)
"""


def test_this_pytest_has_the_private_names_that_a_retry_uses(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    from _pytest import runner

    assert list(inspect.signature(runner.call_and_report).parameters) == ["item", "when", "log", "kwds"], PRIVATE
    function = request.node
    assert callable(function._initrequest) and function._request and "request" in function.funcargs, PRIVATE
    (definition,) = function._fixtureinfo.name2fixturedefs["tmp_path"]
    assert len(definition.cached_result) == 3 and callable(definition.finish), PRIVATE
