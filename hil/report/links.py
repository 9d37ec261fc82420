"""What the page says about links beside the timeline: calibration, the schedule's log, the lab's figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hil.evidence.events import LinkFigure, LinkSchedule
from hil.evidence.readback import RunRecord
from hil.evidence.record import ARTEFACTS
from hil.report import units
from hil.report.analysis import Analysis
from hil.report.orbit import inside

SIDE_BY_SIDE = {
    "delay_p50": "One-way delay, p50",
    "delay_p95": "One-way delay, p95",
    "rate": "Rate",
    "loss": "Loss",
    "outage_length": "Outage",
}
"""Quantities of the summary, in its order; the calibration's own table has all of them."""


def calibration_summary(analysis: Analysis) -> dict[str, Any]:
    """Return one row per direction that was measured, with a cell per quantity: measured, and commanded."""
    present = {figure.quantity for figure in analysis.figures}
    columns = [quantity for quantity in SIDE_BY_SIDE if quantity in present]
    directions: dict[tuple[str, str], dict[str, LinkFigure]] = {}
    for figure in analysis.figures:
        if figure.quantity != "state":
            directions.setdefault((figure.link, figure.direction), {})[figure.quantity] = figure
    rows = [
        {
            "link": link,
            "direction": direction.replace("_", " "),
            "cells": [_cell(of.get(quantity)) for quantity in columns],
            "outside": [c.quantity.replace("_", " ") for c in of.values() if not c.ok],
        }
        for (link, direction), of in directions.items()
    ]
    return {"columns": [SIDE_BY_SIDE[quantity] for quantity in columns], "rows": rows}


def _cell(figure: LinkFigure | None) -> dict[str, Any]:
    if figure is None:
        return {}
    return {
        "commanded": units.quantity(figure.commanded, figure.unit),
        "measured": units.quantity(figure.measured, figure.unit),
        "ok": figure.ok,
    }


def scaled_rates(scaled: Sequence[str]) -> str:
    """Return ``link: 200 Mbit/s stands for ...`` of every link, those with the same figures named together."""
    groups: dict[str, list[str]] = {}
    for text in scaled:
        name, _, figures = text.partition(": ")
        groups.setdefault(figures, []).append(name)
    return "; ".join(
        f"{', '.join(names) if len(names) <= 3 else f'{names[0]} and {len(names) - 1} more links'}: {figures}"
        for figures, names in groups.items()
    )


def schedules(run: RunRecord) -> list[dict[str, Any]]:
    """Return how the link box applied its schedule, as printed, and the log when it is in the run."""
    applied = []
    for event in run.of(LinkSchedule):
        name = event.file
        path = inside(run.directory, name) or inside(run.directory, f"{ARTEFACTS}/{name}")
        late = (("p50", event.late_p50_us), ("p99", event.late_p99_us), ("at most", event.late_max_us))
        applied.append(
            {
                "rows": units.value(event.rows),
                "late": [(name, units.quantity(late_us, "us")) for name, late_us in late],
                "held": event.held,
                "lost": event.lost,
                "errors": event.errors,
                "file": path.relative_to(run.directory.resolve()).as_posix() if path else "",
            }
        )
    return applied


def link_rows(run: RunRecord) -> list[dict[str, Any]]:
    """Return the lab file's links as they are printed; a link without a delay of its own follows the orbit."""
    links: Mapping[str, Mapping[str, Any]] = run.meta.get("links") or {}
    return [
        {
            "name": name,
            "between": " to ".join(str(end) for end in link.get("between") or ()),
            "delay": _scaled(link.get("one_way_delay_us"), 1e3, "ms") or "follows the orbit",
            "rate": _scaled(link.get("rate_bps"), 1e6, "Mbit/s"),
            "loss": "" if link.get("one_way_delay_us") is None else units.value(link.get("loss_ppm"), "ppm"),
            "source": link.get("source") or "",
        }
        for name, link in links.items()
    ]


def _scaled(figure: Any, divisor: float, unit: str) -> str:
    return units.value(figure / divisor, unit) if isinstance(figure, int | float) else ""
