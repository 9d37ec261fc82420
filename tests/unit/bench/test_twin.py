"""The twin of a bench on boards that only pretend: what it orders, what it says, and what a campaign keeps of it."""

from __future__ import annotations

import math
import os
import threading
import time
from concurrent.futures import wait
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from docker.errors import DockerException
from requests.exceptions import ReadTimeout

from hil.bench.equipment import FirmwarePids
from hil.bench.state import bench_dir
from hil.bench.twin import TwinRunner
from hil.bench.twin_boards import ContainerTwin, RealTwin
from hil.bench.twin_journal import Follower, Journal, TwinRecords, journal_file
from hil.core.cgroups import CpuGroup
from hil.errors import BenchError
from hil.evidence.events import RestartOrdered
from hil.evidence.readback import RunRecord
from hil.evidence.record import Recorder
from hil.evidence.twin import BoardHeat, TwinChange, TwinSample, TwinStarted
from hil.lab.model import Lab, load_lab
from hil.lab.twin import BusSpec, RadiatorSpec, SkySpec, StructureSpec, TwinSpec
from hil.onboard.twin.jetson_files import Shown, lay_out
from hil.onboard.twin.modules import MODULES
from hil.onboard.twin.spacecraft import Demand

NO_ECLIPSE = SkySpec(eclipse_s=0.0)


@dataclass
class Board:
    """A twin's board and a bench's board in one: busy while it has power."""

    on: bool = True
    cap: float = 1.0
    busy: float = 1.0
    measured: BoardHeat | None = None
    shown: list[Shown] = field(default_factory=list)
    switched: list[str] = field(default_factory=list)
    refuses: bool = False

    def look(self, seconds: float) -> Demand:
        return Demand(self.on, self.busy if self.on else 0.0, self.cap)

    def act(self, shown: Shown) -> None:
        self.shown.append(shown)

    def close(self) -> None: ...

    @property
    def supervisor(self) -> Board:
        return self

    def _switch(self, what: str, on: bool) -> None:
        if self.refuses:
            raise BenchError("the strip is gone")
        self.switched.append(what)
        self.on = on

    def cut(self) -> None:
        self._switch("cut", False)

    def off(self, *, deadline_s: float) -> None:
        self._switch("off", False)

    def on_(self) -> None:
        self._switch("on", True)


class Supervised:
    """The bench's side of a board."""

    def __init__(self, board: Board) -> None:
        self.supervisor = type("S", (), {"cut": board.cut, "off": board.off, "on": board.on_})


def lab(**twin: Any) -> Lab:
    return load_lab(Path("virtual")).model_copy(update={"twin": TwinSpec(sky=NO_ECLIPSE, **twin)})


@pytest.fixture(autouse=True)
def run_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_RUN", str(tmp_path))


@pytest.fixture
def boards() -> dict[str, Board]:
    return {name: Board() for name in ("a1", "a2", "a3", "b1", "b2", "b3")}


def runner(lab: Lab, boards: dict[str, Board], problems: list[str]) -> TwinRunner:
    bench_dir("t").mkdir(parents=True, exist_ok=True)
    supervised = {name: Supervised(board) for name, board in boards.items()}
    twin = TwinRunner(lab, Journal("t"), boards, cast(Any, supervised), problems.append)
    vars(twin._orders)["submit"] = lambda act: act()  # at once, not whenever a thread gets to it
    return twin


def said(kind: type[Any]) -> list[dict[str, Any]]:
    return [line for line in Follower("t", from_start=True).lines() if line["kind"] == kind.kind]


def test_heat_slows_boards_down_then_trips_them_and_says_so_first(boards: dict[str, Board]) -> None:
    hot = lab(time_factor=30.0, radiator=RadiatorSpec(area_m2=0.005), structure=StructureSpec(start_c=90.0))
    problems: list[str] = []
    twin = runner(hot, boards, problems)
    for _ in range(200):
        twin.tick(1.0)
    twin.close()
    assert problems == []
    assert all(board.switched == ["cut"] for board in boards.values())
    slowest = min(shown.clock for shown in boards["a1"].shown)
    assert slowest < 0.5
    changes = [line["what"] for line in said(TwinChange) if line["board"] == "a1"]
    assert changes[:2] == ["throttled", "tripped"]
    assert [line["board"] for line in said(RestartOrdered)].count("a1") == 1
    assert said(TwinStarted)[0]["time_factor"] == 30.0
    last = [line for line in said(TwinSample) if line["spacecraft"] == "sc-a"][-1]
    assert last["boards"]["a1"]["binding"] == "heat"
    assert last["boards"]["a1"]["on"] is False


def test_the_bus_sheds_one_board_and_a_switch_that_fails_is_a_problem(boards: dict[str, Board]) -> None:
    problems: list[str] = []
    tight = lab(bus=BusSpec(budget_w=150.0, shed_order=("b1", "a2"), panel_m2=2.0))
    boards["b1"].refuses = True
    twin = runner(tight, boards, problems)
    for _ in range(4):
        twin.tick(1.0)
    twin.close()
    assert boards["a2"].switched == ["off"]
    assert boards["a1"].switched == boards["a3"].switched == boards["b3"].switched == []
    assert problems == ["the twin could not switch board b1, which is shed: the strip is gone"]


def test_a_cap_is_said_once_and_a_real_board_shows_its_own_sensor(boards: dict[str, Board]) -> None:
    boards["a1"].cap = 0.5
    boards["b2"].measured = BoardHeat(51.5, 20.0, binding="heat", peak_c=52.0, throttled_s=3.0)
    twin = runner(lab(), boards, [])
    for _ in range(6):
        twin.tick(1.0)
    twin.close()
    assert {(line["board"], line["what"]) for line in said(TwinChange)} == {("a1", "capped"), ("b2", "throttled")}
    assert boards["a1"].shown[-1].clock == 0.5
    real = said(TwinSample)[-1]["boards"]["b2"]
    assert (real["junction_c"], real["peak_c"], real["throttled_s"]) == (51.5, 52.0, 3.0)
    assert 10 < real["predicted_c"] < 40


def test_an_engine_that_does_not_answer_once_leaves_the_board_off_until_the_next_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Containers:
        def __init__(self) -> None:
            self.answers: list[Any] = [DockerException("500"), ReadTimeout("60 s"), [self]]
            self.labels, self.attrs = {"hil.board": "a1"}, {"State": {"Pid": os.getpid()}}

        def list(self, filters: object) -> Any:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

    usage = tmp_path / "usage"
    usage.write_text("1000000000")
    monkeypatch.setattr(CpuGroup, "of", lambda pid: CpuGroup(usage, tmp_path / "limit", unified=False))
    pids = FirmwarePids(cast(Any, SimpleNamespace(containers=Containers())), "t")

    def pid() -> int | None:
        pids._asked_s = -math.inf  # another second has come
        return pids.of("a1")

    lay_out(tmp_path / "files", MODULES["p3701-0005"])
    twin = ContainerTwin(MODULES["p3701-0005"], tmp_path / "files", 1.0, pid)
    assert [twin.look(1.0).on for _ in range(3)] == [False, False, True]
    twin.close()


class Orin:
    """A real board whose sensors say what a test wants."""

    name = "b2"

    def __init__(self, **sensors: float) -> None:
        self.sensors = sensors

    def shell(self) -> Orin:
        return self

    def sensors_over(self, shell: object) -> dict[str, float]:
        if not self.sensors:
            raise BenchError("it does not answer")
        return dict(self.sensors)

    def close(self) -> None: ...


def look(twin: RealTwin, times: int) -> list[Demand]:
    """Look so many times, a second each; every answer has come before the next look."""
    demands = []
    for _ in range(times):
        demands.append(twin.look(1.0))
        if twin._asked is not None:
            wait([twin._asked])
    return demands


def test_a_real_board_is_recorded_by_its_own_sensors() -> None:
    orin = Orin(tj_c=80.0, board_mw=24_000.0, gpu_load_percent=99.0, gpu_mhz=650.25, throttle_state=0.0)
    twin = RealTwin(cast(Any, orin), MODULES["p3701-0005"])
    assert look(twin, 3)[-1] == Demand(True, 0.99, 1.0, power_w=24.0)
    assert twin.measured == BoardHeat(80.0, 24.0, 0.99, 0.5, "power", True, 80.0, 0.0, 2 * 24 / 3600)
    orin.sensors |= {"tj_c": 99.5, "throttle_state": 4.0}
    look(twin, 4)
    assert (twin.measured.binding, twin.measured.throttled_s, twin.measured.peak_c) == ("heat", 3.0, 99.5)
    orin.sensors |= {"tj_c": 70.0, "throttle_state": 0.0}
    look(twin, 2)
    assert (twin.measured.junction_c, twin.measured.peak_c) == (70.0, 99.5)
    assert twin.measured.energy_wh == pytest.approx(8 * 24 / 3600)
    orin.sensors.clear()
    assert look(twin, 2)[-1] == Demand(on=False)
    assert twin.measured is None
    twin.close()


def test_a_reading_that_lasts_longer_than_a_look_counts_for_all_of_its_time() -> None:
    orin = Orin(tj_c=99.5, board_mw=24_000.0, throttle_state=4.0)
    twin = RealTwin(cast(Any, orin), MODULES["p3701-0005"])
    for _ in range(4):
        may_answer = threading.Event()
        vars(orin)["sensors_over"] = lambda shell, may=may_answer: may.wait(20.0) and dict(orin.sensors)
        twin.look(1.0)  # takes what was asked for, and asks again
        twin.look(1.0)
        may_answer.set()
        assert twin._asked is not None
        wait([twin._asked])
    assert twin.measured is not None
    assert twin.measured.energy_wh == pytest.approx(3 * 2 * 24 / 3600)
    assert twin.measured.throttled_s == 6.0
    twin.close()


def test_a_real_board_that_hangs_delays_nothing_and_counts_as_off() -> None:
    orin, held = Orin(tj_c=80.0), threading.Event()
    twin = RealTwin(cast(Any, orin), MODULES["p3701-0005"])
    look(twin, 2)
    vars(orin)["sensors_over"] = lambda shell: held.wait(20.0)
    look_s = time.monotonic()
    demands = [twin.look(1.0) for _ in range(9)]
    assert time.monotonic() - look_s < 2.0
    assert demands[1].on and not demands[-1].on
    held.set()
    twin.close()


def test_a_campaign_keeps_what_the_twin_says_and_knows_its_orders_at_once(
    boards: dict[str, Board], tmp_path: Path
) -> None:
    bench_dir("t").mkdir(parents=True, exist_ok=True)
    journal = Journal("t")
    journal.emit(TwinStarted(60.0))
    journal.emit(TwinChange("a1", "throttled"))  # before the campaign: not of it
    recorder = Recorder.create(tmp_path / "evidence", {})
    with TwinRecords("t", recorder) as records:
        assert records.ordered_s("a1") == ()
        journal.emit(RestartOrdered("a1", "tripped: hot"))
        journal.emit(TwinChange("a1", "tripped", "hot", 104.6))
        assert len(records.ordered_s("a1")) == 1
    recorder.close()
    run = RunRecord.load(tmp_path / "evidence")
    assert [e.time_factor for e in run.of(TwinStarted)] == [60.0]
    assert [(e.board, e.what) for e in run.of(TwinChange)] == [("a1", "tripped")]
    assert [e.board for e in run.of(RestartOrdered)] == ["a1"]


def test_a_journal_that_is_begun_anew_is_read_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hil.bench.twin_journal.LARGEST_B", 300)
    bench_dir("t").mkdir(parents=True, exist_ok=True)
    journal, seen = Journal("t"), 0
    follower = Follower("t")
    for _ in range(20):
        journal.emit(TwinChange("a1", "throttled", "x" * 50))
        seen += len(list(follower.lines()))
    assert seen == 20
    assert journal_file("t").stat().st_size < 600
