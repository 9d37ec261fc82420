"""Tables of the page on links: figures of the calibration side by side, and rates that stand for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hil.evidence.events import LinkFigure

SIDE_BY_SIDE = {
    "delay_p50": "One-way delay, p50",
    "delay_p95": "One-way delay, p95",
    "rate": "Rate",
    "rate_sustained": "Sustained",
    "share": "Share",
    "loss": "Loss",
    "outage_length": "Outage",
}
"""Quantities of the summary, in its order; the calibration's own table has all of them."""


def calibration_summary(figures: Sequence[LinkFigure]) -> dict[str, Any]:
    """Return ``columns`` (quantity to title) and ``rows``: of each direction that was measured its figures."""
    rows: dict[tuple[str, str], dict[str, LinkFigure]] = {}
    for figure in figures:
        if figure.quantity != "state":
            rows.setdefault((figure.link, figure.direction), {})[figure.quantity] = figure
    present = {figure.quantity for figure in figures}
    columns = {quantity: title for quantity, title in SIDE_BY_SIDE.items() if quantity in present}
    return {"columns": columns, "rows": rows}


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
