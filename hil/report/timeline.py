"""The timeline as inline SVG: colours come from the page's style sheet, so it follows light, dark and print."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from hil.report.lanes import Bar, Lane, Lanes

WIDTH = 1120.0
GUTTER = 96.0
RIGHT = 14.0
AXIS = 26.0
BAR = 16.0
CLAIM = 5.0
GAP = 9.0
CHARACTER = 6.3
"""Width of a character at the label size; a label is drawn only where it fits."""


class _Canvas:
    """Collects SVG elements and knows the time scale."""

    def __init__(self, start_s: float, end_s: float) -> None:
        self.start_s, self.end_s = start_s, max(end_s, start_s + 0.001)
        self.parts: list[str] = []
        self.y = AXIS

    def x(self, t_s: float) -> float:
        share = (t_s - self.start_s) / (self.end_s - self.start_s)
        return GUTTER + min(1.0, max(0.0, share)) * (WIDTH - GUTTER - RIGHT)

    def visible(self, bar: Bar) -> bool:
        return bar.end_s > self.start_s and bar.start_s < self.end_s

    def text(self, x: float, y: float, text: str, css: str) -> None:
        self.parts.append(f'<text x="{x:.1f}" y="{y:.1f}" class="{css}">{escape(text)}</text>')

    def bar(
        self, bar: Bar, y: float, height: float, css: str, label: str = "", label_css: str = "on"
    ) -> None:
        """One bar at least a hair wide, with a tooltip, and its label where that fits."""
        if not self.visible(bar):
            return
        x0, x1 = self.x(bar.start_s), self.x(bar.end_s)
        width = max(1.5, x1 - x0)
        tip = f"{bar.label}: {bar.start_s:.1f} to {bar.end_s:.1f} s ({bar.end_s - bar.start_s:.2f} s)"
        tip += f", {bar.detail}" if bar.detail else ""
        self.parts.append(
            f'<rect x="{x0:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="2" class="{css}">'
            f"<title>{escape(tip)}</title></rect>"
        )
        if label and width > len(label) * CHARACTER + 4:
            self.text(x0 + width / 2, y + height / 2 + 3.6, label, label_css)


def timeline_svg(lanes: Lanes, *, window: tuple[float, float] | None = None, title: str) -> str:
    """The picture of the whole run, or of ``window`` (start, end in seconds)."""
    start_s, end_s = window or (lanes.start_s, lanes.end_s)
    canvas = _Canvas(start_s, end_s)
    _tests(canvas, lanes)
    links_top = canvas.y
    _links(canvas, lanes)
    group = ""
    for lane in lanes.boards:
        if lane.group and lane.group != group:
            group = lane.group
            canvas.y += 6
            canvas.text(4, canvas.y + 9, group, "group")
            canvas.y += 15
        _board(canvas, lane)
    bottom = canvas.y
    behind = "".join((*_grid(canvas, bottom), *_outage_bands(canvas, lanes, links_top, bottom)))
    height = bottom + 4
    return (
        f'<svg class="timeline" viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-label="{escape(title, quote=True)}">{behind}{"".join(canvas.parts)}</svg>'
    )


def _tests(canvas: _Canvas, lanes: Lanes) -> None:
    canvas.text(4, canvas.y + 12, "tests", "lane")
    for bar in lanes.tests:
        css = "v-" + bar.category.lower().replace(" ", "-")
        canvas.bar(bar, canvas.y, BAR, f"test {css}", bar.label)
    canvas.y += BAR + GAP


def _links(canvas: _Canvas, lanes: Lanes) -> None:
    for link, outages in lanes.links.items():
        middle = canvas.y + 6
        canvas.text(4, middle + 4, link, "lane")
        canvas.parts.append(
            f'<line x1="{GUTTER}" x2="{WIDTH - RIGHT}" y1="{middle}" y2="{middle}" class="linkline"/>'
        )
        for outage in outages:
            canvas.bar(outage, middle - 6, 12, "outage", "lost")
        canvas.y += 12 + 7
    for mark in lanes.faults:
        if canvas.start_s <= mark.t_s <= canvas.end_s:
            x = canvas.x(mark.t_s)
            canvas.parts.append(
                f'<path d="M{x:.1f} {AXIS - 1:.1f} l-4 -7 h8 z" class="fault">'
                f"<title>{escape(f'fault at {mark.t_s:.1f} s: {mark.label}')}</title></path>"
            )


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


def _outage_bands(canvas: _Canvas, lanes: Lanes, top: float, bottom: float) -> Iterator[str]:
    for outages in lanes.links.values():
        for bar in outages:
            if canvas.visible(bar):
                x0, x1 = canvas.x(bar.start_s), canvas.x(bar.end_s)
                yield (
                    f'<rect x="{x0:.1f}" y="{top:.1f}" width="{max(1.5, x1 - x0):.1f}" '
                    f'height="{bottom - top:.1f}" class="band"/>'
                )


def _grid(canvas: _Canvas, bottom: float) -> Iterator[str]:
    step = nice_step(canvas.end_s - canvas.start_s)
    tick = -(-canvas.start_s // step) * step
    while tick <= canvas.end_s + 1e-9:
        x = canvas.x(tick)
        yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{AXIS - 4:.1f}" y2="{bottom:.1f}" class="grid"/>'
        yield f'<text x="{x:.1f}" y="12" class="tick">{tick:g} s</text>'
        tick += step


def nice_step(span_s: float) -> float:
    """Distance of the axis marks: 1, 2 or 5 times a power of ten, so that there are at most twelve."""
    step = 0.1
    while True:
        for factor in (1, 2, 5):
            if span_s / (step * factor) <= 12:
                return round(step * factor, 6)
        step *= 10
