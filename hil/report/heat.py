"""Heat and power during the run: a line per board on the run's own time axis, and the figures of each."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from hil.core.svg import Axis, Canvas, picture
from hil.evidence.events import (
    BoardHeat,
    BoardPower,
    FaultHealed,
    FaultInjected,
    LinkCut,
    LinkRestored,
    StreamSample,
    TwinChange,
    TwinSample,
    TwinStarted,
    WeightsChanged,
)
from hil.evidence.readback import RunRecord
from hil.report.timeline.drawing import GUTTER, WIDTH
from hil.report.timeline.drawing import RIGHT as MARGIN

PANEL = 84.0
LEFT, RIGHT = GUTTER, WIDTH - MARGIN
"""Its axis is that of the lanes of boards and links, which stand above it."""
COLOURS = 8
"""So many boards of a spacecraft have a colour of their own."""
MOST_CHANGES = 60
MOST_MARKS = 400
MOST_POINTS = 400
NEAR_S = 3.0
"""A sample of a stream says how it stands for so long."""


@dataclass(frozen=True)
class HeatRow:
    """The figures of one board over the run."""

    board: str
    spacecraft: str
    peak_c: float
    margin_c: float
    throttled_s: float
    mean_w: float
    energy_wh: float
    busy: float
    binding: str
    """What held it back, with the share of the samples: ``heat 40 %, compute 60 %``."""
    error_c: float | None
    """Largest difference between the prediction and a real board's sensor."""


@dataclass(frozen=True)
class Mark:
    """Something that happened, to a board or (without one) to all."""

    t_s: float
    text: str
    board: str = ""


@dataclass(frozen=True)
class HeatSection:
    """What the page says about heat and power; ``recorded`` is False for a run without a twin."""

    recorded: bool
    facts: tuple[tuple[str, str], ...] = ()
    rows: tuple[HeatRow, ...] = ()
    changes: tuple[TwinChange, ...] = ()
    left_out: int = 0
    picture: str = ""

    @property
    def real(self) -> bool:
        """Whether a real board is among them, beside which the twin only predicts."""
        return any(row.error_c is not None for row in self.rows)


def heat_section(run: RunRecord) -> HeatSection:
    """Collect it from the evidence."""
    started, samples = run.last(TwinStarted), run.of(TwinSample)
    if not samples:
        return HeatSection(recorded=False)
    crafts = dict.fromkeys(sample.spacecraft for sample in samples)
    by_craft = {name: [s for s in samples if s.spacecraft == name] for name in crafts}
    limit_c = started.throttle_c if started and started.throttle_c else 99.0
    changes = run.of(TwinChange)
    return HeatSection(
        recorded=True,
        facts=(*_facts(started, by_craft), *_changed_weights(run.of(WeightsChanged))),
        rows=tuple(row for own in by_craft.values() for row in _rows(own, limit_c, run.of(StreamSample))),
        changes=tuple(changes[:MOST_CHANGES]),
        left_out=max(0, len(changes) - MOST_CHANGES),
        picture=_draw(by_craft, _marks(run), limit_c, max(run.duration_s, 1.0)),
    )


def _marks(run: RunRecord) -> list[Mark]:
    """Return what happened to boards and links, in the order of time."""
    links = [Mark(e.t_s, f"link {e.link} cut") for e in run.of(LinkCut)]
    links += [Mark(e.t_s, f"link {e.link} restored") for e in run.of(LinkRestored)]
    faults = [Mark(e.t_s, f"fault {e.what} {e.target}") for e in run.of(FaultInjected)]
    faults += [Mark(e.t_s, f"fault {e.what} {e.target} healed") for e in run.of(FaultHealed)]
    power = [Mark(e.t_s, f"power {e.action}", e.board) for e in run.of(BoardPower)]
    heat = [Mark(e.t_s, f"{e.what}: {e.detail}", e.board) for e in run.of(TwinChange)]
    weights = [Mark(e.t_s, "stored weights changed", e.board) for e in run.of(WeightsChanged)]
    return sorted([*links, *faults, *power, *heat, *weights], key=lambda mark: mark.t_s)[:MOST_MARKS]


def _facts(started: TwinStarted | None, by_craft: Mapping[str, Sequence[TwinSample]]) -> Iterable[tuple[str, str]]:
    if started:
        factor = started.time_factor
        yield "Time factor", f"{factor:g} s of the mission per second of the run; every figure below used it"
        if started.board_cores:
            yield "Full clock", f"{started.board_cores:.2f} cores of this host per container board"
        if started.assumed:
            yield "Assumed", ", ".join(started.assumed)
    for name, own in by_craft.items():
        last = own[-1]
        spent = (last.mission_s - own[0].mission_s) / 3600
        yield (
            name,
            f"{spent:.2f} h of the mission; radiator at most {max(s.radiator_c for s in own):.1f} °C; battery at "
            f"least {last.lowest_charge:.0%} (depth of discharge {1 - last.lowest_charge:.0%})",
        )


def _changed_weights(found: Sequence[WeightsChanged]) -> Iterable[tuple[str, str]]:
    if found:
        first = {each.board: each.t_s for each in reversed(found)}
        yield "Stored weights changed", ", ".join(f"{name} (found at {t_s:.1f} s)" for name, t_s in first.items())


def _held_back(sample: TwinSample, board: str, stream: Sequence[StreamSample], starts: Sequence[float]) -> str:
    """Return what holds a board back at one moment: link where it could compute, and its tiles do not get through."""
    heat, at = sample.boards[board], bisect_right(starts, sample.t_s) - 1
    if heat.on and heat.binding == "idle" and at >= 0 and sample.t_s - starts[at] <= NEAR_S:
        return "link" if board in stream[at].silent else heat.binding
    return heat.binding


def _rows(own: Sequence[TwinSample], limit_c: float, stream: Sequence[StreamSample]) -> Iterable[HeatRow]:
    starts = [each.t_s for each in stream]
    for name in own[-1].boards:
        seen = [sample.boards[name] for sample in own if name in sample.boards]
        held = Counter(_held_back(sample, name, stream, starts) for sample in own if name in sample.boards)
        last, first = seen[-1], seen[0]
        apart = [abs(b.junction_c - b.predicted_c) for b in seen if b.predicted_c is not None]
        peak_c = max(max(b.junction_c for b in seen), last.peak_c if len(own) > 1 else 0.0)
        yield HeatRow(
            board=name,
            spacecraft=own[-1].spacecraft,
            peak_c=peak_c,
            margin_c=limit_c - peak_c,
            throttled_s=last.throttled_s - first.throttled_s,
            mean_w=sum(b.power_w for b in seen) / len(seen),
            energy_wh=last.energy_wh - first.energy_wh,
            busy=sum(b.busy for b in seen) / len(seen),
            binding=", ".join(f"{what} {count / len(seen):.0%}" for what, count in held.most_common()),
            error_c=max(apart) if apart else None,
        )


def _draw(by_craft: Mapping[str, Sequence[TwinSample]], marks: Sequence[Mark], limit_c: float, end_s: float) -> str:
    canvas, y = Canvas(), 8.0
    axis = Axis(0.0, end_s, LEFT, RIGHT)
    for craft, own in by_craft.items():
        boards = list(own[-1].boards)
        canvas.text("group", 4, y + 12, craft)
        for k, board in enumerate(boards):
            canvas.text(f"heat-{k % COLOURS}", LEFT + 76 * k, y + 12, board)
        y += 20
        own_marks = [mark for mark in marks if not mark.board or mark.board in boards]
        celsius = {b: [s.boards.get(b, BoardHeat()).junction_c for s in own] for b in boards}
        watts = {b: [s.boards.get(b, BoardHeat()).power_w for s in own] for b in boards}
        busy = {b: [100 * s.boards.get(b, BoardHeat()).busy for s in own] for b in boards}
        clock = {b: [100 * heat.clock * heat.on for s in own if (heat := s.boards.get(b, BoardHeat()))] for b in boards}
        charge = {"": [100 * s.charge for s in own]}
        predicted = [[_predicted(s.boards.get(b, BoardHeat())) for s in own] for b in boards]
        top = y
        for unit, series in (
            ("°C", celsius),
            ("W", watts),
            ("% clock", clock),
            ("% busy", busy),
            ("% battery", charge),
        ):
            limit = limit_c if unit == "°C" else None
            _panel(canvas, axis, own, unit, series, limit, y, predicted if unit == "°C" else ())
            y += PANEL + 6
        for mark in own_marks:
            tip = f"{mark.t_s:.1f} s: {mark.board} {mark.text}"
            canvas.path("fault", axis.at(mark.t_s), top, "l-4 -7 h8 z", tip=tip)
            canvas.line("strike", axis.at(mark.t_s), top, axis.at(mark.t_s), y - 6, tip=tip)
        y += 22
        for tick in axis.ticks(10):
            canvas.text("tick", axis.at(tick), y - 12, f"{tick:g} s")
    return picture("timeline heat", WIDTH, y, "Temperature, power, clock, load and battery over the run", [canvas])


def _predicted(heat: BoardHeat) -> float:
    return heat.junction_c if heat.predicted_c is None else heat.predicted_c


def _panel(
    canvas: Canvas,
    axis: Axis,
    own: Sequence[TwinSample],
    unit: str,
    series: Mapping[str, Sequence[float]],
    limit: float | None,
    top: float,
    predicted: Sequence[Sequence[float]],
) -> None:
    """Draw one figure of all boards; ``predicted``: beside the sensors of real ones, dashed."""
    values = [value for row in (*series.values(), *predicted) for value in row]
    low, high = (min(values), max(values)) if unit == "°C" else (0.0, max(100.0 if "%" in unit else 1.0, *values))
    if limit is not None and high > limit - 25:
        high = max(high, limit)
    scale = Axis(low, max(high, low + 1.0), top + PANEL - 4, top + 4)
    dark_since: float | None = None
    for sample in (*own, None):
        if sample is not None and sample.sunlit < 0.5:
            dark_since = sample.t_s if dark_since is None else dark_since
        elif dark_since is not None:
            end_s = sample.t_s if sample else own[-1].t_s
            canvas.rect("eclipse", axis.at(dark_since), top, axis.at(end_s) - axis.at(dark_since), PANEL, tip="eclipse")
            dark_since = None
    canvas.rect("frame", LEFT, top, RIGHT - LEFT, PANEL)
    canvas.text("tick axis", LEFT - 8, scale.at(scale.high) + 8, f"{scale.high:.0f} {unit}")
    canvas.text("tick axis", LEFT - 8, scale.at(scale.low), f"{scale.low:.0f}")
    if limit is not None and scale.holds(limit):
        canvas.line("limit", LEFT, scale.at(limit), RIGHT, scale.at(limit), tip=f"throttles at {limit:g} °C")
    every = max(1, len(own) // MOST_POINTS)
    for k, row in enumerate(series.values()):
        points = [(axis.at(s.t_s), scale.at(v)) for s, v in zip(own, row, strict=True)][::every]
        canvas.polyline(f"line heat-{k % COLOURS}", points)
        if k < len(predicted) and predicted[k] != row:
            points = [(axis.at(s.t_s), scale.at(v)) for s, v in zip(own, predicted[k], strict=True)][::every]
            canvas.polyline(f"line predicted heat-{k % COLOURS}", points)
