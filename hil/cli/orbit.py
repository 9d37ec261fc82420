"""`hil orbit`: where spacecraft are, when they see each other, contact plans in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.output import JSON_OPTION, delay, print_json, print_table

if TYPE_CHECKING:
    from hil.orbit.contacts import ContactPlan
    from hil.orbit.elements import Constellation
    from hil.orbit.phases import LinkPlan

ORBIT_FILE = click.Path(path_type=Path)
FORMATS = ("table", "csv", "json", "ionrc", "hdtn", "czml")
OUTPUT = click.option("-o", "--output", type=click.Path(path_type=Path), help="Write here, not to stdout.")
JSON_FORMAT = click.option("--json", "as_json", is_flag=True, help="The same as --format json.")


@click.group()
def orbit() -> None:
    """Where spacecraft are: contact plans, link plans, pictures.

    \b
    Examples:
      hil orbit contacts lab/orbits/ring-of-ten.yaml --hours 24
      hil orbit contacts lab/orbits/two-planes.yaml --hours 3 --format ionrc -o plan.ionrc
      hil orbit links lab/orbits/two-planes.yaml --hours 3 --seed 1
      hil orbit lint plan.ionrc
      hil orbit show lab/orbits/two-planes.yaml --hours 3 -o constellation.svg
    """


@orbit.command()
@click.argument("file", type=ORBIT_FILE)
@click.option("--start", metavar="TIME", help="ISO 8601, UTC; default: the orbit file's epoch.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True)
@click.option("--step-s", type=click.FloatRange(0.001, 120), default=1.0, show_default=True)
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table", show_default=True)
@JSON_FORMAT
@OUTPUT
def contacts(
    file: Path,
    start: str | None,
    hours: float,
    step_s: float,
    format_: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """The contact plan of an orbit file: who sees whom, when, how far.

    Edges are refined to 1 ms; what is shorter than a step may be missed.  ionrc and hdtn hold whole seconds
    and whole light seconds (that is their format): use json to keep everything.

    \b
    Examples:
      hil orbit contacts lab/orbits/ring-of-ten.yaml --hours 24
      hil orbit contacts lab/orbits/two-planes.yaml --hours 3 --format ionrc -o plan.ionrc
    """
    from hil.orbit.contacts import contact_plan
    from hil.orbit.elements import load_constellation
    from hil.orbit.times import parse_time

    format_ = "json" if as_json else format_
    found = load_constellation(file)
    begin = parse_time(start) if start else found.epoch
    plan = contact_plan(found, begin, duration_s=hours * 3600, step_s=step_s)
    if format_ == "table" and output is None:
        _print_plan(plan)
        return
    _write(_formatted(found, plan, format_), output)


@orbit.command()
@click.argument("file", type=ORBIT_FILE)
@click.option("--start", metavar="TIME", help="ISO 8601, UTC; default: the orbit file's epoch.")
@click.option("--hours", type=click.FloatRange(min=0, min_open=True), default=2.0, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of what is drawn.")
@click.option("--link", "only", metavar="NAME", multiple=True, help="Print this link only (sc-01--sc-02).")
@click.option(
    "--format", "format_", type=click.Choice(("table", "csv", "json")), default="table", show_default=True
)
@JSON_FORMAT
@OUTPUT
def links(
    file: Path,
    start: str | None,
    hours: float,
    seed: int,
    only: tuple[str, ...],
    format_: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """The link plan of an orbit file: who points at whom, and what every link does when.

    Candidates are all pairs that see each other at some moment of the span.  A bench plans only the links of
    its lab file; who gets a terminal may differ.

    \b
    Examples:
      hil orbit links lab/orbits/two-planes.yaml --hours 3 --seed 1
      hil orbit links lab/orbits/two-planes.yaml --json -o links.json
    """
    from hil.orbit.contacts import contact_plan
    from hil.orbit.elements import load_constellation
    from hil.orbit.link_phases import every_candidate, plan_links
    from hil.orbit.times import parse_time

    format_ = "json" if as_json else format_
    found = load_constellation(file)
    begin = parse_time(start) if start else found.epoch
    candidates = every_candidate(contact_plan(found, begin, duration_s=hours * 3600))
    plan = plan_links(found, candidates, start=begin, span_s=hours * 3600, seed=seed)
    if only:
        plan = plan.restricted(only)
    if format_ == "table" and output is None:
        print_table(_PHASE_COLUMNS, _phase_rows(plan), empty="nobody sees anybody")
        return
    _write(_formatted_links(plan, format_), output)


@orbit.command()
@click.argument("file", metavar="PLANFILE", type=ORBIT_FILE)
@JSON_OPTION
def lint(file: Path, as_json: bool) -> int:
    """Check an ION or HDTN contact plan: units, one-way contacts, light seconds, overlaps.

    Prints `file:line: reason`; exit code 2 when there is an error, 0 with warnings only.

    \b
    Example:
      hil orbit lint plan.ionrc
    """
    from hil.orbit.dtn_read import lint as find
    from hil.orbit.dtn_read import read_text

    findings = find(read_text(file))
    errors = sum(found.error for found in findings)
    if as_json:
        print_json([{"file": str(file), **asdict(found)} for found in findings])
    else:
        for found in findings:
            click.echo(found.show(str(file)))
        click.echo(f"{file}: {errors} errors, {len(findings) - errors} warnings")
    return 2 if errors else 0


@orbit.command()
@click.argument("file", metavar="PLANFILE", type=ORBIT_FILE)
@click.option("--to", "format_", type=click.Choice(("ionrc", "hdtn")), required=True)
@OUTPUT
def convert(file: Path, format_: str, output: Path | None) -> None:
    """Turn an ION or HDTN contact plan into the other's format.

    \b
    Example:
      hil orbit convert plan.ionrc --to hdtn -o plan.json
    """
    from hil.orbit.dtn_plans import to_hdtn, to_ion
    from hil.orbit.dtn_read import read_wire

    plan = read_wire(file)
    _write(to_ion(plan) if format_ == "ionrc" else to_hdtn(plan), output)


@orbit.command()
@click.argument("file", type=ORBIT_FILE)
@click.option("--at", "at", metavar="TIME", help="ISO 8601, UTC; default: the orbit file's epoch.")
@click.option("--hours", type=click.FloatRange(min=0, max=168), default=0.0, help="Add a chart of links.")
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the chart's draws."
)
@OUTPUT
def show(file: Path, at: str | None, hours: float, seed: int, output: Path | None) -> None:
    """An SVG of the constellation at a moment: planes, links, sunlight, ground tracks.

    With --hours, a chart below it: what every link does when, coloured by phase, and eclipses.

    \b
    Examples:
      hil orbit show lab/orbits/two-planes.yaml -o constellation.svg
      hil orbit show lab/orbits/two-planes.yaml --at 2026-03-21T00:50:00Z --hours 3 -o constellation.svg
    """
    from hil.orbit.elements import load_constellation
    from hil.orbit.picture import show as draw
    from hil.orbit.times import parse_time

    found = load_constellation(file)
    _write(draw(found, parse_time(at) if at else found.epoch, hours=hours, seed=seed), output)


def _print_plan(plan: ContactPlan) -> None:
    from hil.orbit.times import iso

    click.echo(
        f"{plan.name}: {len(plan.contacts)} contacts in {plan.duration_s / 3600:g} h from {iso(plan.start)}"
    )
    print_table(_COLUMNS, _rows(plan), empty="nobody sees anybody")


_COLUMNS = ["from", "to", "kind", "a", "b", "lasts", "one way, least", "most", "fastest change"]


def _rows(plan: ContactPlan) -> list[tuple[object, ...]]:
    """``<`` and ``>`` mark an edge that the span cuts."""
    from hil.orbit.geometry import LIGHT_KM_S
    from hil.orbit.times import iso

    rows: list[tuple[object, ...]] = []
    for c in plan.contacts:
        fastest = max(abs(c.min_range_rate_km_s), abs(c.max_range_rate_km_s)) / LIGHT_KM_S * 1e6
        rows.append(
            (
                ("<" if c.open_start else "") + iso(plan.time(c.start_s)),
                iso(plan.time(c.end_s)) + (">" if c.open_end else ""),
                c.kind,
                c.a,
                c.b,
                f"{c.duration_s:.1f} s",
                delay(c.min_delay_us),
                delay(c.max_delay_us),
                f"{fastest:.3f} us/s",
            )
        )
    return rows


def _formatted(found: Constellation, plan: ContactPlan, format_: str) -> str:
    from hil.orbit.dtn_plans import to_hdtn, to_ion, to_wire
    from hil.orbit.formats import to_csv, to_czml, to_json

    match format_:
        case "csv":
            return to_csv(plan)
        case "json":
            return to_json(plan)
        case "ionrc":
            return to_ion(to_wire(plan))
        case "hdtn":
            return to_hdtn(to_wire(plan))
        case "czml":
            return to_czml(found, plan)
    return _plain([_COLUMNS, *_rows(plan)])


_PHASE_COLUMNS = ["link", "phase", "from", "to", "lasts", "why"]


def _phase_rows(plan: LinkPlan) -> list[tuple[object, ...]]:
    from datetime import timedelta

    from hil.orbit.times import iso

    return [
        (
            name,
            i.phase.value,
            iso(plan.start + timedelta(seconds=i.start_s)),
            iso(plan.start + timedelta(seconds=i.end_s)),
            f"{i.end_s - i.start_s:.3f} s",
            i.why,
        )
        for name, intervals in plan.links.items()
        for i in intervals
    ]


def _formatted_links(plan: LinkPlan, format_: str) -> str:
    import csv
    import io
    import json

    if format_ == "json":
        return json.dumps(plan.to_json(), indent=1)
    if format_ == "table":
        return _plain([_PHASE_COLUMNS, *_phase_rows(plan)])
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["link", "phase", "start", "end", "start_s", "end_s", "why"])
    for (name, phase, start, end, _, why), i in zip(
        _phase_rows(plan), (i for many in plan.links.values() for i in many), strict=True
    ):
        writer.writerow([name, phase, start, end, i.start_s, i.end_s, why])
    return out.getvalue()


def _plain(rows: Sequence[Sequence[object]]) -> str:
    widths = [max(len(str(cell)) for cell in column) for column in zip(*rows, strict=True)]
    lines = ("  ".join(str(c).ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n".join(lines)


def _write(text: str, output: Path | None) -> None:
    from hil.errors import ConfigurationError

    if output is None:
        click.echo(text, nl=not text.endswith("\n"))
        return
    try:
        output.write_text(text if text.endswith("\n") else text + "\n", encoding="utf-8")
    except OSError as exc:
        raise ConfigurationError(f"{output}: cannot be written: {exc}", remedy="choose another path") from exc
    click.echo(f"{output}: {output.stat().st_size:,} bytes", err=True)
