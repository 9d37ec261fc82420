"""The week of a bench: which part wasted how much, and a page of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from hil.cli.app import cli
from hil.evidence.events import (
    BenchDiffers,
    CollectedTest,
    ConsolePort,
    PowerAnswerLost,
    RunCollected,
    RunEnded,
    TestEnded,
    TestStarted,
)
from hil.evidence.record import Recorder, write_json
from hil.nightly.bench_week import page, week_of
from hil.report.make import finish_run
from tests.kits.html_page import Page
from tests.kits.synthetic_run import meta, plan_document

LONG_AGO = datetime(2000, 1, 1, tzinfo=UTC)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A good run, and one in which board b2 was lost once, a link was set by hand and a strip did not answer."""
    out = tmp_path_factory.mktemp("out")
    for run_id in ("good", "bad"):
        directory = out / "runs" / run_id
        with Recorder.create(directory, meta(run_id)) as recorder:
            write_json(directory / "plan.json", plan_document())
            recorder.emit(RunCollected((CollectedTest("t", "Links", requirements=("SIX-010",)),)))
            if run_id == "bad":
                recorder.emit(PowerAnswerLost("strip-1 port 3", "on", "<b>timeout</b>"))
                with recorder.scope(test="t"):
                    recorder.emit(TestStarted())
                    recorder.emit(
                        TestEnded("INCONCLUSIVE", 1, "bench", "board b2: no route", duration_s=60, retried=True)
                    )
                    recorder.emit(TestStarted(2))
                    recorder.emit(BenchDiffers("isl-ab", "delay 1 ms, commanded 14.386 ms"))
                    recorder.emit(ConsolePort("a1", "/dev/ttyUSB0", "gone", "unplugged"))
                    recorder.emit(TestEnded("INCONCLUSIVE", 2, "bench", "the link isl-ab differs", duration_s=120))
            recorder.emit(RunEnded())
        finish_run(directory, out)
    return out


def test_each_part_has_its_faults_and_the_time_they_cost(out: Path) -> None:
    week = week_of(out, LONG_AGO)
    assert (week.runs, week.inconclusive, week.lost_s) == (2, 1, 180.0)
    found = {(p.name, p.kind): (p.runs, p.faults, p.lost_s, p.availability) for p in week.parts if p.faults}
    assert found == {
        ("b2", "board"): (2, 1, 60.0, 0.5),
        ("isl-ab", "link"): (2, 1, 60.0, 0.5),
        ("a1", "board"): (2, 1, 60.0, 0.5),
        ("strip-1 port 3", "power strip"): (1, 1, 0.0, 0.0),
    }
    assert {p.name for p in week.parts if not p.faults} == {"a2", "a3", "b1", "b3", "ground"}


def test_runs_before_that_time_are_left_out(out: Path) -> None:
    assert week_of(out, datetime(2027, 1, 1, tzinfo=UTC)).parts == []


def test_the_page_and_the_command(out: Path, tmp_path: Path) -> None:
    shown = Page(page(week_of(out, LONG_AGO)))
    assert "isl-ab" in shown.text and "<b>timeout</b>" in shown.text and "script" not in shown.tags
    words = ["nightly", "bench", "--days", "366", "--out", str(out)]
    document = json.loads(CliRunner().invoke(cli, [*words, "--json", "-o", str(tmp_path / "week.html")]).output)
    assert document["lost_s"] == 180.0 and (tmp_path / "week.html").is_file()
    assert "2 runs, 1 without a verdict, 4 bench faults; 3.0 of" in CliRunner().invoke(cli, words).output
