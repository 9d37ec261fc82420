"""One look at a bench: what answers is told, what does not is a fact, and nothing that hangs delays the rest."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import NoReturn

import pytest

from hil.bench.state import Step, bench_dir, read_step, write_state, write_step
from hil.boards.capabilities import Feature
from hil.boards.protocol import PowerState
from hil.core import netns
from hil.core.wait import wait_until
from hil.errors import BenchError, DeviceError
from hil.leases.leases import Leases
from hil.monitor.bench_health import Health, Sensors
from hil.monitor.bench_watch import Monitor, snapshot
from hil.monitor.board_watch import BoardWatch
from hil.monitor.watch_loop import BenchFollower, Sample, Sampler
from hil.orbit.phases import Interval, LinkPlan, Phase
from hil.testing.fakes import FakeClock
from tests.kits.fake_bench import FakeBench, NodeServers, bench_state, fake_bench, health, pretend_up


@pytest.fixture(autouse=True)
def scratch_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HIL_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("HIL_LEASES", str(tmp_path / "leases.db"))
    monkeypatch.delenv("HIL_LEASE", raising=False)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeBench]:
    with fake_bench(tmp_path) as made:
        nodes = NodeServers(made.boards)
        monkeypatch.setattr(netns, "connect", nodes.connect)
        yield made
        nodes.close()


# Readings


def test_readings_come_in_base_units_and_what_is_absent_stays_absent() -> None:
    some = Sensors.of({"tj_c": 50.0, "vdd_in_mw": 7500.0, "gpu_load_percent": 99.0, "ram_used_mb": 2.0}, 1.0)
    assert some.temperatures_c == {"tj": 50.0}
    assert some.rails_w == {"vdd_in": 7.5}
    assert (some.gpu_load, some.memory_used_b) == (0.99, 2 * 1024 * 1024)
    assert (some.board_w, some.cpu_load, some.memory_total_b) == (None, None, None)


def test_the_hottest_temperature_is_the_junctions_else_the_highest_else_unknown() -> None:
    assert Sensors.of({"tj_c": 50.0, "gpu_c": 51.0}, 0).hottest_c == 50.0
    assert Sensors.of({"cpu_c": 40.0, "gpu_c": 51.0}, 0).hottest_c == 51.0
    assert Sensors.of({}, 0).hottest_c is None


# Boards


def test_a_board_that_answers_is_known_completely(bench: FakeBench) -> None:
    found = snapshot(bench.as_bench)
    assert [b.name for b in found.boards] == ["a1", "a2", "a3", "b1", "b2", "b3"]
    board = found.board("b1")
    assert (board.spacecraft, board.fidelity, board.power, board.reachable) == ("sc-b", "virtual", "on", True)
    assert (board.slot, board.confirmed, board.os_version) == ("A", True, "1.0.0")
    assert board.node is not None and board.node.claimed_epoch == 7
    assert board.sensors is not None and board.sensors.board_w == 5.2
    assert not board.wants_attention and found.problems == ()


def test_connections_are_kept_and_sensors_are_not_read_more_often_than_told(bench: FakeBench) -> None:
    clock, board = FakeClock(), bench.boards["a1"]
    with Monitor(bench.as_bench, sensors_every_s=5.0, clock=clock) as monitor:
        for _ in range(4):
            assert monitor.snapshot().board("a1").sensors is not None
            clock.sleep(1.0)
        assert board.senses == 1
        clock.sleep(2.0)
        monitor.snapshot()
        assert board.senses == 2
        assert len(board.shells) == 1
    assert board.shells[0].closed


def test_after_the_first_look_boards_are_asked_for_their_sensors_one_after_another(bench: FakeBench) -> None:
    clock = FakeClock()
    with Monitor(bench.as_bench, sensors_every_s=6.0, clock=clock) as monitor:
        asked = []
        for _ in range(14):
            before = sum(board.senses for board in bench.boards.values())
            monitor.snapshot()
            asked.append(sum(board.senses for board in bench.boards.values()) - before)
            clock.sleep(1.0)
    assert asked == [6, 0, 0, 0, 0, 0] + [1] * 8


def test_what_a_board_says_that_it_lacks_is_no_problem(bench: FakeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(self: object) -> NoReturn:
        raise BenchError("board a1: it has one root file system")

    reasons = {Feature.SLOTS: "one root file system", Feature.SENSORS: "none"}
    board = bench.boards["a1"]
    monkeypatch.setattr(type(board.boot), "state", absent)
    assert snapshot(bench.as_bench).board("a1").problems
    monkeypatch.setattr(board, "lacks", reasons, raising=False)
    assert snapshot(bench.as_bench).board("a1").problems == ()


def test_a_session_that_broke_meanwhile_is_replaced(bench: FakeBench) -> None:
    board = bench.boards["a1"]
    with Monitor(bench.as_bench, sensors_every_s=0.0) as monitor:
        monitor.snapshot()
        board.shells[0].broken = True
        assert monitor.snapshot().board("a1").sensors is not None
        assert [shell.closed for shell in board.shells] == [True, False]


def test_a_board_that_is_off_is_not_asked_and_that_is_no_problem(bench: FakeBench) -> None:
    board = bench.boards["a1"]
    with Monitor(bench.as_bench) as monitor:
        monitor.snapshot()
        board.power = PowerState.OFF
        found = monitor.snapshot().board("a1")
        assert (found.power, found.reachable, found.sensors, found.problems) == ("off", False, None, ())
        assert not found.wants_attention
        assert found.slots["A"].next  # the firmware's variables are there all the same
        assert board.shells[0].closed and board.senses == 1


def test_readings_of_a_life_before_the_last_boot_are_not_shown(bench: FakeBench) -> None:
    board = bench.boards["a1"]
    assert board.node is not None
    with Monitor(bench.as_bench, sensors_every_s=3600) as monitor:
        monitor.snapshot()
        board.node["boot_id"] = "boot-2"
        board.readings = {"tj_c": 20.0}
        sensors = monitor.snapshot().board("a1").sensors
        assert sensors is not None and sensors.temperatures_c == {"tj": 20.0}


def test_an_os_without_a_node_service_is_reachable_by_its_shell(bench: FakeBench) -> None:
    bench.boards["a1"].node = None
    found = snapshot(bench.as_bench).board("a1")
    assert (found.reachable, found.node, found.os_version) == (True, None, "3.1.4")
    assert found.problems == ()


def test_a_board_that_is_on_and_silent_says_why_and_wants_attention(bench: FakeBench) -> None:
    board = bench.boards["a1"]
    board.node, board.readings = None, DeviceError("a1: no answer from sshd")
    found = snapshot(bench.as_bench).board("a1")
    assert (found.power, found.reachable) == ("on", False)
    assert found.problems == ("the sensors: a1: no answer from sshd",)
    assert found.wants_attention


def test_a_silent_board_says_why_also_while_its_sensors_are_not_due(bench: FakeBench) -> None:
    board = bench.boards["a1"]
    with Monitor(bench.as_bench, sensors_every_s=3600) as monitor:
        monitor.snapshot()
        board.node, board.readings = None, DeviceError("a1: no answer from sshd")
        board.shells[0].broken = True
        found = monitor.snapshot().board("a1")
        assert (found.reachable, found.sensors) == (False, None)
        assert found.problems == ("the OS: a1: no answer from sshd",)


def test_slots_are_looked_at_as_often_as_sensors_and_the_os_knows_sooner(bench: FakeBench) -> None:
    node = bench.boards["a1"].node
    assert node is not None
    with Monitor(bench.as_bench, sensors_every_s=3600) as monitor:
        monitor.snapshot()
        node.update(slot="B", confirmed=False)
        found = monitor.snapshot().board("a1")
        assert (found.slot, found.confirmed, found.slots["A"].running) == ("B", False, True)


def test_an_ill_board_wants_attention(bench: FakeBench) -> None:
    node = bench.boards["a1"].node
    assert node is not None
    node.update(healthy=False, problems=["service rauc does not run"])
    found = snapshot(bench.as_bench).board("a1")
    assert found.wants_attention
    assert found.node is not None and found.node.problems == ("service rauc does not run",)


@pytest.mark.parametrize("error", [BenchError("strip: HTTP 500"), KeyError("a driver's bug")])
def test_a_supervisor_that_fails_is_a_fact_whatever_it_raises(bench: FakeBench, error: Exception) -> None:
    bench.boards["a1"].power = error
    found = snapshot(bench.as_bench)
    assert found.board("a1").power is None and found.board("a1").wants_attention
    assert "the supervisor: " in found.board("a1").problems[0]
    assert not found.board("a2").wants_attention


def test_a_board_that_hangs_delays_nobody_and_is_not_asked_twice(bench: FakeBench) -> None:
    hung = bench.boards["a1"]
    hung.hang = threading.Event()
    with Monitor(bench.as_bench, deadline_s=1.0, sensors_every_s=0.0) as monitor:
        found = monitor.snapshot()
        assert found.board("a1").problems == ("no answer yet from the sensors",)
        assert (found.board("a1").power, found.board("a1").reachable) == ("on", True)
        assert all(found.board(name).sensors for name in ("a2", "a3", "b1", "b2", "b3"))
        monitor.snapshot()
        assert hung.senses == 1
        event, hung.hang = hung.hang, None
        event.set()
        assert monitor.snapshot().board("a1").sensors is not None


def test_a_watch_that_is_closed_in_the_middle_of_a_look_just_ends(bench: FakeBench) -> None:
    board = bench.boards["a1"]
    board.hang = threading.Event()
    watch = BoardWatch(bench.as_bench.boards["a1"], sensors_every_s=5)
    watch.begin()
    wait_until(lambda: board.senses, what="the sensors to be asked", deadline_s=10)
    watch.close()
    board.hang.set()
    assert watch.wait(10).name == "a1"


# Links, leases, the campaign's step


def test_links_are_told_as_commanded_as_the_kernel_has_them_and_cut(bench: FakeBench) -> None:
    bench.links.cut("isl-ab")
    ground, crosslink = snapshot(bench.as_bench).links
    assert (ground.up, ground.cut, ground.phase) == (True, False, None)
    assert (crosslink.up, crosslink.cut, crosslink.agrees) == (False, True, True)
    there, back = crosslink.directions.values()
    assert (there.source, there.target, back.source) == ("sc-a", "sc-b", "sc-b")
    assert there.delay_s == there.kernel_delay_s == 0.014386
    assert (there.rate_bps, there.measured_delay_s) == (200_000_000, None)


def test_a_link_that_follows_the_orbit_has_a_phase_also_after_the_end_of_its_plan(bench: FakeBench) -> None:
    phases = (Interval(Phase.TRACK, 0, 60), Interval(Phase.FADE, 60, 61, "drawn"), Interval(Phase.TRACK, 61, 90))
    plan = LinkPlan(datetime(2026, 3, 1, tzinfo=UTC), 90.0, 1, {"isl-ab": phases})
    now = SimpleNamespace(s=60.25)
    noon = datetime(2026, 3, 1, 12, tzinfo=UTC)
    bench.orbit = SimpleNamespace(plan=plan, now_s=lambda: now.s, mission_time=lambda: noon)
    found = snapshot(bench.as_bench)
    ground, crosslink = found.links
    assert (crosslink.phase, crosslink.phase_left_s, crosslink.phase_why) == ("fade", 0.75, "drawn")
    assert ground.phase is None
    assert found.mission_time == noon
    now.s = 1e6
    assert snapshot(bench.as_bench).links[1].phase == "track"


def test_a_link_box_that_is_gone_is_told_and_the_boards_are_still_there(
    bench: FakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone() -> None:
        raise BenchError("the link box went away")

    monkeypatch.setattr(bench.links, "show", gone)
    found = snapshot(bench.as_bench)
    assert found.problems == ("the link box: the link box went away",)
    assert found.links == () and len(found.boards) == 6


def test_leases_are_those_on_boards_of_this_bench(bench: FakeBench, tmp_path: Path) -> None:
    assert snapshot(bench.as_bench).leases == ()
    assert not (tmp_path / "leases.db").exists(), "a look must not make a store"
    leases = Leases()
    leases.reserve(["elsewhere/a1"], holder="bob", purpose="other lab")
    leases.reserve(["six/a2", "six/a1"], holder="anna", purpose="thermal run", ttl_s=600)
    (lease,) = snapshot(bench.as_bench).leases
    assert (lease.boards, lease.holder, lease.purpose) == (("a1", "a2"), "anna", "thermal run")
    assert (lease.position, lease.by_person) == (0, True)
    assert lease.expires is not None and lease.expires > datetime.now(UTC)


def test_the_step_of_a_campaign_is_read_while_its_process_lives() -> None:
    step = Step.now(run_id="r1", plan="six-gpu", step="upload", title="the upload arrives", attempt=2)
    write_step("six", step)
    assert read_step("six") is None, "a bench that is not up has no place for a step"
    bench_dir("six").mkdir(parents=True)
    write_step("six", step)
    assert read_step("six") == step
    write_step("six", Step("r1", "six-gpu", "upload", "killed", pid=step.pid, start_ticks=step.start_ticks - 1))
    assert read_step("six") is None
    write_step("six", step)
    write_step("six", None)
    assert read_step("six") is None


def test_a_step_file_that_makes_no_sense_is_no_step() -> None:
    bench_dir("six").mkdir(parents=True)
    for text in ("", "{", "[1]", '{"run_id": "x"}'):
        (bench_dir("six") / "step.json").write_text(text)
        assert read_step("six") is None


def test_a_look_is_json_with_everything_in_it(bench: FakeBench) -> None:
    bench_dir("six").mkdir(parents=True)
    write_step("six", Step.now(run_id="r1", plan="p", step="s", title="t"))
    Leases().reserve(["six/a1"], holder="anna", purpose="x")
    document = json.loads(json.dumps(snapshot(bench.as_bench).to_json()))
    assert document["boards"][0]["sensors"]["temperatures_c"]["tj"] == 41.5
    assert document["links"][1]["directions"]["a_to_b"]["delay_s"] == 0.014386
    assert document["step"]["step"] == "s" and "T" in document["leases"][0]["expires"]


# For days


def test_a_bench_is_followed_through_its_restarts(bench: FakeBench) -> None:
    attached = 0

    def attach(name: str) -> FakeBench:
        nonlocal attached
        attached += 1
        bench.closed = False
        return bench

    with BenchFollower("six", attach=attach) as follower:  # type: ignore[arg-type] # a bench that only pretends
        assert follower.health() is None
        with pretend_up("six"):
            assert follower.health() and follower.health()
            assert attached == 1
            write_state(bench_state("six", keeper_pid=2))
            assert follower.health()
            assert attached == 2
        assert follower.health() is None
        assert bench.closed


def test_a_sampler_tells_an_error_and_looks_again() -> None:
    looks: list[object] = [BenchError("no way in"), ValueError("odd"), health()]

    def look() -> Health | None:
        found = looks.pop(0) if len(looks) > 1 else looks[0]
        if isinstance(found, Exception):
            raise found
        return found  # type: ignore[return-value] # errors were raised above

    with Sampler(look, every_s=0.2) as sampler:
        wait_until(lambda: sampler.error == "no way in", what="the first look", deadline_s=10, every_s=0.005)
        wait_until(lambda: "ValueError: odd" in sampler.error, what="the second", deadline_s=10, every_s=0.005)
        wait_until(sampler.fresh, what="the third", deadline_s=10, every_s=0.005)
    assert sampler.error == ""


def test_a_look_that_is_too_old_says_nothing_about_now() -> None:
    clock = FakeClock()
    sampler: Sampler[Health] = Sampler(lambda: None, every_s=5.0, clock=clock)
    assert sampler.fresh() is None
    sampler.latest = Sample(1, 0.0, health())
    clock.now = 10.0
    assert sampler.fresh() is not None
    clock.now = 60.0
    assert sampler.fresh() is None
