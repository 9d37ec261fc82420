"""What the links really delivered: the calibration as plots and a table, for the report and as a page of its own.

Built from :class:`hil.evidence.events.LinkFigure` alone, so that a page can be made of any run's evidence.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from hil.core import paths
from hil.evidence.events import LinkFigure
from hil.report import units
from hil.report.calibration.plots import Band, Curve, FigureRow, ecdf, interval_rows, tolerance_rows

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TEMPLATES = paths.PACKAGE / "report" / "templates"
_CURVES_SHOWN, _ROWS_SHOWN = 6, 16
_DIRECTIONS = {"a_to_b": "a → b", "b_to_a": "b → a"}
_OUTAGE_AXIS_MS = (-20.0, 20.0)


@dataclass(frozen=True)
class Plot:
    """A chart of the section: what is always shown, and what is folded away."""

    title: str
    lede: str
    shown: Sequence[Markup]
    folded: Sequence[Markup]
    folded_title: str
    wide: bool


def latest_figures(figures: Iterable[LinkFigure]) -> list[LinkFigure]:
    """Return the last figure of each quantity of each direction: an earlier one was measured again."""
    return list({(each.link, each.direction, each.quantity): each for each in figures}.values())


def calibration_section(figures: Iterable[LinkFigure]) -> Markup:
    """Return the plots and the table as one ``<div class="cal">`` with its own style; empty without figures.

    ``figures`` in the order in which they were recorded: of one that was measured more than once the last counts.
    Holds no heading, no ids and no script.
    """
    from markupsafe import Markup

    latest = latest_figures(figures)
    if not latest:
        return Markup()
    return Markup(_environment().get_template("calibration_section.html.j2").render(**_context(latest)))


def calibration_page(
    figures: Iterable[LinkFigure], *, bench: str, facts: Sequence[tuple[str, str]] = ()
) -> str:
    """Return a self-contained page with :func:`calibration_section`, and ``facts`` (name, text) about the bench."""
    latest = latest_figures(figures)
    return (
        _environment()
        .get_template("calibration.html.j2")
        .render(
            bench=bench,
            facts=facts,
            section=calibration_section(latest),
            outside=_outside(latest),
            count=len(latest),
        )
    )


@cache
def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.ChainableUndefined,
    )
    environment.filters.update(quantity=_quantity, where=_where)
    return environment


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
        "outside": [each for each in _outside(figures) if each.quantity != "state"],
    }


def _where(figure: LinkFigure) -> str:
    return f"{figure.link} {_DIRECTIONS.get(figure.direction, figure.direction)}".strip()


def _outside(figures: Sequence[LinkFigure]) -> list[LinkFigure]:
    return [each for each in figures if not each.ok]


def _delays(figures: Sequence[LinkFigure]) -> Plot | None:
    """Draw the error of the one-way delay as cumulative distributions, one picture per link."""
    of = {(each.link, each.direction): each for each in _of(figures, "delay_p50")}
    limits = {(each.link, each.direction): each for each in _of(figures, "delay_p95")}
    pictures = []
    for link in dict.fromkeys(link for link, _ in of):
        here = [each for (name, _), each in of.items() if name == link and each.quantiles]
        if not here:
            continue
        curves = [
            Curve(
                _DIRECTIONS.get(each.direction, each.direction), [q - each.commanded for q in each.quantiles]
            )
            for each in here
        ]
        narrow = here[0].tolerance
        wide = max(
            (limits[link, e.direction].tolerance for e in here if (link, e.direction) in limits),
            default=narrow,
        )
        bands = [Band(-wide, wide, "wide"), Band(-narrow, narrow, "narrow")]
        bad = any(
            not each.ok
            for each in figures
            if each.link == link and each.quantity.startswith(("delay", "jitter"))
        )
        title = f"{link}: error of the one-way delay, {units.quantity(here[0].commanded, 'us')} commanded"
        picture = ecdf(curves, bands=bands, unit="µs", title=title)
        pictures.append((bad, link, units.quantity(here[0].commanded, "us"), picture))
    if not pictures:
        return None
    pictures.sort(key=lambda entry: not entry[0])  # those outside first, else in the order of the links
    drawn = [_figure_html(f"{link}, {commanded}", picture, bad) for bad, link, commanded, picture in pictures]
    lede = "Measured less commanded as each packet was sent. Median in the inner band, 95 % in the outer."
    return _plot("One-way delay", lede, drawn, _CURVES_SHOWN, "links", wide=False)


def _rates(figures: Sequence[LinkFigure]) -> Plot | None:
    """Draw rates in percent of what was commanded, so that links of different rates share an axis."""
    rows = []
    for each in _of(figures, "rate"):
        if not each.commanded > 0:
            continue
        share = 100 / each.commanded
        text = (
            f"{each.measured / 1e6:,.1f} of {each.commanded / 1e6:,g} Mbit/s"
            if each.measured is not None
            else ""
        )
        low, high = (bound * share for bound in each.bounds)
        seen = None if each.measured is None else each.measured * share
        rows.append(FigureRow(_where(each), low, high, seen, each.ok, text, commanded=100))
    return _rows_plot("Rate", "Measured in percent of what was commanded.", rows, unit="%")


def _losses(figures: Sequence[LinkFigure]) -> Plot | None:
    """Draw loss, and length of bursts, each within the interval that its loss model allows."""
    rows = []
    for each in _of(figures, "loss", "burst_length"):
        low, high = each.bounds
        label = _where(each) + (", burst" if each.quantity == "burst_length" else "")
        text = _quantity(each.measured, each.unit) if each.measured is not None else ""
        rows.append(
            FigureRow(label, max(0.0, low), high, each.measured, each.ok, text, commanded=each.commanded)
        )
    lede = "Band: 99 % of trials of the commanded loss model. Each line has a scale of its own, from 0."
    return _rows_plot("Loss", lede, rows)


def _outages(figures: Sequence[LinkFigure]) -> Plot | None:
    rows = []
    for each in _of(figures, "outage_length"):
        error = None if each.measured is None else (each.measured - each.commanded) / 1000
        low, high = ((bound - each.commanded) / 1000 for bound in each.bounds)
        text = "" if error is None else f"{error:+.1f} of {each.commanded / 1000:.1f} ms"
        rows.append(FigureRow(_where(each), low, high, error, each.ok, text, commanded=0))
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
        text = f"{each.measured / 1000:.1f} ms" if each.measured is not None else ""
        rows.append(
            FigureRow(
                f"{_where(each)}, {verb}",
                0.0,
                each.bounds[1] / 1000,
                None if each.measured is None else each.measured / 1000,
                each.ok,
                text,
                minor=None if median is None else median / 1000,
            )
        )
    lede = "From the command to the packets: ring at the median, dot at the 99th percentile."
    return _rows_plot("Time to effect", lede, rows, unit="ms")


def _of(figures: Sequence[LinkFigure], *quantities: str) -> list[LinkFigure]:
    """Return the figures of these quantities that can be drawn."""
    return [each for each in figures if each.quantity in quantities and math.isfinite(each.commanded)]


def _rows_plot(
    title: str,
    lede: str,
    rows: Sequence[FigureRow],
    *,
    unit: str = "",
    axis: tuple[float, float] | None = None,
) -> Plot | None:
    """Draw rows in pictures of at most 16, those outside first; without a unit each has its own scale."""
    if not rows:
        return None
    ordered = sorted(rows, key=lambda row: row.ok)
    pictures = []
    for start in range(0, len(ordered), _ROWS_SHOWN):
        part = ordered[start : start + _ROWS_SHOWN]
        svg = (
            tolerance_rows(part, unit=unit, title=title, axis=axis)
            if unit
            else interval_rows(part, title=title)
        )
        pictures.append(_figure_html("", svg, False))
    return _plot(title, lede, pictures, 1, "lines", wide=True)


def _plot(title: str, lede: str, pictures: Sequence[Markup], shown: int, what: str, *, wide: bool) -> Plot:
    folded = pictures[shown:]
    return Plot(title, lede, pictures[:shown], folded, f"The other {what}", wide)


def _figure_html(caption: str, svg: str, bad: bool) -> Markup:
    from markupsafe import Markup

    marked = Markup(' <span class="bad">outside</span>') if bad else Markup()
    under = Markup("<figcaption>{}{}</figcaption>").format(caption, marked) if caption else Markup()
    return Markup("<figure>{}{}</figure>").format(under, Markup(svg))


def _quantity(figure: float | None, unit: str, signed: bool = False) -> str:
    """Return a figure in the unit that people read; a dash for none."""
    if figure is None or not math.isfinite(figure):
        return "–"
    if unit in ("us", "bit/s", "ppm"):
        return units.quantity(figure, unit, signed=signed)
    return f"{figure:{'+' if signed else ''},.4g} {unit}".strip()
