"""What the links really delivered: the calibration as plots and a table, for the report and as a page of its own.

Built from :class:`hil.evidence.events.LinkFigure` alone, so that a page can be made of any run's evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hil.evidence.events import LinkFigure
from hil.report import units
from hil.report.calibration.plots import Band, Curve, FigureRow, ecdf, figure_rows
from hil.report.pages import render

_CURVES_SHOWN, _ROWS_SHOWN = 6, 16
_OUTAGE_AXIS_MS = (-20.0, 20.0)


@dataclass(frozen=True)
class Picture:
    """A picture (SVG) with its caption; ``bad``: something in it is outside its tolerance."""

    svg: str
    caption: str = ""
    bad: bool = False


@dataclass(frozen=True)
class Plot:
    """A chart of the section: its pictures, of which the first ``shown`` are not folded away."""

    title: str
    lede: str
    pictures: Sequence[Picture]
    shown: int
    what: str  # is folded away
    wide: bool


def latest_figures(figures: Iterable[LinkFigure]) -> list[LinkFigure]:
    """Return the last figure of each quantity of each direction: an earlier one was measured again."""
    return list({(each.link, each.direction, each.quantity): each for each in figures}.values())


def calibration_section(figures: Iterable[LinkFigure]) -> str:
    """Return the plots and the table as one ``<div class="cal">`` with its own style; empty without figures.

    ``figures`` in the order in which they were recorded: of one that was measured more than once the last counts.
    Holds no heading, no ids and no script.
    """
    latest = latest_figures(figures)
    return render("calibration_section.html.j2", **_context(latest)) if latest else ""


def calibration_page(figures: Iterable[LinkFigure], *, bench: str, facts: Sequence[tuple[str, str]] = ()) -> str:
    """Return a self-contained page with :func:`calibration_section`, and ``facts`` (name, text) about the bench."""
    latest = latest_figures(figures)
    return render(
        "calibration.html.j2",
        bench=bench,
        facts=facts,
        section=calibration_section(latest),
        outside=[each for each in latest if not each.ok],
        count=len(latest),
    )


def _context(figures: Sequence[LinkFigure]) -> dict[str, Any]:
    groups: dict[str, list[LinkFigure]] = {}
    states: dict[tuple[str, bool], list[str]] = {}
    for each in figures:
        if each.quantity == "state":
            states.setdefault((each.note, each.ok), []).append(_where(each))
        else:
            groups.setdefault(_where(each), []).append(each)
    judged = [each for each in figures if each.judged and each.quantity != "state"]
    plots = [_delays(figures), _rates(figures), _losses(figures), _outages(figures), _effects(figures)]
    return {
        "plots": [plot for plot in plots if plot],
        "groups": groups,
        "states": [{"note": note, "ok": ok, "where": w} for (note, ok), w in states.items()],
        "judged": len(judged),
        "within": sum(each.ok for each in judged),
        "directions": len(groups),
        "outside": [
            f"{_where(each)} {each.quantity.replace('_', ' ')}"
            for each in figures
            if not each.ok and each.quantity != "state"
        ],
    }


def _where(figure: LinkFigure) -> str:
    return f"{figure.link} {_direction(figure.direction)}".strip()


def _direction(direction: str) -> str:
    return {"a_to_b": "a → b", "b_to_a": "b → a"}.get(direction, direction)


def _delays(figures: Sequence[LinkFigure]) -> Plot | None:
    """Draw the error of the one-way delay as cumulative distributions, one picture per link."""
    of = {(each.link, each.direction): each for each in _of(figures, "delay_p50")}
    limits = {(each.link, each.direction): each for each in _of(figures, "delay_p95")}
    pictures = []
    for link in dict.fromkeys(link for link, _ in of):
        here = [each for (name, _), each in of.items() if name == link and each.quantiles]
        if not here:
            continue
        curves = [Curve(_direction(each.direction), [q - each.commanded for q in each.quantiles]) for each in here]
        narrow = here[0].tolerance
        others = (limits.get((link, each.direction)) for each in here)
        wide = max((each.tolerance for each in others if each), default=narrow)
        bands = [Band(-wide, wide, "wide"), Band(-narrow, narrow, "narrow")]
        judged = (each for each in figures if each.quantity.startswith(("delay", "jitter")))
        bad = any(each.link == link and not each.ok for each in judged)
        commanded = units.quantity(here[0].commanded, "us")
        title = f"{link}: error of the one-way delay, {commanded} commanded"
        svg = ecdf(curves, bands=bands, unit="µs", title=title)
        pictures.append(Picture(svg, f"{link}, {commanded}", bad))
    pictures.sort(key=lambda picture: not picture.bad)  # those outside first, else in the order of the links
    lede = "Measured less commanded as each packet was sent. Median in the inner band, 95 % in the outer."
    return Plot("One-way delay", lede, pictures, _CURVES_SHOWN, "links", wide=False) if pictures else None


def _rates(figures: Sequence[LinkFigure]) -> Plot | None:
    """Draw rates in percent of what was commanded, so that links of different rates share an axis."""
    rows = [
        _row(each, _text(each, "{0:,.1f} of {1:,g} Mbit/s", 1e6), factor=100 / each.commanded, commanded=100)
        for each in _of(figures, "rate")
        if each.commanded > 0
    ]
    return _rows_plot("Rate", "Measured in percent of what was commanded.", rows, unit="%")


def _losses(figures: Sequence[LinkFigure]) -> Plot | None:
    """Draw loss, and length of bursts, each within the interval that its loss model allows."""
    rows = []
    for each in _of(figures, "loss", "burst_length"):
        text = "" if each.measured is None else units.figure(each.measured, each.unit)
        more = ", burst" if each.quantity == "burst_length" else ""
        rows.append(_row(each, text, more, commanded=each.commanded, least=0.0))
    lede = "Band: 99 % of trials of the commanded loss model. Each line has a scale of its own, from 0."
    return _rows_plot("Loss", lede, rows)


def _outages(figures: Sequence[LinkFigure]) -> Plot | None:
    rows = [
        _row(each, _text(each, "{2:+.1f} of {1:.1f} ms", 1e3), factor=1e-3, zero=each.commanded, commanded=0)
        for each in _of(figures, "outage_length")
    ]
    lede = "Length as packets saw it, less what was commanded; the worst of the outages tried."
    return _rows_plot("Outage length", lede, rows, unit="ms", axis=_OUTAGE_AXIS_MS)


def _effects(figures: Sequence[LinkFigure]) -> Plot | None:
    """Draw the time from a command to its effect on packets: median (ring) and 99th percentile (dot)."""
    medians = {
        (each.link, each.direction, each.quantity): each.measured
        for each in _of(figures, "cut_effect_p50", "restore_effect_p50")
    }
    rows = []
    for each in _of(figures, "cut_effect_p99", "restore_effect_p99"):
        verb = each.quantity.split("_")[0]
        median = medians.get((each.link, each.direction, f"{verb}_effect_p50"))
        row = _row(each, _text(each, "{0:.1f} ms", 1e3), f", {verb}", factor=1e-3, least=0.0)
        rows.append(replace(row, minor=None if median is None else median / 1000))
    lede = "From the command to the packets: ring at the median, dot at the 99th percentile."
    return _rows_plot("Time to effect", lede, rows, unit="ms")


def _of(figures: Sequence[LinkFigure], *quantities: str) -> list[LinkFigure]:
    """Return the figures of these quantities that can be drawn."""
    return [each for each in figures if each.quantity in quantities and math.isfinite(each.commanded)]


def _text(figure: LinkFigure, template: str, divisor: float) -> str:
    """Fill a template with what was measured (0), what was commanded (1), and the error (2), scaled."""
    if figure.measured is None:
        return ""
    error = figure.measured - figure.commanded
    return template.format(figure.measured / divisor, figure.commanded / divisor, error / divisor)


def _row(
    figure: LinkFigure,
    text: str,
    more: str = "",
    *,
    factor: float = 1.0,
    zero: float = 0.0,
    least: float = -math.inf,
    commanded: float | None = None,
) -> FigureRow:
    """Return the row of a figure whose values count from ``zero`` and are scaled by ``factor``."""
    low, high = ((bound - zero) * factor for bound in figure.bounds)
    measured = None if figure.measured is None else (figure.measured - zero) * factor
    return FigureRow(_where(figure) + more, max(least, low), high, measured, figure.ok, text, commanded)


def _rows_plot(
    title: str, lede: str, rows: Sequence[FigureRow], *, unit: str = "", axis: tuple[float, float] | None = None
) -> Plot | None:
    """Draw rows in pictures of at most 16, those outside first; without a unit each has its own scale."""
    ordered = sorted(rows, key=lambda row: row.ok)
    parts = [ordered[start : start + _ROWS_SHOWN] for start in range(0, len(ordered), _ROWS_SHOWN)]
    pictures = [Picture(figure_rows(part, unit=unit, title=title, axis=axis)) for part in parts]
    return Plot(title, lede, pictures, 1, "lines", wide=True) if pictures else None
