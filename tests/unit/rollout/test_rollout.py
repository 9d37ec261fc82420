"""The rollout over boards that are node services on loopback: order, refusals, restarts, roll-back."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from hil.boards.protocol import Board, Slot
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.evidence.events import BundleUsed, Event, RolloutStep
from hil.onboard.node.answers import Claim, Health
from hil.rollout import transfer
from hil.rollout import upload as upload_module
from hil.rollout.activation import FellBack, check_newer, runs
from hil.rollout.fleet import Fleet
from hil.rollout.restart_barrier import HeldBack, RestartBarrier
from hil.rollout.rollout import Artefact, Rollout, RolloutPolicy
from hil.rollout.steps import worst
from hil.rollout.updaters.protocol import HealthReport, OsStatus, RefusedBundle
from hil.testing.fakes import ListSink
from tests.kits.loopback_nodes import Bed, FakeAdapter, FakeBundle, LoopBoard, bed, eventually

QUICK = RolloutPolicy(transfer_deadline_s=20, boot_deadline_s=5, node_deadline_s=0.3, health_deadline_s=2, poll_s=0.02)


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Bed]:
    with bed(tmp_path) as made:
        yield made


@pytest.fixture
def bundle(tmp_path: Path) -> FakeBundle:
    return FakeBundle.make(tmp_path / "v2.raucb")


def rollout(boards: Bed, bundle: FakeBundle, policy: RolloutPolicy = QUICK, **more: Any) -> Rollout:
    return Rollout(boards.fleet, bundle, policy=policy, adapter=boards.adapter, **more)


def versions(boards: Bed) -> set[tuple[str, bool]]:
    return {(b.slots[b.running], b.running in b.good) for b in boards.boards.values()}


def test_everything_at_once_ends_with_all_boards_confirmed_and_claiming(boards: Bed, bundle: FakeBundle) -> None:
    sink = ListSink()
    report = rollout(boards, bundle, sink=sink).run(boards.fleet.config(os_version="2.0.0"))
    assert versions(boards) == {("2.0.0", True)}
    assert report.epoch == 1
    assert {t.bytes_received for t in report.transfers} == {bundle.size_bytes}
    (used,) = sink.of(BundleUsed)
    assert (used.version, used.sha256, used.size) == ("2.0.0", bundle.sha256, bundle.size_bytes)
    steps = {(e.board, e.step) for e in sink.of(RolloutStep)}
    assert {("a1", "upload"), ("b1", "relay"), ("a2", "fan-out"), ("b3", "fan-out")} <= steps
    assert {(name, step) for name in boards.boards for step in ("install", "boot", "confirm", "serving")} <= steps


def test_only_the_head_of_the_other_spacecraft_is_fed_across_the_crosslink(boards: Bed, bundle: FakeBundle) -> None:
    transfers = {t.board: t.source for t in rollout(boards, bundle).distribute()}
    assert transfers == {"a1": "ground", "a2": "a1", "a3": "a1", "b1": "a1", "b2": "b1", "b3": "b1"}


def test_nothing_restarts_before_the_canary_is_confirmed_and_all_have_installed(
    boards: Bed, bundle: FakeBundle
) -> None:
    sink = ListSink()
    rollout(boards, bundle, sink=sink).run()
    steps = [(e.board, e.step, e.phase) for e in sink.of(RolloutStep)]
    first_boot_of_the_rest = min(
        n for n, (board, step, phase) in enumerate(steps) if step == "boot" and phase == "start" and board != "a2"
    )
    before = set(steps[:first_boot_of_the_rest])
    assert ("a2", "confirm", "end") in before
    assert {(name, "install", "end") for name in boards.boards} <= before


def test_steps_one_by_one_do_the_same(boards: Bed, bundle: FakeBundle) -> None:
    work = rollout(boards, bundle)
    assert work.upload().bytes_received == bundle.size_bytes
    assert {t.board for t in work.relay()} == {"a2", "a3", "b1", "b2", "b3"}
    assert work.bytes_at("b3") == bundle.size_bytes
    assert {s.other.image_sha256 for s in work.install().values()} == {bundle.image_sha256}
    assert versions(boards) == {("1.0.0", True)}
    assert work.activate_canary() == "a2"
    assert sorted(work.activate_rest()) == ["a1", "a3", "b1", "b2", "b3"]
    assert versions(boards) == {("2.0.0", True)}
    assert all(health and runs(health, bundle) for health in work.status().values())


def epochs(work: Rollout) -> set[int | None]:
    return {health.claim.epoch if health else None for health in work.status().values()}


def test_a_second_run_changes_nothing(boards: Bed, bundle: FakeBundle) -> None:
    rollout(boards, bundle).run()
    boots = {name: board.boots for name, board in boards.boards.items()}
    report = rollout(boards, bundle).run()
    assert {name: board.boots for name, board in boards.boards.items()} == boots
    assert {t.bytes_received for t in report.transfers} == {bundle.size_bytes}


class Killed(BaseException):
    """Stands for SIGKILL: nothing in the rollout may catch it and go on."""


@pytest.mark.parametrize("moment", range(0, 44, 4))
def test_killed_anywhere_the_next_run_finishes_the_work(boards: Bed, bundle: FakeBundle, moment: int) -> None:
    class Killer(ListSink):
        def emit(self, event: Event) -> None:
            super().emit(event)
            if len(self.events) > moment:
                raise Killed

    killer = Killer()
    try:
        rollout(boards, bundle, sink=killer).run(boards.fleet.config(os_version="2.0.0"))
    except Killed:
        assert len(killer.events) > moment
    found = rollout(boards, bundle).status().values()
    claimed = {health.os_version for health in found if health and health.claim.serving}
    assert len(claimed) <= 1
    report = rollout(boards, bundle).run(boards.fleet.config(os_version="2.0.0"))
    assert versions(boards) == {("2.0.0", True)}
    assert {t.bytes_received for t in report.transfers} == {bundle.size_bytes}


def test_the_rest_is_not_touched_when_the_canary_does_not_boot(boards: Bed, bundle: FakeBundle) -> None:
    boards["a2"].broken.add("2.0.0")
    boots = {name: board.boots for name, board in boards.boards.items() if name != "a2"}
    with pytest.raises(FellBack, match=r"a2: 2\.0\.0 did not come up.*last reset: watchdog"):
        rollout(boards, bundle).run()
    assert {name: board.boots for name, board in boards.boards.items() if name != "a2"} == boots
    assert boards["a2"].slots[boards["a2"].running] == "1.0.0"


def test_the_rest_refuses_to_go_before_the_canary(boards: Bed, bundle: FakeBundle) -> None:
    work = rollout(boards, bundle)
    work.distribute()
    work.install()
    with pytest.raises(DeviceError, match="canary a2"):
        work.activate_rest()
    assert versions(boards) == {("1.0.0", True)}


def test_an_os_whose_node_never_comes_up_is_taken_back(
    boards: Bed, bundle: FakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hil.rollout.activation.SSH_AFTER_S", 0.1)
    monkeypatch.setattr("hil.rollout.activation.SSH_EVERY_S", 0.1)
    boards["a2"].unhealthy.add("2.0.0")
    with pytest.raises(FellBack, match="unhealthy"):
        work = rollout(boards, bundle)
        work.distribute()
        work.install()
        work.activate_canary()
    board = boards["a2"]
    assert (board.running, "B" in board.good) == ("A", False)


def test_an_os_that_says_another_version_than_its_bundle_is_taken_back(boards: Bed, bundle: FakeBundle) -> None:
    boards["a2"].os_says["2.0.0"] = "2.0.1"
    with pytest.raises(FellBack, match=r"the OS in slot B says that it is 2\.0\.1, not 2\.0\.0.* runs 1\.0\.0 again"):
        rollout(boards, bundle).run()
    board = boards["a2"]
    assert (board.running, "B" in board.good) == ("A", False), "the board was left in the new slot"


def test_a_board_is_taken_back_only_once_it_has_restarted_though_ssh_says_nothing(
    boards: Bed, bundle: FakeBundle
) -> None:
    class Slow(FakeAdapter):
        def health(self) -> HealthReport:
            return HealthReport(False, ("refused",), {})

        def roll_back(self) -> None:
            restart = threading.Timer(0.3, super().roll_back)
            restarts.append(restart)
            restart.start()

    restarts: list[threading.Timer] = []
    boards["a2"].os_says["2.0.0"] = "2.0.1"
    work = Rollout(boards.fleet, bundle, policy=QUICK, adapter=lambda member: Slow(boards[member.name], boards.refuse))
    work.distribute()
    work.install()
    try:
        with pytest.raises(FellBack, match=r"the board runs 1\.0\.0 again"):
            work.activate_canary()
        assert boards["a2"].running == "A"
    finally:
        for restart in restarts:
            restart.join()


def test_a_bundle_whose_manifest_says_another_version_is_activated_nowhere(boards: Bed, bundle: FakeBundle) -> None:
    boots = {name: board.boots for name, board in boards.boards.items()}
    with pytest.raises(DeviceError, match=r"manifest of what is in slot B says version 2\.0\.0, not 9\.9\.9"):
        rollout(boards, replace(bundle, version="9.9.9")).run()
    assert {name: board.boots for name, board in boards.boards.items()} == boots
    named = replace(bundle, version="2.0", manifest_version="2.0.0")
    assert set(rollout(boards, named).install()) == set(boots)


@pytest.mark.parametrize(
    ("runs_now", "offered", "refused"),
    [
        ("2.0.0", "1.9.9", True),
        ("2.0.0", "2.0", False),
        ("2.0.0", "2.0.0", False),
        ("2.0.0", "10.0.0", False),
        ("v2.1-rc1", "2.0.9", True),
        ("2.0.1+a", "2.0.1+b", False),
        ("", "1.0.0", False),
        ("2.0.0", "latest", False),
    ],
)
def test_an_older_os_is_installed_only_when_that_is_meant(
    bundle: FakeBundle, runs_now: str, offered: str, refused: bool
) -> None:
    health = Health("a1", "b", True, True, Claim(False), os_version=runs_now)
    old = replace(bundle, version=offered)
    with pytest.raises(ConfigurationError, match=r"a1 runs .* older") if refused else nullcontext():
        check_newer(health, old, downgrade=False)
    check_newer(health, old, downgrade=True)


@pytest.mark.parametrize(
    ("signature", "extra", "refused"),
    [(b"plain CMS", 4096, True), (b"plain CMS", -4096, False), (b"CMS with [update]", 4096, False)],
    ids=["plain and large", "plain", "large with its manifest signed"],
)
def test_a_plain_bundle_above_2_gib_reaches_no_board(
    boards: Bed, tmp_path: Path, signature: bytes, extra: int, *, refused: bool
) -> None:
    """CVE-2026-34155: its signature may cover its first bytes only.  The file is a hole with a signature at its end."""
    path = tmp_path / "large.raucb"
    with path.open("wb") as file:
        file.truncate((1 << 31) + extra)
        file.seek(0, 2)
        file.write(signature + len(signature).to_bytes(8, "big"))
    large = FakeBundle(path, "2.0.0", "0" * 64, path.stat().st_size, "0" * 64)
    with pytest.raises(ConfigurationError, match="plain format") if refused else nullcontext():
        rollout(boards, large)._note_bundle()


def test_an_older_bundle_touches_no_board(boards: Bed, tmp_path: Path) -> None:
    old = FakeBundle.make(tmp_path / "old.raucb", version="0.9.0", size=1000)
    with pytest.raises(ConfigurationError, match=r"the older 0\.9\.0"):
        rollout(boards, old).run()
    assert versions(boards) == {("1.0.0", True)}
    rollout(boards, old, policy=replace(QUICK, downgrade=True)).run()
    assert versions(boards) == {("0.9.0", True)}


def test_two_controllers_that_upload_the_same_do_not_throw_each_other_out(
    boards: Bed, bundle: FakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = iter(["one", "two"])
    mine = threading.local()

    class Name:
        def __format__(self, spec: str) -> str:
            if not hasattr(mine, "name"):
                mine.name = next(names)
            return str(mine.name)

    monkeypatch.setattr("hil.rollout.upload.CONTROLLER", Name())
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda _: rollout(boards, bundle).upload(), range(2)))
    assert sum(transfer.moved for transfer in done) == 1
    assert {transfer.connections for transfer in done} == {1}


def test_an_os_that_finds_itself_unhealthy_is_taken_back(boards: Bed, bundle: FakeBundle) -> None:
    services = boards["a2"].facts / "services"
    services.mkdir()
    (services / "payload.pid").write_text("999999999")
    work = rollout(boards, bundle, replace(QUICK, health_deadline_s=0.3))
    work.distribute()
    work.install()
    with pytest.raises(FellBack, match="payload does not run"):
        work.activate_canary()
    assert boards["a2"].running == "A"


def test_an_os_that_falls_back_while_its_health_is_awaited_is_not_confirmed(boards: Bed, bundle: FakeBundle) -> None:
    services = boards["a2"].facts / "services"
    services.mkdir()
    (services / "payload.pid").write_text("999999999")

    class Panics(ListSink):
        def emit(self, event: Event) -> None:
            super().emit(event)
            if isinstance(event, RolloutStep) and (event.board, event.step, event.phase) == ("a2", "confirm", "start"):
                boards["a2"].off()
                (services / "payload.pid").unlink()
                boards["a2"].running = "A"
                boards["a2"].on()

    boots = {name: board.boots for name, board in boards.boards.items() if name != "a2"}
    with pytest.raises(FellBack, match=r"a2: 2\.0\.0 did not last until it was confirmed; it runs 1\.0\.0 in slot A"):
        rollout(boards, bundle, sink=Panics()).run()
    assert {name: board.boots for name, board in boards.boards.items() if name != "a2"} == boots


def test_a_refused_bundle_names_the_board_and_no_slot_changes(boards: Bed, bundle: FakeBundle) -> None:
    boards.refuse = lambda content: "signature verification failed"
    work = rollout(boards, bundle)
    work.distribute()
    with pytest.raises(RefusedBundle) as refusal:
        work.install(["b3"])
    assert refusal.value.reason == "signature verification failed"
    assert boards["b3"].images == {"A": None, "B": None}


def test_a_board_that_fails_to_install_holds_everybody_back(boards: Bed, bundle: FakeBundle) -> None:
    class Failing(FakeAdapter):
        def install(self, path_on_board: str, *, sha256: str, timeout_s: float = 120.0) -> OsStatus:
            if self.board.name == "b3":
                raise DeviceError("b3: no more flash")
            return super().install(path_on_board, sha256=sha256, timeout_s=timeout_s)

    def adapter(member: Board) -> FakeAdapter:
        return Failing(boards[member.name], boards.refuse)

    with pytest.raises(DeviceError, match="no more flash"):
        Rollout(boards.fleet, bundle, policy=QUICK, adapter=adapter).run()
    assert {board.running for name, board in boards.boards.items() if name != "a2"} == {"A"}


def test_installing_what_never_arrived_is_refused(boards: Bed, bundle: FakeBundle) -> None:
    with pytest.raises(DeviceError, match="does not have"):
        rollout(boards, bundle).install(["a3"])


def test_a_board_that_reads_its_artefact_again_after_a_restart_is_waited_for(
    boards: Bed, bundle: FakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = rollout(boards, bundle)
    work.distribute()
    node = boards["b3"].node
    assert node is not None
    held = node.store.get(bundle.sha256)
    reading, known = iter([0.5, 0.5]), held.status()

    def status() -> dict[str, Any]:
        time.sleep(next(reading, 0))
        return known

    monkeypatch.setattr(transfer, "ANSWER_S", 0.2)
    monkeypatch.setattr(held, "status", status)
    work.install(["b3"])
    assert next(reading, None) is None
    assert boards["b3"].images["B"] == bundle.image_sha256


def test_a_board_that_never_says_what_it_has_is_the_devices_fault(
    boards: Bed, bundle: FakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = rollout(boards, bundle, replace(QUICK, boot_deadline_s=0.5))
    work.distribute()
    node = boards["b3"].node
    assert node is not None
    monkeypatch.setattr(node.store.get(bundle.sha256), "status", lambda: time.sleep(2))
    with pytest.raises(DeviceError, match=r"b3 did not say within \d+ s what it has of v2\.raucb"):
        work.install(["b3"])


def test_rolling_back_returns_all_boards_and_twice_is_once(boards: Bed, bundle: FakeBundle) -> None:
    work = rollout(boards, bundle)
    work.run()
    assert len(work.roll_back()) == 6
    assert versions(boards) == {("1.0.0", True)}
    assert work.roll_back() == []


def test_the_hooks_of_a_configuration_run_between_its_phases(boards: Bed, bundle: FakeBundle) -> None:
    work = rollout(boards, bundle)
    seen: dict[str, Any] = {}

    def between(epoch: int) -> None:
        time.sleep(0.3)
        seen["between"] = (epoch, epochs(work))

    config = boards.fleet.config(os_version="1.0.0")
    assert work.configure(config, between_phases=between, after_commit=lambda e: seen.update(after=e)) == 1
    assert seen == {"between": (1, {None}), "after": 1}
    assert work.configure(config) == 1
    assert work.configure(config, fresh=True) == 2


def test_a_gateway_that_restarts_between_the_phases_is_prepared_again(boards: Bed, bundle: FakeBundle) -> None:
    def restart(epoch: int) -> None:
        boards["a1"].off()
        boards["a1"].on()

    work = rollout(boards, bundle)
    assert work.configure(boards.fleet.config(os_version="1.0.0"), between_phases=restart) == 1
    assert epochs(work) == {1}


def test_who_does_not_claim_is_named_with_its_own_reason(boards: Bed, bundle: FakeBundle) -> None:
    work = rollout(boards, bundle)
    (boards["b2"].facts / "confirmed").write_text("0")
    with pytest.raises(DeviceError, match=r"b2 did not claim epoch 1 .*not confirmed"):
        work.configure(boards.fleet.config(os_version="1.0.0"), wait_for=["a1"])
        work.serving_together(1, deadline_s=0.3)


def test_an_upload_outlives_a_gateway_that_restarts(
    boards: Bed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_module, "SEND_BYTES", 64 << 10)
    work = rollout(boards, FakeBundle.make(tmp_path / "big", size=20_000_000))
    node = boards["a1"].node
    assert node is not None

    def restart() -> None:
        eventually(lambda: work.bytes_at("a1") > 1_000_000, "the upload to begin")
        boards["a1"].off()
        boards["a1"].on()

    restarter = threading.Thread(target=restart)
    restarter.start()
    transfer = work.upload()
    restarter.join()
    assert transfer.bytes_received == work.bundle.size_bytes


def test_a_board_that_only_the_lab_cable_reaches_is_the_benchs_fault(
    boards: Bed, bundle: FakeBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hil.boards.protocol import Via

    def address(self: LoopBoard, via: Via = Via.MANAGEMENT) -> tuple[str, str]:
        return "", "127.88.251.1" if via is Via.FLIGHT and self.name == "b1" else self.ip

    monkeypatch.setattr(LoopBoard, "address", address)
    with pytest.raises(BenchError, match="through the management network it answers"):
        rollout(boards, bundle).serving_together(1, ["b1"], deadline_s=0.2)


def test_a_model_goes_the_same_way_as_the_bundle(boards: Bed, bundle: FakeBundle, tmp_path: Path) -> None:
    scene = tmp_path / "scene.npy"
    scene.write_bytes(b"\x93NUMPY" + bytes(500_000))
    work = rollout(boards, bundle)
    artefact = Artefact.of_file(scene, "scene")
    assert len(work.distribute(artefact)) == 6
    assert work.bytes_at("b2", artefact) == artefact.size_bytes


def test_an_artefact_that_is_missing_or_empty_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    for name in ("missing", "empty"):
        with pytest.raises(ConfigurationError, match=name):
            Artefact.of_file(tmp_path / name, "os")


class TestFleet:
    def fleet(self, *names: str, gateway: str) -> Fleet:
        made = [LoopBoard(n, f"sc-{n[0]}", "127.0.0.1", 1, Path("/nowhere"), {}) for n in names]
        return Fleet(tuple(cast(Board, b) for b in made), gateway)

    def test_a_gateway_outside_the_fleet_is_refused_with_the_names(self) -> None:
        with pytest.raises(ConfigurationError, match="'c1'"):
            self.fleet("a1", "b1", gateway="c1")

    def test_a_board_twice_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="twice"):
            self.fleet("a1", "a1", gateway="a1")

    def test_every_spacecraft_has_one_head_and_the_gateways_is_the_gateway(self) -> None:
        fleet = self.fleet("a1", "a2", "b1", "b2", "c1", gateway="a2")
        assert {k: m.name for k, m in fleet.heads().items()} == {"sc-a": "a2", "sc-b": "b1", "sc-c": "c1"}
        assert [m.name for m in fleet.far_heads()] == ["b1", "c1"]

    def test_the_canary_is_a_board_that_feeds_nobody(self, bundle: FakeBundle) -> None:
        assert Rollout(self.fleet("a1", "a2", "b1", "b2", gateway="a1"), bundle).canary == "a2"
        assert Rollout(self.fleet("a1", "b1", "b2", gateway="a1"), bundle).canary == "b2"
        assert Rollout(self.fleet("a1", gateway="a1"), bundle).canary == "a1"

    def test_a_part_of_a_fleet_keeps_its_gateway_or_takes_its_first_board(self) -> None:
        fleet = self.fleet("a1", "a2", "b1", gateway="a1")
        assert fleet.only("b1").gateway == "b1"
        assert fleet.only("a2", "a1").gateway == "a1"


class TestGate:
    def test_it_opens_when_all_have_installed_and_the_canary_is_confirmed(self) -> None:
        barrier = RestartBarrier(["a", "b"])
        barrier.installed("a")
        barrier.open()
        with pytest.raises(DeviceError, match=r"waited 0\.01 s for b"):
            barrier.wait(0.01)
        barrier.installed("b")
        barrier.wait(0.01)

    def test_others_let_a_board_install_first_but_not_for_ever(self) -> None:
        barrier = RestartBarrier(["a", "b"])
        start = time.monotonic()
        barrier.yield_to("a", 0.05)
        assert time.monotonic() - start >= 0.05
        barrier.installed("a")
        start = time.monotonic()
        barrier.yield_to("a", 60)
        assert time.monotonic() - start < 30

    def test_a_failure_shuts_it_for_everybody(self) -> None:
        barrier = RestartBarrier(["a", "b"])
        with pytest.raises(DeviceError), barrier.guard():
            raise DeviceError("a broke")
        with pytest.raises(HeldBack, match="a broke"):
            barrier.wait(1)


def test_of_several_errors_the_cause_is_raised_and_not_its_consequences() -> None:
    errors: dict[str, BaseException] = {"a": HeldBack("held back"), "c": DeviceError("flash")}
    assert worst(errors) is errors["c"]
    errors["b"] = BenchError("link")
    assert worst(errors) is errors["b"], "on a bench at fault nothing is known of the device"
    assert "also c: flash" in errors["b"].__notes__
    errors["d"] = KeyError("a bug")
    assert worst(errors) is errors["d"]


def test_slots_are_named_as_the_board_protocol_names_them() -> None:
    status = OsStatus("x", "B", "B", ())
    with pytest.raises(DeviceError, match="does not know slot A"):
        _ = status.other
    other: Slot = "A"
    with pytest.raises(DeviceError):
        status.slot(other)
