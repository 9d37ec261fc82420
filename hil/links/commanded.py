"""What was commanded, in a small file that every process driving the links reads and changes under one lock."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter

from hil.core.files import replacing
from hil.core.locks import locked
from hil.errors import BenchError, ConfigurationError
from hil.links.engines.agent import ClockOffset
from hil.links.engines.htb import Shares
from hil.links.engines.police import Police
from hil.links.engines.rtnl import U32_MAX
from hil.links.state import (
    ETHERNET_HEADER_B,
    MAX_RATE_BPS,
    PPM,
    LinkState,
    limit_in_flight,
    limit_packets,
    limit_small_packets,
    waiting_us,
)
from hil.links.wires import Profile, Share

_VERSION = 7
_LOCK_DEADLINE_S = 30.0
KEPT_COMMANDS = 64


@dataclass(frozen=True)
class Override:
    """A direction is held in this state, by hand or by a fault, since this CLOCK_MONOTONIC ns."""

    state: LinkState
    since_ns: int


@dataclass(frozen=True)
class ScheduleRecord:
    """The schedule being played: the CLOCK_MONOTONIC ns of its zero, its links, how often it was replaced."""

    zero_ns: int
    links: tuple[str, ...]
    revision: int = 0


@dataclass(frozen=True)
class LinkRecord:
    """One link: its ends as (namespace, ifname), the NICs that shape it, what was commanded.

    ``commanded`` of a scheduled link is its own state, to which the schedule adds delay, loss, up and down.
    """

    name: str
    a: tuple[str, str]
    b: tuple[str, str]
    egress: Mapping[str, int]  # direction -> ifindex in the engine of the NIC that carries its netem
    commanded: Mapping[str, LinkState]
    compensation_ns: Mapping[str, int] = field(default_factory=dict)
    override: Mapping[str, Override] = field(default_factory=dict)  # of a scheduled link: directions held by hand
    impaired: Mapping[str, Mapping[str, Override]] = field(default_factory=dict)
    """Directions that each fault holds, by the fault; a later one comes before an earlier one."""
    cut: bool = False  # by hand
    kernel: int = 0  # which of the box's kernels shapes it
    built: Mapping[str, LinkState] = field(default_factory=dict)  # as the lab file has it
    policed: bool = True  # a policer limits what waits in bytes; not in profile bulk, nor where tenants have shares
    shares: tuple[Share, ...] = ()  # of tenants
    cut_for: tuple[str, ...] = ()  # tenants whose own traffic is cut

    def held(self, direction: str) -> Override | None:
        """Return what holds a direction: the latest fault, else a hand, if the link is scheduled."""
        holding = [layer[direction] for layer in (self.override, *self.impaired.values()) if direction in layer]
        return holding[-1] if holding else None

    def by_hand(self, direction: str) -> LinkState:
        """Return what was commanded by a fault or by hand, or for a scheduled direction that is not held its own state.

        A link that was cut by hand is down whatever a fault commands.
        """
        held = self.held(direction)
        state = held.state if held else self.commanded[direction]
        return replace(state, up=False) if self.cut else state

    def delay_ns(self, direction: str) -> int:
        """Return the delay for netem: commanded by hand less what the engine adds itself, not below 0."""
        return max(0, self.by_hand(direction).delay_us * 1000 - self.compensation_ns.get(direction, 0))

    def shape(self, direction: str) -> tuple[LinkState, int]:
        """Return all that the kernel gets of a direction commanded by hand."""
        return self.by_hand(direction), self.delay_ns(direction)

    def police(self, direction: str) -> Police | None:
        """Return the policer before the direction as commanded by hand; None where there is none."""
        if not self.policed:
            return None
        state = self.by_hand(direction)
        # Copies (duplicate_ppm) are made behind it
        rate_bps = state.rate_bps * PPM // (PPM + state.duplicate_ppm)
        return Police.of(rate_bps, waiting_us(state.rate_bps, state.delay_us, state.mtu))

    def scheduler(self, direction: str) -> Shares | None:
        """Return the scheduler below the direction's netem as commanded by hand; None where nobody has a share."""
        if not self.shares:
            return None
        state = self.by_hand(direction)
        rate_bps = state.rate_bps or MAX_RATE_BPS
        waiting_bytes = -(-rate_bps * waiting_us(state.rate_bps, state.delay_us, state.mtu) // 8_000_000)
        return Shares(
            bytes_per_s=rate_bps // 8,
            queue_bytes=min(waiting_bytes, U32_MAX),
            frame_bytes=state.mtu + ETHERNET_HEADER_B,
            percents=tuple(share.percent for share in self.shares),
            addresses=tuple(share.addresses for share in self.shares),
            closed=frozenset(n for n, share in enumerate(self.shares) if share.tenant in self.cut_for),
        )

    def limit(self, state: LinkState) -> int:
        """Return the size of netem's queue in this state, in packets."""
        if self.shares:
            return limit_in_flight(state.rate_bps, state.delay_us, state.mtu)
        size = limit_small_packets if self.policed else limit_packets
        return size(state.rate_bps, state.delay_us, state.mtu)

    def differs(self) -> str:
        """Return in what it is not as the lab file has it, in words; empty when it is."""
        found = ["cut by hand"] if self.cut else []
        found += [f"cut for tenant {tenant}" for tenant in self.cut_for]
        for direction, built in self.built.items():
            now, wanted = asdict(self.by_hand(direction)), asdict(built)
            names = [name for name in wanted if now[name] != wanted[name] and not (self.cut and name == "up")]
            if self.held(direction) and not self.cut and not names:
                found.append(f"{direction}: held by hand")
            found += [f"{direction}: {name} {now[name]}, not {wanted[name]}" for name in names]
        return "; ".join(found)

    def like(self, other: LinkRecord) -> LinkRecord:
        """Return this link commanded by hand as ``other``; what was measured of its engine stays."""
        return replace(
            self,
            commanded=other.commanded,
            override=other.override,
            impaired=other.impaired,
            cut=other.cut,
            cut_for=other.cut_for,
        )

    def with_up(self, up: bool) -> LinkRecord:
        return replace(self, commanded={d: replace(s, up=up) for d, s in self.commanded.items()})


@dataclass(frozen=True)
class Command:
    """One change of a link: what was done, by which process, and when (CLOCK_MONOTONIC ns)."""

    link: str
    what: str
    process: str
    """Its :class:`hil.core.processes.ProcessId` as text."""
    program: str
    at_ns: int
    tenant: str = ""
    """Whose traffic alone it is about; empty: everybody's."""


@dataclass(frozen=True)
class BoxRecord:
    """A whole link box."""

    engine: str  # name of its kind
    engine_reason: str
    profile: Profile
    seed: int | None
    links: tuple[LinkRecord, ...]
    schedule: ScheduleRecord | None = None
    clock: ClockOffset | None = None  # of an engine whose clock runs apart from ours
    commands: tuple[Command, ...] = ()  # the latest, oldest first

    def scheduled(self, name: str) -> bool:
        return self.schedule is not None and name in self.schedule.links

    def position(self, name: str) -> int:
        """Return the place of a link among :attr:`links`."""
        return self.links.index(self.link(name))

    def link(self, name: str) -> LinkRecord:
        """Return the record of a link. ConfigurationError with the names that exist, for one that does not."""
        links = {link.name: link for link in self.links}
        if name not in links:
            raise ConfigurationError(f"no link is called {name!r}", remedy=f"links: {', '.join(links)}")
        return links[name]

    def with_command(self, command: Command) -> BoxRecord:
        return replace(self, commands=(*self.commands[1 - KEPT_COMMANDS :], command))

    def with_link(self, new: LinkRecord) -> BoxRecord:
        return replace(self, links=tuple(new if link.name == new.name else link for link in self.links))


@dataclass
class Draft:
    """A record being changed."""

    record: BoxRecord


class RecordFile:
    """The file with the record of a link box, and its lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock_path = path.with_suffix(".lock")
        self._read: tuple[tuple[int, int, int], BoxRecord] | None = None

    @classmethod
    def beside(cls, socket_path: Path) -> RecordFile:
        return cls(socket_path.with_suffix(".json"))

    def load(self) -> BoxRecord:
        """Return what the file says now. BenchError when there is no link box."""
        try:
            status = self.path.stat()
            stamp = status.st_ino, status.st_mtime_ns, status.st_size
            if self._read is None or self._read[0] != stamp:
                document = json.loads(self.path.read_text())
                if document.pop("version") != _VERSION:
                    raise ValueError("written by another version of this harness")
                self._read = stamp, _adapter().validate_python(document)
            return self._read[1]
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise BenchError(
                f"no usable state of a link box at {self.path}: {exc}", remedy="bring the bench up (`hil bench up`)"
            ) from exc

    @contextmanager
    def changing(self) -> Iterator[Draft]:
        """Hold the lock and give the record to change; it is written when the block ends without an exception."""
        with self.held():
            draft = Draft(self.load())
            yield draft
            self.write(draft.record)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock: nobody commands a link meanwhile, so that the record and the kernel can be compared."""
        what = "another process that changes the links"
        with locked(self._lock_path, deadline_s=_LOCK_DEADLINE_S, what=what):
            yield

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self._lock_path.unlink(missing_ok=True)

    def write(self, record: BoxRecord) -> None:
        """Make the file, or replace what it says."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(self.path, durable=False) as file:
            file.write(json.dumps({"version": _VERSION, **asdict(record)}).encode())
            file.flush()
            # Finer than the file system's own stamps: load() compares them.
            os.utime(file.fileno(), ns=(time.time_ns(),) * 2)


@cache
def _adapter() -> TypeAdapter[BoxRecord]:
    return TypeAdapter(BoxRecord)
