"""What a link carries for as long as a transfer takes, beside the rate at which it lets single frames out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hil.evidence.events import LinkFigure
from hil.evidence.measurement import INFORMATION
from hil.links.calibration import probe as packets
from hil.links.calibration.figure import figure
from hil.links.calibration.probe import Arrival, Probe
from hil.links.calibration.tolerances import RATE_TOLERANCE_PERCENT, UDP_CEILING_BPS
from hil.links.link_box import LinkBox
from hil.links.state import PPM, LinkState

SHORT_S, SHORT_ALL_S = 1.5, 4.0
"""How long one direction, and all of them, are measured where nobody asked for more."""
_SHORTEST_S = 0.3
_AHEAD = 1.05
_MOST_LOSS_PPM = PPM // 2


def short(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Measure each direction for a moment, for information: a busy host falls short now and then."""
    seconds = max(_SHORTEST_S, min(SHORT_S, SHORT_ALL_S / max(1, len(probes))))
    rows = [row for probe in probes for row in _udp(box, probe, seconds)]
    return [replace(row, ok=row.measured is not None, tolerance=0.0, note=f"{INFORMATION}: {row.note}") for row in rows]


class Sustained:
    """The stage that measures each direction for so many seconds: UDP, which is judged, and one TCP flow."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __call__(self, box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
        rows = []
        for probe in probes:
            rows += _udp(box, probe, self._seconds)
            state = box.commanded(*probe.name)
            if state.rate_bps:
                measured = packets.tcp_rate_bps(probe, state.mtu, seconds=self._seconds)
                note = f"{INFORMATION}: one TCP flow, counted as frames, second half of {self._seconds:g} s"
                row = figure(probe, "rate_sustained_tcp", state.rate_bps, measured, "bit/s", 0, note)
                rows.append(replace(row, ok=measured is not None))
        return rows


def _udp(box: LinkBox, probe: Probe, seconds: float) -> list[LinkFigure]:
    """Offer more than one direction carries for so long, and measure what comes out."""
    state = box.commanded(*probe.name)
    if not state.rate_bps or state.mean_loss_ppm > _MOST_LOSS_PPM:
        return []
    if box.profile == "bulk" and state.rate_bps > UDP_CEILING_BPS:
        measured, note = packets.tcp_rate_bps(probe, state.mtu, seconds=seconds), "TCP, counted as frames"
    else:
        frame_b = _frame_b(state, seconds)
        ahead = _AHEAD / (1 - state.mean_loss_ppm / PPM)
        arrivals, offered = packets.sustain(
            probe, offered_bps=round(state.rate_bps * ahead), frame_b=frame_b, seconds=seconds
        )
        measured = carried_bps(arrivals, frame_b)
        note = f"UDP, {offered / 1e6:.4g} Mbit/s offered"
    tolerance = state.rate_bps * RATE_TOLERANCE_PERCENT / 100
    note = f"{note} for {seconds:.2g} s"
    return [figure(probe, "rate_sustained", state.rate_bps, measured, "bit/s", tolerance, note)]


def _frame_b(state: LinkState, seconds: float) -> int:
    """Return full frames, or smaller ones where fewer than fifty would come in that time."""
    return max(packets.SMALL_FRAME_B, min(state.frame_bits // 8, int(state.rate_bps * seconds / 8 / 50)))


def carried_bps(arrivals: Sequence[Arrival], frame_b: int) -> float | None:
    """Return the bit/s over all arrivals but the first tenth of the time, in which the pipe fills."""
    if len(arrivals) < 2:
        return None
    first, last = arrivals[0].arrived_ns, arrivals[-1].arrived_ns
    steady = [each.arrived_ns for each in arrivals if each.arrived_ns >= first + (last - first) // 10]
    if len(steady) < 2 or steady[-1] <= steady[0]:
        return None
    return (len(steady) - 1) * frame_b * 8e9 / (steady[-1] - steady[0])
