"""The watch over what carries a campaign: it names what is silent, gives up what is lost, and reads links back."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest

from hil.bench import carrier_watch, link_read_back
from hil.bench.carrier_watch import CarrierWatch, ClockPart, DisksPart, EnginePart, KeeperPart, PartGone
from hil.bench.link_read_back import LinkReadBack
from hil.errors import BenchError
from hil.evidence.carriers import LATE_S
from hil.evidence.events import BenchPulse, Event, ThreadDied
from hil.links import link_box
from hil.links.engines import rtnl
from hil.links.link_box import LinkBox
from hil.links.shape import shape_step
from hil.testing.fakes import ListSink
from tests.kits.fake_bench import fake_bench


class FakePart:
    """A part that answers, or raises what it was given."""

    name = "the link box"

    def __init__(self) -> None:
        self.error: Exception | None = None

    def look(self) -> float:
        if self.error is not None:
            raise self.error
        return time.monotonic()


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_watch, "TICK_S", 0.01)
    monkeypatch.setattr(carrier_watch, "ROUND_S", 0.02)
    monkeypatch.setattr(carrier_watch, "LOST_S", 0.2)


def test_a_part_that_falls_silent_is_named_at_once_and_given_up_when_it_stays_silent() -> None:
    part, sink, lost = FakePart(), ListSink(), []
    with CarrierWatch([part], sink, on_lost=lambda name, error: lost.append((name, error.message))) as watch:
        watch.settle()
        assert not sink.of(BenchPulse)[-1].silent
        part.error = BenchError("User-Mode Linux is gone")
        watch.settle()
        assert sink.of(BenchPulse)[-1].silent == {"the link box": "User-Mode Linux is gone"}
        time.sleep(0.3)
    assert lost == [("the link box", "the link box is lost: User-Mode Linux is gone")]


def test_a_part_that_has_ended_is_given_up_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(carrier_watch, "LOST_S", 60.0)
    part, lost = FakePart(), []
    part.error = PartGone("its process has ended")
    with CarrierWatch([part], ListSink(), on_lost=lambda name, _: lost.append(name)) as watch:
        watch.settle()
    assert lost == ["the link box"]


class FullDisk(ListSink):
    """A sink that cannot write its first event."""

    def emit(self, event: Event) -> None:
        if not self.events:
            self.events.append(ThreadDied("nothing", "was written"))
            raise OSError(28, "No space left on device")
        super().emit(event)


def test_a_pulse_that_cannot_be_written_is_named_by_the_next_one() -> None:
    sink = FullDisk()
    with CarrierWatch([FakePart()], sink, on_lost=lambda *_: None) as watch:
        watch.settle()
    assert sink.of(BenchPulse)[0].late_s == {"the evidence": LATE_S}
    assert not watch.ended_early


def test_a_part_whose_finding_cannot_be_written_is_silent() -> None:
    part, sink = FakePart(), ListSink()
    part.error = OSError(28, "No space left on device")
    with CarrierWatch([part], sink, on_lost=lambda *_: None) as watch:
        watch.settle()
    assert sink.of(BenchPulse)[0].silent == {"the link box": "[Errno 28] No space left on device"}


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_watch_that_ends_early_says_why() -> None:
    part = FakePart()
    part.error = KeyError("epoch")
    with CarrierWatch([part], ListSink(), on_lost=lambda *_: None) as watch:
        watch.settle()
    assert watch.ended_early == "KeyError: 'epoch'"


def test_pulses_are_recorded_at_a_bounded_rate() -> None:
    sink = ListSink()
    with CarrierWatch([FakePart()], sink, on_lost=lambda *_: None):
        time.sleep(0.3)
    pulses = sink.of(BenchPulse)
    assert len(pulses) <= 3  # the first one, and that of the end
    assert all(pulse.runnable_per_core is not None for pulse in pulses)


def test_programs_that_want_to_run_are_counted_for_each_core_without_this_one(tmp_path: Path) -> None:
    (tmp_path / "stat").write_text("cpu  1 2 3\nprocs_running 9\nprocs_blocked 0\n")
    assert carrier_watch.runnable_per_core(tmp_path) == 8 / (os.cpu_count() or 1)
    (tmp_path / "stat").write_text("cpu  1 2 3\n")
    assert carrier_watch.runnable_per_core(tmp_path) is carrier_watch.runnable_per_core(tmp_path / "none") is None


@pytest.fixture
def box(tmp_path: Path) -> Iterator[LinkBox]:
    with fake_bench(tmp_path) as bench:
        yield bench.links


def read_back(box: LinkBox) -> tuple[LinkReadBack, list[tuple[str, str]]]:
    differs: list[tuple[str, str]] = []
    part = LinkReadBack(box.store.path, lambda *found: differs.append(found), timeout_s=1.0)
    part._box = box  # the fake engine serves nobody else
    return part, differs


def test_what_this_run_commands_is_no_difference(box: LinkBox) -> None:
    part, differs = read_back(box)
    box.cut("isl-ab")
    part.look()
    box.restore("isl-ab")
    part.look()
    assert differs == []


def test_a_link_that_is_commanded_again_and_again_while_it_is_read_is_no_difference(
    box: LinkBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, differs = read_back(box)
    read, cuts = box._read_back, []

    def cut_meanwhile(*arguments: Any) -> Any:
        """The record is read; before its kernel is, another thread of this run cuts the link, if it can."""
        cuts.append(Thread(target=box.cut, args=("isl-ab",)))
        cuts[-1].start()
        cuts[-1].join(0.2)
        return read(*arguments)

    monkeypatch.setattr(box, "_read_back", cut_meanwhile)
    restored = SimpleNamespace(monotonic=time.monotonic, sleep=lambda _: box.restore("isl-ab"))
    monkeypatch.setattr(link_read_back, "time", restored)
    part.look()
    for cut in cuts:
        cut.join()
    assert len(cuts) == 2 and differs == []


def test_a_link_changed_in_its_kernel_differs_and_is_told_once(box: LinkBox) -> None:
    part, differs = read_back(box)
    link = box.store.load().link("isl-ab")
    fast = {d: replace(state, delay_us=1000) for d, state in link.commanded.items()}
    rtnl.transact(box.agents[link.kernel], [shape_step(replace(link, commanded=fast), "a_to_b", None)])
    for _ in range(2):
        with pytest.raises(BenchError, match="the kernel does"):
            part.look()
    ((name, what),) = differs
    assert name == "link isl-ab"
    assert "delay_us=14386" in what
    assert "delay_us=1000" in what


def test_a_link_that_another_process_set_differs_also_when_it_was_put_back(
    box: LinkBox, monkeypatch: pytest.MonkeyPatch
) -> None:
    part, differs = read_back(box)
    monkeypatch.setattr(link_box, "current", lambda: "7:1")
    box.cut("isl-ab")
    monkeypatch.undo()
    box.restore("isl-ab")
    part.look()
    ((name, what),) = differs
    assert name == "link isl-ab"
    assert what.startswith("was cut by another process (")
    assert what.endswith("pid 7)")


def event(board: str, action: str, *, ago_s: float = 1.0, why: dict[str, str] | None = None) -> dict[str, object]:
    at_ns = int((time.time() - ago_s) * 1e9)
    return {"Action": action, "timeNano": at_ns, "Actor": {"Attributes": {"hil.board": board} | (why or {})}}


def test_a_container_that_another_hand_stops_differs_once_and_an_os_that_powers_off_does_not() -> None:
    differs: list[tuple[str, str]] = []
    engine = EnginePart("x", Path("/nowhere"), lambda *found: differs.append(found), lambda _: ())
    engine._note(event("b1", "die", why={"exitCode": "0"}))
    assert differs == []
    engine._note(event("b2", "kill", why={"signal": "15"}))
    engine._note(event("b2", "die", why={"exitCode": "0"}))
    engine._note(event("b2", "stop"))
    assert differs == [("the container of b2", "was stopped from outside, and not by this run")]
    assert list(engine.down) == ["b2"]


def test_a_container_is_switched_by_this_run_also_when_the_engine_tells_of_it_late_and_out_of_turn() -> None:
    differs: list[tuple[str, str]] = []
    now_s = time.monotonic()
    orders = {"b3": [now_s - 20.0, now_s - 5.0]}  # the cut, and the power on after it
    engine = EnginePart("x", Path("/nowhere"), lambda *found: differs.append(found), lambda b: orders.get(b, []))

    engine._note(event("b3", "pause", ago_s=19.0))
    assert differs == []
    engine._note(event("b2", "pause", ago_s=19.0))
    assert differs == [("the container of b2", "was paused, and not by this run")]


def test_a_keeper_that_stood_still_is_late_also_when_nobody_looked_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(carrier_watch, "pulse_file", lambda bench: tmp_path / "pulse.json")
    keeper = KeeperPart("x", os.getpid())

    def look(stall: tuple[float, float]) -> float:
        pulse = {"mono_s": 100.0, "stall": stall, "problems": []}
        (tmp_path / "pulse.json").write_text(json.dumps(pulse))
        return keeper.look()

    assert look((9.0, 50.0)) == 100.0  # before this watch began
    assert look((6.0, 90.0)) == 94.0
    assert look((6.0, 90.0)) == 100.0


def test_a_full_disk_of_this_host_is_named_and_a_folder_that_is_gone_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = DisksPart(tmp_path / "none", tmp_path)
    part.look()
    monkeypatch.setattr(carrier_watch, "free_bytes", lambda folder: carrier_watch.FULL_B - 1)
    with pytest.raises(BenchError, match=rf"bytes are free below {tmp_path}"):
        part.look()


def test_a_clock_that_jumps_differs_once_and_one_that_goes_on_does_not() -> None:
    differs: list[tuple[str, str]] = []
    off_s = 0.0
    part = ClockPart(lambda *found: differs.append(found), lambda: time.time() + off_s)
    part.look()
    off_s = -3600.0
    for _ in range(3):
        part.look()
    assert differs == [("this host's clock", "jumped by -3,600.0 s")]
