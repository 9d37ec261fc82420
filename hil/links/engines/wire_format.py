"""The schedule as the engine plays it: rows of one size, the messages they go into, the log of applied rows.

The layouts are those of ``engines/native/plan.c``.  A row carries only what changes, so that a schedule of 45 links
at 10 Hz fits a serial line; the netem message around it is taught once per direction.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from hil.links.engines.relay import PAYLOAD_MAX

KEEP_ALL = 2**64 - 1
SLOTS_MAX = 1024
SHAPE = struct.Struct("<HHHHHHI")
ROW = struct.Struct("<QIIIHH")
LOG = struct.Struct("<QQ")
APPLIED = struct.Struct("<QIHH")
HELD = 0x8000
_ROWS_PER_FRAME = PAYLOAD_MAX // ROW.size


@dataclass(frozen=True)
class Shape:
    """What the engine needs to make a netem message of a row: one message each for up and down, and where to write.

    ``options_at``: delay in ticks, limit, loss (32 bits each); ``latency_at`` (down, up): delay in ns (64 bits).
    ``compensation_ns`` is subtracted from every delay, never below 0.
    """

    up: bytes
    down: bytes
    options_at: int
    latency_at: tuple[int, int]
    compensation_ns: int

    def pack(self, slot: int) -> bytes:
        """Return the payload of a SHAPE frame."""
        head = SHAPE.pack(slot, self.options_at, *self.latency_at, len(self.down), len(self.up), self.compensation_ns)
        return head + self.up + self.down


class PlanRow(NamedTuple):
    """One direction from ``at_ns`` of the engine's clock on; ``loss`` on netem's scale, where all is 2**32 - 1."""

    at_ns: int
    delay_us: int
    limit: int
    loss: int
    slot: int
    up: int


class Applied(NamedTuple):
    """What became of a row: errno, how late it was; ``held``: noted and not applied."""

    slot: int
    error: int
    held: bool
    planned_ns: int
    late_us: int


class PlanLog(NamedTuple):
    """A piece of the log: how many rows there were up to and with these, and how many found no room in it."""

    seen: int
    lost: int
    applied: list[Applied]


def frames(rows: Sequence[PlanRow]) -> Iterator[bytes]:
    """Yield payloads of PLAN_ADD frames."""
    for start in range(0, len(rows), _ROWS_PER_FRAME):
        yield b"".join([ROW.pack(*row) for row in rows[start : start + _ROWS_PER_FRAME]])


def unpack_log(answer: bytes) -> PlanLog:
    """Return the rows in the answer to a PLAN_LOG frame."""
    seen, lost = LOG.unpack_from(answer)
    applied = [
        Applied(slot, error & ~HELD, bool(error & HELD), planned_ns, late_us)
        for planned_ns, late_us, slot, error in APPLIED.iter_unpack(answer[LOG.size :])
    ]
    return PlanLog(seen, lost, applied)


def pack_slots(numbers: Sequence[int]) -> bytes:
    """Return the payload of HOLD and RELEASE frames."""
    return struct.pack(f"<{len(numbers)}H", *numbers)
