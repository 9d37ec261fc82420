"""What a stream of tiles and its heat come to, as measurements with limits: shared by all plans that keep boards busy.

Each judge takes ``measure`` (the fixture of a campaign): a violated limit ends the test with FAIL after all figures are
recorded.  What the bench could not give raises BenchError: then nothing is known about the device.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence

from hil.errors import BenchError
from hil.evidence.model import at_least, at_most, equals
from hil.workload.heat_log import FULL_LOAD, HeatLog
from hil.workload.loadgen import ScenarioResult
from hil.workload.stream_report import StreamReport

Measure = Callable[..., object]

DUTY = 0.95
HIGHEST_C = 98.0
"""A kelvin below the trip point at which a module throttles."""
STEADY_K = 1.0
"""The mean of an orbit differs from that of the one before it by at most this."""
SLOWER = 0.95
WORKED_OFF = 2
"""So few tiles wait on a spacecraft when a backlog is gone."""


def judge_tiles(report: StreamReport, measure: Measure) -> None:
    """Ask for every tile exactly once, with the reference output.

    BenchError when the boards were still computing what is missing, and nothing else is wrong.
    """
    measure("tiles seen", sum(report.seen.values()))
    measure("tiles counted twice", report.duplicates, limit=equals(0))
    measure("answers compared with a known one or a second board", report.checks)
    for name in sorted({wrong.board for wrong in report.wrong}):
        measure("wrong raw outputs", sum(wrong.board == name for wrong in report.wrong), board=name)
    measure("raw outputs that differ from the reference", len(report.wrong), limit=equals(0))
    judge_rest(report, measure, sound=not report.duplicates and not report.wrong)


def judge_rest(report: StreamReport, measure: Measure, *, sound: bool = True) -> None:
    """Ask for a result of every tile.

    BenchError when the boards were still computing what is missing and nothing is wrong (``sound``): a tile that is on
    its way is not lost, and how long this host would take for it says nothing of the device.
    """
    left = len(report.unfinished)
    measure("tiles lost", len(report.lost), limit=equals(0))
    measure("tiles that no board computed", left if report.stuck else 0, limit=equals(0))
    if left and not report.stuck:
        measure("tiles still on their way", left)
        if sound and not report.lost:
            seen, late_s = sum(report.seen.values()), report.seconds - report.fed_s
            raise BenchError(
                f"{left} of {seen} tiles were still on their way {late_s:.0f} s after the cameras stopped "
                f"({report.tiles_per_s:.2f} tiles per second): this host was too slow for them",
                remedy="end what else runs on this host, and run the plan again; real boards: look at their clocks",
            )


def state_speed(report: StreamReport, heat: HeatLog, measure: Measure) -> None:
    """Record speed, latency, bytes and energy; no limits."""
    for name, board in report.boards.items():
        measure("tiles per second", round(board.tiles / report.seconds, 3), "1/s", board=name)
    factor = heat_factor(report, heat)
    for name, rows in heat.boards().items():
        joules = 3600 * (rows[-1][1].energy_wh - rows[0][1].energy_wh) / factor if factor else 0.0
        measure("energy per tile", round(joules / max(1, report.boards[name].tiles), 2), "J", board=name)
    for name, speed in _slowed(report, heat):
        measure("speed once throttled, of the speed before", round(speed, 3), board=name)
    measure("tiles per second, all boards", round(report.tiles_per_s, 3), "1/s")
    measure("latency, median", round(report.latency_s(0.5), 3), "s")
    measure("latency, 99 %", round(report.latency_s(0.99), 3), "s")
    measure("bytes of results per byte of raw data", round(report.result_bytes / max(1, report.raw_bytes), 5))


def heat_factor(report: StreamReport, heat: HeatLog) -> float:
    """Return the seconds of the mission per second of the stream."""
    if len(heat.samples) < 2:
        return 0.0
    first, last = heat.samples[0], heat.samples[-1]
    return (last.mission_s - first.mission_s) / max(1e-9, last.t_s - first.t_s)


def judge_duty(
    report: StreamReport, heat: HeatLog, measure: Measure, *, contained: Collection[str] = (), least: float = DUTY
) -> None:
    """Ask every board to have had a tile in its network for a share of the time in which the cameras ran.

    How fast a board computes is no matter of duty: a container board may be slow, within what its control group allows.
    BenchError when a container board (``contained``) had work all the time, less duty than that, and did not get the
    processor time that its clock allows: this host was busy with something else.
    """
    loads, starved = heat.loads(), []
    for name, board in report.boards.items():
        duty, assigned = board.duty(report.fed_s), board.assigned(report.fed_s)
        measure("share of the time with work assigned", round(assigned, 3), board=name)
        if name in loads:
            measure("share used of what its clock allows", round(loads[name], 3), board=name)
        if name in contained and duty < least <= assigned and loads.get(name, 1.0) < FULL_LOAD:
            starved.append(f"{name} {loads[name]:.0%}")
    if starved:
        raise BenchError(
            f"boards got less processor time than their clocks allow: {', '.join(starved)}",
            remedy="end what else runs on this host, or lower twin.board_cores in the lab file",
        )
    for name, board in report.boards.items():
        measure("duty", round(board.duty(report.fed_s), 3), limit=at_least(least), board=name)


def judge_heat(heat: HeatLog, measure: Measure, *, contained: Collection[str] = (), orbits: float = 2.0) -> None:
    """Ask every board to stay below its trip point, never throttled, at full load, until its temperature is steady.

    ``orbits``: so many turns must have passed; 0: what is steady is not asked for.  BenchError when the bench could not
    show it: no twin, a span that is too short, container boards that did not get their load.
    """
    if not heat.samples:
        raise BenchError("no twin said anything of heat", remedy="use a lab with a section twin, as always-on")
    if state_heat(heat, measure, limited=True):
        return  # at full load it would be worse
    low = [f"{name} {load:.0%}" for name, load in heat.loads().items() if name in contained and load < FULL_LOAD]
    if low:
        raise BenchError(
            f"boards used less than their clocks allow, so this is not the heat of full load: {', '.join(low)}",
            remedy="end what else runs on this host, or lower twin.board_cores in the lab file",
        )
    if not orbits:
        return
    if heat.orbits() < orbits:
        raise BenchError(
            f"the stream lasted {heat.orbits():.2f} orbits, and a steady temperature is judged over {orbits:g}",
            remedy="give it longer (--set stream_s=...), or --set orbits=0 for a try that does not ask for it",
        )
    for name, drift_k in heat.drifts_k():
        measure("last orbit against the one before", round(abs(drift_k), 3), "K", limit=at_most(STEADY_K), board=name)


def state_heat(heat: HeatLog, measure: Measure, *, limited: bool = False) -> bool:
    """Record peaks, throttling, energy and depth of discharge; return whether a board was too hot.

    ``limited``: with the limits of a plan that allows no throttling.
    """
    measure("orbits", round(heat.orbits(), 2))
    too_hot = False
    highest, never = (at_most(HIGHEST_C), equals(0.0)) if limited else (None, None)
    for name, rows in heat.boards().items():
        first, last = rows[0][1], rows[-1][1]
        hottest = max(board.junction_c for _, board in rows)
        peak_c = last.peak_c if last.peak_c > first.peak_c else hottest
        throttled_s = round(last.throttled_s - first.throttled_s, 1)
        measure("peak of the junction", peak_c, "C", limit=highest, board=name)
        measure("time throttled", throttled_s, "s", limit=never, board=name)
        measure("energy", round(last.energy_wh - first.energy_wh, 3), "Wh", board=name)
        too_hot = too_hot or peak_c > HIGHEST_C or throttled_s > 0
    for craft in dict.fromkeys(sample.spacecraft for sample in heat.samples):
        lowest = [sample.lowest_charge for sample in heat.samples if sample.spacecraft == craft][-1]
        measure(f"depth of discharge of {craft}", round(1 - lowest, 4))
    return too_hot


def judge_throughput(
    report: StreamReport, measure: Measure, *, full_s: float, window_s: float, least_share: float
) -> None:
    """Ask every window of a length to have at least a share of the tiles per second of the first ``full_s``."""
    done_s = sorted(at_s for board in report.boards.values() for at_s in board.done_s)

    def rate(begin_s: float, length_s: float) -> float:
        return (bisect_left(done_s, begin_s + length_s) - bisect_left(done_s, begin_s)) / length_s

    full = rate(0.0, full_s)
    measure("full throughput", round(full, 3), "1/s")
    begins = [float(second) for second in range(int(report.fed_s - window_s) + 1)]
    least = min((rate(begin_s, window_s), begin_s) for begin_s in begins) if begins else (0.0, 0.0)
    measure("window of the least throughput begins at", round(least[1], 1), "s")
    share = least[0] / full if full else 0.0
    measure("least throughput, of the full one", round(share, 3), limit=at_least(least_share))


def judge_slowing(report: StreamReport, heat: HeatLog, measure: Measure) -> None:
    """Ask every board that was throttled to have lost speed by it: tiles per second against those before.

    BenchError when none was throttled: heat was to do it.
    """
    found = heat.boards_that("throttled")
    if not found:
        raise BenchError("no board was throttled, so nothing is known of what heat does", remedy="let it run longer")
    for name, speed in _slowed(report, heat):
        measure("throttled after", round(found[name], 1), "s", board=name)
        measure("speed after that, of the speed before", round(speed, 3), limit=at_most(SLOWER), board=name)


def _slowed(report: StreamReport, heat: HeatLog) -> Iterator[tuple[str, float]]:
    """Yield (board, its tiles per second from its first throttling on, as a share of those before)."""
    for name, at_s in heat.boards_that("throttled").items():
        board = report.boards.get(name)
        if board is not None and at_s > 0 and (before := board.rate_per_s(0.0, at_s)):
            yield name, board.rate_per_s(at_s, report.fed_s) / before


def judge_return(
    report: StreamReport, at_s: float, boards: Collection[str], measure: Measure, *, within_s: float
) -> None:
    """Ask boards to compute again soon after a moment of the stream."""
    for name in boards:
        took_s = report.boards[name].back_s(at_s)
        value = round(took_s, 2) if took_s is not None else report.fed_s
        measure("until it computes again", value, "s", limit=at_most(within_s), board=name)


def judge_recovery(report: StreamReport, lifted_s: float, capped_s: float, measure: Measure, *, within: float) -> None:
    """Ask for the backlog of a capped phase to be gone within a multiple of its length after the cap was lifted.

    BenchError when there was no backlog: then the cameras were too slow to show anything.
    """
    backlog = report.waiting(lifted_s)
    measure("tiles that waited on a spacecraft when the cap was lifted", backlog)
    if backlog <= WORKED_OFF:
        raise BenchError("the capped phase left no backlog", remedy="raise the rate of the cameras, or cap more")
    took_s = report.worked_off_s(lifted_s, tiles=WORKED_OFF)
    window_s = took_s if took_s is not None else report.seconds
    measure("recovery window", round(window_s, 1), "s", limit=at_most(within * capped_s))
    measure("recovery window per second capped", round(window_s / capped_s, 2))
    judge_rest(report, measure, sound=window_s <= within * capped_s)


def judge_scenarios(results: Sequence[ScenarioResult], measure: Measure, *, spread: float) -> None:
    """State what LoadGen's scenarios found; ask for every tile, and for a short wait when tiles come at random moments.

    ``spread``: with Server, 99 % of the tiles are answered within so many times the median of SingleStream.
    """
    lost = sum(len(result.errors) for result in results)
    measure("tiles of LoadGen that no board computed", lost, limit=equals(0))
    for result in results:
        name = f"LoadGen {result.scenario}"
        measure(f"{name}, tiles", len(result.took_s), limit=at_least(1))
        if result.scenario == "Offline":
            measure(f"{name}, tiles per second", round(result.tiles_per_s, 3), "1/s")
            continue
        for share in (0.5, 0.9, 0.99):
            measure(f"{name}, {100 * share:g} %", round(result.latency_s(share), 3), "s")
    found = {result.scenario: result for result in results}
    if (alone_s := found["SingleStream"].latency_s(0.5)) > 0:
        ratio = found["Server"].latency_s(0.99) / alone_s
        measure("LoadGen Server, 99 % against SingleStream, 50 %", round(ratio, 2), limit=at_most(spread))
