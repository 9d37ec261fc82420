"""The player and the verbs on links that follow a schedule, on an engine that only remembers, in made-up time."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.errors import BenchError, ConfigurationError, HarnessError, HilError
from hil.links.calibration.outage import run_cycles
from hil.links.engines.agent_server import AgentServer
from hil.links.engines.relay import Kind
from hil.links.link_box import DIRECTIONS, Direction, DirectionStatus, End, LinkBox, Wire
from hil.links.schedule.applied_log import AppliedCounts, summarise
from hil.links.schedule.player import AHEAD_S, Player
from hil.links.schedule.windows import ScheduleRow
from hil.links.shape import plan_row, shape_of, shape_step
from hil.links.state import GilbertElliott, LinkState
from hil.testing.links import FakeAgent, fake_box, message_of

SECOND = 1_000_000_000
GROUND = LinkState(5_000, 50_000_000)
CROSS = LinkState(14_390, 200_000_000)
WIRES = (
    Wire("ground", End("gs", "gnd0"), End("A", "gnd0"), GROUND, GROUND),
    Wire("crosslink", End("A", "isl0"), End("B", "isl0"), CROSS, replace(CROSS, rate_bps=100_000_000)),
)


@dataclass
class Moving:
    """Delay 10,000 us plus 10 us a second at 1 Hz; down from the 100th to the 200th second."""

    links: tuple[str, ...] = ("crosslink",)
    base_us: int = 10_000
    step_s: int = 1

    def window(self, from_ns: int, to_ns: int) -> list[ScheduleRow]:
        step_ns = self.step_s * SECOND
        times = [from_ns, *(n * step_ns for n in range(from_ns // step_ns + 1, -(-to_ns // step_ns)))]
        return [
            ScheduleRow(at, link, not 100 <= at / SECOND < 200, self.base_us + at // SECOND * 10, 250)
            for at in times
            for link in self.links
        ]


@dataclass
class Stage:
    """A box, its engine and its player, whose time a test sets."""

    agent: FakeAgent
    box: LinkBox
    player: Player
    log: Path
    told: list[HilError]

    def to(self, at_s: float, *, every_s: float = 0.5) -> None:
        """Let time pass, with the player's rounds."""
        while self.agent.now_ns < at_s * SECOND:
            self.agent.now_ns = min(round(at_s * SECOND), self.agent.now_ns + round(every_s * SECOND))
            self.player.step()

    def crosslink(self) -> DirectionStatus:
        return self.box.show()[1].a_to_b

    def rows(self) -> list[dict[str, str]]:
        with self.log.open(newline="") as file:
            return list(csv.DictReader(file))


class Unhurried(Player):
    """Its thread does nothing: the test makes the rounds."""

    def _run(self) -> None:
        return


def set_stage(directory: Path, wires: tuple[Wire, ...] = WIRES, source: Moving | None = None) -> Stage:
    agent = FakeAgent()
    box = fake_box(wires, socket_path=directory / "links.sock", agent=agent)
    told: list[HilError] = []
    player = Unhurried(
        box,
        source or Moving(),
        zero_ns=0,
        log_path=directory / "schedule.csv",
        on_error=told.append,
        now_ns=agent.clock_ns,
    )
    return Stage(agent, box, player, directory / "schedule.csv", told)


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    made = set_stage(tmp_path)
    made.player.start()
    made.to(1)
    yield made
    made.player.close()


def test_scheduled_links_follow_and_the_others_stay_as_they_were_commanded(stage: Stage) -> None:
    stage.to(50.2)
    ground, crosslink = stage.box.show()
    assert ground.a_to_b.kernel == GROUND
    assert (ground.a_to_b.scheduled, crosslink.a_to_b.scheduled) == (False, True)
    assert crosslink.a_to_b.kernel == replace(CROSS, delay_us=10_500, loss_ppm=250)
    assert crosslink.b_to_a.kernel == replace(CROSS, delay_us=10_500, loss_ppm=250, rate_bps=100_000_000)
    assert crosslink.a_to_b.agrees and crosslink.b_to_a.agrees
    assert stage.box.store.load().schedule


def test_what_is_commanded_is_known_for_any_moment_and_any_process(tmp_path: Path, stage: Stage) -> None:
    stage.to(150)
    server = AgentServer([stage.agent], tmp_path / "links.sock")
    try:
        with LinkBox.attach(tmp_path / "links.sock") as other:
            for box in (stage.box, other):
                at = box.commanded("crosslink", "b_to_a", 60 * SECOND + 5)
                assert (at.delay_us, at.up, at.rate_bps) == (10_600, True, 100_000_000)
                assert not box.commanded("crosslink", "a_to_b", 100 * SECOND).up
                assert box.commanded("crosslink", "a_to_b", 100 * SECOND - 1).up
                assert box.commanded("ground", "a_to_b", 60 * SECOND) == GROUND
    finally:
        server.close()
    assert not stage.box.commanded("crosslink", "a_to_b").up


def test_every_message_is_the_one_that_a_command_by_hand_would_send(stage: Stage) -> None:
    record = stage.box.store.load().link("crosslink")
    record = replace(record, compensation_ns={"a_to_b": 120_000})
    for state in (
        CROSS,
        replace(CROSS, up=False),
        replace(CROSS, delay_us=50, loss_ppm=999_999),
        replace(CROSS, gemodel=GilbertElliott(1_000, 50_000)),
        replace(CROSS, gemodel=GilbertElliott(1_000, 50_000), up=False),
    ):
        own = replace(record, commanded={"a_to_b": replace(state, delay_us=1, loss_ppm=0, up=True)})
        by_hand = replace(record, commanded={"a_to_b": state})
        _, expected = shape_step(by_hand, "a_to_b", 7)
        made = message_of(shape_of(own, "a_to_b", 7).pack(3), plan_row(own, state, at_ns=0, number=3))
        assert made == expected


def test_the_engine_is_kept_at_least_ten_seconds_ahead_and_not_much_more(stage: Stage) -> None:
    stage.to(20)
    for at_s in range(21, 60):
        stage.to(at_s)
        assert 10 * 2 <= stage.agent.rows_to_come <= (AHEAD_S + 1) * 2


def test_every_row_is_written_down_once_with_how_late_it_was(stage: Stage) -> None:
    stage.to(120)
    rows = stage.rows()
    assert list(rows[0]) == ["planned_s", "late_us", "link", "direction", "up", "delay_us", "loss_ppm", "error", "held"]
    planned = [float(row["planned_s"]) for row in rows if row["direction"] == "a_to_b"]
    assert planned == [0.1, *range(1, 101)]  # down since the 100th second: nothing to command
    assert {row["direction"] for row in rows} == set(DIRECTIONS)
    assert (rows[-1]["up"], rows[-1]["error"], rows[-1]["held"]) == ("0", "0", "0")
    assert all(0 <= int(row["late_us"]) <= 500_000 for row in rows)  # the fake acts when it is asked
    summary = stage.player.summary()
    assert summary["rows"] == len(rows) == 202
    assert {**summarise(stage.log), "lost": 0} == summary


def test_a_day_streams_through_an_engine_that_holds_seconds(tmp_path: Path) -> None:
    stage = set_stage(tmp_path, source=Moving(step_s=30))
    stage.player.start()
    most = 0
    while stage.agent.now_ns < 86_400 * SECOND:
        stage.to(stage.agent.now_ns / SECOND + 10, every_s=4)
        most = max(most, stage.agent.rows_to_come)
    assert stage.player.summary()["rows"] == 2 * (1 + 86_400 // 30 - 2)  # less those while it is down
    assert most <= 4
    assert sum(path.stat().st_size for path in (tmp_path / "links.schedule").iterdir()) < 10_000
    assert stage.crosslink().agrees
    stage.player.close()


def test_a_cut_holds_against_the_schedule_and_a_restore_follows_it_from_where_it_is(stage: Stage) -> None:
    stage.to(10)
    stage.box.cut("crosslink")
    assert stage.box.cut_links() == {"crosslink"}
    stage.to(30)
    held = stage.crosslink()
    assert held.kernel is not None
    assert (held.kernel.up, held.held, held.scheduled, held.agrees) == (False, True, True, True)
    stage.box.restore("crosslink")
    back = stage.crosslink()
    assert back.kernel == replace(CROSS, delay_us=10_300, loss_ppm=250)
    assert (back.held, back.agrees) == (False, True)
    assert stage.box.cut_links() == frozenset()
    stage.to(31)
    assert stage.crosslink().kernel == replace(CROSS, delay_us=10_310, loss_ppm=250)
    held_rows = [row for row in stage.rows() if row["held"] == "1"]
    assert {round(float(row["planned_s"])) for row in held_rows} == set(range(11, 31))
    assert stage.player.summary()["held"] == len(held_rows)


def test_a_link_restored_while_its_schedule_has_it_down_stays_down(stage: Stage) -> None:
    stage.to(90)
    stage.box.cut("crosslink")
    stage.to(150)
    stage.box.restore("crosslink")
    assert stage.crosslink().kernel == replace(CROSS, delay_us=11_000, up=False)
    stage.to(201)
    assert stage.crosslink().kernel == replace(CROSS, delay_us=12_010, loss_ppm=250)


def test_a_row_that_comes_due_in_the_middle_of_a_restore_is_not_lost(stage: Stage) -> None:
    stage.to(10.5)
    stage.box.cut("crosslink")
    asked = stage.agent.ask

    def late(kind: Kind, payload: bytes = b"") -> bytes:
        if kind is Kind.RELEASE:
            stage.agent.now_ns = 13 * SECOND  # three rows come due while the request is on its way
        return asked(kind, payload)

    stage.agent.ask = late  # type: ignore[method-assign]  # the moment cannot be hit from outside
    stage.box.restore("crosslink")
    assert stage.crosslink().kernel == replace(CROSS, delay_us=10_130, loss_ppm=250)
    assert stage.crosslink().agrees


def test_set_overrides_one_direction_until_restore(stage: Stage) -> None:
    slow = replace(CROSS, delay_us=77_000, rate_bps=1_000_000)
    stage.box.set("crosslink", a_to_b=slow)
    stage.to(20)
    assert stage.crosslink().kernel == stage.box.commanded("crosslink", "a_to_b") == slow
    assert (stage.crosslink().held, stage.box.show()[1].b_to_a.held) == (True, False)
    assert stage.box.commanded("crosslink", "b_to_a").delay_us == 10_200
    assert stage.box.cut_links() == frozenset()
    stage.box.restore("crosslink")
    assert stage.crosslink().kernel == replace(CROSS, delay_us=10_200, loss_ppm=250)


def test_a_fault_and_a_calibration_leave_a_direction_held_that_was_set_by_hand(stage: Stage) -> None:
    slow = replace(CROSS, delay_us=9_999)
    stage.box.set("crosslink", a_to_b=slow)
    both: dict[Direction, LinkState] = {d: replace(CROSS, up=False) for d in DIRECTIONS}
    stage.box.impair("crosslink", both, fault="lost")
    assert stage.box.cut_links() == {"crosslink"}
    stage.to(20)
    stage.box.mend("crosslink", fault="lost")
    assert stage.crosslink().kernel == slow
    assert stage.box.commanded("crosslink", "b_to_a").delay_us == 10_200
    probe: Any = SimpleNamespace(link="crosslink", restart=lambda: None, send=lambda: None)
    run_cycles(stage.box, [probe], cycles=1, interval_s=0.001)
    assert stage.crosslink().kernel == slow
    assert stage.crosslink().agrees and stage.box.show()[1].b_to_a.agrees


def test_a_compensation_found_while_playing_counts_at_once_and_for_what_is_loaded_already(stage: Stage) -> None:
    stage.to(10)
    stage.box.compensate("crosslink", "a_to_b", 120_000)
    assert stage.crosslink().kernel_delay_ns == 10_100_000 - 120_000
    assert stage.crosslink().agrees
    stage.to(15)
    assert stage.crosslink().kernel_delay_ns == 10_150_000 - 120_000
    assert stage.crosslink().agrees


def test_a_compensation_found_during_a_cut_counts_after_it(stage: Stage) -> None:
    stage.box.cut("crosslink")
    stage.box.compensate("crosslink", "a_to_b", 120_000)
    assert stage.crosslink().agrees
    stage.box.restore("crosslink")
    assert stage.crosslink().kernel_delay_ns == 10_010_000 - 120_000


def test_a_direction_whose_state_stays_the_same_gets_no_message(stage: Stage) -> None:
    stage.to(101)
    before = len(stage.agent.batches)
    stage.to(160)
    assert len(stage.agent.batches) == before


def test_a_link_that_was_cut_before_it_had_a_schedule_stays_cut(tmp_path: Path) -> None:
    stage = set_stage(tmp_path)
    stage.box.cut("crosslink")
    stage.player.start()
    stage.to(5)
    assert not stage.crosslink().commanded.up
    assert stage.crosslink().agrees
    stage.box.restore("crosslink")
    assert stage.crosslink().kernel == replace(CROSS, delay_us=10_050, loss_ppm=250)
    stage.player.close()


def test_a_schedule_can_begin_in_its_middle(tmp_path: Path) -> None:
    stage = set_stage(tmp_path)
    stage.agent.now_ns = 50 * SECOND + 5
    stage.player.start()
    stage.to(51.2)
    assert stage.crosslink().kernel == replace(CROSS, delay_us=10_510, loss_ppm=250)
    assert float(stage.rows()[0]["planned_s"]) == pytest.approx(50.1)
    stage.player.close()


def test_another_plan_takes_over_without_a_stale_row(stage: Stage) -> None:
    stage.to(10.5)
    stage.player.replace(Moving(base_us=30_000))
    stage.to(14)
    assert stage.crosslink().kernel == replace(CROSS, delay_us=30_140, loss_ppm=250)
    assert stage.crosslink().agrees
    assert stage.box.commanded("crosslink", "a_to_b", 9 * SECOND).delay_us == 10_090
    delays = [int(row["delay_us"]) for row in stage.rows() if row["direction"] == "a_to_b"]
    assert delays[-6:] == [10_100, 30_100, 30_110, 30_120, 30_130, 30_140]
    with pytest.raises(ConfigurationError, match="same links"):
        stage.player.replace(Moving(links=("ground",)))


def test_after_the_player_is_closed_links_stay_as_they_are_and_obey_again(stage: Stage) -> None:
    stage.to(40)
    stage.player.close()
    stage.player.close()
    assert stage.box.store.load().schedule is None
    status = stage.crosslink()
    assert status.commanded == status.kernel == replace(CROSS, delay_us=10_400, loss_ppm=250)
    assert not (stage.box.store.path.with_suffix(".schedule")).exists()
    stage.agent.now_ns += 20 * SECOND
    assert stage.crosslink().kernel == status.kernel
    stage.box.cut("crosslink")
    stage.box.restore("crosslink")
    assert stage.crosslink().kernel == status.kernel


def test_a_row_that_the_kernel_refuses_is_counted_and_told_once(stage: Stage) -> None:
    stage.agent.refuse = {36: 1}
    stage.to(10)
    assert stage.player.summary()["errors"] == 2 * 9
    assert [str(error).split(":")[1].split("\n")[0] for error in stage.told] == [" Operation not permitted"]
    assert {row["error"] for row in stage.rows()[-5:]} == {"1"}
    stage.agent.refuse = {}
    stage.to(12)
    assert stage.crosslink().agrees


def test_an_engine_that_is_gone_ends_the_playing_and_is_told_once(tmp_path: Path) -> None:
    class Mortal(FakeAgent):
        dead = False

        def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
            if self.dead:
                raise BenchError("User-Mode Linux is gone")
            return super().ask(kind, payload)

    agent = Mortal()
    told: list[HilError] = []
    with fake_box(WIRES, socket_path=tmp_path / "s", agent=agent) as box:
        player = Player(
            box, Moving(), zero_ns=0, log_path=tmp_path / "log.csv", on_error=told.append, now_ns=agent.clock_ns
        )
        player.start()
        agent.dead = True
        player._thread.join(timeout=10)
        assert told == [player.failure]
        assert isinstance(player.failure, BenchError)
        player.close()
        assert box.store.load().schedule is None


def test_a_source_that_fails_later_is_told_and_the_links_stay_as_they_are(tmp_path: Path) -> None:
    class Short(Moving):
        def window(self, from_ns: int, to_ns: int) -> list[ScheduleRow]:
            if from_ns > 50 * SECOND:
                raise ConfigurationError("the plan ends here")
            return super().window(from_ns, to_ns)

    stage = set_stage(tmp_path, source=Short())
    stage.player.start()
    with pytest.raises(ConfigurationError, match="plan ends here"):
        stage.to(100)
    stage.player.close()
    status = stage.crosslink()
    assert status.agrees and not status.scheduled
    assert status.commanded.delay_us > 10_300


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([], "no state of crosslink"),
        ([ScheduleRow(0, "nonsense", True, 1, 0)], "out of place"),
        (
            [ScheduleRow(200_000_000, "crosslink", True, 1, 0), ScheduleRow(100_000_000, "crosslink", True, 2, 0)],
            "out of place",
        ),
        ([ScheduleRow(99 * SECOND, "crosslink", True, 1, 0)], "out of place"),
    ],
)
def test_a_source_that_makes_no_sense_is_refused_before_anything_changes(
    tmp_path: Path, rows: list[ScheduleRow], complaint: str
) -> None:
    class Broken(Moving):
        def window(self, from_ns: int, to_ns: int) -> list[ScheduleRow]:
            return rows

    stage = set_stage(tmp_path, source=Broken())
    with pytest.raises(HarnessError, match=complaint):
        stage.player.start()
    assert stage.box.store.load().schedule is None
    assert stage.crosslink().kernel == CROSS
    stage.player.close()


def test_a_schedule_of_an_unknown_link_or_a_second_schedule_is_refused(tmp_path: Path, stage: Stage) -> None:
    with pytest.raises(ConfigurationError, match="follow a schedule already"):
        Player(stage.box, Moving(), zero_ns=0, log_path=tmp_path / "other.csv").start()
    stage.player.close()
    with pytest.raises(ConfigurationError, match="'crosslnk'"):
        Player(stage.box, Moving(links=("crosslnk",)), zero_ns=0, log_path=tmp_path / "other.csv").start()


def test_lateness_is_kept_in_bounded_memory_to_three_digits() -> None:
    tally = AppliedCounts()
    for late_us in range(100_000):
        tally.add(late_us, 0, held=False)
    found = tally.summary()
    assert found["late_p50_us"] == pytest.approx(50_000, rel=0.005)
    assert found["late_p99_us"] == pytest.approx(99_000, rel=0.005)
    assert found["late_max_us"] == 99_999
    assert len(tally._late) < 5_000


def test_a_round_ends_although_time_goes_on_and_nothing_changes_ahead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = set_stage(tmp_path, source=Moving(step_s=100_000))
    stage.player.start()
    stage.to(20)
    calls = 0

    def later_each_time() -> int:
        nonlocal calls
        calls += 1
        assert calls < 1_000, "the round goes on for ever"
        return stage.agent.now_ns + calls * 1_000

    with monkeypatch.context() as patch:
        patch.setattr(stage.player, "_now_ns", later_each_time)
        stage.player.step()
    stage.player.close()


def test_a_schedule_over_several_kernels_gives_each_its_own_rows_and_keeps_one_log(tmp_path: Path) -> None:
    first = FakeAgent()
    second = FakeAgent(clock=lambda: first.now_ns)
    agents = [first, second]
    box = fake_box(WIRES, socket_path=tmp_path / "links.sock", agent=agents)
    log = tmp_path / "schedule.csv"
    source = Moving(("ground", "crosslink"))
    player = Unhurried(box, source, zero_ns=0, log_path=log, now_ns=first.clock_ns)
    player.start()

    def to(at_s: int) -> None:
        while first.now_ns < at_s * SECOND:
            first.now_ns += SECOND // 2
            player.step()

    to(50)
    assert all(agent.rows_to_come for agent in agents)
    assert [s.a_to_b.commanded.delay_us for s in box.show()] == [10_500, 10_500]
    assert all(s.a_to_b.agrees and s.b_to_a.agrees for s in box.show())
    box.cut("crosslink")
    player.replace(replace(source, base_us=20_000))
    to(60)
    ground, crosslink = box.show()
    assert (ground.up, crosslink.up) == (True, False)
    assert ground.a_to_b.kernel is not None
    assert ground.a_to_b.kernel.delay_us == 20_600
    box.restore("crosslink")
    assert box.show()[1].a_to_b.kernel == box.show()[1].a_to_b.commanded
    to(120)
    assert [status.up for status in box.show()] == [False, False]
    with log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    planned = [float(row["planned_s"]) for row in rows]
    assert planned == sorted(planned)
    assert len(rows) == player.summary()["rows"] == summarise(log)["rows"]
    assert {row["link"] for row in rows} == {"ground", "crosslink"}
    player.close()
    assert player.summary()["errors"] == player.summary()["lost"] == 0
    assert not any(agent.rows_to_come for agent in agents)
