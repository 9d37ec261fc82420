"""What a link is: commanded, read back from the kernel, counted."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hil.links.commanded import LinkRecord
from hil.links.engines import netem
from hil.links.shape import Direction
from hil.links.state import LinkState
from hil.links.wires import End


@dataclass(frozen=True)
class DirectionStatus:
    """One direction: what was asked for, what the kernel says it does, what it counted."""

    commanded: LinkState
    kernel: LinkState | None  # decoded from the engine's dump; None when there is no netem
    kernel_delay_ns: int  # the commanded delay less the compensation, as the kernel reports it
    compensation_ns: int  # the engine's own delay, measured by calibrate()
    limit_packets: int
    sent_packets: int
    sent_bytes: int
    dropped_packets: int  # by the loss model, by a cut, for want of queue, or by the policer before it
    queued_packets: int  # in flight and waiting
    scheduled: bool = False  # follows a schedule
    held: bool = False  # scheduled, but cut or set by hand until restore()

    @property
    def agrees(self) -> bool:
        """The kernel does what is commanded, the compensated delay taken into account.

        With a schedule, ``commanded`` is the row that the kernel has if it is one of the last 150 ms.
        """
        if self.kernel is None:
            return False
        delay_ns = max(0, self.commanded.delay_us * 1000 - self.compensation_ns)
        wanted = replace(self.commanded, delay_us=self.kernel.delay_us)
        if not wanted.up:  # a direction that is down is told of nothing that chance does
            wanted = wanted.without_chance()
        return self.kernel_delay_ns == delay_ns and self.kernel == wanted


@dataclass(frozen=True)
class LinkStatus:
    """One link as it is now."""

    name: str
    a: End
    b: End
    a_to_b: DirectionStatus
    b_to_a: DirectionStatus

    @property
    def up(self) -> bool:
        return self.a_to_b.commanded.up and self.b_to_a.commanded.up


def direction_status(
    link: LinkRecord, direction: Direction, reported: netem.Netem | None, commanded: LinkState, scheduled: bool
) -> DirectionStatus:
    """Make the status of one direction, of which the kernel said ``reported``."""
    counts = ("limit_packets", "sent_packets", "sent_bytes", "dropped_packets", "queued_packets")
    return DirectionStatus(
        commanded=commanded,
        kernel=reported.state if reported else None,
        kernel_delay_ns=reported.delay_ns if reported else 0,
        compensation_ns=link.compensation_ns.get(direction, 0),
        scheduled=scheduled,
        held=direction in link.override,
        **{name: getattr(reported, name, 0) for name in counts},
    )
