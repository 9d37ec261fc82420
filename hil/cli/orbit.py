"""`hil orbit`: contact plans, link plans and pictures of a constellation."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.output import (
    JSON_OPTION,
    OUTPUT_OPTION,
    RenamedOptions,
    delay,
    duration_option,
    plural,
    print_json,
    print_table,
    say,
    write_output,
)
from hil.cli.tables import table_lines

if TYPE_CHECKING:
    from hil.orbit.contact_plan import ContactPlan
    from hil.orbit.elements import Constellation
    from hil.orbit.phases import LinkPlan
    from hil.orbit.services import Service

ORBIT_FILE = click.Path(path_type=Path)
FORMATS = ("table", "csv", "json", "ionrc", "hdtn", "czml")
START = click.option("--start", metavar="TIME", help="ISO 8601, UTC; default: the orbit file's epoch.")
SPAN = duration_option("--span", "How long from there, e.g. 24h.", default="2h")
FORMER = {"--hours": ("--span", "{}h"), "--step-s": ("--step", "{}s")}
JSON_FORMAT = click.option("--json", "as_json", is_flag=True, help="The same as --format json.")


@click.group()
def orbit() -> None:
    """Compute contact plans, link plans and pictures of orbits."""


@orbit.command(cls=RenamedOptions, renamed=FORMER)
@click.argument("file", type=ORBIT_FILE)
@START
@SPAN
@duration_option("--step", "Between looks, 1ms to 2m; without it 1s.")
@click.option("--format", "format_", type=click.Choice(FORMATS), default="table", show_default=True)
@JSON_FORMAT
@OUTPUT_OPTION
def contacts(
    file: Path, start: str | None, span_s: float, step_s: float | None, format_: str, as_json: bool, output: Path | None
) -> None:
    """Compute the contact plan of an orbit file: pairs that see each other, with times and distances.

    A second table says which spacecraft serve its guests, and how each hands over to the next, by the geometry alone.
    Edges are refined to 1 ms; what is shorter than a step may be missed.  ionrc and hdtn hold whole seconds
    and whole light seconds (that is their format): use json to keep everything.
    """
    from hil.orbit.contact_plan import STEP_S, contact_plan
    from hil.orbit.services import services_in_sight
    from hil.orbit.times import iso

    step_s = STEP_S if step_s is None else step_s
    if span_s <= 0 or not 0.001 <= step_s <= 120:
        raise click.BadParameter("--span must be above 0, and --step 1ms to 2m")
    constellation, begin = _read(file, start)
    plan = contact_plan(constellation, begin, duration_s=span_s, step_s=step_s)
    if as_json or format_ != "table" or output is not None:
        _write(_formatted(constellation, plan, "json" if as_json else format_), output)
        return
    click.echo(f"{plan.name}: {plural(len(plan.contacts), 'contact')} in {span_s / 3600:g} h from {iso(begin)}")
    print_table(_COLUMNS, _rows(plan), empty="no contact")
    _print_services(constellation, begin, services_in_sight(constellation, plan))


@orbit.command(cls=RenamedOptions, renamed=FORMER)
@click.argument("file", type=ORBIT_FILE)
@START
@SPAN
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of random numbers.")
@click.option("--link", "only", metavar="NAME", multiple=True, help="Print this link only (sc-01--sc-02).")
@click.option("--format", "format_", type=click.Choice(("table", "csv", "json")), default="table", show_default=True)
@JSON_FORMAT
@OUTPUT_OPTION
def links(
    file: Path,
    start: str | None,
    span_s: float,
    seed: int,
    only: tuple[str, ...],
    format_: str,
    as_json: bool,
    output: Path | None,
) -> None:
    """Compute the link plan of an orbit file: the pairs whose terminals point at each other, and the phases of links.

    Candidates are all pairs that see each other at some moment of the span.  A bench plans only the links of
    its lab file, so its pairs may differ. A second table says which spacecraft serve guests over these links.
    """
    from hil.orbit.contact_plan import contact_plan
    from hil.orbit.link_phases import every_candidate, plan_links
    from hil.orbit.services import services_tracked

    if span_s <= 0:
        raise click.BadParameter("--span must be above 0")
    constellation, begin = _read(file, start)
    candidates = every_candidate(contact_plan(constellation, begin, duration_s=span_s))
    plan = plan_links(constellation, candidates, start=begin, span_s=span_s, seed=seed)
    if only:
        plan = plan.restricted(only)
    if as_json or format_ != "table" or output is not None:
        _write(_formatted_links(plan, "json" if as_json else format_), output)
    else:
        print_table(_PHASE_COLUMNS, _phase_rows(plan), empty="no contact")
        _print_services(constellation, begin, services_tracked(constellation, plan, candidates))


@orbit.command()
@click.argument("file", metavar="PLANFILE", type=ORBIT_FILE)
@JSON_OPTION
def lint(file: Path, as_json: bool) -> int:
    """Check an ION or HDTN contact plan: units, one-way contacts, light seconds, overlaps.

    Prints `file:line: reason`; exit code 2 when there is an error, 0 with warnings only.
    """
    from hil.core.files import read_text
    from hil.orbit import dtn_plans

    findings = dtn_plans.lint(read_text(file, remedy=dtn_plans.WANTED))
    errors = sum(finding.error for finding in findings)
    if as_json:
        print_json([{"file": str(file), **asdict(finding)} for finding in findings])
    else:
        for finding in findings:
            click.echo(finding.show(str(file)))
        click.echo(f"{file}: {plural(errors, 'error')}, {plural(len(findings) - errors, 'warning')}")
    return 2 if errors else 0


@orbit.command()
@click.argument("file", metavar="PLANFILE", type=ORBIT_FILE)
@click.option("--to", "format_", type=click.Choice(("ionrc", "hdtn")), required=True)
@OUTPUT_OPTION
@JSON_OPTION
def convert(file: Path, format_: str, output: Path | None, as_json: bool) -> None:
    """Turn an ION or HDTN contact plan into the other's format."""
    from hil.orbit.dtn_plans import read_wire, to_hdtn, to_ion

    plan = read_wire(file)
    _write(to_ion(plan) if format_ == "ionrc" else to_hdtn(plan), output, json_of=format_ if as_json else "")


@orbit.command(cls=RenamedOptions, renamed=FORMER)
@click.argument("file", type=ORBIT_FILE)
@click.option("--at", "at", metavar="TIME", help="ISO 8601, UTC; default: the orbit file's epoch.")
@duration_option("--span", "Add a chart of links, of up to 7d.", default="0s")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of the chart's random numbers.")
@OUTPUT_OPTION
@JSON_OPTION
def show(file: Path, at: str | None, span_s: float, seed: int, output: Path | None, as_json: bool) -> None:
    """Draw the constellation at a moment as SVG: planes, links, sunlight, ground tracks.

    With --span, a chart below it shows the phases of every link over that time, and eclipses.
    """
    from hil.orbit.picture import show as draw

    if span_s > 7 * 86_400:
        raise click.BadParameter("--span must be at most 7d")
    _write(draw(*_read(file, at), hours=span_s / 3600, seed=seed), output, json_of="svg" if as_json else "")


def _read(file: Path, at: str | None) -> tuple[Constellation, datetime]:
    """Return the constellation of an orbit file, and the moment asked for or the file's epoch."""
    from hil.orbit.elements import load_constellation
    from hil.orbit.times import parse_time

    constellation = load_constellation(file)
    return constellation, parse_time(at) if at else constellation.epoch


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


def _formatted(constellation: Constellation, plan: ContactPlan, format_: str) -> str:
    from hil.orbit import dtn_plans, plan_export
    from hil.orbit.services import services_in_sight, sight

    writers: dict[str, Callable[[], str]] = {
        "table": lambda: "\n".join(table_lines(_COLUMNS, _rows(plan))),
        "csv": lambda: plan_export.to_csv(plan),
        "json": lambda: plan_export.to_json(
            plan, [(one, sight(constellation, plan.start, one)) for one in services_in_sight(constellation, plan)]
        ),
        "ionrc": lambda: dtn_plans.to_ion(dtn_plans.to_wire(plan)),
        "hdtn": lambda: dtn_plans.to_hdtn(dtn_plans.to_wire(plan)),
        "czml": lambda: plan_export.to_czml(constellation, plan),
    }
    return writers[format_]()


_SERVICE_COLUMNS = ["guest", "served by", "from", "to", "range", "elevation", "then", "hand-over"]


def _print_services(found: Constellation, start: datetime, services: Sequence[Service]) -> None:
    """Print who serves the guests; nothing in a constellation without any."""
    if not found.guests:
        return
    from hil.orbit.services import sight
    from hil.orbit.times import iso
    from hil.orbit.track_files import Flight

    rows = []
    for one in services:
        seen = sight(found, start, one)
        times = (iso(start + timedelta(seconds=second)) for second in (one.start_s, one.end_s))
        away = "{:,.0f} to {:,.0f} km".format(*seen.range_km)
        up = "{:.1f} to {:.1f} deg".format(*seen.elevation_deg) if seen.elevation_deg else ""
        rows.append((one.guest, one.spacecraft, *times, away, up, one.then, _over(one)))
    count = sum(one.is_handed_over for one in services)
    click.echo(f"\n{plural(count, 'hand-over')} of {plural(len(found.guests), 'guest')}")
    print_table(_SERVICE_COLUMNS, rows, empty="nobody serves a guest")
    served = {one.guest for one in services}
    for guest, path in zip(found.guests, found.guest_paths, strict=True):
        if guest.name not in served and isinstance(path, Flight):
            span = " to ".join(iso(start + timedelta(seconds=second)) for second in path.span(start))
            click.echo(f"nobody serves {guest.name}: its track is that of {span}")


def _over(service: Service) -> str:
    if service.overlap_s is None:
        return ""
    return f"{'overlap' if service.overlap_s >= 0 else 'gap'} {abs(service.overlap_s):.1f} s"


_PHASE_COLUMNS = ["link", "phase", "from", "to", "lasts", "why"]


def _phase_rows(plan: LinkPlan) -> list[tuple[object, ...]]:
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
    if format_ == "json":
        return json.dumps(plan.to_json(), indent=1)
    if format_ == "table":
        return "\n".join(table_lines(_PHASE_COLUMNS, _phase_rows(plan)))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["link", "phase", "start", "end", "start_s", "end_s", "why"])
    intervals = (interval for each in plan.links.values() for interval in each)
    for (*shown, _lasts, why), interval in zip(_phase_rows(plan), intervals, strict=True):
        writer.writerow([*shown, interval.start_s, interval.end_s, why])
    return out.getvalue()


def _write(text: str, output: Path | None, *, json_of: str = "") -> None:
    """Write to a file or to stdout; ``json_of``, the text's format: print a JSON document about it, or with it."""
    if output:
        write_output(output, text)
    if json_of:
        print_json({"format": json_of, "file": str(output) if output else None, "text": None if output else text})
    elif output:
        say(f"{output}: {output.stat().st_size:,} bytes")
    else:
        click.echo(text, nl=not text.endswith("\n"))
