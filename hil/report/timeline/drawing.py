"""The timeline as inline SVG: colours come from the page's style sheet, so it follows light, dark and print."""

from __future__ import annotations

from html import escape

from hil.core.svg import CHARACTER, Axis, Canvas, picture
from hil.report.timeline.bars import Bar, Interruption, Mark, clipped, merged
from hil.report.timeline.lanes import Lane, Lanes
from hil.report.timeline.link_lanes import LinkLane

WIDTH = 1120.0
GUTTER = 96.0
RIGHT = 14.0
AXIS = 26.0
BAR = 16.0
CLAIM = 5.0
GAP = 9.0
LINK = 12.0
FADE = 6.0
LAST_TICK = 20.0
"""The label of the last axis mark keeps this distance from the edge."""
DESCRIBED_LINKS = 6
"""So many links are described in words for those who do not see the picture."""


class _Timeline(Canvas):
    """A canvas with a time axis and the height at which the next lane begins."""

    def __init__(self, start_s: float, end_s: float) -> None:
        super().__init__()
        self.axis = Axis(start_s, max(end_s, start_s + 0.001), GUTTER, WIDTH - RIGHT)
        self.x = self.axis.at
        self.window = (self.axis.low, self.axis.high)
        self.y = AXIS

    def visible(self, bar: Bar | Interruption) -> bool:
        return bar.end_s > self.axis.low and bar.start_s < self.axis.high

    def bar(self, bar: Bar, y: float, height: float, css: str, label: str = "", label_css: str = "on") -> None:
        """Draw one bar at least a hair wide, broken where it stood still, with a label where it fits."""
        if not self.visible(bar):
            return
        tip = f"{bar.label}: {bar.start_s:.1f} to {bar.end_s:.1f} s ({bar.end_s - bar.start_s:.2f} s)"
        tip += f", {bar.detail}" if bar.detail else ""
        pieces, begin = [], bar.start_s
        for gap in bar.gaps:
            pieces.append((begin, gap.start_s))
            begin = gap.end_s
        pieces = [(a, b) for a, b in (*pieces, (begin, bar.end_s)) if b > a] or [(bar.start_s, bar.start_s)]
        places = [(self.x(a), max(1.5, self.x(b) - self.x(a))) for a, b in clipped(pieces, *self.window)]
        for x, width in places:
            self.rect(css, x, y, width, height, radius=2, tip=tip)
        for gap in filter(self.visible, bar.gaps):
            self.gap(gap, bar.label, y, height, css)
        x, width = max(places, key=lambda place: place[1], default=(0.0, 0.0))
        if label and width > len(label) * CHARACTER + 4:
            self.text(label_css, x + width / 2, y + height / 2 + 3.6, label)

    def gap(self, gap: Interruption, label: str, y: float, height: float, css: str) -> None:
        """Draw the dashed line of a bar that stood still, as wide as the bar for the pointer."""
        x0, x1, middle = self.x(gap.start_s), self.x(gap.end_s), y + height / 2
        seconds = gap.end_s - gap.start_s
        tip = f"{label} interrupted: {gap.start_s:.1f} to {gap.end_s:.1f} s ({seconds:.2f} s), {gap.why}"
        with self.group(f"gap {css}", tip=tip):
            self.rect("", x0, y, x1 - x0, height)
            self.line("", x0, middle, x1, middle)

    def places(self, marks: tuple[Mark, ...] | list[Mark]) -> list[tuple[float, Mark]]:
        """Return the marks that lie in the window, with their x."""
        return [(self.x(mark.t_s), mark) for mark in marks if self.axis.holds(mark.t_s)]

    def heading(self, text: str) -> None:
        """Write what the next lanes belong to."""
        self.text("group", 4, self.y + 15, text)
        self.y += 21


def timeline_svg(lanes: Lanes, *, window: tuple[float, float] | None = None, title: str) -> str:
    """Return the picture of the whole run, or of ``window`` (start, end in seconds): tests, boards, links."""
    canvas = _Timeline(*(window or (lanes.start_s, lanes.end_s)))
    _tests(canvas, lanes)
    top = canvas.y
    group = ""
    for lane in lanes.boards:
        if lane.group and lane.group != group:
            group = lane.group
            canvas.heading(group)
        _board(canvas, lane)
    if lanes.links:
        canvas.heading("links")
    for link in lanes.links:
        _link(canvas, link)
    if lanes.routes:
        _routes(canvas, lanes.routes)
    behind = _grid(canvas)
    _bands(canvas, behind, lanes, top)
    description = f"<desc>{escape(_description(lanes))}</desc>"
    return picture("timeline", WIDTH, canvas.y + 18, title, [behind, canvas], head=description)


def _description(lanes: Lanes) -> str:
    """Return the picture in words; the steps and their times are in the page's own tables."""
    words = [f"{len(lanes.tests)} tests, {len(lanes.boards)} boards, {len(lanes.links)} links."]
    words += [f"{link.name}: {link.story}." for link in lanes.links if link.changes][:DESCRIBED_LINKS]
    return " ".join(words)


def _tests(canvas: _Timeline, lanes: Lanes) -> None:
    canvas.text("lane", 4, canvas.y + 12, "tests")
    for bar in lanes.tests:
        canvas.bar(bar, canvas.y, BAR, f"test v-{bar.category.lower().replace(' ', '-')}", bar.label)
    for x, mark in canvas.places(lanes.faults):
        canvas.path("fault", x, AXIS - 1, "l-4 -7 h8 z", tip=f"fault at {mark.t_s:.1f} s: {mark.label}")
    canvas.y += BAR + GAP


def _link(canvas: _Timeline, link: LinkLane) -> None:
    top, middle = canvas.y, canvas.y + LINK / 2
    canvas.text("lane board", 14, middle + 4, link.name)
    if not link.phases:
        canvas.line("linkline", GUTTER, middle, WIDTH - RIGHT, middle)
    for bar in link.steady:
        canvas.bar(bar, top, LINK, f"phase ph-{bar.category}", bar.label, f"on on-{bar.category}")
    drawn_to = 0.0
    for bar in link.phases:
        # Fades are short and can be many: those that would cover one another on paper are drawn once.
        if bar.category == "fade" and canvas.visible(bar) and canvas.x(bar.start_s) >= drawn_to:
            canvas.bar(bar, top + (LINK - FADE) / 2, FADE, "phase ph-fade")
            drawn_to = canvas.x(bar.end_s) + 1.5
    for bar in link.cuts:
        canvas.bar(bar, top - 1, LINK + 2, "outage", "cut")
    for x, mark in canvas.places(link.commands):
        canvas.diamond("route", x, middle, 3.5, tip=f"{mark.detail} at {mark.t_s:.1f} s")
    canvas.y += LINK + 7


def _routes(canvas: _Timeline, routes: tuple[Mark, ...]) -> None:
    middle = canvas.y + LINK / 2
    canvas.text("lane", 14, middle + 4, "routes")
    for x, mark in canvas.places(routes):
        tip = f"{mark.label} at {mark.t_s:.1f} s" + (f": {mark.detail}" if mark.detail else "")
        canvas.diamond("route", x, middle, 5, tip=tip)
    canvas.y += LINK + 7


def _board(canvas: _Timeline, lane: Lane) -> None:
    rows = _rows([b for b in lane.bars if canvas.visible(b)])
    top, height = canvas.y, BAR * max(1, len(rows))
    canvas.text("lane board", 14, top + 12, lane.name)
    canvas.rect("track", GUTTER, top, WIDTH - GUTTER - RIGHT, height)
    for bar in lane.off:
        canvas.bar(bar, top, height, "off", "off", "off-label")
    for number, row in enumerate(rows):
        for bar in row:
            css = f"step c-{bar.category.replace(' ', '-')}" + ("" if bar.ended else " unended")
            canvas.bar(bar, top + number * BAR + 0.5, BAR - 1, css, bar.label)
    for x, mark in canvas.places(lane.marks):
        tip = f"{mark.detail} at {mark.t_s:.1f} s"
        if mark.kind == "boot":
            with canvas.group("boot", tip=tip):
                canvas.line("", x, top - 1, x, top + height + 1)
                canvas.text("", x + 3, top + height - 4, mark.label)
        else:  # a stage that the console showed
            css = "fault" if mark.kind == "trouble" else "route"
            canvas.path(css, x, top + height, "l-3 5 h6 z", tip=tip)
    for claim in lane.claims:
        canvas.bar(claim, top + height + 1.5, CLAIM, f"claim {claim.category}")
    canvas.y += height + CLAIM + GAP


def _rows(bars: list[Bar]) -> list[list[Bar]]:
    """Return bars in rows: those that overlap lie below each other."""
    rows: list[list[Bar]] = []
    for bar in bars:
        for row in rows:
            if row[-1].end_s <= bar.start_s + 1e-6:
                row.append(bar)
                break
        else:
            rows.append([bar])
    return rows


def _bands(canvas: _Timeline, behind: Canvas, lanes: Lanes, top: float) -> None:
    """Draw when a link was cut, and when the participants' crosslink was closed by plan."""
    cuts = merged((b.start_s, b.end_s) for link in lanes.links for b in link.cuts)
    closed = merged(span for link in lanes.links for span in link.closed)
    for css, spans in (("band planned", closed), ("band", cuts)):
        for start, end in clipped(spans, *canvas.window):
            x0, x1 = canvas.x(start), canvas.x(end)
            behind.rect(css, x0, top, max(1.5, x1 - x0), canvas.y - top)


def _grid(canvas: _Timeline) -> Canvas:
    grid = Canvas()
    for tick in canvas.axis.ticks(12):
        x = canvas.x(tick)
        grid.line("grid", x, AXIS - 4, x, canvas.y)
        for y in (12.0, canvas.y + 14):
            grid.text("tick", min(x, WIDTH - LAST_TICK), y, f"{tick:g} s")
    return grid
