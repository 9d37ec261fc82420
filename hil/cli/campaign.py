"""`hil campaign run`: pytest on a folder with a test plan."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import click

from hil.cli.completion import spacecraft_names
from hil.cli.output import JSON_OPTION, QUIET, VERBOSE, Progress, lab_option, print_json, say
from hil.cli.select_bench import bench_option
from hil.core import paths
from hil.errors import ConfigurationError

PASS_ON = {"ignore_unknown_options": True, "allow_interspersed_args": True}


@click.group()
def campaign() -> None:
    """Run a test campaign."""


@campaign.command("run", context_settings=PASS_ON)
@click.argument("plan_dir", metavar="PLAN", type=click.Path(path_type=Path))
@lab_option("Lab file to bring up for this run, or the name of a shipped one, e.g. virtual.")
@bench_option("Bench that is up to use instead.")
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
@click.option("--no-clean", is_flag=True, help="Do not look for what killed runs left.")
@JSON_OPTION
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def run_campaign(
    plan_dir: Path,
    lab_path: Path | None,
    bench_name: str | None,
    no_clean: bool,
    as_json: bool,
    pytest_arguments: tuple[str, ...],
    **choices: str | None,  # on, split, epoch, lease_wait
) -> int:
    """Run the tests of PLAN in order and make the report. All further arguments are pytest's.

    PLAN is a folder with a plan.yaml, or the name of the shipped plan: six_gpu.
    The same as `pytest PLAN --hil-lab FILE`, after a check of the set-up. With --json the run as `hil runs list --json`
    has it comes on stdout at the end, and pytest's own output on stderr.
    `hil -v campaign run` shows the log of actions, `hil -vv` that of every command and request.

    \b
    Exit code: 0 PASS   1 FAIL   2 configuration error   3 INCONCLUSIVE
    """
    plan_dir, lab_path = paths.plan_folder(plan_dir), paths.lab_file(lab_path) if lab_path else None
    if not (plan_dir / "plan.yaml").is_file():
        raise ConfigurationError(
            f"{plan_dir} has no plan.yaml",
            remedy="give a folder with a plan.yaml, or the name of the shipped plan: six_gpu",
        )
    if bool(lab_path) == bool(bench_name):
        raise ConfigurationError("give either --lab FILE or --bench NAME", remedy="e.g. --lab virtual")
    if lab_path:
        from hil.lab.model import load_lab
        from hil.rollout.participants import choose

        choose(load_lab(lab_path), choices["on"], choices["split"])  # before anything is touched
    if not bench_name:
        prepare()
    chosen = ["--hil-lab", str(lab_path)] if lab_path else ["--hil-bench", str(bench_name)]
    if plan_dir.is_relative_to(paths.shipped("testplans")) and paths.checkout() is None:
        chosen += ["-o", f"cache_dir={Path.cwd() / '.pytest_cache'}"]  # nothing is written beside the package
    for option, value in choices.items():
        if value:
            chosen += [f"--hil-{option.replace('_', '-')}", value]
    if no_clean:
        chosen.append("--hil-no-clean")
    meta = click.get_current_context().meta
    if meta.get(VERBOSE):
        chosen.append(f"--log-cli-level={'DEBUG' if meta[VERBOSE] > 1 else 'INFO'}")
    if meta.get(QUIET):
        chosen.append("-qq")
    # -v: a line for every step as it ends is the progress of a run that takes a minute.
    argv = [sys.executable, "-m", "pytest", "-v", str(plan_dir), *chosen, *pytest_arguments]
    sys.stdout.flush()
    sys.stderr.flush()
    if as_json:
        return _run_as_json(argv)
    # In this very process, so that signals and the exit code are pytest's own.
    os.execv(argv[0], argv)


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
        say(f"set-up is brought up to date: {reason}")
        with Progress() as progress:
            steps.setup(progress)
