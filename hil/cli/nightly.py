"""`hil nightly`: several campaigns and series of trials in one night, and what the morning must know."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.output import JSON_OPTION, OutputFile, note, print_json, print_result, print_rows, say, write_output
from hil.text import one_line

if TYPE_CHECKING:
    from hil.nightly.morning import Morning
    from hil.nightly.night import Night

OUT = click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Reports folder (default: reports/out)."
)
NIGHT = click.argument("name", metavar="[NIGHT]", default="last")


@click.group()
def nightly() -> None:
    """Run several campaigns and series in one night, unattended. NIGHT is an id, a part of one, or `last`."""


@nightly.command("run")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--id", "night_id", help="Name of the night (default: made from the time).")
@OUT
@JSON_OPTION
def run_night(file: Path, night_id: str | None, out: Path | None, as_json: bool) -> None:
    """Begin a night and run it to its end: those jobs that failed last night first, as many at once as the file says.

    FILE is a nightly.yaml. Its jobs, labs, plans and profiles are checked before the first one begins.

    \b
    Exit code: 0 all PASS   1 a job is FAIL   2 a job could not begin   3 a job is INCONCLUSIVE
    """
    from hil.core import paths
    from hil.nightly.night import Night

    _play(Night.begin(file, (out or paths.reports_out()).absolute(), night_id=night_id or ""), as_json)


@nightly.command()
@NIGHT
@OUT
@JSON_OPTION
def resume(name: str, out: Path | None, as_json: bool) -> None:
    """Go on with a night that was interrupted: jobs that ended are not run again. Exit codes as for run."""
    from hil.nightly.night import get_night

    _play(get_night(name, out), as_json)


@nightly.command()
@NIGHT
@OUT
@click.option("--chat", "short", is_flag=True, help="Print the few lines for a chat.")
@JSON_OPTION
def show(name: str, out: Path | None, short: bool, as_json: bool) -> None:
    """Print the summary of a night in Markdown, also while it runs."""
    from hil.nightly.morning import chat, markdown, morning_of
    from hil.nightly.night import get_night

    morning = morning_of(get_night(name, out))
    print_result(as_json, _document(morning), chat(morning) if short else markdown(morning).rstrip())


@nightly.command("list")
@OUT
@JSON_OPTION
def list_nights(out: Path | None, as_json: bool) -> None:
    """List all nights, newest first."""
    from hil.nightly.night import all_nights, damaged_nights

    nights, damaged = all_nights(out), damaged_nights(out)
    if as_json:
        rows = [{"night": n.id, "state": n.state, "verdict": n.verdict, "exit_code": n.exit_code} for n in nights]
        print_json([*rows, *({"night": name, "state": "damaged", "why": why} for name, why in damaged.items())])
        return
    for name, why in damaged.items():
        note(f"night {one_line(name, 60)} is damaged: {one_line(why, 300)}")
    print_rows(
        nights,
        {
            "night": lambda night: night.id,
            "state": lambda night: night.state,
            "verdict": lambda night: night.verdict,
            "jobs": lambda night: len(night.jobs),
        },
        empty="no night yet: `hil nightly run nightly.yaml`",
    )


@nightly.command()
@click.option("--days", type=click.IntRange(1, 366), default=7, show_default=True, help="So many days up to now.")
@OUT
@click.option("-o", "--output", type=OutputFile(), help="Write the page (HTML) to this file.")
@JSON_OPTION
def bench(days: int, out: Path | None, output: Path | None, as_json: bool) -> None:
    """Show the lab's owner what wasted nights: availability, faults and minutes lost, by board, link and strip."""
    from datetime import UTC, datetime, timedelta

    from hil.core import paths
    from hil.nightly.bench_week import page, week_of

    week = week_of((out or paths.reports_out()).absolute(), datetime.now(UTC) - timedelta(days=days))
    if output is not None:
        write_output(output, page(week))
    if as_json:
        print_json(week.document())
        return
    click.echo(week.sentence)
    print_rows(
        week.parts,
        {
            "part": lambda part: part.name,
            "kind": lambda part: part.kind,
            "runs": lambda part: part.runs,
            "available": lambda part: f"{part.availability:.0%}",
            "faults": lambda part: part.faults,
            "min lost": lambda part: f"{part.lost_s / 60:.1f}",
            "last": lambda part: part.last,
        },
        empty="no run in these days",
        optional=["last"],
    )


def _play(night: Night, as_json: bool) -> None:
    from hil.errors import ConfigurationError
    from hil.nightly.morning import chat, morning_of, notify, one_paragraph, write_morning

    say(f"night {night.id}: {len(night.jobs)} jobs; `hil nightly resume {night.id}` goes on after an interruption")
    stopped: BaseException | None = None
    try:
        night.run(say)
    except BaseException as exc:
        stopped = exc
    morning = morning_of(night)
    if wrong := write_morning(morning):
        note(f"the summary could not be written: {wrong}")
    # Who interrupts a night, or begins it twice, knows; of anything else nobody would.
    wanted = (
        night.notify if isinstance(stopped, Exception | None) and not isinstance(stopped, ConfigurationError) else {}
    )
    first = f"the night stopped: {one_line(str(stopped), 300)}\n" if stopped else ""
    if wanted and (wrong := notify(wanted["argv"], one_paragraph(first + chat(morning)), float(wanted["timeout_s"]))):
        note(f"nobody was notified: {wrong}")
    if stopped:
        raise stopped
    print_result(as_json, _document(morning), chat(morning))
    raise SystemExit(night.exit_code)


def _document(morning: Morning) -> dict[str, Any]:
    night = morning.night
    return {
        "night": night.id,
        "state": night.state,
        "verdict": night.verdict,
        "exit_code": night.exit_code,
        "sentence": morning.sentence,
        "jobs": [
            {
                "name": row.name,
                "verdict": row.verdict,
                "reason": row.reason,
                "attempts": [json.loads(json.dumps(vars(attempt))) for attempt in row.attempts],
                "page": row.page and str(row.page),
            }
            for row in morning.rows
        ],
        "changes": [
            {"in": of, "of": each.series.label, "class": each.finding.kind, "text": each.finding.text}
            for of, each in morning.changes
        ],
        "unknown": list(morning.unknown),
    }
