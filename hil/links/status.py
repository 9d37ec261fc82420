"""What a link is: commanded, read back from the kernel, counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from hil.links.commanded import LinkRecord
from hil.links.engines import htb, netem
from hil.links.shape import Direction
from hil.links.state import PPM, LinkState
from hil.links.wires import End


@dataclass(frozen=True)
class ShareStatus:
    """A tenant's share of one direction; ``tenant`` is empty for all who are no tenant with a share."""

    tenant: str
    percent: int
    kernel_rate_bps: int  # that it is sure of, as the kernel says; 0: there is no such class
    sent_packets: int
    sent_bytes: int
    dropped_packets: int
    queued_packets: int


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
    held: bool = False  # cut or set by hand until restore() though scheduled, or impaired by a fault
    shares: tuple[ShareStatus, ...] = ()  # of tenants, then of all others; empty where nobody has one
    shares_agree: bool = True  # the kernel's classes are those of the shares

    def sent_by(self, tenant: str) -> int:
        """Return the bytes that a tenant sent; all, where it has no share here or there is no tenant."""
        return next((share.sent_bytes for share in self.shares if tenant and share.tenant == tenant), self.sent_bytes)

    @property
    def agrees(self) -> bool:
        """The kernel does what is commanded, the compensated delay taken into account.

        With a schedule, ``commanded`` is the row that the kernel has if it is one of the last 150 ms.
        """
        if self.kernel is None or not self.shares_agree:
            return False
        delay_ns = max(0, self.commanded.delay_us * 1000 - self.compensation_ns)
        return self.kernel_delay_ns == delay_ns and kernel_does(self.kernel, self.commanded)


def kernel_does(kernel: LinkState, wanted: LinkState) -> bool:
    """Compare a state that was read back with what is wanted, all but the delay, of which the engine has its own.

    A direction that is down is told of nothing that chance does; one that loses everything reads as down.
    """
    if not wanted.up:
        wanted = wanted.without_chance()
    elif wanted.loss_ppm == PPM:
        wanted = replace(wanted, loss_ppm=0, up=False)
    return vars(kernel) | {"delay_us": 0} == vars(wanted) | {"delay_us": 0}


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
    state, shares = reported.state if reported else None, link.scheduler(direction)
    classes = reported.classes if reported else {}
    if shares and state and htb.WHOLE in classes:  # netem's own rate only keeps packets in order
        state = replace(state, rate_bps=link.by_hand(direction).rate_bps and classes[htb.WHOLE].bytes_per_s * 8)
    counts = ("limit_packets", "sent_packets", "sent_bytes", "dropped_packets", "queued_packets")
    return DirectionStatus(
        commanded=commanded,
        kernel=state,
        kernel_delay_ns=reported.delay_ns if reported else 0,
        compensation_ns=link.compensation_ns.get(direction, 0),
        scheduled=scheduled,
        held=link.held(direction) is not None,
        shares=tuple(_shares(link, shares, classes)) if shares else (),
        shares_agree=shares is None or htb.as_commanded(shares, classes),
        **{name: getattr(reported, name, 0) for name in counts},
    )


def _shares(link: LinkRecord, shares: htb.Shares, classes: Mapping[int, htb.ClassCount]) -> Iterator[ShareStatus]:
    tenants = [(htb.FIRST + n, share.tenant, share.percent) for n, share in enumerate(link.shares)]
    nothing = htb.ClassCount(0, 0, 0, 0, 0, 0)
    for minor, tenant, percent in (*tenants, (htb.REST, "", shares.rest_percent)):
        found = classes.get(minor, nothing)
        yield ShareStatus(
            tenant,
            percent,
            found.bytes_per_s * 8,
            found.sent_packets,
            found.sent_bytes,
            found.dropped_packets,
            found.queued_packets,
        )
