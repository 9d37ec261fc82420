"""`hil runs`: past runs, from the run store."""

from __future__ import annotations

import webbrowser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.completion import run_ids
from hil.cli.output import JSON_OPTION, duration_option, note, plural, print_json, print_result, print_rows, print_table
from hil.cli.run_argument import RUN_ARGUMENT, deleted, directory_of
from hil.cli.run_formats import export, metrics
from hil.core import paths
from hil.errors import ConfigurationError
from hil.text import one_line

if TYPE_CHECKING:
    from hil.evidence.store import Run


@click.group()
def runs() -> None:
    """List past runs and open their reports. RUN is an id, an unambiguous part of one, or `last`."""


@runs.command("list")
@click.option("--plan", help="Only runs of this plan.")
@click.option("-n", "count", type=click.IntRange(min=1), default=20, show_default=True, help="At most so many.")
@JSON_OPTION
def list_runs(plan: str | None, count: int, as_json: bool) -> None:
    """List runs, newest first."""
    from hil.evidence import store

    every = store.list_runs()
    chosen = [run for run in every if plan in (None, run.plan)][:count]
    if as_json:
        print_json([run.as_dict() for run in chosen])
        return
    nothing = "no run yet; `hil campaign run six_gpu --lab virtual` makes one"
    if every:
        nothing = f"no run of plan {plan}; plans with runs: {', '.join(sorted({run.plan for run in every}))}"
    print_rows(
        chosen,
        {
            "run": lambda run: run.run_id,
            "started (UTC)": lambda run: run.started_utc[:19].replace("T", " "),
            "plan": lambda run: run.plan,
            "lab": lambda run: run.lab,
            "state": lambda run: run.state if run.directory.is_dir() else "deleted",
            "verdict": lambda run: (run.verdict or "-") + (", unverifiable" if _unverifiable(run) else ""),
            "tests": _counts,
        },
        empty=nothing,
        optional=["started (UTC)", "state", "plan", "tests"],
    )


@runs.command()
@RUN_ARGUMENT
@JSON_OPTION
def show(run_id: str, as_json: bool) -> None:
    """Show one run: its facts, the verdicts of its requirements, and what its links delivered."""
    from hil.evidence import store

    run = store.get_run(run_id)
    measurements = list(run.summary.get("measurements", {}).values())
    if as_json:
        print_json({**run.as_dict(), "measurements": measurements})
        return
    for key, value in {**run.as_dict(), "counts": _counts(run)}.items():
        if value not in (None, ""):
            click.echo(f"{key.removesuffix('_utc'):<10} {value}")
    if _unverifiable(run):
        note("its evidence carries no digests, as that of old versions: nothing shows whether it was changed")
    requirements = run.summary.get("requirements", {})
    if requirements:
        click.echo()
        print_table(["requirement", "verdict"], sorted(requirements.items()))
    links = [m for m in measurements if m.get("dimensions", {}).get("link")]
    if links:
        click.echo()
        print_table(["link", "direction", "quantity", "measured", "limit", ""], map(_link_row, links))


def _link_row(measured: Mapping[str, Any]) -> tuple[str, ...]:
    """A measurement of a link as ``hil runs show`` prints it."""
    from hil.evidence.model import format_value

    of, ok = measured["dimensions"], measured["ok"]
    value = format_value(measured["value"], measured["unit"])
    held = "" if ok is None else "ok" if ok else "OUTSIDE"
    return of["link"], of.get("direction", ""), measured["name"], value, measured["limit"] or "", held


def _unverifiable(run: Run) -> bool:
    """Return whether its evidence had lines without digests when the report was made."""
    return bool(run.verdict) and bool(run.evidence.get("lines", 1)) and not run.evidence.get("head")


def _counts(run: Run) -> str:
    return ", ".join(f"{count} {verdict}" for verdict, count in run.counts.items() if count)


@runs.command("open")
@RUN_ARGUMENT
@click.option("--print", "only_print", is_flag=True, help="Only print the report's path.")
@JSON_OPTION
def open_report(run_id: str, only_print: bool, as_json: bool) -> None:
    """Open the report of a run in a browser; makes it first when a crash prevented it."""
    page = _report(run_id, as_json, again=False)
    if not (as_json or only_print) and not webbrowser.open(page.as_uri()):
        note("no browser here; open the file above")


@runs.command()
@RUN_ARGUMENT
@JSON_OPTION
def report(run_id: str, as_json: bool) -> None:
    """Make the report of a run again, also of one that crashed half-way, and print its path."""
    _report(run_id, as_json, again=True)


def _report(run_id: str, as_json: bool, *, again: bool) -> Path:
    """Print the path of a run's report, made now if it is missing or wanted ``again``; return it.

    ConfigurationError when the run's directory was deleted, or it still runs.
    """
    from hil.evidence import store
    from hil.report.make import make_report

    run = store.get_run(run_id)
    if not run.directory.is_dir():
        raise deleted(run)
    page = run.report
    if again or page is None or not page.is_file():
        if run.state == "running":
            raise ConfigurationError(f"run {run.run_id} is still running", remedy="its report is made at its end")
        page = make_report(run.directory)
    print_result(as_json, {"run": run.run_id, "report": str(page)}, str(page))
    return page


@runs.command()
@click.argument("run_ids", metavar="[RUN]...", nargs=-1, shell_complete=run_ids)
@click.option(
    "--key", metavar="FILE", type=click.Path(path_type=Path), help="Public key (PEM) with which the run must be signed."
)
@JSON_OPTION
def verify(run_ids: tuple[str, ...], key: Path | None, as_json: bool) -> None:
    """Check that runs are what was recorded: evidence, result, report, index; with --key their signature, too.

    RUN may also be the directory of a run from another machine. Exit code 1 when anything was changed.
    """
    from hil.report.verify import changes_of

    found = {}
    for word in run_ids or ("last",):
        directory, store = directory_of(word)
        found[directory.name] = changes_of(directory, store, key)
    if as_json:
        print_json([{"run": name, "changes": changes} for name, changes in found.items()])
    for name, changes in {} if as_json else found.items():
        good = "as it was recorded" + (" and signed" if key else "")
        click.echo(one_line(f"{name}: {'NOT as it was recorded' if changes else good}", 1000))
        for change in changes:
            click.echo(f"  {one_line(change, 1000)}")
    raise SystemExit(any(found.values()))


@runs.command()
@RUN_ARGUMENT
@click.option(
    "--key", metavar="FILE", type=click.Path(path_type=Path), required=True, help="Private key (PEM, no passphrase)."
)
@JSON_OPTION
def sign(run_id: str, key: Path, as_json: bool) -> None:
    """Sign what a run showed of its bundle: an in-toto test result, beside the run's files.

    A run that was changed is not signed.
    """
    from hil.evidence.attestation import sign
    from hil.report.verify import changes_of

    directory, store = directory_of(run_id)
    if changes := changes_of(directory, store):
        raise ConfigurationError(
            f"run {directory.name}: {changes[0]}", remedy="`hil runs verify` says what was changed"
        )
    made = sign(directory, key)
    print_result(as_json, {"run": directory.name, "statement": str(made)}, str(made))


@runs.command()
@click.option("--plan", help="Of this plan and lab (default: those of the newest run).")
@click.option("--lab", help="Name of the lab.")
@click.option("-n", "--nights", type=click.IntRange(min=1, max=1000), default=40, show_default=True)
@click.option("--test", help="Only this test and its measurements: its id, or a part of it.")
@click.option("--all", "everything", is_flag=True, help="Also what is steady.")
@JSON_OPTION
def history(plan: str | None, lab: str | None, nights: int, test: str | None, everything: bool, as_json: bool) -> None:
    """Show what the last runs of a plan show together: regressions, failures that come and go, drifts, bench faults.

    A run is a night here. Partial runs and copies do not count; a night on which the bench failed counts neither for
    nor against. Marks: passed ·, failed F, bench fault b, not run -.
    """
    from hil.evidence.store import RunStore
    from hil.report.nights import histories, noteworthy, plan_and_lab

    store = RunStore(paths.reports_out())
    store.rebuild()
    every = [run for run in store.runs(brief=True) if plan in (None, run.plan) and lab in (None, run.lab)]
    if not every:
        raise ConfigurationError("there is no such run", remedy="`hil runs list` shows those that there are")
    chosen, found = histories(store, every[0].plan, every[0].lab, nights=nights)
    if test:
        found = [each for each in found if test in each.series.test]
    shown = found if everything or test else noteworthy(found)
    if as_json:
        rows = [
            {
                **{name: getattr(each.series, name) for name in ("test", "title", "name", "unit")},
                "dimensions": dict(each.series.dimensions),
                "class": each.finding.kind.value,
                "nights": each.finding.nights,
                "text": each.finding.text,
                "states": [night.state.value for night in each.nights],
                "values": [night.value for night in each.nights],
            }
            for each in shown
        ]
        print_json({"plan": every[0].plan, "lab": every[0].lab, "runs": [r.run_id for r in chosen], "series": rows})
        return
    click.echo(f"{plan_and_lab(every[0].plan, every[0].lab)}, {plural(len(chosen), 'run')}")
    print_rows(
        shown,
        {
            "class": lambda each: each.finding.kind,
            "of": lambda each: each.series.label,
            "nights": lambda each: each.strip,
            "": lambda each: each.finding.text,
        },
        empty=f"all {plural(len(found), 'test and measurement')} steady" if found else "no run with a verdict",
        optional=["nights", "class"],
    )


@runs.command()
@click.argument("before", metavar="[RUN]", required=False, shell_complete=run_ids)
@click.argument("run_id", metavar="[RUN]", default="last", shell_complete=run_ids)
@JSON_OPTION
def compare(before: str | None, run_id: str, as_json: bool) -> None:
    """Compare two runs: inputs, verdicts, measurements that moved by a quarter or more.

    With one RUN: the last run with it. With none: the last run with the last release before it (`hil runs release`),
    else with the run before.
    """
    from hil.evidence.store import RunStore, get_run
    from hil.report.nights import baseline_of, changes, inputs_that_differ

    now, store = get_run(run_id), RunStore(paths.reports_out())
    then = get_run(before) if before else baseline_of(store, now)
    inputs, found = inputs_that_differ(then, now), changes(store, then, now)
    if as_json:
        facts = [
            {"run": r.run_id, "verdict": r.verdict, "release": store.releases().get(r.run_id)} for r in (then, now)
        ]
        print_json({"runs": facts, "inputs": inputs, "changes": [vars(change) for change in found]})
        return
    release = store.releases().get(then.run_id)
    click.echo(f"{then.run_id} {f'(release {release}) ' if release else ''}{then.verdict} → {now.run_id} {now.verdict}")
    click.echo(f"inputs: {'; '.join(inputs) or 'the same'}")
    print_table(
        ["of", "before", "now", "change"],
        [(each.label, each.before, each.now, each.what) for each in found],
        empty="no verdict changed, and no measurement moved by a quarter",
    )


@runs.command()
@RUN_ARGUMENT
@click.option("--name", help="Name of the release, e.g. the version of the OS that was shipped.")
@click.option("--none", is_flag=True, help="Is no release any longer.")
@JSON_OPTION
def release(run_id: str, name: str | None, none: bool, as_json: bool) -> None:
    """Call a run a release: later runs are compared with the last one, so that a bad night is never the baseline."""
    from hil.evidence.store import RunStore, get_run

    if bool(name) == none:
        raise click.UsageError("give --name NAME or --none")
    run = get_run(run_id)
    RunStore(paths.reports_out()).release(run.run_id, name or "")
    print_result(as_json, {"run": run.run_id, "release": name}, f"{run.run_id}: {name or 'no release'}")


@runs.command()
@duration_option("--older-than", "Runs that began longer ago than this, e.g. 90d.", default="90d")
@click.option("--dry-run", is_flag=True, help="Only list them.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@JSON_OPTION
def prune(older_than_s: float, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Delete the directories of old runs; what the index has of them, their history among it, stays.

    Releases and the newest run of each plan and lab are kept. Copy what must stay evidence elsewhere first.
    """
    from datetime import UTC, datetime, timedelta
    from shutil import rmtree

    from hil.evidence.store import RunStore

    store = RunStore(paths.reports_out())
    store.rebuild()
    moment = (datetime.now(UTC) - timedelta(seconds=min(older_than_s, 1e9))).isoformat().replace("+00:00", "Z")
    chosen = store.prunable(moment)
    if not as_json:
        for run in chosen:
            click.echo(f"{run.run_id}  {run.verdict}")
    if chosen and not (dry_run or yes):
        click.confirm(f"delete the directories of {plural(len(chosen), 'run')}?", abort=True, err=True)
    for run in [] if dry_run else chosen:
        rmtree(run.directory)
    gone = "would be deleted" if dry_run else "deleted"
    facts = {"runs": [run.run_id for run in chosen], "deleted": not dry_run}
    print_result(as_json, facts, f"{plural(len(chosen), 'run')} {gone}")


for each in (export, metrics):
    runs.add_command(each)
