"""Six node services as processes in six network namespaces: killed, frozen and cut off in the middle of things.

A switch per spacecraft, a crosslink between the switches, the ground behind a slow link, and a management cable to
every board that nothing disturbs.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

from hil.boards.protocol import Board, Via
from hil.core import netns, paths
from hil.core.wait import wait_until
from hil.evidence.events import WatchSummary
from hil.images.flight_pki import FlightPki, Operator, board_files, flight_pki
from hil.onboard.node.answers import PORT
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeClient
from hil.rollout.rollout import Rollout, RolloutPolicy
from hil.rollout.watcher import InvariantWatcher
from hil.testing.attacker import Attacker, loot_of
from tests.kits.container_boards import ip
from tests.kits.loopback_nodes import FakeBundle

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

NAMES = ("a1", "a2", "a3", "b1", "b2", "b3")
FLIGHT = {name: f"198.18.1.{10 + n}" for n, name in enumerate(NAMES, 1)}
MANAGEMENT = {name: f"198.19.1.{10 + n}" for n, name in enumerate(NAMES, 1)}
GROUND_RATE = "60mbit"
SIZE = 12_000_000


@dataclass
class NodeBoard:
    """A board that is one process in one namespace."""

    name: str
    spacecraft: str
    space: str
    ground: str
    management: str
    root: Path
    pki: FlightPki | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, compare=False)

    def address(self, via: Via = Via.MANAGEMENT) -> tuple[str, str]:
        if via is Via.FLIGHT:
            return self.ground, FLIGHT[self.name]
        return self.management, MANAGEMENT[self.name]

    def start(self) -> None:
        facts = self.root / "facts"
        facts.mkdir(parents=True, exist_ok=True)
        board = {"name": self.name, "spacecraft": self.spacecraft, "hosts": FLIGHT}
        if self.pki is not None:
            board["flight_security"] = "mtls"
            (facts / "flight").mkdir(exist_ok=True)
            for name, content in board_files(self.pki, self.name).items():
                (facts / "flight" / name).write_bytes(content)
        texts = {
            "board": json.dumps(board),
            "confirmed": "1",
            "os_release": "VERSION_ID=1.0.0",
            "boot_id": f"{self.name}-{time.monotonic_ns()}",
            "command_line": "rauc.slot=A",
        }
        for name, text in texts.items():
            (facts / name).write_text(text)
        argv = [sys.executable, "-m", "hil.onboard.node", "--data", str(self.root / "data"), "--facts", str(facts)]
        self.process = subprocess.Popen(netns.argv_inside(self.space, argv), cwd=paths.ROOT)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait(10)
            self.process = None


@dataclass
class Network:
    boards: dict[str, NodeBoard]
    fleet: Fleet
    switch: str
    hostile: str
    """Namespace of a node on the flight network that is none of ours."""

    def crosslink(self, state: str) -> None:
        ip("-n", self.switch, "link", "set", "xl-a", state)

    def crossed_bytes(self) -> int:
        """Bytes that went from spacecraft A into the crosslink."""
        argv = ["ip", "-n", self.switch, "-s", "-j", "link", "show", "xl-a"]
        found = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
        return int(found[0]["stats64"]["tx"]["bytes"])


@contextmanager
def network(root: Path, pki: FlightPki | None = None) -> Iterator[Network]:
    prefix = f"hilt-roll-{os.getpid()}"
    switch, ground, management, hostile = (f"{prefix}-{n}" for n in ("sw", "gs", "mg", "xx"))
    spaces = {name: f"{prefix}-{name}" for name in NAMES}
    boards: dict[str, NodeBoard] = {}
    try:
        for space in (switch, ground, management, hostile, *spaces.values()):
            netns.create(space)
        for bridge, space in (("br-a", switch), ("br-b", switch), ("br-m", management)):
            ip("-n", space, "link", "add", bridge, "type", "bridge")
            ip("-n", space, "link", "set", bridge, "up")
        ip("-n", switch, "link", "add", "xl-a", "type", "veth", "peer", "name", "xl-b")
        for end, bridge in (("xl-a", "br-a"), ("xl-b", "br-b")):
            ip("-n", switch, "link", "set", end, "master", bridge, "up")
        ip("-n", management, "addr", "add", "198.19.1.1/24", "dev", "br-m")
        cable(ground, "mgbe0", "198.18.1.1/24", switch, "p-gs", "br-a")
        cable(hostile, "mgbe0", "198.18.1.99/24", switch, "p-xx", "br-b")
        shape = ["tc", "qdisc", "add", "dev", "mgbe0", "root", "tbf", "rate", GROUND_RATE]
        shape += ["burst", "64kb", "latency", "100ms"]
        subprocess.run(netns.argv_inside(ground, shape), check=True, capture_output=True)
        for name, space in spaces.items():
            cable(space, "mgbe0", f"{FLIGHT[name]}/24", switch, f"p-{name}", f"br-{name[0]}")
            cable(space, "eth0", f"{MANAGEMENT[name]}/24", management, f"m-{name}", "br-m")
            boards[name] = NodeBoard(name, f"sc-{name[0]}", space, ground, management, root / name, pki)
            boards[name].start()
        operator = Operator.of(pki) if pki is not None else None
        fleet = Fleet(tuple(cast(Board, b) for b in boards.values()), "a1", operator=operator)
        yield Network(boards, fleet, switch, hostile)
    finally:
        for board in boards.values():
            board.kill()
        for space in (*spaces.values(), ground, management, hostile, switch):
            netns.delete(space)


def cable(space: str, nic: str, address: str, hub: str, port: str, bridge: str) -> None:
    ip("-n", hub, "link", "add", port, "type", "veth", "peer", "name", nic, "netns", space)
    ip("-n", hub, "link", "set", port, "master", bridge, "up")
    ip("-n", space, "addr", "add", address, "dev", nic)
    ip("-n", space, "link", "set", nic, "up")


@pytest.fixture
def net(tmp_path: Path) -> Iterator[Network]:
    with network(tmp_path) as made:
        rollout = Rollout(made.fleet, FakeBundle.make(tmp_path / "x", size=10))
        wait_until(lambda: all(rollout.status().values()), what="six node services to answer", deadline_s=30)
        yield made


@pytest.fixture
def bundle(tmp_path: Path) -> FakeBundle:
    return FakeBundle.make(tmp_path / "v2.raucb", size=SIZE)


@pytest.fixture
def rollout(net: Network, bundle: FakeBundle) -> Rollout:
    policy = RolloutPolicy(transfer_deadline_s=90, configure_deadline_s=30)
    return Rollout(net.fleet, bundle, policy=policy)


def in_background(work: Any) -> tuple[threading.Thread, list[Any]]:
    out: list[Any] = []

    def run() -> None:
        try:
            out.append(work())
        except Exception as exc:
            out.append(exc)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, out


def wait_for_bytes(rollout: Rollout, board: str, size: int) -> None:
    wait_until(lambda: rollout.bytes_at(board) >= size, what=f"{size} bytes on {board}", deadline_s=60, every_s=0.01)


def assert_whole(net: Network, bundle: FakeBundle) -> None:
    for board in net.boards.values():
        content = (board.root / "data/artefacts" / bundle.sha256 / "data").read_bytes()
        assert hashlib.sha256(content).hexdigest() == bundle.sha256, board.name


def test_the_bundle_reaches_all_six_and_crosses_the_crosslink_once(
    net: Network, rollout: Rollout, bundle: FakeBundle
) -> None:
    before = net.crossed_bytes()
    transfers = rollout.distribute()
    assert {t.bytes_received for t in transfers} == {bundle.size_bytes}
    assert {t.connections for t in transfers} == {1}
    assert_whole(net, bundle)
    assert bundle.size_bytes < net.crossed_bytes() - before < 1.15 * bundle.size_bytes


@pytest.mark.parametrize("victim", ["a1", "b1", "b3"])
def test_a_node_killed_in_the_middle_goes_on_at_its_byte(
    net: Network, rollout: Rollout, bundle: FakeBundle, victim: str
) -> None:
    """Gateway, head and last board: nothing that had arrived anywhere is sent again."""
    thread, out = in_background(rollout.distribute)
    wait_for_bytes(rollout, victim, SIZE // 3)
    net.boards[victim].kill()
    at = (net.boards[victim].root / "data/artefacts" / bundle.sha256 / "data").stat().st_size
    assert at < SIZE
    net.boards[victim].start()
    thread.join(90)
    assert out and isinstance(out[0], list), out
    assert {t.board: t.bytes_received for t in out[0]} == dict.fromkeys(NAMES, bundle.size_bytes)
    assert_whole(net, bundle)


def test_an_outage_of_the_crosslink_costs_its_own_length_and_no_bytes(
    net: Network, rollout: Rollout, bundle: FakeBundle
) -> None:
    thread, out = in_background(rollout.distribute)
    wait_for_bytes(rollout, "b1", SIZE // 3)
    net.crosslink("down")
    time.sleep(2.5)
    net.crosslink("up")
    thread.join(90)
    assert out and isinstance(out[0], list), out
    assert {t.board: t.bytes_received for t in out[0]} == dict.fromkeys(NAMES, bundle.size_bytes)
    assert_whole(net, bundle)


def configuration(net: Network, revision: int) -> Any:
    return net.fleet.config(os_version="1.0.0", params={"revision": revision})


def assert_no_violation(report: WatchSummary) -> None:
    assert report.samples > 0
    assert report.violations == ()


@pytest.mark.parametrize("moment", ["between_phases", "after_commit"])
def test_the_crosslink_may_die_at_any_moment_of_a_configuration(net: Network, rollout: Rollout, moment: str) -> None:
    near = ["a1", "a2", "a3"]
    with InvariantWatcher(net.fleet) as watcher:
        rollout.configure(configuration(net, 1))
        hook: dict[str, Any] = {moment: lambda epoch: net.crosslink("down")}
        epoch = rollout.configure(configuration(net, 2), wait_for=near, **hook)
        rollout.serving_together(epoch, near, silent=["b1", "b2", "b3"])
        net.crosslink("up")
        rollout.serving_together(epoch, deadline_s=20)
        wait_until(
            lambda: {e for _, _, e in watcher.report().claims["b1"]} == {1, epoch},
            what="the watcher to have seen b1 under both epochs",
            deadline_s=10,
        )
    assert_no_violation(watcher.report())


def test_a_board_frozen_through_a_change_of_epochs_never_claims_the_old_one_afterwards(
    net: Network, rollout: Rollout
) -> None:
    with InvariantWatcher(net.fleet) as watcher:
        rollout.configure(configuration(net, 1))

        def freeze(epoch: int) -> None:
            net.boards["b2"].signal(signal.SIGSTOP)

        others = [n for n in NAMES if n != "b2"]
        try:
            epoch = rollout.configure(configuration(net, 2), wait_for=others, between_phases=freeze)
        finally:
            net.boards["b2"].signal(signal.SIGCONT)
        rollout.serving_together(epoch, deadline_s=20)
    assert_no_violation(watcher.report())


def test_the_gateway_killed_right_after_the_commit_leaves_no_mixed_cluster(net: Network, rollout: Rollout) -> None:
    with InvariantWatcher(net.fleet) as watcher:
        rollout.configure(configuration(net, 1))

        def die(epoch: int) -> None:
            net.boards["a1"].kill()
            net.boards["a1"].start()

        epoch = rollout.configure(configuration(net, 2), after_commit=die)
    assert_no_violation(watcher.report())
    rollout.serving_together(epoch)


def test_a_hostile_node_on_the_flight_network_changes_nothing_and_slows_little(
    tmp_path: Path, bundle: FakeBundle
) -> None:
    """It attacks all boards at once, with a board's certificate and an order of before, during a rollout."""
    pki = flight_pki(tmp_path / "pki")
    policy = RolloutPolicy(transfer_deadline_s=90, configure_deadline_s=30)
    with network(tmp_path / "net", pki) as net:
        rollout = Rollout(net.fleet, bundle, policy=policy)
        wait_until(lambda: all(rollout.status().values()), what="six node services to answer", deadline_s=30)
        assert net.fleet.operator is not None
        path = f"/artefacts/{'1' * 64}"
        with NodeClient(net.fleet, "a1", Via.MANAGEMENT) as client:
            headers = net.fleet.operator.sign("a1", "DELETE", path, b"")
            assert client._peer.request("DELETE", path, headers=headers)[0] == 404, "an order that was followed"
        loot = replace(loot_of(pki, tmp_path), orders=[("DELETE", path, b"", headers)])
        targets = {name: (FLIGHT[name], PORT) for name in NAMES}
        with InvariantWatcher(net.fleet) as watcher:
            rollout.configure(configuration(net, 1))
            with Attacker(net.hostile, targets, loot) as attacker:
                rollout.distribute()
                epoch = rollout.configure(configuration(net, 2))
                wait_until(lambda: len(attacker.attempts) == 8, what="every kind of attack", deadline_s=20)
            rollout.serving_together(epoch)
        assert (attacker.let_in, attacker.broken) == ([], [])
        assert_whole(net, bundle)
        assert_no_violation(watcher.report())
        for name in NAMES:
            with NodeClient(net.fleet, name, Via.MANAGEMENT) as client:
                held = {each["id"] for each in client.call("GET", "/artefacts")["artefacts"]}
                record = client.call("GET", "/record")
            assert held == {bundle.sha256}, name
            assert any(each["status"] in (401, 403) for each in record["counts"]), "what it tried is recorded"
