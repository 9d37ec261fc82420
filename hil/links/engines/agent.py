"""One seam between the link box and the kernel that shapes: an agent answers frames.

Each engine has an agent of its own; :mod:`.agent_server` serves them to other processes.
"""

from __future__ import annotations

import logging
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self

from hil.errors import BenchError
from hil.links.engines import rtnl, wire_format
from hil.links.engines.relay import PAYLOAD_MAX, PROTOCOL_VERSION, Kind
from hil.links.engines.wire_format import KEEP_ALL, PlanLog, PlanRow, Shape

_log = logging.getLogger(__name__)

_U64 = struct.Struct("<Q")


@dataclass(frozen=True)
class ClockOffset:
    """Our CLOCK_MONOTONIC less the engine's, as measured at ``at_ns`` of ours, and by how much it can be wrong."""

    offset_ns: int
    uncertainty_ns: int
    at_ns: int


def clock_offset(now_ns: Callable[[], int], other_ns: Callable[[], int], *, readings: int = 5) -> ClockOffset:
    """Measure our clock less another by the tightest round trip (as NTP does: it was read in the middle)."""
    trips = []
    for _ in range(readings):
        before_ns = now_ns()
        read_ns = other_ns()
        after_ns = now_ns()
        trips.append((after_ns - before_ns, (before_ns + after_ns) // 2 - read_ns, after_ns))
    round_trip_ns, offset_ns, at_ns = min(trips)
    return ClockOffset(offset_ns, -(-round_trip_ns // 2), at_ns)


class Agent(ABC):
    """What an engine can do; everything is built on :meth:`ask`.

    Every method raises BenchError when the engine is gone or does not answer.
    """

    kernel_release: str = ""
    own_clock = False
    """Whether its clock runs apart from ours, so that the offset has to be measured again and again."""

    @abstractmethod
    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        """Send one frame and return the whole answer."""

    @abstractmethod
    def close(self) -> None:
        """End the connection; an owner's agent ends the engine."""

    def set_up_nics(self, indexes: Sequence[int]) -> None:
        """Set NICs of the engine's kernel up, by their numbers there."""
        rtnl.transact(self, [("a NIC up", rtnl.nic_up(index)) for index in indexes])

    def request(self, batch: bytes) -> bytes:
        """Hand netlink messages to the engine's kernel; all its answers, one after another."""
        parts = split(batch)
        _log.debug("netlink batch of %d bytes in %d frame(s)", len(batch), len(parts))
        return b"".join(self.ask(Kind.NETLINK, part) for part in parts)

    def clock(self) -> int:
        """Return the CLOCK_MONOTONIC of the engine's kernel, ns."""
        return int.from_bytes(self.ask(Kind.CLOCK), "little")

    def offset(self, now_ns: Callable[[], int], *, readings: int = 5) -> ClockOffset:
        """Measure our clock less the engine's, as :func:`clock_offset` does."""
        return clock_offset(now_ns, self.clock, readings=readings)

    def ioctl(self, ifname: str, request: bytes) -> bytes:
        """Send a SIOCETHTOOL request to a NIC there; return its buffer as the kernel leaves it, else BenchError."""
        answer = self.ask(Kind.IOCTL, struct.pack("16s", ifname.encode()) + request)
        _check(answer[:4], f"ethtool of NIC {ifname}")
        return answer[4:]

    def undo(self, message: bytes) -> None:
        """Note a netlink message that the relay sends when the connection ends, however it does; last noted first."""
        _check(self.ask(Kind.UNDO, struct.pack("<I", Kind.NETLINK) + message), "to note how to undo")

    def undo_ioctl(self, ifname: str, request: bytes) -> None:
        """Note a SIOCETHTOOL request like the message of :meth:`undo`."""
        payload = struct.pack("<I16s", Kind.IOCTL, ifname.encode()) + request
        _check(self.ask(Kind.UNDO, payload), "to note how to undo")

    def shape(self, slot: int, shape: Shape) -> None:
        """Teach the engine to make a message of a row of ``slot``; what is due there is applied anew."""
        _log.debug("slot %d: %s", slot, shape)
        _check(self.ask(Kind.SHAPE, shape.pack(slot)), f"the shape of slot {slot}")

    def hold(self, slots: Sequence[int]) -> None:
        """Note rows of these slots from now on, but do not apply them."""
        _log.debug("hold the schedule of slots %s", list(slots))
        _check(self.ask(Kind.HOLD, wire_format.pack_slots(slots)), "to hold the schedule")

    def release(self, slots: Sequence[int]) -> None:
        """Apply what is due in these slots now, and their rows again from then on."""
        _log.debug("go on with the schedule of slots %s", list(slots))
        _check(self.ask(Kind.RELEASE, wire_format.pack_slots(slots)), "to go on with the schedule")

    def plan_stage(self, rows: Sequence[PlanRow]) -> None:
        """Bring rows, in time order, beside the plan, where :meth:`plan_commit` finds them; without rows: empty it."""
        _log.debug("stage %d rows of the schedule", len(rows))
        for payload in wire_format.frames(rows) if rows else (b"",):
            _check(self.ask(Kind.PLAN_ADD, payload)[4:], "more of the schedule")

    def plan_commit(self, from_ns: int = KEEP_ALL) -> None:
        """Forget rows at ``from_ns`` of :meth:`clock` or later; what is staged comes instead, at once."""
        _check(self.ask(Kind.PLAN_COMMIT, _U64.pack(from_ns)), "the schedule")

    def plan_log(self, seen: int = 0) -> PlanLog:
        """Return rows applied after the first ``seen``, which are forgotten; a piece, so ask until there are none."""
        return wire_format.unpack_log(self.ask(Kind.PLAN_LOG, _U64.pack(seen)))

    def plan_forget(self) -> None:
        """Forget shapes, rows, holds and log; the kernel goes on doing what it does."""
        _check(self.ask(Kind.PLAN_FORGET), "to forget the schedule")

    def _greet(self) -> None:
        """Learn which kernel answers; the connection is closed when it does not, or in another protocol."""
        try:
            hello = self.ask(Kind.HELLO)
            (version,) = struct.unpack_from("<H", hello)
            if version != PROTOCOL_VERSION:
                raise BenchError(
                    f"the relay speaks protocol {version}, this harness {PROTOCOL_VERSION}",
                    remedy="`hil clean`, then bring the bench up again",
                )
        except BaseException:
            self.close()
            raise
        self.kernel_release = hello[4:].decode()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def split(batch: bytes) -> list[bytes]:
    """Cut a batch of netlink messages between messages so that every part fits a frame."""
    parts: list[bytes] = []
    for message in rtnl.messages(batch):
        padded = message + bytes(-len(message) % 4)
        if len(padded) > PAYLOAD_MAX:
            raise ValueError(f"a netlink message of {len(message)} bytes")
        if parts and len(parts[-1]) + len(padded) <= PAYLOAD_MAX:
            parts[-1] += padded
        else:
            parts.append(padded)
    return parts


def _check(answer: bytes, what: str) -> None:
    (error,) = struct.unpack("<i", answer)
    if error:
        raise BenchError(f"the link engine refused {what}: {os.strerror(error)}")
