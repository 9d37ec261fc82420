"""A bench that only pretends: the virtual lab's boards and links without containers, namespaces or root."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

from hil.bench.bench import Bench
from hil.bench.journal import Journal
from hil.bench.state import BenchState, bench_dir, hold, write_state
from hil.boards.protocol import BootState, Completed, Fidelity, PowerState, SlotState, Via
from hil.core import paths
from hil.errors import DeviceError
from hil.lab.model import load_lab
from hil.links.link_box import End, Wire
from hil.links.state import LinkState
from hil.monitor.bench_health import BoardHealth, DirectionHealth, Health, LinkHealth, Node, Sensors, SlotHealth
from hil.onboard.node import answers
from hil.testing.links import fake_box

LAB = paths.ROOT / "lab/virtual.yaml"

HEALTH: dict[str, Any] = {
    "board": "a1",
    "boot_id": "boot-1",
    "os_version": "1.0.0",
    "slot": "A",
    "image_sha256": "4e8e",
    "confirmed": True,
    "healthy": True,
    "problems": [],
    "claim": {"serving": True, "epoch": 7},
    "committed": 7,
}
READINGS = {
    "tj_c": 41.5,
    "cpu_c": 40.0,
    "gpu_load_percent": 25.0,
    "cpu_load_percent": 10.0,
    "vdd_cpu_cv_mw": 500.0,
    "board_mw": 5200.0,
    "ram_used_mb": 100.0,
    "ram_total_mb": 30697.0,
    "gpu_mhz": 930.0,
}


class FakeShell:
    """A session that answers the sensors' and the version's question, until its board is told otherwise."""

    def __init__(self, board: FakeBoard) -> None:
        self._board = board
        self.closed = self.broken = False

    def run(self, argv: list[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        if self.broken:
            raise DeviceError("the connection broke")
        return Completed(tuple(argv), 0, "3.1.4\n", "")

    def close(self) -> None:
        self.closed = True


@dataclass
class FakeBoard:
    """A board whose parts answer, raise or hang as a test says."""

    name: str
    spacecraft: str = "sc-a"
    power: PowerState | Exception = PowerState.ON
    node: dict[str, Any] | None = field(default_factory=lambda: dict(HEALTH))
    readings: dict[str, float] | Exception = field(default_factory=lambda: dict(READINGS))
    hang: threading.Event | None = None
    fidelity: Fidelity = Fidelity.VIRTUAL
    shells: list[FakeShell] = field(default_factory=list)
    senses: int = 0

    @property
    def supervisor(self) -> FakeBoard:
        return self

    @property
    def boot(self) -> FakeBoot:
        return FakeBoot()

    def state(self) -> PowerState:
        if isinstance(self.power, Exception):
            raise self.power
        return self.power

    def address(self, via: Via = Via.MANAGEMENT) -> tuple[str, str]:
        return self.name, "127.0.0.1"

    def shell(self, via: Via = Via.MANAGEMENT) -> FakeShell:
        if isinstance(self.readings, Exception) and self.node is None:
            raise self.readings
        self.shells.append(FakeShell(self))
        return self.shells[-1]

    def sensors_over(self, shell: FakeShell) -> dict[str, float]:
        self.senses += 1
        if self.hang is not None:
            self.hang.wait(30)
        if shell.broken:
            raise DeviceError("the connection broke")
        if isinstance(self.readings, Exception):
            raise self.readings
        return self.readings

    def sensors(self) -> dict[str, float]:
        raise AssertionError("an open session was not used")


class FakeBoot:
    def state(self) -> BootState:
        return BootState("A", "A", (SlotState("A", True, 3, True), SlotState("B", True, 2, False)))


@dataclass
class FakeBench:
    """What ``hil.monitor.bench_watch`` needs of a bench."""

    name: str
    boards: dict[str, FakeBoard]
    links: Any
    state: BenchState
    orbit: Any = None
    operator: Any = None
    closed: bool = False

    def __post_init__(self) -> None:
        self.lab = load_lab(LAB)
        self.journal = Journal(self.name)

    def close(self) -> None:
        self.closed = True

    @property
    def as_bench(self) -> Bench:
        return cast(Bench, self)


@contextmanager
def fake_bench(tmp_path: Path, name: str = "six") -> Iterator[FakeBench]:
    """The virtual lab with a link box on an engine that only remembers."""
    lab = load_lab(LAB)
    wires = [
        Wire(
            link.name,
            End(link.between[0], f"l-{link.name}"),
            End(link.between[1], f"l-{link.name}"),
            *(LinkState(link.one_way_delay_us or 0, link.rate_bps),) * 2,
        )
        for link in lab.links
    ]
    with fake_box(wires, socket_path=tmp_path / "links.sock") as box:
        boards = {b.name: FakeBoard(b.name, lab.spacecraft_of(b.name).name) for b in lab.boards}
        yield FakeBench(name, boards, box, bench_state(name))


def bench_state(name: str, *, keeper_pid: int = 1) -> BenchState:
    return BenchState(
        name=name,
        lab_path=str(LAB),
        keeper_pid=keeper_pid,
        status="up",
        tied=False,
        started_utc="2026-03-01T12:00:00+00:00",
        engine={"kind": "uml", "kernel_release": "6.1", "profile": "exact"},
        consoles={board: {} for board in ("a1", "a2", "b1")},
    )


@contextmanager
def pretend_up(name: str) -> Iterator[None]:
    """A bench that commands take for one that is up; ``HIL_RUN`` must point to a scratch directory."""
    with hold(name):
        write_state(bench_state(name))
        links = [{"name": "ground"}, {"name": "isl-ab"}]
        (bench_dir(name) / "links.json").write_text(json.dumps({"links": links}))
        yield


class NodeServers:
    """Node services of fake boards, all on one loopback port; ``connect`` stands in for ``hil.core.netns.connect``."""

    def __init__(self, boards: dict[str, FakeBoard]) -> None:
        kit = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                board = boards[kit.dialled[self.client_address[1]]]
                if board.node is None:
                    self.close_connection = True
                    return
                body = json.dumps({**board.node, "board": board.name}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                return None

        self.boards = boards
        self.dialled: dict[int, str] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def connect(self, namespace: str, address: tuple[str, int], *, timeout_s: float) -> Any:
        import socket

        if self.boards[namespace].node is None:
            raise ConnectionRefusedError("nobody there")
        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        self.dialled[sock.getsockname()[1]] = namespace
        sock.settimeout(timeout_s)
        sock.connect(self.server.server_address)
        return sock

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def board_health(name: str, **changes: Any) -> BoardHealth:
    """A board that is well, with changes."""
    facts: dict[str, Any] = {
        "name": name,
        "spacecraft": "sc-a",
        "fidelity": "virtual",
        "power": "on",
        "reachable": True,
        "slots": {
            "A": SlotHealth(running=True, next=True, bootable=True, confirmed=True, retries=3),
            "B": SlotHealth(running=False, next=False, bootable=True, confirmed=False, retries=3),
        },
        "os_version": "1.0.0",
        "node": Node.of(answers.Health.from_json(HEALTH)),
        "sensors": Sensors.of(READINGS, 1_700_000_000.0),
    }
    return BoardHealth(**{**facts, **changes})


def link_health(name: str, **changes: Any) -> LinkHealth:
    """A crosslink that is up, with changes; those of ``both`` go into both directions."""
    both = changes.pop("both", {})
    facts: dict[str, Any] = {
        "up": True,
        "delay_s": 0.014386,
        "rate_bps": 200_000_000,
        "loss": 0.0,
        "agrees": True,
        "kernel_delay_s": 0.014386,
        "measured_delay_s": None,
        "sent_packets": 10,
        "sent_bytes": 1000,
        "dropped_packets": 0,
        "queued_packets": 0,
        **both,
    }
    there, back = (DirectionHealth(a, b, **facts) for a, b in (("sc-a", "sc-b"), ("sc-b", "sc-a")))
    directions = {"a_to_b": there, "b_to_a": back}
    return LinkHealth(
        **{"name": name, "kind": "crosslink", "up": True, "cut": False, "directions": directions, **changes}
    )


def health(**changes: Any) -> Health:
    """A look at a bench that is well, with changes."""
    facts: dict[str, Any] = {
        "bench": "six",
        "lab": "virtual",
        "taken_at": 1_700_000_000.0,
        "took_s": 0.1,
        "started_utc": "2023-11-14T22:00:00+00:00",
        "engine": {"kind": "uml", "kernel_release": "6.1", "profile": "exact"},
        "boards": (board_health("a1"), board_health("b1", spacecraft="sc-b")),
        "links": (link_health("isl-ab"),),
    }
    return Health(**{**facts, **changes})


Look = Callable[[], Health | None]
