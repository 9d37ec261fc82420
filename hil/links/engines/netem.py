"""netem on the wire: a link state to a raw netlink message, and the kernel's dump back to a link state.

Every message carries the full parameter set, because ``change`` silently turns off a loss model that is not repeated
and resets ``limit``.  pyroute2 composes and parses them, in :mod:`hil.links.engines.netem_message`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from statistics import NormalDist, pstdev
from typing import Any

from hil.links.engines.htb import ClassCount
from hil.links.engines.rtnl import (
    DUMP,
    NLM_F_ACK,
    NLM_F_CREATE,
    NLM_F_REPLACE,
    RTM_GETQDISC,
    RTM_NEWQDISC,
    TC_H_ROOT,
    TICK_NS_SHIFT,
    U32_MAX,
    decoded,
    encoded,
)
from hil.links.state import PPM, GilbertElliott, LinkState

_DIST_SCALE = 8192  # NETEM_DIST_SCALE: one standard deviation
_DIST_POINTS = 64


@dataclass(frozen=True)
class Netem:
    """A netem qdisc as the kernel reports it."""

    state: LinkState
    delay_ns: int
    limit_packets: int
    sent_packets: int
    sent_bytes: int
    dropped_packets: int
    queued_packets: int
    classes: Mapping[int, ClassCount] = field(default_factory=dict)
    """Of the scheduler below it, where tenants have shares, by minor number."""


def encode(
    ifindex: int, state: LinkState, *, limit: int, delay_ns: int, seed: int | None = None, handle: int = 0
) -> bytes:
    """Compose the RTM_NEWQDISC that makes ``state`` the root netem of NIC ``ifindex`` (created, or changed in place).

    ``delay_ns`` replaces ``state.delay_us``: it is the delay less what the engine itself adds.  A link that is
    down keeps delay, rate and limit and loses everything, so that packets in flight still arrive.  ``seed``
    makes the losses repeat on kernels from about 6.6 on; older ones ignore it.  ``handle``: the qdisc's number, where
    something is put below it.
    """
    from hil.links.engines.netem_message import NetemMessage

    rate = state.rate_bps // 8
    loss = state.loss_ppm if state.up else PPM
    attrs: list[tuple[str, Any]] = []
    if (ge := state.gemodel) and state.up:
        ppm = {"p": ge.p_ppm, "r": ge.r_ppm, "h": PPM - ge.loss_bad_ppm, "k1": ge.loss_good_ppm}
        passes = {name: share(value) for name, value in ppm.items()}
        attrs.append(("TCA_NETEM_LOSS", {"attrs": [("NETEM_LOSS_GE", passes)]}))
    if rate > U32_MAX:
        attrs.append(("TCA_NETEM_RATE64", rate))
    # always there, also as zero: an absent rate would be kept from the last message
    plain = {"rate": min(rate, U32_MAX), "packet_overhead": 0, "cell_size": 0, "cell_overhead": 0}
    attrs.append(("TCA_NETEM_RATE", plain))
    attrs.append(("TCA_NETEM_LATENCY64", delay_ns))
    if state.reorder_ppm and state.up:
        attrs.append(("TCA_NETEM_REORDER", {"prob_reorder": share(state.reorder_ppm), "corr_reorder": 0}))
    # likewise always there
    attrs.append(("TCA_NETEM_CORRUPT", {"prob_corrupt": share(state.corrupt_ppm * state.up), "corr_corrupt": 0}))
    if seed is not None:
        attrs.append(("TCA_NETEM_PRNG_SEED", seed))
    if jitter_ns := state.jitter_us * 1000:
        attrs.append(("TCA_NETEM_JITTER64", jitter_ns))
        attrs.append(("TCA_NETEM_DELAY_DIST", _normal()))
    ticks = min(delay_ns >> TICK_NS_SHIFT, U32_MAX)
    fixed = {
        "delay": ticks,
        "limit": limit,
        "loss": share(loss),
        "gap": int(state.reorder_ppm > 0 and state.up),  # without a gap netem reorders nothing
        "duplicate": share(state.duplicate_ppm * state.up),  # a copy would pass a link that is down
        "jitter": min(jitter_ns >> TICK_NS_SHIFT, U32_MAX),
    }
    attributes = [("TCA_KIND", "netem"), ("TCA_OPTIONS", {**fixed, "attrs": attrs})]
    flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE
    return encoded(NetemMessage, RTM_NEWQDISC, flags, attributes, index=ifindex, parent=TC_H_ROOT, handle=handle)


@cache
def _normal() -> bytes:
    """Return the table from which netem draws its delays: quantiles of the normal distribution, few but exact.

    Its own table has 4,096 of them, more than a frame to the relay holds.
    """
    points = [NormalDist().inv_cdf((n + 0.5) / _DIST_POINTS) for n in range(_DIST_POINTS)]
    spread = pstdev(points)
    return struct.pack(f"={_DIST_POINTS}h", *(round(point / spread * _DIST_SCALE) for point in points))


def dump_request() -> bytes:
    """Compose the RTM_GETQDISC for all NICs of the namespace."""
    from hil.links.engines.netem_message import NetemMessage

    return encoded(NetemMessage, RTM_GETQDISC, DUMP)


def decode(message: bytes, *, mtus: Mapping[int, int] | None = None) -> tuple[int, Netem] | None:
    """Decode (ifindex, netem) of one message of a dump; None for anything that is not a root netem.

    netem does not know MTUs, so ``mtus`` has them by ifindex (else 1500); a NIC that is not among them is none of ours:
    None, too.  Loss of 100 % reads as ``up=False``, and a link too short for its engine as one of 1 us, if it reorders.
    """
    from hil.links.engines.netem_message import NetemMessage

    parsed = decoded(NetemMessage, message)
    if (
        parsed["header"]["type"] != RTM_NEWQDISC
        or parsed.get_attr("TCA_KIND") != "netem"
        or parsed["parent"] != TC_H_ROOT
        or (mtus is not None and parsed["index"] not in mtus)
    ):
        return None
    options = parsed.get_attr("TCA_OPTIONS")
    reorder = options.get_attr("TCA_NETEM_REORDER") if options["gap"] else None
    corrupt = options.get_attr("TCA_NETEM_CORRUPT")
    loss = _ppm(options["loss"])
    rate = options.get_attr("TCA_NETEM_RATE64") or options.get_attr("TCA_NETEM_RATE", {"rate": 0})["rate"]
    delay_ns = options.get_attr("TCA_NETEM_LATENCY64")
    if delay_ns is None:
        delay_ns = options["delay"] << TICK_NS_SHIFT
    state = LinkState(
        delay_us=max((delay_ns + 500) // 1000, int(reorder is not None)),
        rate_bps=rate * 8,
        loss_ppm=0 if loss == PPM else loss,
        gemodel=_gemodel(options),
        mtu=(mtus or {}).get(parsed["index"], 1500),
        up=loss != PPM,
        jitter_us=(options.get_attr("TCA_NETEM_JITTER64", 0) + 500) // 1000,
        corrupt_ppm=_ppm(corrupt["prob_corrupt"]) if corrupt else 0,
        duplicate_ppm=_ppm(options["duplicate"]),
        reorder_ppm=_ppm(reorder["prob_reorder"]) if reorder else 0,
    )
    basic = parsed.get_nested("TCA_STATS2", "TCA_STATS_BASIC") or {}
    queue = parsed.get_nested("TCA_STATS2", "TCA_STATS_QUEUE") or {}
    return parsed["index"], Netem(
        state=state,
        delay_ns=delay_ns,
        limit_packets=options["limit"],
        sent_packets=basic.get("packets", 0),
        sent_bytes=basic.get("bytes", 0),
        dropped_packets=queue.get("drops", 0),
        queued_packets=queue.get("qlen", 0),
    )


def _gemodel(options: Any) -> GilbertElliott | None:
    ge = options.get_nested("TCA_NETEM_LOSS", "NETEM_LOSS_GE")
    if not ge:
        return None
    p_ppm, r_ppm, passes_ppm, loss_good_ppm = (_ppm(ge[name]) for name in ("p", "r", "h", "k1"))
    return GilbertElliott(p_ppm, r_ppm, PPM - passes_ppm, loss_good_ppm)


def share(ppm: int) -> int:
    """Return the parts per million on netem's scale, where all is 2**32 - 1; rounded to nearest."""
    return (ppm * U32_MAX + PPM // 2) // PPM


def _ppm(scaled: int) -> int:
    return (scaled * PPM + U32_MAX // 2) // U32_MAX
