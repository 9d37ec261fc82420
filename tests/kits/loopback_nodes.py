"""Boards that are nothing but a node service on a loopback address: for tests of hil.onboard.node and hil.rollout.

Node ``k`` listens on 127.88.<bed>.<k>; all nodes share one port, as real boards do.  A fake OS adapter
installs by writing a file and restarts by replacing the node, boot id and all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from hil.boards.protocol import Board, Slot, Via
from hil.errors import DeviceError
from hil.images.artefact import BundleFacts
from hil.images.flight_pki import FlightPki, Operator, board_files
from hil.onboard.node.app import Node, Settings
from hil.onboard.node.client import Connect
from hil.onboard.node.epoch import Member as EpochMember
from hil.onboard.node.facts import Places
from hil.rollout.fleet import Fleet
from hil.rollout.updaters.protocol import HealthReport, InstalledSlot, OsStatus, RefusedBundle

FACTORY = "1.0.0"


PORT = 18470
"""Below the ports that the kernel gives to outgoing connections: one of a board's own cannot have it."""


@contextmanager
def own_network() -> Iterator[str]:
    """Give the begin of addresses that no other bed of this host has, of whatever process, until the block ends."""
    with socket.socket() as claim:
        for number in range(1, 250):
            with suppress(OSError):
                claim.bind((f"127.88.{number}.254", PORT))
                break
        else:
            raise RuntimeError(f"no network of 127.88.0.0/16 is free: port {PORT} is taken in all")
        yield f"127.88.{number}"


def dial(namespace: str, address: tuple[str, int], *, timeout_s: float) -> socket.socket:
    """Like hil.core.netns.connect, without a namespace."""
    return socket.create_connection(address, timeout=timeout_s)


def connector_from(ip: str) -> Connect:
    """Return what opens a board's connections: from its own address, as on a flight network."""

    def connect(host: str, port: int, timeout_s: float) -> socket.socket:
        sock = socket.create_connection((host, port), timeout=timeout_s, source_address=(ip, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return sock

    return connect


@dataclass
class LoopBoard:
    """A board of one node, with two slots that are lines of text."""

    name: str
    spacecraft: str
    ip: str
    port: int
    root: Path
    hosts: dict[str, str]
    member_type: type[EpochMember] = EpochMember
    pki: FlightPki | None = None  # with flight security
    node: Node | None = None
    slots: dict[Slot, str] = field(default_factory=lambda: {"A": FACTORY, "B": FACTORY})
    images: dict[Slot, str | None] = field(default_factory=lambda: {"A": None, "B": None})
    running: Slot = "A"
    good: set[Slot] = field(default_factory=lambda: {"A", "B"})
    boots: int = 0
    broken: set[str] = field(default_factory=set)  # versions that do not boot
    unhealthy: set[str] = field(default_factory=set)  # versions whose node service does not come up
    os_says: dict[str, str] = field(default_factory=dict)  # version -> what its /etc/os-release says instead
    reachable: bool = True

    @property
    def facts(self) -> Path:
        return self.root / "facts"

    def address(self, via: Via = Via.MANAGEMENT) -> tuple[str, str]:
        return "", self.ip

    def on(self) -> LoopBoard:
        """Boot: a new boot id, and a node unless the OS is broken."""
        self.boots += 1
        self.facts.mkdir(parents=True, exist_ok=True)
        board = {"name": self.name, "spacecraft": self.spacecraft, "hosts": self.hosts}
        if self.pki is not None:
            board["flight_security"] = "mtls"
            if not (self.facts / "flight").exists():
                (self.facts / "flight").mkdir()
                for name, content in board_files(self.pki, self.name).items():
                    (self.facts / "flight" / name).write_bytes(content)
        version = self.slots[self.running]
        texts = {
            "board": json.dumps(board),
            "boot": json.dumps({"image_sha256": self.images[self.running]}),
            "confirmed": "1" if self.running in self.good else "0",
            "os_release": f'ID=test\nVERSION_ID="{self.os_says.get(version, version)}"\n',
            "boot_id": f"{self.name}-{self.boots}",
            "command_line": f"root=/dev/x rauc.slot={self.running} quiet",
        }
        for name, text in texts.items():
            (self.facts / name).write_text(text)
        if version not in self.unhealthy:
            settings = Settings(self.ip, self.port, self.root / "data", Places.under(self.facts))
            self.node = Node(settings, member_type=self.member_type, connector=connector_from(self.ip))
            self.node.start()
        return self

    def off(self) -> None:
        if self.node is not None:
            self.node.stop()
            self.node = None

    def wipe(self) -> None:
        shutil.rmtree(self.root / "data", ignore_errors=True)


class FakeAdapter:
    """``hil.rollout.updaters.protocol.OsAdapter`` on a LoopBoard."""

    def __init__(self, board: LoopBoard, refuse: Callable[[bytes], str]) -> None:
        self.board = board
        self._refuse = refuse

    def prepare(self) -> None:
        return None

    @property
    def _other(self) -> Slot:
        return "B" if self.board.running == "A" else "A"

    def status(self) -> OsStatus:
        board = self.board
        slots = tuple(
            InstalledSlot(
                slot=name,
                state="booted" if name == board.running else "inactive",
                bootable=name in board.good,
                image_sha256=board.images[name],
                version=version,
                complete=board.images[name] is not None,
            )
            for name, version in board.slots.items()
        )
        return OsStatus("test", board.running, board.running, slots)

    def install(self, path_on_board: str, *, sha256: str, timeout_s: float = 120.0) -> OsStatus:
        content = Path(path_on_board).read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise RefusedBundle(f"{self.board.name}: digest", reason="digest mismatch")
        if reason := self._refuse(content):
            raise RefusedBundle(f"{self.board.name}: {reason}", reason=reason)
        self.board.good.discard(self._other)
        self.board.slots[self._other] = content[:64].split(b"\n")[0].decode()
        self.board.images[self._other] = image_of(content)
        return self.status()

    def activate(self) -> None:
        target = self._other
        self._restart(target)

    def _restart(self, target: Slot) -> None:
        board, before = self.board, self.board.running
        board.off()
        board.running = target
        if board.slots[target] in board.broken:
            board.boots += 3
            board.running = before
        board.on()

    def confirm(self) -> None:
        self.board.good.add(self.board.running)
        (self.board.facts / "confirmed").write_text("1")

    def configure(self, document: dict[str, Any]) -> None:
        return None

    def health(self) -> HealthReport:
        facts = {"boot_id": f"{self.board.name}-{self.board.boots}", "last_reset": "watchdog of the CPU complex"}
        return HealthReport(True, (), facts)

    def roll_back(self) -> None:
        if self._other not in self.board.good:
            raise DeviceError(f"{self.board.name}: slot {self._other} is not bootable")
        self._restart(self._other)

    def close(self) -> None:
        return None


def image_of(bundle: bytes) -> str:
    return hashlib.sha256(b"image" + bundle).hexdigest()


@dataclass(frozen=True)
class FakeBundle(BundleFacts):
    """A file whose first line is its version."""

    @classmethod
    def make(cls, path: Path, version: str = "2.0.0", size: int = 3_000_000) -> FakeBundle:
        pattern = bytes((i * 131) % 251 for i in range(251))
        content = version.encode() + b"\n" + (pattern * (size // 251 + 1))[:size]
        path.write_bytes(content)
        return cls(path, version, hashlib.sha256(content).hexdigest(), len(content), image_of(content))


@dataclass
class Bed:
    """Boards of two spacecraft and their fleet."""

    boards: dict[str, LoopBoard]
    fleet: Fleet
    refuse: Callable[[bytes], str] = lambda _: ""

    def adapter(self, member: Board) -> FakeAdapter:
        return FakeAdapter(self.boards[member.name], self.refuse)

    def __getitem__(self, name: str) -> LoopBoard:
        return self.boards[name]

    def nodes(self) -> Iterator[Node]:
        for board in self.boards.values():
            if board.node is not None:
                yield board.node


@contextmanager
def bed(root: Path, layout: dict[str, int] | None = None, pki: FlightPki | None = None) -> Iterator[Bed]:
    """``{"a": 3, "b": 3}``: boards a1 a2 a3 on spacecraft sc-a, b1 b2 b3 on sc-b; a1 is the gateway.

    With a ``pki`` they have flight security.
    """
    names = [f"{c}{i}" for c, n in (layout or {"a": 3, "b": 3}).items() for i in range(1, n + 1)]
    with own_network() as network, ThreadPoolExecutor(len(names)) as pool:
        hosts = {name: f"{network}.{i}" for i, name in enumerate(names, start=1)}
        boards = {
            name: LoopBoard(name, f"sc-{name[0]}", hosts[name], PORT, root / name, hosts, pki=pki) for name in names
        }
        operator = Operator.of(pki) if pki is not None else None
        members = tuple(cast(Board, b) for b in boards.values())
        fleet = Fleet(members, names[0], port=PORT, dial=dial, operator=operator)
        try:
            for board in boards.values():
                board.on()
            yield Bed(boards, fleet)
        finally:
            list(pool.map(LoopBoard.off, boards.values()))


def eventually(check: Callable[[], bool], what: str, deadline_s: float = 20.0) -> None:
    end = time.monotonic() + deadline_s
    while not check():
        assert time.monotonic() < end, f"waited {deadline_s:g} s for {what}"
        time.sleep(0.01)
