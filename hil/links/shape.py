"""From what is commanded to what an engine is told: single netem messages, and the shapes and rows of a schedule."""

from __future__ import annotations

import struct
from dataclasses import replace
from functools import cache
from typing import Literal

from hil.errors import HarnessError
from hil.links.commanded import LinkRecord
from hil.links.engines import netem
from hil.links.engines.wire_format import PlanRow, Shape
from hil.links.state import LinkState, limit_packets

Direction = Literal["a_to_b", "b_to_a"]
DIRECTIONS: tuple[Direction, Direction] = ("a_to_b", "b_to_a")
_ATTRIBUTES_AT = 16 + 20  # netlink header, struct tcmsg
_QOPT_B = 24  # struct tc_netem_qopt: latency, limit, loss, ...
_TCA_OPTIONS, _TCA_NETEM_LATENCY64 = 2, 10
_LENGTH_AND_KIND = struct.Struct("=HH")


def slot(position: int, direction: Direction) -> int:
    """Return the engine's number for a direction of the link at ``position`` of the box's links."""
    return 2 * position + DIRECTIONS.index(direction)


def shape_step(link: LinkRecord, direction: Direction, seed: int | None) -> tuple[str, bytes]:
    """Return the netlink step that makes the kernel do what is commanded by hand in one direction."""
    state = link.by_hand(direction)
    message = netem.encode(
        link.egress[direction],
        state,
        limit=limit_packets(state.rate_bps, state.delay_us, state.mtu),
        delay_ns=link.delay_ns(direction),
        seed=seed,
    )
    return f"netem on {link.name} {direction}", message


def shape_of(link: LinkRecord, direction: Direction, seed: int | None) -> Shape:
    """Return what the engine needs to play rows in one direction."""
    own = link.commanded[direction]

    def message(up: bool) -> bytes:
        return netem.encode(link.egress[direction], replace(own, up=up), limit=1, delay_ns=0, seed=seed)

    up, down = message(True), message(False)
    options_at, up_at = _places(up)
    _, down_at = _places(down)
    return Shape(up, down, options_at, (down_at, up_at), link.compensation_ns.get(direction, 0))


def plan_row(state: LinkState, *, at_ns: int, number: int) -> PlanRow:
    """Make the row of a direction's state from ``at_ns`` of the engine's clock on."""
    limit = limit_packets(state.rate_bps, state.delay_us, state.mtu)
    loss = _loss_field(state.loss_ppm, state.up)
    return PlanRow(at_ns, state.delay_us, limit, loss, number, int(state.up))


@cache
def _loss_field(loss_ppm: int, up: bool) -> int:
    """Return the loss as netem takes it, from the one place that knows how."""
    message = netem.encode(1, LinkState(0, 0, loss_ppm=loss_ppm, up=up), limit=1, delay_ns=0)
    options_at, _ = _places(message)
    return int(struct.unpack_from("=III", message, options_at)[2])


def _places(message: bytes) -> tuple[int, int]:
    """Return where a netem message has its fixed options and its 64-bit latency."""
    options_at = _attribute(message, _ATTRIBUTES_AT, _TCA_OPTIONS)
    return options_at, _attribute(message, options_at + _QOPT_B, _TCA_NETEM_LATENCY64)


def _attribute(data: bytes, at: int, wanted: int) -> int:
    """Return where the content of the attribute of this kind begins."""
    while at + _LENGTH_AND_KIND.size <= len(data):
        length, kind = _LENGTH_AND_KIND.unpack_from(data, at)
        if kind & 0x3FFF == wanted:
            return at + _LENGTH_AND_KIND.size
        at += max(4, -(-length // 4) * 4)
    raise HarnessError(f"a netem message without attribute {wanted}")
