"""`hil campaign attach`, `cancel` and `list`: campaigns that run without a terminal."""

from __future__ import annotations

import click

from hil.cli.completion import job_ids
from hil.cli.output import JSON_OPTION, duration_option, print_json, print_result, print_rows, say
from hil.errors import ConfigurationError
from hil.text import clean

EXIT_DETACHED = 130
"""As after Ctrl-C elsewhere: what was watched goes on."""

JOB_ARGUMENT = click.argument("word", metavar="[RUN]", default="last", shell_complete=job_ids)


@click.command()
@JOB_ARGUMENT
def attach(word: str) -> int:
    """Show the output of a campaign that was started with --detach, from its beginning to its end.

    Ctrl-C ends only this command. The exit code is that of the campaign.
    """
    from hil.campaign.jobs import find

    job = find(word)
    try:
        for line in job.follow():
            click.echo(clean(line))
    except KeyboardInterrupt:
        say(f"{job.id} goes on; `hil campaign attach {job.id}` shows it again, `hil campaign cancel {job.id}` ends it")
        return EXIT_DETACHED
    if job.exit_code is None:
        say(f"{job.id} was killed; `hil runs report {job.id}` makes its report")
        return 3
    return job.exit_code


@click.command()
@JOB_ARGUMENT
@duration_option("--timeout", "Time that it may take to end.", default="2m")
@click.option("--kill", is_flag=True, help="Kill it when it has not ended by then; its keeper takes the bench down.")
@JSON_OPTION
def cancel(word: str, timeout_s: float, kill: bool, as_json: bool) -> None:
    """End a campaign as Ctrl-C does: its bench goes down and its report is made.

    RUN is one that was started with --detach, or any run of `hil runs list` that still runs.
    """
    from hil.campaign.jobs import find, interrupt, wait_gone
    from hil.errors import BenchError

    try:
        job = find(word)
        name, process = job.id, job.facts.get("process") or {}
        running = job.state == "running"
    except ConfigurationError:
        from hil.evidence.readback import read_meta
        from hil.evidence.record import META
        from hil.evidence.store import get_run

        run = get_run(word)
        name, job, running = run.run_id, None, run.state == "running"
        process = dict(read_meta(run.directory / META)[0].get("process") or {}) if running else {}
    if not running:
        raise ConfigurationError(f"campaign {name} does not run", remedy="see `hil campaign list`")
    say(f"{name} is interrupted; its bench goes down and its report is made")
    interrupt(process)
    try:
        wait_gone(process, deadline_s=timeout_s, what=name)
    except BenchError:
        if not kill or job is None:
            raise
        job.kill()
        wait_gone(process, deadline_s=10.0, what=name)
    code = job.exit_code if job is not None else None
    print_result(as_json, {"run": name, "exit_code": code}, f"{name} has ended")


@click.command("list")
@JSON_OPTION
def list_jobs(as_json: bool) -> None:
    """List campaigns that were started with --detach, the newest first, with what runs now."""
    from hil.bench.state import known_benches, read_step
    from hil.campaign.jobs import jobs

    steps = {step.run_id: step.title for name in known_benches() if (step := read_step(name))}
    rows = [
        {
            "run": job.id,
            "state": job.state,
            "exit_code": job.exit_code,
            "started_utc": job.facts.get("started_utc"),
            "test": steps.get(job.id, "") if job.state == "running" else "",
            "log": str(job.log),
        }
        for job in jobs()
    ]
    if as_json:
        print_json(rows)
        return
    print_rows(
        rows,
        {
            "run": lambda row: row["run"],
            "started (UTC)": lambda row: str(row["started_utc"])[:19].replace("T", " "),
            "state": lambda row: row["state"],
            "exit code": lambda row: "-" if row["exit_code"] is None else row["exit_code"],
            "test": lambda row: row["test"],
        },
        empty="none yet; `hil campaign run PLAN --lab FILE --detach` starts one",
        optional=["started (UTC)"],
    )
