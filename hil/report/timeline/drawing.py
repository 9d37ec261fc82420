"""The timeline as inline SVG: colours come from the page's style sheet, so it follows light, dark and print."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from hil.report.timeline.bars import Bar, Gap, Mark, clipped, merged
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
TOLD = 6
"""So many links are described in words for those who do not see the picture."""
CHARACTER = 6.3
"""Width of a character at the label size; a label is drawn only where it fits."""


class _Canvas:
    """Collects SVG elements and knows the time scale."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self.start_s, self.end_s = start_s, max(end_s, start_s + 0.001)
        self.parts: list[str] = []
        self.y = AXIS

    @property
    def window(self) -> tuple[float, float]:
        return self.start_s, self.end_s

    def x(self, t_s: float) -> float:
        share = (t_s - self.start_s) / (self.end_s - self.start_s)
        return GUTTER + min(1.0, max(0.0, share)) * (WIDTH - GUTTER - RIGHT)

    def visible(self, bar: Bar | Gap) -> bool:
        return bar.end_s > self.start_s and bar.start_s < self.end_s

    def text(self, x: float, y: float, text: str, css: str) -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}">{escape(text)}</text>')

    def bar(
        self, bar: Bar, y: float, height: float, css: str, label: str = "", label_css: str = "on"
    ) -> None:
        """One bar at least a hair wide, broken where it stood still, with a tooltip, and a label where it fits."""
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
            self.parts.append(
                f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" class="{css}">'
                f"<title>{escape(tip)}</title></rect>"
            )
        for gap in bar.gaps:
            self.gap(gap, bar.label, y, height, css)
        x, width = max(places, key=lambda place: place[1], default=(0.0, 0.0))
        if label and width > len(label) * CHARACTER + 4:
            self.text(x + width / 2, y + height / 2 + 3.6, label, label_css)

    def gap(self, gap: Gap, label: str, y: float, height: float, css: str) -> None:
        """The dashed line of a bar that stood still, as wide as the bar for the pointer."""
        if not self.visible(gap):
            return
        x0, x1 = self.x(gap.start_s), self.x(gap.end_s)
        seconds = gap.end_s - gap.start_s
        tip = f"{label} interrupted: {gap.start_s:.1f} to {gap.end_s:.1f} s ({seconds:.2f} s), {gap.why}"
        middle = y + height / 2
        self.parts.append(
            f'<g class="gap {css}"><title>{escape(tip)}</title>'
            f'<rect x="{x0:.1f}" y="{y:.1f}" width="{x1 - x0:.1f}" height="{height:.1f}"/>'
            f'<line x1="{x0:.1f}" x2="{x1:.1f}" y1="{middle:.1f}" y2="{middle:.1f}"/></g>'
        )


def timeline_svg(lanes: Lanes, *, window: tuple[float, float] | None = None, title: str) -> str:
    """The picture of the whole run, or of ``window`` (start, end in seconds): tests, boards, links below them."""
    canvas = _Canvas(*(window or (lanes.start_s, lanes.end_s)))
    _tests(canvas, lanes)
    top = canvas.y
    group = ""
    for lane in lanes.boards:
        if lane.group and lane.group != group:
            group = lane.group
            _heading(canvas, group)
        _board(canvas, lane)
    if lanes.links:
        _heading(canvas, "links")
    for link in lanes.links:
        _link(canvas, link)
    _routes(canvas, lanes.routes)
    bottom = canvas.y
    behind = "".join((*_grid(canvas, bottom), *_bands(canvas, lanes, top, bottom)))
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH:.0f} {bottom + 18:.0f}" role="img" '
        f'aria-label="{escape(title, quote=True)}"><desc>{escape(_told(lanes))}</desc>'
        f"{behind}{''.join(canvas.parts)}</svg>"
    )


def _told(lanes: Lanes) -> str:
    """The picture in words; the steps and their times are in the page's own tables."""
    words = [f"{len(lanes.tests)} tests, {len(lanes.boards)} boards, {len(lanes.links)} links."]
    words += [f"{link.name}: {link.story}." for link in lanes.links if link.changes][:TOLD]
    return " ".join(words)


def _heading(canvas: _Canvas, text: str) -> None:
    canvas.y += 6
    canvas.text(4, canvas.y + 9, text, "group")
    canvas.y += 15


def _tests(canvas: _Canvas, lanes: Lanes) -> None:
    canvas.text(4, canvas.y + 12, "tests", "lane")
    for bar in lanes.tests:
        css = "v-" + bar.category.lower().replace(" ", "-")
        canvas.bar(bar, canvas.y, BAR, f"test {css}", bar.label)
    for mark in lanes.faults:
        if canvas.start_s <= mark.t_s <= canvas.end_s:
            x = canvas.x(mark.t_s)
            canvas.parts.append(
                f'<path d="M{x:.1f} {AXIS - 1:.1f} l-4 -7 h8 z" class="fault">'
                f"<title>{escape(f'fault at {mark.t_s:.1f} s: {mark.label}')}</title></path>"
            )
    canvas.y += BAR + GAP


def _link(canvas: _Canvas, link: LinkLane) -> None:
    top, middle = canvas.y, canvas.y + LINK / 2
    canvas.text(14, middle + 4, link.name, "lane board")
    if not link.phases:
        canvas.parts.append(
            f'<line x1="{GUTTER}" x2="{WIDTH - RIGHT}" y1="{middle}" y2="{middle}" class="linkline"/>'
        )
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
    canvas.y += LINK + 7


def _routes(canvas: _Canvas, routes: tuple[Mark, ...]) -> None:
    if not routes:
        return
    middle = canvas.y + LINK / 2
    canvas.text(14, middle + 4, "routes", "lane")
    for mark in routes:
        if canvas.start_s <= mark.t_s <= canvas.end_s:
            x = canvas.x(mark.t_s)
            tip = f"{mark.label} at {mark.t_s:.1f} s" + (f": {mark.detail}" if mark.detail else "")
            canvas.parts.append(
                f'<path d="M{x:.1f} {middle - 5:.1f} l4.500 5 l-4.500 5 l-4.500 -5 z" class="route">'
                f"<title>{escape(tip)}</title></path>"
            )
    canvas.y += LINK + 7


def _board(canvas: _Canvas, lane: Lane) -> None:
    rows = _rows([b for b in lane.bars if canvas.visible(b)])
    height = BAR * max(1, len(rows))
    canvas.text(14, canvas.y + 12, lane.name, "lane board")
    canvas.parts.append(
        f'<rect x="{GUTTER}" y="{canvas.y:.1f}" width="{WIDTH - GUTTER - RIGHT:.1f}" height="{height:.1f}" '
        'class="track"/>'
    )
    for bar in lane.off:
        canvas.bar(bar, canvas.y, height, "off", "off", "off-label")
    for number, row in enumerate(rows):
        for bar in row:
            css = f"step c-{bar.category.replace(' ', '-')}" + ("" if bar.ended else " unended")
            canvas.bar(bar, canvas.y + number * BAR + 0.5, BAR - 1, css, bar.label)
    for mark in lane.marks:
        if canvas.start_s <= mark.t_s <= canvas.end_s:
            x = canvas.x(mark.t_s)
            canvas.parts.append(
                f'<g class="boot"><title>{escape(f"{mark.detail} at {mark.t_s:.1f} s")}</title>'
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{canvas.y - 1:.1f}" y2="{canvas.y + height + 1:.1f}"/>'
                f'<text x="{x + 3:.1f}" y="{canvas.y + height - 4:.1f}">{escape(mark.label)}</text></g>'
            )
    for claim in lane.claims:
        canvas.bar(claim, canvas.y + height + 1.5, CLAIM, f"claim {claim.category}")
    canvas.y += height + CLAIM + GAP


def _rows(bars: list[Bar]) -> list[list[Bar]]:
    """Bars that overlap go into rows below each other."""
    rows: list[list[Bar]] = []
    for bar in bars:
        for row in rows:
            if row[-1].end_s <= bar.start_s + 1e-6:
                row.append(bar)
                break
        else:
            rows.append([bar])
    return rows


def _bands(canvas: _Canvas, lanes: Lanes, top: float, bottom: float) -> Iterator[str]:
    """Behind everything: when a link was cut, and when the participants' crosslink was closed by plan."""
    cuts = merged((b.start_s, b.end_s) for link in lanes.links for b in link.cuts)
    closed = merged(span for link in lanes.links for span in link.closed)
    for css, spans in (("band planned", closed), ("band", cuts)):
        for start, end in clipped(spans, *canvas.window):
            x0, x1 = canvas.x(start), canvas.x(end)
            yield (
                f'<rect x="{x0:.1f}" y="{top:.1f}" width="{max(1.5, x1 - x0):.1f}" '
                f'height="{bottom - top:.1f}" class="{css}"/>'
            )


def _grid(canvas: _Canvas, bottom: float) -> Iterator[str]:
    step = nice_step(canvas.end_s - canvas.start_s)
    tick = -(-canvas.start_s // step) * step
    while tick <= canvas.end_s + 1e-9:
        x = canvas.x(tick)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{AXIS - 4:.1f}" y2="{bottom:.1f}" class="grid"/>'
        for y in (12.0, bottom + 14):
            yield f'<text x="{min(x, WIDTH - LAST_TICK):.1f}" y="{y:.1f}" class="tick">{tick:g} s</text>'
        tick += step


def nice_step(span_s: float) -> float:
    """Distance of the axis marks: 1, 2 or 5 times a power of ten, so that there are at most twelve."""
    step = 0.1
    while True:
        for factor in (1, 2, 5):
            if span_s / (step * factor) <= 12:
                return round(step * factor, 6)
        step *= 10
