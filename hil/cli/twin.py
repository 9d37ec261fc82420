"""`hil twin`: heat and power of a lab's spacecraft, predicted without a bench."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.output import JSON_OPTION, OUTPUT_OPTION, duration_option, note, print_json, print_table, say, write_output

if TYPE_CHECKING:
    from hil.twin.prediction import Prediction

_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 32


@click.group()
def twin() -> None:
    """Predict heat and power of a lab's spacecraft."""


@twin.command()
@click.argument("file", metavar="LAB", type=click.Path(path_type=Path))
@click.option("--orbits", type=click.FloatRange(0.01, 1000), default=3.0, show_default=True, help="Turns to run.")
@duration_option("--span", "How long instead of --orbits, e.g. 24h.")
@duration_option("--step", "One step, 100ms to 60s.", default="1s")
@click.option(
    "--busy",
    type=click.FloatRange(0, 1),
    default=1.0,
    show_default=True,
    help="Share of the time in which every board computes.",
)
@click.option(
    "--clock",
    type=click.FloatRange(0.05, 1),
    default=1.0,
    show_default=True,
    help="What the power mode leaves of the highest clock: an AGX in mode 30W 0.48.",
)
@click.option("--epoch", metavar="TIME", help="Start in the mission, ISO 8601, UTC; default: the lab's.")
@JSON_OPTION
@OUTPUT_OPTION
def run(
    file: Path,
    orbits: float,
    span_s: float | None,
    step_s: float,
    busy: float,
    clock: float,
    epoch: str | None,
    as_json: bool,
    output: Path | None,
) -> None:
    """Predict temperatures, throttling, power and battery; -o draws them as SVG.

    The lab's section twin has the parameters, each with its source: what is assumed is named.
    """
    from hil.lab.model import load_lab
    from hil.twin.prediction import predict

    if not 0.1 <= step_s <= 60:
        raise click.BadParameter("--step must be 100ms to 60s")
    lab = load_lab(file)
    found = predict(
        lab,
        orbits=orbits,
        span_s=span_s or 0.0,
        step_s=step_s,
        busy=busy,
        clock=clock,
        epoch=epoch,
        every_s=10 * step_s,
    )
    doing = f"every board busy {busy:.0%} of the time at {clock:.0%} of its highest clock"
    if output:
        from hil.twin.chart import draw

        write_output(output, draw(found, f"{lab.name}: {doing}"))
    rows = _rows(found)
    if as_json:
        print_json(
            {
                "span_s": float(found.seconds[-1]),
                "period_s": found.period_s,
                "energy_error": found.energy_error,
                "assumed": found.assumed,
                "file": str(output) if output else None,
                "boards": rows,
            }
        )
        return
    hours, turns = found.seconds[-1] / 3600, found.seconds[-1] / found.period_s
    click.echo(f"{lab.name}: {hours:.1f} h, {turns:.1f} orbits of {found.period_s / 60:.1f} min, {doing}")
    print_table(_COLUMNS, [_cells(row) for row in rows], empty="no board")
    if found.assumed:
        note(f"assumed, not published: {', '.join(found.assumed)} (section twin of {file})")
    if output:
        say(f"{output}: {output.stat().st_size:,} bytes")


_COLUMNS = ["board", "on", "peak", "margin", "throttled", "power", "per orbit", "battery", "temperature over time"]


def _rows(found: Prediction) -> list[dict[str, Any]]:
    """Return the figures of each board."""
    import numpy as np

    from hil.onboard.twin.modules import THROTTLE_C

    rows = []
    hours = found.seconds[-1] / 3600
    for i, craft in enumerate(found.spacecraft):
        for j, board in enumerate(found.boards[i]):
            mean_w = float(found.power_w[i, j].mean())
            rows.append(
                {
                    "spacecraft": craft,
                    "board": board,
                    "on": float(found.on[i, j].mean()),
                    "peak_c": found.peak_c(i, j),
                    "margin_c": THROTTLE_C - found.peak_c(i, j),
                    "throttled": float(found.throttled_s[i, j] / (hours * 3600)),
                    "power_w": mean_w,
                    "per_orbit_wh": mean_w * found.period_s / 3600,
                    "lowest_charge": float(found.level[i].min()),
                    "temperatures_c": [float(c) for c in np.nan_to_num(_thinned(found.junction_c[i, j]))],
                }
            )
    return rows


def _thinned(values: Any) -> Any:
    import numpy as np

    return np.array([part.max() for part in np.array_split(values, min(_WIDTH, len(values)))])


def _cells(row: dict[str, Any]) -> list[str]:
    celsius = row["temperatures_c"]
    low, span = min(celsius), max(1e-9, max(celsius) - min(celsius))
    line = "".join(_BARS[min(7, int(8 * (c - low) / span))] for c in celsius)
    return [
        f"{row['spacecraft']}/{row['board']}",
        f"{row['on']:.0%}",
        f"{row['peak_c']:.1f} C",
        f"{row['margin_c']:+.1f} K",
        f"{row['throttled']:.0%}",
        f"{row['power_w']:.1f} W",
        f"{row['per_orbit_wh']:.1f} Wh",
        f"{row['lowest_charge']:.0%}",
        f"{low:.0f} {line} {max(celsius):.0f} C",
    ]
