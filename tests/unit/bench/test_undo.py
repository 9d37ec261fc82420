"""What a test changed of links and power is put back at its end, and what it found changed is left alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hil.bench.bench import Bench
from hil.bench.journal import JournalSink
from hil.bench.reset import differences
from hil.bench.undo import undoing
from hil.boards.protocol import BootState, PowerState, SlotState
from hil.evidence.events import BenchPutBack, BoardPower
from hil.testing.fakes import ListSink
from tests.kits.fake_bench import FakeBench, FakeBoard, fake_bench


class Switched:
    """A board whose power can be switched."""

    def __init__(self, board: FakeBoard, sink: JournalSink) -> None:
        self.name, self.power, self._sink = board.name, PowerState.ON, sink
        self.booted = 0
        self.running: Any = "A"

    @property
    def supervisor(self) -> Switched:
        return self

    @property
    def boot(self) -> Any:
        slots = (SlotState("A", True, 3, True), SlotState("B", self.running != "A", 3, True))
        return SimpleNamespace(state=lambda: BootState(self.running, "A", slots))

    def state(self) -> PowerState:
        return self.power

    def switch(self, action: str) -> None:
        self.power = PowerState.ON if action == "on" else PowerState.OFF
        self._sink.emit(BoardPower(self.name, action))

    def on(self) -> None:
        self.switch("on")

    def wait_booted(self) -> None:
        self.booted += 1


@pytest.fixture
def evidence() -> ListSink:
    return ListSink()


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, evidence: ListSink) -> Iterator[FakeBench]:
    monkeypatch.setenv("HIL_HOME", str(tmp_path))
    with fake_bench(tmp_path) as six:
        sink = JournalSink(evidence, six.journal)
        extra = cast(Any, six)
        extra.sink, extra.switched = sink, sink.switched
        extra.boards = {name: Switched(board, sink) for name, board in six.boards.items()}
        yield six


def test_a_tests_own_changes_are_undone_and_said(bench: FakeBench, evidence: ListSink) -> None:
    boards = cast("dict[str, Switched]", bench.boards)
    bench.links.cut("ground")
    boards["a1"].switch("cut")
    told: list[str] = []
    with pytest.raises(RuntimeError), undoing(cast(Bench, bench), told.append):
        bench.links.cut("isl-ab")
        boards["b3"].switch("off")
        raise RuntimeError
    assert bench.links.cut_links() == {"ground"}
    assert (boards["a1"].power, boards["b3"].power) == (PowerState.OFF, PowerState.ON)
    assert (boards["a1"].booted, boards["b3"].booted) == (0, 1)
    put_back = [event.part for event in evidence.events if isinstance(event, BenchPutBack)]
    assert put_back == ["link isl-ab", "board b3"] and len(told) == 2
    with undoing(cast(Bench, bench), told.append):
        pass
    assert len(told) == 2


def test_what_differs_from_the_lab_file_is_named_with_who_did_it(bench: FakeBench) -> None:
    boards = cast("dict[str, Switched]", bench.boards)
    boards["a2"].running = "B"
    boards["b1"].switch("cut")
    bench.links.cut("isl-ab")
    for name in ("a1", "a3", "b2", "b3"):
        boards[name].running = "B"
    found = {each.name: (each.kind, each.was) for each in differences(cast(Bench, bench))}
    assert found["isl-ab"] == ("link", "cut by hand")
    assert found["a2"] == ("slots", "runs slot B")
    kind, was = found["b1"]
    assert kind == "power" and was.startswith("off since ") and "switched off by " in was
