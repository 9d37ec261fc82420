"""Heat, power, load, clock, eclipse and faults of each spacecraft on one time axis, for `hil bench watch`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from hil.evidence.twin import TwinSample
from hil.leases.rules import span
from hil.monitor.bench_health import Health

MOST = 3600
"""Looks that are kept; more of them than columns are drawn several to a column."""
BARS = "▁▂▃▄▅▆▇█"
MARKS = {"×": "a board without power", "~": "a link cut", "!": "throttled", "▒": "eclipse"}
"""What stands in the line of marks; the first that is true."""
LABEL, TAIL = 14, 18
ROWS = 5
"""Of each spacecraft."""


@dataclass(frozen=True)
class _Point:
    taken_at: float
    crafts: dict[str, TwinSample]
    cut: bool


class HeatHistory:
    """What was seen since the watch began; :meth:`add` every look."""

    def __init__(self) -> None:
        self._points: deque[_Point] = deque(maxlen=MOST)

    def add(self, health: Health) -> None:
        """Keep one look."""
        if health.heat:
            crafts = {sample.spacecraft: sample for sample in health.heat}
            self._points.append(_Point(health.taken_at, crafts, any(link.cut for link in health.links)))

    def lines(self, *, width: int, room: int) -> list[Text]:
        """Return the lines of as many spacecraft as ``room`` rows hold, and one that explains them."""
        columns = width - LABEL - TAIL
        if len(self._points) < 2 or columns < 10 or room <= ROWS:
            return []
        bins = _bins([*self._points], columns)
        names = [*self._points[-1].crafts][: (room - 1) // ROWS]
        since = span(self._points[-1].taken_at - self._points[0].taken_at)
        legend = ", ".join(f"{mark} {text}" for mark, text in MARKS.items())
        return [Text(f"the last {since}; {legend}", style="dim")] + [
            line for name in names for line in _craft(name, bins)
        ]


def _bins(points: Sequence[_Point], columns: int) -> list[Sequence[_Point]]:
    """Return the points in at most so many groups, in the order of time."""
    size = -(-len(points) // columns)
    return [points[at : at + size] for at in range(0, len(points), size)]


def _craft(name: str, bins: Sequence[Sequence[_Point]]) -> list[Text]:
    samples = [[point.crafts[name] for point in points if name in point.crafts] for points in bins]
    boards = [[board for sample in each for board in sample.boards.values()] for each in samples]
    rows = {
        "°C": [max((b.junction_c for b in each), default=0.0) for each in boards],
        "W": [max((sum(b.power_w for b in s.boards.values()) for s in each), default=0.0) for each in samples],
        "% busy": [100 * sum(b.busy for b in each) / max(1, len(each)) for each in boards],
        "% clock": [100 * min((b.clock for b in each), default=0.0) for each in boards],
    }
    lines = [_bar(name if unit == "°C" else "", unit, values) for unit, values in rows.items()]
    marks = []
    for points, each, own in zip(bins, samples, boards, strict=True):
        true = (
            any(not b.on for b in own),
            any(point.cut for point in points),
            any(b.binding == "heat" for b in own),
            any(s.sunlit < 0.5 for s in each),
        )
        marks.append(next((mark for mark, holds in zip(MARKS, true, strict=True) if holds), " "))
    return [*lines, Text(" " * LABEL + "".join(marks), style="yellow")]


def _bar(name: str, unit: str, values: Sequence[float]) -> Text:
    low, high = (min(values), max(values)) if not unit.startswith("%") else (0.0, 100.0)
    steps = [round((value - low) / max(high - low, 1.0) * (len(BARS) - 1)) for value in values]
    line = Text.assemble((f"{name[:6]:<7}", "bold"), f"{unit:<{LABEL - 7}}")
    line.append("".join(BARS[max(0, min(len(BARS) - 1, step))] for step in steps))
    return line.append(f"  {min(values):.0f} to {max(values):.0f}", style="dim")
