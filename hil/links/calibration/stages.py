"""The stages of a calibration: delay, rate, loss and integrity of some directions, each on real packets."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from itertools import pairwise

from hil.core.wait import wait_until
from hil.evidence.events import LinkFigure
from hil.links.calibration import probe as packets
from hil.links.calibration.figure import bounded, figure, information, percentile, percentiles, unmeasured
from hil.links.calibration.integrity import deliver
from hil.links.calibration.loss import acceptance_burst, acceptance_counts, bursts, mean_burst
from hil.links.calibration.probe import Arrival, Probe
from hil.links.calibration.tolerances import (
    CONSTANT_LIMIT_US,
    DELAY_P50_TOLERANCE_US,
    DELAY_P95_TOLERANCE_US,
    LOSS_CONFIDENCE,
    RATE_TOLERANCE_PERCENT,
    SPARSE_TOLERANCE_US,
    STRAY_LOSS_PPM,
    UDP_CEILING_BPS,
)
from hil.links.link_box import DIRECTIONS, Direction, DirectionStatus, LinkBox
from hil.links.state import PPM, LinkState, limit_packets

Stage = Callable[[LinkBox, Sequence[Probe]], list[LinkFigure]]

_DELAY_PROBES, _DELAY_INTERVAL_S, _DELAY_GAP_S = 150, 0.002, 0.0005
_DELAY_LONGEST_S = 3.0
_SPARSE_PROBES, _SPARSE_INTERVAL_S = 15, 0.040
_RATE_S, _RATE_SLOWEST_S = 0.12, 0.5
_RATE_FRAMES, _RATE_FRAMES_MAX = 20, 20_000  # more than any bench forwards in that time
_WAITED_NS, _WAITED_LEAST = 1_000_000, 0.25
_LOSS_PROBES, _LOSS_PROBES_MAX, _LOSS_WANTED, _LOSS_LONGEST_S = 1_000, 20_000, 30, 5
_LOSS_HZ, _LOSS_ALL_HZ = 4_000.0, 16_000.0  # of one direction, and of all together
_BURSTS_LEAST = 5
_MANGLED_S, _MANGLED_LEAST_B, _MANGLED_MOST_B = 0.2, 20_000, 300_000
_APPLY_DEADLINE_S = 2.0


def engine_constant(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Measure what the engine adds to the delay that it is given, and subtract it from the delays given from then on.

    Measured at the commanded delay, because the timer that releases a delayed packet is part of it.  Where jitter is
    commanded, what was subtracted before stays.
    """
    compensated_ns = {name: direction.compensation_ns for name, direction in _directions(box).items()}
    rows = []
    steady = [probe for probe in probes if not box.commanded(*probe.name).jitter_us]
    for probe, arrivals in _paced_for_delay(box, steady) if steady else ():
        excess = _excess_us(box, probe, arrivals)
        if not excess:
            rows.append(unmeasured(probe.link, probe.direction, "no packet arrives"))
            continue
        subtracted_us = min(compensated_ns[probe.name] / 1000, box.commanded(*probe.name).delay_us)
        constant = max(0.0, percentile(excess, 0.5) + subtracted_us)
        box.compensate(probe.link, probe.direction, round(min(constant, CONSTANT_LIMIT_US) * 1000))
        note = "subtracted from the delay"
        rows.append(figure(probe, "engine_constant", 0, constant, "us", CONSTANT_LIMIT_US, note))
    _wait_until_applied(box, probes)
    return rows


def _directions(box: LinkBox) -> dict[tuple[str, Direction], DirectionStatus]:
    return {(status.name, d): getattr(status, d) for status in box.show() for d in DIRECTIONS}


def _wait_until_applied(box: LinkBox, probes: Sequence[Probe]) -> None:
    """Wait for new compensations: a link that follows a schedule gets its own from the player, a moment later."""

    def applied() -> bool:
        by_name = _directions(box)
        directions = [by_name[probe.name] for probe in probes]
        return all(direction.agrees for direction in directions if direction.commanded.up)

    wait_until(
        applied,
        what="the links to take their compensation",
        deadline_s=_APPLY_DEADLINE_S,
        remedy="`hil link show` compares what is commanded with what the kernel does",
    )


def delay(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Measure one-way delay against what was commanded when each packet was sent, and how it scatters."""
    rows = []
    for probe, arrivals in _paced_for_delay(box, probes):
        state = box.commanded(*probe.name)
        commanded = state.delay_us
        excess = _excess_us(box, probe, arrivals)
        one_way = [commanded + each for each in excess]
        p50, p95, p99 = (percentile(one_way, s) if one_way else None for s in (0.5, 0.95, 0.99))
        spread = None if p50 is None or p95 is None else p95 - p50
        quantiles = percentiles(one_way) if one_way else ()
        rows += [
            figure(probe, "delay_p50", commanded, p50, "us", DELAY_P50_TOLERANCE_US, quantiles=quantiles),
            figure(probe, "delay_p95", commanded, p95, "us", DELAY_P95_TOLERANCE_US),
            information(probe, "delay_p99", commanded, p99),
            figure(probe, "jitter_p95_p50", 0, spread, "us", DELAY_P95_TOLERANCE_US),
            information(
                probe,
                "jitter_sd",
                box.commanded(*probe.name).jitter_us,
                statistics.pstdev(one_way) if one_way else None,
            ),
        ]
    return rows


def sparse_delay(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Measure the delay of packets that come alone: an engine that has slept is a little later than a busy one."""
    rows = []
    for probe, arrivals in _paced(probes, _SPARSE_PROBES, _SPARSE_INTERVAL_S):
        commanded = box.commanded(*probe.name).delay_us
        excess = _excess_us(box, probe, arrivals)
        measured = commanded + percentile(excess, 0.5) if excess else None
        note = f"{_SPARSE_PROBES} packets, {_SPARSE_INTERVAL_S * 1000:.0f} ms apart"
        rows.append(figure(probe, "delay_sparse_p50", commanded, measured, "us", SPARSE_TOLERANCE_US, note))
    return rows


def _paced_for_delay(box: LinkBox, probes: Sequence[Probe]) -> list[tuple[Probe, list[Arrival]]]:
    """Send far enough apart that no packet waits for another, of its own direction or of a neighbour's."""
    slowest_hz = min(_safe_hertz(box.commanded(*probe.name)) for probe in probes)
    interval_s = max(_DELAY_INTERVAL_S, len(probes) * _DELAY_GAP_S, 1 / slowest_hz)
    count = max(30, min(_DELAY_PROBES, int(_DELAY_LONGEST_S / interval_s)))
    return _paced(probes, count, interval_s)


def rate(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Measure bit/s, one direction after another: more is offered than the link carries, arrivals are timed."""
    states = [(probe, box.commanded(*probe.name)) for probe in probes]
    return [_rate_of(box, probe, state) for probe, state in states if state.rate_bps]


def _rate_of(box: LinkBox, probe: Probe, state: LinkState) -> LinkFigure:
    tolerance = state.rate_bps * RATE_TOLERANCE_PERCENT / 100
    if box.profile == "bulk" and state.rate_bps > UDP_CEILING_BPS:
        measured, note = packets.tcp_rate_bps(probe, state.mtu), "TCP, counted as frames"
    else:
        # full frames where that takes a bearable time, else smaller ones
        frame_b = min(state.frame_bits // 8, int(state.rate_bps * _RATE_SLOWEST_S / _RATE_FRAMES / 8))
        frame_b = max(frame_b, packets.SMALL_FRAME_B)
        frames = max(_RATE_FRAMES, min(_RATE_FRAMES_MAX, int(state.rate_bps * _RATE_S / (frame_b * 8))))
        arrivals, offered = packets.blast(probe, rate_bps=state.rate_bps, frame_b=frame_b, frames=frames)
        measured = arrival_rate_bps(arrivals, frame_b, state.delay_us)
        short = offered < state.rate_bps
        note = f"only {offered / 1e6:.0f} Mbit/s could be offered" if short else ""
    return figure(probe, "rate", state.rate_bps, measured, "bit/s", tolerance, note)


def arrival_rate_bps(arrivals: Sequence[Arrival], frame_b: int, delay_us: int) -> float | None:
    """Return the bit/s at which a link of this delay lets frames out, from the spacing of those that had to wait.

    A frame that waited left as soon as the link was ready for it, so the time since the frame before it is the
    link's and not the sender's, who may have been held up.  When hardly any frame waited the link is faster than
    what was offered, and that is the rate returned.
    """
    steady = arrivals[len(arrivals) // 8 :]  # the first ones fill the pipe
    if len(steady) < 2 or steady[-1].arrived_ns <= steady[0].arrived_ns:
        return None
    waited_ns = [
        after.arrived_ns - before.arrived_ns
        for before, after in pairwise(steady)
        if after.delay_ns > delay_us * 1000 + _WAITED_NS
    ]
    if len(waited_ns) > _WAITED_LEAST * len(steady):
        return len(waited_ns) * frame_b * 8e9 / max(1, sum(waited_ns))
    return (len(steady) - 1) * frame_b * 8e9 / (steady[-1].arrived_ns - steady[0].arrived_ns)


def loss(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Count lost packets of enough that the commanded loss would show; counts and bursts are judged at 99 %."""
    states = [box.commanded(*probe.name) for probe in probes]
    hertz = min(_LOSS_ALL_HZ / len(probes), *(_safe_hertz(state) for state in states))
    wanted = max([_LOSS_PROBES, *(_loss_probes(state) for state in states)])
    count = min(wanted, int(hertz * _LOSS_LONGEST_S))
    rows = []
    for (probe, arrivals), state in zip(_paced(probes, count, 1 / hertz), states, strict=True):
        arrived = {arrival.sequence for arrival in arrivals}
        rows += judge_loss(probe, state, count, [n for n in range(count) if n not in arrived])
    return rows


def judge_loss(probe: Probe, state: LinkState, count: int, lost: Sequence[int]) -> list[LinkFigure]:
    """Judge the numbers of the lost packets (in order) of ``count`` by the loss that is commanded."""
    measured = len(lost) * PPM / count
    if not state.mean_loss_ppm:
        return [figure(probe, "loss", 0, measured, "ppm", STRAY_LOSS_PPM, f"{len(lost)} of {count}")]
    low, high = acceptance_counts(state, count)
    note = f"{len(lost)} of {count}; {100 * LOSS_CONFIDENCE:g} % of trials lie in {low} to {high}"
    bounds = low * PPM / count, high * PPM / count
    rows = [bounded(probe, "loss", state.mean_loss_ppm, measured, "ppm", bounds, note)]
    lengths = bursts(lost)
    if state.gemodel and state.mean_loss_ppm < PPM and len(lengths) >= _BURSTS_LEAST:
        mean = sum(lengths) / len(lengths)
        note = f"{len(lengths)} bursts, longest {max(lengths)}"
        bounds = acceptance_burst(state.gemodel, len(lengths))
        commanded = round(mean_burst(state.gemodel), 3)
        rows.append(bounded(probe, "burst_length", commanded, mean, "packets", bounds, note))
    return rows


def _loss_probes(state: LinkState) -> int:
    """Return how many packets have 30 expected losses, or 30 bursts of them."""
    if not state.mean_loss_ppm:
        return 0
    per_event = mean_burst(state.gemodel) if state.gemodel else 1.0
    return int(min(_LOSS_PROBES_MAX, _LOSS_WANTED * per_event * PPM / state.mean_loss_ppm))


def mangled(box: LinkBox, probes: Sequence[Probe]) -> list[LinkFigure]:
    """Make one TCP transfer in every direction at once, compared byte by byte."""
    sizes_b = {}
    for probe in probes:
        state = box.commanded(*probe.name)
        in_time_b = int(state.rate_bps * _MANGLED_S / 8) if state.rate_bps else _MANGLED_MOST_B
        most_b = _MANGLED_LEAST_B if state.mean_loss_ppm else _MANGLED_MOST_B  # lost packets make TCP slow
        sizes_b[probe] = min(most_b, max(_MANGLED_LEAST_B, in_time_b))
    rows = []
    for probe, delivery in zip(probes, deliver(probes, sizes_b), strict=True):
        note = f"{delivery.arrived} of {delivery.sent} arrived" if delivery.arrived < delivery.sent else ""
        if delivery.error:
            note = f"no TCP connection: {delivery.error}"
        mangled_b = None if delivery.error else delivery.mangled
        rows.append(figure(probe, "mangled", 0, mangled_b, "bytes", 0, note))
    return rows


def _safe_hertz(state: LinkState) -> float:
    """Return a pace at which small probes fill neither half the queue nor half the rate."""
    hertz = _LOSS_HZ
    if state.delay_us:
        queue = limit_packets(state.rate_bps, state.delay_us, state.mtu)
        hertz = min(hertz, 0.5 * queue * 1e6 / state.delay_us)
    if state.rate_bps:
        hertz = min(hertz, 0.5 * state.rate_bps / (packets.SMALL_FRAME_B * 8))
    return hertz


def _paced(probes: Sequence[Probe], count: int, interval_s: float) -> list[tuple[Probe, list[Arrival]]]:
    packets.pace(probes, count=count, interval_s=interval_s, spread=True)
    return [(probe, packets.collect(probe, expected=count)) for probe in probes]


def _excess_us(box: LinkBox, probe: Probe, arrivals: Sequence[Arrival]) -> list[float]:
    """Return how much longer probes took than the delay commanded when they were sent, without serialisation, us."""
    now = box.commanded(*probe.name)
    serialisation_us = packets.SMALL_FRAME_B * 8e6 / now.rate_bps if now.rate_bps else 0.0
    return [
        a.delay_ns / 1000 - box.commanded(*probe.name, at_ns=a.sent_ns).delay_us - serialisation_us for a in arrivals
    ]
