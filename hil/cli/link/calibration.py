"""The result of `hil link calibrate`: a line per direction, and the facts of the bench for the page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from hil.cli.output import delay, rate

if TYPE_CHECKING:
    from hil.evidence.events import LinkFigure
    from hil.links.link_box import LinkBox


def summary(rows: Sequence[LinkFigure]) -> tuple[list[str], list[tuple[object, ...]]]:
    """Columns, and one line per direction: what was commanded, and how far the measured is from it."""
    directions: dict[tuple[str, str], dict[str, LinkFigure]] = {}
    for row in rows:
        if row.quantity != "state":
            directions.setdefault((row.link, row.direction), {})[row.quantity] = row
    lines: list[tuple[object, ...]] = []
    for (name, direction), found in directions.items():
        ms = partial(_error, found, divisor=1000, form="{:+.3f} ms")
        p50, speed, lost = found.get("delay_p50"), found.get("rate"), found.get("loss")
        lines.append(
            (
                name,
                direction,
                delay(p50.commanded) if p50 else "-",
                ms("delay_p50"),
                ms("delay_p95"),
                rate(int(speed.commanded)) if speed else "no limit",
                _error(found, "rate", divisor=(speed.commanded if speed else 1) / 100, form="{:+.2f} %"),
                f"{lost.measured:.0f} of {lost.commanded:.0f} ppm"
                if lost and lost.measured is not None
                else "-",
                ms("outage_length"),
                _error(found, "restore_effect_p99", divisor=1000, form="{:.1f} ms"),
                "ok" if all(row.ok for row in found.values()) else "OUTSIDE",
            )
        )
    columns = [
        "link",
        "direction",
        "one way",
        "error",
        "95 %",
        "rate",
        "error",
        "loss",
        "outage",
        "takes effect",
        "",
    ]
    return columns, lines


def _error(found: dict[str, LinkFigure], quantity: str, *, divisor: float, form: str) -> str:
    row = found.get(quantity)
    return (
        "-" if row is None or row.measured is None else form.format((row.measured - row.commanded) / divisor)
    )


def facts_of(links: LinkBox) -> list[tuple[str, str]]:
    """What the page says about where and when it was measured."""
    from datetime import UTC, datetime

    from hil.evidence.environment import host_facts

    host = host_facts()
    return [
        ("Date", f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"),
        ("Link engine", f"{links.engine} ({links.engine_reason})"),
        ("Shaping kernel", links.kernel_release),
        ("Profile", links.profile),
        ("Links", str(len(links.links))),
        ("Host", f"{host['os']}, kernel {host['kernel']}, {host['machine']}"),
        ("Machine", f"{host['cpus']} processors, {host['memory_mib']} MiB"),
        ("Testbed", f"{host['hil_version']}, commit {host['git']['commit'] or 'unknown'}"),
    ]
