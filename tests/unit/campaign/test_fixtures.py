"""The bench fixture's own parts that need no bench: cleaning first, and speaking while a test runs."""

from __future__ import annotations

from typing import cast

import pytest

from hil.bench import clean as cleaning
from hil.bench.leftovers import Leftover
from hil.campaign.fixtures.bench import clean_up
from hil.core import paths
from hil.evidence.record import Recorder
from hil.testing.fakes import ListSink

pytest_plugins = ["pytester"]


def test_what_killed_runs_left_is_told_on_the_terminal_and_is_evidence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    removed, stuck = Leftover("container", "hil.x.a1", "x"), Leftover("mount", "/x")
    monkeypatch.setattr(cleaning, "clean", lambda: cleaning.Cleaned((removed,), ((stuck, "busy"),), ()))
    sink, told = ListSink(), list[str]()
    clean_up(cast(Recorder, sink), told.append)
    assert told == [
        f"left by a killed run, removed: {removed}",
        f"left by a killed run, could not be removed: {stuck}: busy",
    ]
    assert sink.events == [
        ("bench.leftover", {"what": str(removed)}),
        ("bench.leftover", {"what": str(stuck), "error": "busy"}),
    ]


@pytest.mark.parametrize("capture", ["--capture=fd", "--capture=no"])
def test_a_test_can_speak_while_its_output_is_captured(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, capture: str
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(paths.ROOT))
    pytester.makepyfile(
        """
        from hil.campaign.fixtures.bench import tell

        def test_it(tell):
            print("swallowed")
            tell("waiting 99 s")
        """
    )
    outcome = pytester.runpytest_subprocess("-v", "-p", "no:cacheprovider", capture)
    outcome.stdout.fnmatch_lines(["*test_it*", "  waiting 99 s", "*test_it PASSED*"])
    assert ("swallowed" in outcome.stdout.str()) is (capture == "--capture=no")
