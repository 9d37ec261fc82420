"""What the bench had to do beside its work stands in the report."""

from __future__ import annotations

from pathlib import Path

from hil.evidence.events import BenchPutBack, BenchRetried, ConsolePort, LeftoverFound, LinkCut, PowerAnswerLost
from hil.evidence.record import Recorder
from hil.report.make import make_report


def test_repeats_losses_and_leftovers_are_sentences_in_order(tmp_path: Path) -> None:
    with Recorder.create(tmp_path / "run", {}) as recorder:
        recorder.emit(LeftoverFound("container hil.x.a1"))
        recorder.emit(LeftoverFound("mount /x", "busy"))
        recorder.emit(BenchRetried("bring-up", "no kernel"))
        recorder.emit(BenchPutBack("link isl-ab", "it was cut by hand"))
        recorder.emit(LinkCut("isl-ab"))
        recorder.emit(ConsolePort("a1", "/dev/ttyACM0", "gone", "unplugged"))
        recorder.emit(ConsolePort("a1", "/dev/ttyACM0", "back"))
        recorder.emit(PowerAnswerLost("shelly:1", "on", "timed out"))
    page = make_report(tmp_path / "run").read_text("utf-8")
    sentences = [
        "Left by a killed run, container hil.x.a1 was removed",
        "Left by a killed run, mount /x could not be removed: busy",
        "Repeated bring-up: no kernel",
        "link isl-ab was put back: it was cut by hand",
        "The console of a1 was lost: unplugged",
        "The console of a1 is there again (/dev/ttyACM0)",
        "Outlet shelly:1 did not answer when turned on; its state was read: timed out",
    ]
    places = [page.index(text) for text in sentences]
    assert places == sorted(places)
