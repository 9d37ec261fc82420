"""Tenants' shares as they are: two tenants each want more of a link than they are to get, and arrivals are counted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from hil.evidence.events import LinkFigure
from hil.links.calibration import probe as packets
from hil.links.calibration.figure import bounded, figure
from hil.links.calibration.probe import Arrival, Probe
from hil.links.calibration.sustained import carried_bps
from hil.links.calibration.tolerances import RATE_TOLERANCE_PERCENT, SHARE_TOLERANCE_PERCENT
from hil.links.link_box import LinkBox, LinkStatus
from hil.links.wires import Share

_SECONDS, _FILLS_S = 0.6, 0.2
_AHEAD = 1.1
_LEAST_FRAMES = 200


def shares(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Measure, on each shared link, the smallest share against the largest: percent of what both get together.

    One tenant alone is measured against all who have no share.  Both offer the same, more than the larger share.
    """
    statuses = {status.name: status for status in box.show()}
    record = box.store.load()
    return [
        row
        for probe in probes
        if (of_link := record.link(probe.link).shares) and (row := _share(box, probe, statuses[probe.link], of_link))
    ]


def _share(box: LinkBox, probe: Probe, status: LinkStatus, of_link: Sequence[Share]) -> LinkFigure | None:
    state = box.commanded(*probe.name)
    if not state.rate_bps:
        return None
    ordered = sorted(of_link, key=lambda share: share.percent)
    first = ordered[0]
    other, percent, source = "all others", getattr(status, probe.direction).shares[-1].percent, ""
    if len(ordered) > 1:
        other, percent, source = ordered[-1].tenant, ordered[-1].percent, ordered[-1].addresses[0]
    commanded = 100 * first.percent / (first.percent + percent)
    seconds = max(_SECONDS, _LEAST_FRAMES * state.frame_bits / state.rate_bps)
    offered_bps = min(1.0, _AHEAD * max(first.percent, percent) / 100) * state.rate_bps
    with ExitStack() as stack:
        both = [
            stack.enter_context(Probe(status, probe.direction, source=each)) for each in (first.addresses[0], source)
        ]
        counts = _counted(both, offered_bps=offered_bps, frame_b=state.frame_bits // 8, seconds=seconds)
    total = sum(counts)
    measured = 100 * counts[0] / total if total else None
    note = f"{first.tenant} beside {other}, UDP, each offers {offered_bps / 1e6:.4g} Mbit/s for {seconds:.2g} s"
    return figure(probe, "share", round(commanded, 3), measured, "%", SHARE_TOLERANCE_PERCENT, note)


def sure(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Measure what a tenant gets of each link, with whatever the others send meanwhile: at least what it is sure of."""
    statuses = {status.name: status for status in box.show()}
    rows = []
    for probe in probes:
        shares = getattr(statuses[probe.link], probe.direction).shares
        if own := [share for share in shares if share.tenant == box.tenant]:
            state = box.commanded(*probe.name)
            if not state.rate_bps:
                continue
            frame_b = state.frame_bits // 8
            offered_bps = min(state.rate_bps, round(own[0].kernel_rate_bps * _AHEAD))
            arrivals, _ = packets.sustain(probe, offered_bps=offered_bps, frame_b=frame_b, seconds=_SECONDS)
            measured, sure_bps = carried_bps(arrivals, frame_b) or 0.0, own[0].kernel_rate_bps
            tolerance = RATE_TOLERANCE_PERCENT / 100
            bounds = sure_bps * (1 - tolerance), state.rate_bps * (1 + tolerance)
            note = f"{own[0].percent} % are sure to {box.tenant}"
            rows.append(bounded(probe, "share_rate", sure_bps, measured, "bit/s", bounds, note))
    return rows


def _counted(probes: Sequence[Probe], *, offered_bps: float, frame_b: int, seconds: float) -> list[int]:
    """Send from each for so long; return how many frames of each came while all of them were queued."""
    arrived: list[list[Arrival]] = [[] for _ in probes]
    payload_b = frame_b - packets.HEADERS_B
    sent = 0
    with packets.ahead_of_others():
        begun = time.monotonic()
        while (took := time.monotonic() - begun) < seconds:
            due = int(took * offered_bps / 8 / frame_b) - sent
            for probe, found in zip(probes, arrived, strict=True):
                for _ in range(due):
                    probe.send(payload_b)
                found += probe.arrivals()
            sent += due
            time.sleep(0.001)
    time.sleep(max(probe.delay_s for probe in probes))
    for probe, found in zip(probes, arrived, strict=True):
        found += probe.arrivals()
    first_ns = min((each.arrived_ns for found in arrived for each in found), default=0)
    begin_ns = first_ns + int(_FILLS_S * 1e9)
    end_ns = first_ns + int(seconds * 1e9)
    return [sum(begin_ns <= each.arrived_ns < end_ns for each in found) for found in arrived]
