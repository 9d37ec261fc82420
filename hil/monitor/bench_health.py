"""The state of a bench, as Prometheus gets it and `hil bench watch` shows it.  Facts only.

None, or a name that is absent, means that there was no answer; nothing here stands for zero.
:mod:`hil.monitor.bench_watch` makes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from hil.bench.state import Step
from hil.evidence.twin import TwinSample
from hil.onboard.node import answers
from hil.text import one_line

MOST_PROBLEMS = 32
"""Of one board; what says more is ill enough."""
MIB = 1 << 20  # what tegrastats and /proc/meminfo call MB
WHOLE_BOARD = "board"
"""The reading ``board_mw`` is the module's total, not a rail."""


@dataclass(frozen=True)
class Sensors:
    """Readings of one board in base units."""

    read_at: float
    """Unix time of the reading, s, by the clock of the machine that looked."""
    temperatures_c: Mapping[str, float] = field(default_factory=dict)
    rails_w: Mapping[str, float] = field(default_factory=dict)
    board_w: float | None = None
    gpu_load: float | None = None  # 0 to 1
    cpu_load: float | None = None  # 0 to 1, mean over the cores that are on
    memory_used_b: float | None = None
    memory_total_b: float | None = None

    @classmethod
    def of(cls, readings: Mapping[str, float], read_at: float) -> Sensors:
        """From what ``Board.sensors`` gives: names with their unit, of which any may be missing."""

        def scaled(name: str, factor: float) -> float | None:
            return readings[name] * factor if name in readings else None

        total = f"{WHOLE_BOARD}_mw"
        rails = {name: mw for name, mw in readings.items() if name.endswith("_mw") and name != total}
        return cls(
            read_at=read_at,
            temperatures_c={n.removesuffix("_c"): v for n, v in readings.items() if n.endswith("_c")},
            rails_w={name.removesuffix("_mw"): mw / 1000 for name, mw in rails.items()},
            board_w=scaled(total, 1e-3),
            gpu_load=scaled("gpu_load_percent", 1e-2),
            cpu_load=scaled("cpu_load_percent", 1e-2),
            memory_used_b=scaled("ram_used_mb", MIB),
            memory_total_b=scaled("ram_total_mb", MIB),
        )

    @property
    def hottest_c(self) -> float | None:
        """The junction's temperature where the board has it (``tj``, the hottest sensor), else the highest."""
        return self.temperatures_c.get("tj", max(self.temperatures_c.values(), default=None))


@dataclass(frozen=True)
class Node:
    """What a board's node service says of itself (``GET /health``)."""

    healthy: bool
    problems: tuple[str, ...]
    slot: str | None
    confirmed: bool
    os_version: str | None
    image_sha256: str | None
    claimed_epoch: int | None  # the configuration epoch under which it serves now
    committed_epoch: int | None

    @classmethod
    def of(cls, health: answers.Health) -> Node:
        """Take from a health page what a bench's health shows; its texts are cleaned and cut."""
        return cls(
            healthy=health.healthy,
            problems=tuple(one_line(problem) for problem in health.problems[:MOST_PROBLEMS]),
            slot=health.slot and one_line(health.slot),
            confirmed=health.confirmed,
            os_version=health.os_version and one_line(health.os_version),
            image_sha256=health.image_sha256 and one_line(health.image_sha256),
            claimed_epoch=health.claim.epoch,
            committed_epoch=health.committed,
        )


@dataclass(frozen=True)
class SlotHealth:
    """One slot, as the firmware sees it."""

    running: bool
    next: bool  # tried first at the next boot
    bootable: bool
    confirmed: bool
    retries: int


@dataclass(frozen=True)
class BoardHealth:
    """One board."""

    name: str
    spacecraft: str
    fidelity: str
    power: str | None = None  # "on", "off"; None: the supervisor did not answer
    reachable: bool = False
    """The OS answers: its node service, or a shell."""
    slots: Mapping[str, SlotHealth] = field(default_factory=dict)
    os_version: str | None = None
    node: Node | None = None
    sensors: Sensors | None = None
    problems: tuple[str, ...] = ()
    """Why something above is missing, a sentence each; a board that is off has none."""

    @property
    def slot(self) -> str | None:
        """The slot that runs: by the OS, which is asked more often, else by the firmware."""
        if self.node is not None and self.node.slot:
            return self.node.slot
        return next((name for name, slot in self.slots.items() if slot.running), None)

    @property
    def confirmed(self) -> bool | None:
        """Whether the slot that runs has passed its health check."""
        if self.node is not None:
            return self.node.confirmed
        running = next((slot for slot in self.slots.values() if slot.running), None)
        return running.confirmed if running else None

    @property
    def powered(self) -> bool | None:
        """Whether power is on; None when the supervisor did not answer."""
        return None if self.power is None else self.power == "on"

    @property
    def wants_attention(self) -> bool:
        """True when the board is on and something is wrong with it, or when its power state is unknown."""
        if self.power is None:
            return True
        sick = self.node is not None and not self.node.healthy
        return self.power == "on" and (sick or not self.reachable or bool(self.problems))


@dataclass(frozen=True)
class DirectionHealth:
    """One direction of a link: commanded, as the kernel says it is, as packets met it; and what was counted."""

    source: str  # node at which packets go in
    target: str
    up: bool
    delay_s: float
    rate_bps: int  # 0: no limit
    loss: float  # 0 to 1, the long-run share
    agrees: bool  # the kernel does what is commanded
    kernel_delay_s: float | None  # read back, with the engine's own delay; None: no netem there
    measured_delay_s: float | None  # median of a few packets just sent; None: not measured, or none arrived
    sent_packets: int
    sent_bytes: int
    dropped_packets: int
    queued_packets: int


@dataclass(frozen=True)
class LinkHealth:
    """One link."""

    name: str
    kind: str
    up: bool  # commanded, both directions
    cut: bool  # by hand
    directions: Mapping[str, DirectionHealth]  # "a_to_b", "b_to_a"
    phase: str | None = None  # of a link that follows the orbit
    phase_left_s: float | None = None
    phase_why: str = ""

    @property
    def agrees(self) -> bool:
        return all(direction.agrees for direction in self.directions.values())


@dataclass(frozen=True)
class LeaseHealth:
    """One lease, or one place in the queue for boards, that touches boards of this bench."""

    id: int
    boards: tuple[str, ...]  # names in this bench
    holder: str
    host: str
    purpose: str
    position: int  # 0: holds them; else the place in the queue
    expires: datetime | None
    by_person: bool


@dataclass(frozen=True)
class Health:
    """Everything that one look at a bench found."""

    bench: str
    lab: str
    taken_at: float  # Unix time, s
    took_s: float
    started_utc: str
    engine: Mapping[str, str]  # kind, kernel_release, profile
    boards: tuple[BoardHealth, ...]
    links: tuple[LinkHealth, ...] = ()
    leases: tuple[LeaseHealth, ...] = ()
    step: Step | None = None
    mission_time: datetime | None = None  # where in the mission a bench with an orbit is
    heat: tuple[TwinSample, ...] = ()  # the twin's last sample of each spacecraft; none without a twin in the loop
    problems: tuple[str, ...] = ()
    """What could not be looked at: the link box, the leases; a sentence each."""

    @property
    def attention(self) -> int:
        """Boards that need attention, and parts of the bench without an answer."""
        return sum(board.wants_attention for board in self.boards) + len(self.problems)

    def board(self, name: str) -> BoardHealth:
        """KeyError when there is none of that name."""
        return {board.name: board for board in self.boards}[name]

    def to_json(self) -> dict[str, Any]:
        """JSON values; moments in ISO 8601."""
        document: dict[str, Any] = json.loads(json.dumps(asdict(self), default=datetime.isoformat))
        return document
