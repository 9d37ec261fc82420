"""From what is commanded to what an engine is told: single netem messages, and the shapes and rows of a schedule."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from hil.links.commanded import LinkRecord
from hil.links.engines import htb, netem, police, rtnl
from hil.links.engines.wire_format import PlanRow, Shape
from hil.links.state import MAX_RATE_BPS, PPM, LinkState

Direction = Literal["a_to_b", "b_to_a"]
DIRECTIONS: tuple[Direction, Direction] = ("a_to_b", "b_to_a")
_ATTRIBUTES_AT = 16 + 20  # netlink header, struct tcmsg
_QOPT_B = 24  # struct tc_netem_qopt: latency, limit, loss, ...
_TCA_OPTIONS, _TCA_NETEM_LATENCY64 = 2, 10


def slot(position: int, direction: Direction) -> int:
    """Return the engine's number for a direction of the link at ``position`` of the box's links."""
    return 2 * position + DIRECTIONS.index(direction)


def shape_step(link: LinkRecord, direction: Direction, seed: int | None) -> tuple[str, bytes]:
    """Return the netlink step that makes the kernel do what is commanded by hand in one direction."""
    state = link.by_hand(direction)
    message = _netem(link, direction, state, limit=link.limit(state), delay_ns=link.delay_ns(direction), seed=seed)
    return f"netem on {link.name} {direction}", message


def _netem(
    link: LinkRecord, direction: Direction, state: LinkState, *, limit: int, delay_ns: int, seed: int | None
) -> bytes:
    """Compose the netem of a direction.

    Where tenants have shares it has a rate above all others, which only keeps packets in order.
    """
    shared = bool(link.shares)
    return netem.encode(
        link.egress[direction],
        replace(state, rate_bps=MAX_RATE_BPS) if shared else state,
        limit=limit,
        delay_ns=delay_ns,
        seed=seed,
        handle=htb.NETEM_HANDLE if shared else 0,
    )


def share_steps(
    link: LinkRecord, directions: Iterable[Direction] = DIRECTIONS, *, before: LinkRecord | None = None
) -> list[tuple[str, bytes]]:
    """Return the netlink steps that change tenants' shares; only those that differ from ``before``, if given."""
    return [
        (f"shares of {link.name} {direction}", message)
        for direction in directions
        if (wanted := link.scheduler(direction)) and (before is None or wanted != before.scheduler(direction))
        for message in htb.change(link.egress[direction], wanted)
    ]


def police_steps(
    link: LinkRecord, directions: Iterable[Direction] = DIRECTIONS, *, before: LinkRecord | None = None
) -> list[tuple[str, bytes]]:
    """Return the netlink steps that change the policers of a link; only those that differ from ``before``, if given."""
    return [
        (f"police on {link.name} {direction}", police.change(link.egress[direction], wanted))
        for direction in directions
        if (wanted := link.police(direction)) and (before is None or wanted != before.police(direction))
    ]


def shape_of(link: LinkRecord, direction: Direction, seed: int | None) -> Shape:
    """Return what the engine needs to play rows in one direction."""
    own = link.commanded[direction]

    def message(up: bool) -> bytes:
        return _netem(link, direction, replace(own, up=up), limit=1, delay_ns=0, seed=seed)

    up, down = message(True), message(False)
    options_at, up_at = _places(up)
    _, down_at = _places(down)
    return Shape(up, down, options_at, (down_at, up_at), link.compensation_ns.get(direction, 0))


def plan_row(link: LinkRecord, state: LinkState, *, at_ns: int, number: int) -> PlanRow:
    """Make the row of a direction's state from ``at_ns`` of the engine's clock on."""
    loss = netem.share(state.loss_ppm if state.up else PPM)
    return PlanRow(at_ns, state.delay_us, link.limit(state), loss, number, int(state.up))


def _places(message: bytes) -> tuple[int, int]:
    """Return where a netem message has its fixed options and its 64-bit latency."""
    options_at, _ = rtnl.attributes(message, _ATTRIBUTES_AT)[_TCA_OPTIONS]
    latency_at, _ = rtnl.attributes(message, options_at + _QOPT_B)[_TCA_NETEM_LATENCY64]
    return options_at, latency_at
