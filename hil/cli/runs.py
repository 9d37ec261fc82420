"""`hil runs`: what was run before, from the run store."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.output import JSON_OPTION, print_json, print_table
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.evidence.store import Run


@click.group()
def runs() -> None:
    """Runs of the past. RUN is an id, an unambiguous part of one, or `last`.

    \b
    Examples:
      hil runs list
      hil runs show last
      hil runs open last        the report, in a browser
      hil runs report last      make the report again, also of a crashed run
    """


@runs.command("list")
@click.option("--plan", help="Only runs of this plan.")
@click.option(
    "-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many."
)
@JSON_OPTION
def list_runs(plan: str | None, count: int, as_json: bool) -> None:
    """Runs, newest first.

    \b
    Examples:
      hil runs list
      hil runs list --plan six-gpu -n 5 --json
    """
    from hil.evidence import store

    found = [r for r in store.list_runs() if plan in (None, r.plan)][:count]
    if as_json:
        print_json([r.as_dict() for r in found])
        return
    print_table(
        ["run", "started (UTC)", "plan", "lab", "state", "verdict", "tests"],
        [
            (
                r.run_id,
                r.started_utc[:19].replace("T", " "),
                r.plan,
                r.lab,
                r.state if r.directory.is_dir() else "deleted",
                r.verdict or "-",
                ", ".join(f"{n} {verdict}" for verdict, n in r.counts.items() if n),
            )
            for r in found
        ],
        empty="no run yet; `hil campaign run testplans/six_gpu --lab lab/virtual.yaml` makes one",
    )


@runs.command()
@click.argument("run", default="last")
@JSON_OPTION
def show(run: str, as_json: bool) -> None:
    """What became of one run.

    \b
    Examples:
      hil runs show
      hil runs show 3f2a --json       a part of its id is enough
    """
    from hil.evidence import store

    found = store.get_run(run)
    if as_json:
        print_json(found.as_dict())
        return
    facts = found.as_dict()
    facts["counts"] = ", ".join(f"{n} {verdict}" for verdict, n in found.counts.items() if n)
    for key, value in facts.items():
        if value not in (None, ""):
            click.echo(f"{key.removesuffix('_utc'):<10} {value}")
    requirements = found.summary.get("requirements", {})
    if requirements:
        click.echo()
        print_table(["requirement", "verdict"], sorted(requirements.items()))


@runs.command("open")
@click.argument("run", default="last")
@click.option("--print", "only_print", is_flag=True, help="Only print the report's path.")
@JSON_OPTION
def open_report(run: str, only_print: bool, as_json: bool) -> None:
    """Open the report of a run in a browser; makes it first when a crash prevented it.

    \b
    Examples:
      hil runs open
      scp lab-pc:"$(hil runs open last --print)" .      --json: run and path, and opens nothing either
    """
    from hil.evidence import store

    found = _there(store.get_run(run))
    page = _report_of(found)
    if as_json:
        print_json({"run": found.run_id, "report": str(page)})
        return
    click.echo(page)
    if not only_print and not webbrowser.open(page.as_uri()):
        click.echo("no browser here; open the file above", err=True)


@runs.command()
@click.argument("run", default="last")
@JSON_OPTION
def report(run: str, as_json: bool) -> None:
    """Make the report of a run again, also of one that crashed half-way; prints its path.

    \b
    Example:
      hil runs report last
    """
    from hil.evidence import store
    from hil.report import make_report

    found = _there(store.get_run(run))
    if found.state == "running":
        raise ConfigurationError(f"run {found.run_id} is still running", remedy="wait for its end")
    page = make_report(found.directory)
    if as_json:
        print_json({"run": found.run_id, "report": str(page)})
    else:
        click.echo(page)


def _there(found: Run) -> Run:
    """ConfigurationError when somebody deleted what the run left; what it showed stays in the list, and counts."""
    if not found.directory.is_dir():
        raise ConfigurationError(
            f"run {found.run_id}: its directory was deleted ({found.directory})",
            remedy="`hil runs show` has what the list kept of it",
        )
    return found


def _report_of(found: Run) -> Path:
    if found.report and found.report.is_file():
        return found.report
    if found.state == "running":
        raise ConfigurationError(
            f"run {found.run_id} is still running", remedy="its report is made at its end"
        )
    from hil.report import make_report

    return make_report(found.directory)
