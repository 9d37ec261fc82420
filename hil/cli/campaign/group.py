"""`hil campaign`: pytest on a folder with a test plan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from hil.cli.campaign import author, detached, starting
from hil.cli.completion import run_ids, spacecraft_names
from hil.cli.output import JSON_OPTION, QUIET, VERBOSE, Progress, lab_option, print_json, print_result, say
from hil.cli.select_bench import bench_option
from hil.core import paths
from hil.core.closed_pipe import go_on_unread
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.cli.campaign.repeat import SeriesBench

BEGUN_S = 15.0
"""A detached run that has not begun by then is left to itself."""
PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": True}


@click.group()
def campaign() -> None:
    """Run a test campaign, write one, check one."""


for each in (author.new, author.validate, author.requirements, detached.attach, detached.cancel, detached.list_jobs):
    campaign.add_command(each)


@campaign.command("run", context_settings=PASS_ON)
@click.argument("plan_dir", metavar="PLAN", type=click.Path(path_type=Path))
@lab_option("Lab file to bring up for this run, or the name of a shipped one, e.g. virtual.")
@bench_option("Bench that is up to use instead.")
@click.option(
    "--tenant", metavar="NAME", help="With --bench: only this tenant's boards and share of links, beside others' runs."
)
@click.option(
    "--on",
    metavar="SC1,SC2",
    shell_complete=spacecraft_names,
    help="The two spacecraft of a larger lab, the gateway's first.",
)
@click.option("--split", metavar="N+M", help="Boards that take part on each of the two (default: 3+3).")
@click.option("--epoch", metavar="TIME", help="Moment of the mission to start at, ISO 8601 UTC.")
@click.option(
    "--wait", "lease_wait", metavar="DURATION", help="Queue so long for boards that another person has leased."
)
@click.option("--from", "first", metavar="STEP", help="Begin with this step; steps that it needs run before it.")
@click.option(
    "--resume",
    metavar="RUN",
    shell_complete=run_ids,
    help="Take over what passed in that run; with --bench, which must be as the run left it.",
)
@click.option(
    "--set",
    "changes",
    metavar="NAME=VALUE",
    multiple=True,
    help="Another value for a parameter of the plan; repeatable.",
)
@click.option("--run-id", "--hil-run-id", metavar="ID", help="Name of the run.")
@click.option("-o", "--output", "--hil-out", "hil_out", metavar="DIR", help="Where runs and reports go.")
@click.option("--repeat", metavar="N", type=click.IntRange(min=1), help="Run it so often, with a line for each run.")
@click.option(
    "--stop-on",
    type=click.Choice(["fail", "inconclusive", "never"]),
    default="fail",
    show_default=True,
    help="With --repeat: what ends the series.",
)
@click.option("--detach", is_flag=True, help="Run it in the background; `hil campaign attach` shows it.")
@click.option("--no-clean", is_flag=True, help="Do not look for what killed runs left.")
@JSON_OPTION
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def run_campaign(
    plan_dir: Path,
    lab_path: Path | None,
    bench_name: str | None,
    no_clean: bool,
    as_json: bool,
    repeat: int | None,
    stop_on: str,
    detach: bool,
    first: str | None,
    resume: str | None,
    run_id: str | None,
    hil_out: str | None,
    changes: tuple[str, ...],
    pytest_arguments: tuple[str, ...],
    **choices: str | None,  # tenant, on, split, epoch, lease_wait
) -> int:
    """Run the tests of PLAN in order and make the report. All further arguments are pytest's.

    PLAN is a folder with a plan.yaml, or the name of a shipped plan, e.g. six_gpu.
    Without --lab and --bench it is for plans whose tests need no bench.
    The same as `pytest PLAN --hil-lab FILE`, after a check of the set-up. With --json the run as `hil runs list --json`
    has it comes on stdout at the end, and pytest's own output on stderr.
    With --repeat pytest's output goes to terminal.log in each run's directory; the exit code is the worst one. All runs
    use one bench, put back before each, but for a lab with an orbit.
    `hil -v campaign run` shows the log of actions, `hil -vv` that of every command and request.

    \b
    Exit code: 0 PASS   1 FAIL   2 configuration error   3 INCONCLUSIVE
    """
    context = click.get_current_context()
    if hil_out and "=" in hil_out:
        raise click.UsageError(
            f"-o is the folder for runs and reports, as --hil-out is; pytest's own -o is --override-ini={hil_out}"
        )
    if context.get_parameter_source("stop_on") is ParameterSource.COMMANDLINE and repeat is None:
        raise click.UsageError("--stop-on is of a series: give --repeat N, too")
    meta = context.meta
    shows = sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not (meta.get(QUIET) or as_json)
    if shows and not (repeat or detach):
        starting.show_until_started(sys.stdout.fileno())
    plan_dir, lab_path = author.folder_of(plan_dir), paths.lab_file(lab_path) if lab_path else None
    from hil.campaign.options import no_xdist, shares_out

    if shares_out(pytest_arguments):
        raise no_xdist()
    if lab_path and bench_name:
        raise ConfigurationError("give either --lab FILE or --bench NAME", remedy="a bench that is up has its lab")
    series_bench: SeriesBench | None = None
    if lab_path:
        from hil.cli.campaign.repeat import SeriesBench
        from hil.core.wait import duration_s
        from hil.lab.model import load_lab
        from hil.rollout.participants import choose

        lab = load_lab(lab_path)
        choose(lab, choices["on"], choices["split"])  # before anything is touched
        prepare()
        if (repeat or 1) > 1 and not detach and lab.orbit is None:
            series_bench = SeriesBench(
                lab_path, lease_wait_s=duration_s(wait) if (wait := choices["lease_wait"]) else None
            )
    named_lab = {"lab": lab_path and not series_bench and str(lab_path), "bench": bench_name}
    chosen = [word for option, value in named_lab.items() if value for word in (f"--hil-{option}", value)]
    if plan_dir.is_relative_to(paths.shipped("testplans")) and paths.checkout() is None:
        chosen += ["-o", f"cache_dir={Path.cwd() / '.pytest_cache'}"]  # nothing is written beside the package
    for option, value in {**choices, "from": first, "resume": resume, "out": hil_out}.items():
        if value:
            chosen += [f"--hil-{option.replace('_', '-')}", value]
    chosen += [word for change in changes for word in ("--hil-set", change)]
    if no_clean:
        chosen.append("--hil-no-clean")
    if meta.get(VERBOSE):
        chosen.append(f"--log-cli-level={'DEBUG' if meta[VERBOSE] > 1 else 'INFO'}")
    if meta.get(QUIET):
        chosen.append("-qq")
    # -v: a line for every step as it ends is the progress of a run that takes a minute.
    argv = [sys.executable, "-m", "pytest", "-v", str(plan_dir), *chosen, *pytest_arguments]

    def named(name: str) -> list[str]:
        return [*argv, *(["--hil-bench", series_bench.name] if series_bench else []), "--hil-run-id", name]

    if repeat or as_json:
        go_on_unread()
    if repeat or detach:
        name, runs = (
            run_id or _new_id(plan_dir),
            (Path(hil_out) if hil_out else paths.reports_out()).absolute() / "runs",
        )
        if detach and not repeat:
            return _detach(name, named(name), runs / name, as_json)
        if detach:
            words = [word for word in sys.argv[1:] if word != "--detach"]
            at = words.index("run") + 1
            again = [*words[:at], "--run-id", name, *words[at:]]
            return _detach(name, [sys.executable, "-m", "hil.cli", *again], None, as_json)
        from hil.cli.campaign.repeat import repeat as repeat_runs

        digits = len(str(repeat))
        ids = [f"{name}-{number:0{digits}}" for number in range(1, (repeat or 1) + 1)]
        return repeat_runs(named, ids, runs, stop_on=stop_on, as_json=as_json, bench=series_bench)
    if run_id:
        argv = named(run_id)
    sys.stdout.flush()
    sys.stderr.flush()
    if as_json:
        return _run_as_json(argv)
    if shows:
        starting.show_until_started(sys.stdout.fileno())
    # In this very process, so that signals and the exit code are pytest's own.
    os.execv(argv[0], argv)


def _new_id(folder: Path) -> str:
    from hil.campaign.run import new_run_id
    from hil.evidence.test_plan import load_plan

    return new_run_id(load_plan(folder).id)


def _detach(name: str, argv: list[str], directory: Path | None, as_json: bool) -> int:
    """Start a command that outlives this terminal, and say how it is watched and ended."""
    from hil.campaign.jobs import start
    from hil.core.wait import poll_until

    job = start(name, argv, run_directory=directory)
    for _ in poll_until(BEGUN_S, every_s=0.2):
        if job.state != "running" or (directory is not None and directory.is_dir()):
            break
    if job.exit_code:  # it ended at once: a wrong option, a wrong plan
        click.echo(job.log.read_text("utf-8", errors="replace"), err=True)
        return job.exit_code
    facts = {"run": name, "state": job.state, "log": str(job.log)}
    print_result(as_json, facts, f"{name} runs; its output: {job.log}")
    say(f"`hil campaign attach {name}` shows it, `hil campaign cancel {name}` ends it")
    return 0


def _run_as_json(argv: list[str]) -> int:
    """Run pytest with its output on stderr, print the run that it made, and return its exit code."""
    from hil.cli.app import Terminated, error_document
    from hil.evidence.readback import read_meta
    from hil.evidence.record import META
    from hil.evidence.store import list_runs

    before = {each.run_id for each in list_runs()}
    child = subprocess.Popen(argv, stdout=2)
    while child.returncode is None:
        try:
            child.wait()
        except Terminated as exc:
            child.send_signal(exc.signal)
        except KeyboardInterrupt:
            if not sys.stdin.isatty():  # a terminal has sent it to both
                child.send_signal(signal.SIGINT)
    for each in list_runs():
        process = read_meta(each.directory / META)[0].get("process", {})
        if each.run_id not in before and process.get("pid") == child.pid:
            print_json(each.as_dict())
            return child.returncode
    error = ConfigurationError("pytest ended before a run began", remedy="see its own words on stderr")
    print_json(error_document(error, child.returncode))
    return child.returncode


def prepare() -> None:
    """Bring a set-up that is out of date up to date.

    ConfigurationError when there was none yet or host packages are missing: that takes minutes and changes the host,
    so it is not done unasked.
    """
    from hil.bench.bench import require_root
    from hil.host import packages
    from hil.host import setup as steps

    require_root()
    lacking = ", ".join(p.name for p in packages.missing())
    reason = steps.stale()
    if lacking or not steps.was_done():
        why = f"host packages are missing: {lacking}" if lacking else reason
        raise ConfigurationError(f"set-up is not complete: {why}", remedy="run `hil setup`")
    if reason:
        starting.stop()
        say(f"set-up is brought up to date: {reason}")
        with Progress() as progress:
            steps.setup(progress)
