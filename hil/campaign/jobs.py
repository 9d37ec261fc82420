"""Campaigns without a terminal: a process group of its own, its output in a file, its exit code kept.

``<reports out>/jobs/<id>/``: ``job.json`` (what runs since when), ``terminal.log`` (all that it prints; the run's
directory has the same file), ``end.json`` once it has ended.  ``python -m hil.campaign.jobs DIR`` is the process that
stays.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hil.core import paths
from hil.core.pick import pick
from hil.core.processes import identify, is_alive, this_process
from hil.core.wait import poll_until
from hil.errors import BenchError, ConfigurationError, HilError
from hil.evidence.record import read_json, utc_now, write_json

FOLDER, JOB, END, LOG = "jobs", "job.json", "end.json", "terminal.log"
POLL_S = 0.2


@dataclass(frozen=True)
class Job:
    """One campaign that was started with ``--detach``."""

    directory: Path

    @property
    def id(self) -> str:
        return self.directory.name

    @property
    def log(self) -> Path:
        return self.directory / LOG

    @property
    def facts(self) -> dict[str, Any]:
        """What ``job.json`` says."""
        return read_json(self.directory / JOB)

    @property
    def exit_code(self) -> int | None:
        """Its exit code; None while it runs, and when it was killed."""
        code = read_json(self.directory / END).get("exit_code")
        return code if isinstance(code, int) else None

    @property
    def state(self) -> str:
        """``running``, ``ended``, or ``killed`` (gone without an exit code)."""
        if is_alive(self.facts.get("process") or {}):
            return "running"
        return "killed" if self.exit_code is None else "ended"

    def follow(self) -> Iterator[str]:
        """Yield the lines of its output from the first on, until it has ended."""
        with self.log.open(encoding="utf-8", errors="replace") as log:
            line = ""
            while True:
                running = self.state == "running"  # asked first, so that what is read then is its last word
                while part := log.readline():
                    line += part
                    if line.endswith("\n"):
                        yield line.rstrip("\n")
                        line = ""
                if not running:
                    if line:
                        yield line
                    return
                time.sleep(POLL_S)

    def interrupt(self) -> None:
        """Send it what Ctrl-C sends: it takes its bench down and makes its report."""
        interrupt(self.facts.get("process") or {})

    def kill(self) -> None:
        """Kill its whole process group; what it had up is taken down by the bench's keeper."""
        process = self.facts.get("process") or {}
        if is_alive(process):
            os.killpg(int(process["pid"]), signal.SIGKILL)


def start(job_id: str, argv: Sequence[str], *, run_directory: Path | None = None) -> Job:
    """Start a command that outlives this terminal. ConfigurationError when there is a job of that name."""
    job = Job(paths.reports_out().absolute() / FOLDER / job_id)
    try:
        job.directory.mkdir(parents=True)
    except FileExistsError as exc:
        raise ConfigurationError(f"campaign {job_id} exists already", remedy="choose another --run-id") from exc
    facts = {"id": job_id, "argv": list(argv), "started_utc": utc_now(), "run_directory": str(run_directory or "")}
    write_json(job.directory / JOB, facts)
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "hil.campaign.jobs", str(job.directory)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # what ends the terminal does not reach it
        )
    who = identify(process.pid)
    ticks = who.start_ticks if who else None
    identity = {**this_process(), "pid": process.pid, "start_ticks": ticks}
    write_json(job.directory / JOB, {**facts, "process": identity})
    return job


def jobs() -> list[Job]:
    """Return every job, the newest first."""
    folders = [path.parent for path in (paths.reports_out() / FOLDER).glob(f"*/{JOB}")]
    found = [Job(folder) for folder in folders]
    return sorted(found, key=lambda job: (str(job.facts.get("started_utc")), job.id), reverse=True)


def find(word: str) -> Job:
    """Return a job by its id, an unambiguous beginning or end of it, or ``last``.  ConfigurationError otherwise."""
    return pick(
        word,
        jobs(),
        lambda job: job.id,
        what="campaign in the background",
        listed_by="hil campaign list",
        made_by="hil campaign run PLAN --lab FILE --detach",
    )


def interrupt(process: dict[str, Any]) -> None:
    """Send SIGINT to that very process; nothing when it is gone."""
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(int(process.get("pid") or 0) or os.getpid())
        try:
            if is_alive(process):
                signal.pidfd_send_signal(fd, signal.SIGINT)
        finally:
            os.close(fd)


def wait_gone(process: dict[str, Any], *, deadline_s: float, what: str) -> None:
    """Wait until that very process is gone. BenchError at the deadline."""
    for _ in poll_until(deadline_s, every_s=POLL_S):
        if not is_alive(process):
            return
    raise BenchError(
        f"{what} has not ended {deadline_s:g} s after it was interrupted",
        remedy="wait longer with --timeout, or end it at once with --kill: its keeper takes the bench down",
    )


def main(directory: Path) -> int:
    """Run a job's command to its end and keep its exit code."""
    facts = read_json(directory / JOB)
    wanted: list[int] = []
    # A handler, also where SIGINT was ignored: the command then gets it as a terminal's command does.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: wanted.append(number))
    child = subprocess.Popen(facts["argv"], stdin=subprocess.DEVNULL)
    run_directory = directory_of_run = Path(facts["run_directory"]) if facts.get("run_directory") else None
    while (code := child.poll()) is None:
        if run_directory is not None and run_directory.is_dir():
            with suppress(OSError):  # there already
                os.link(directory / LOG, run_directory / LOG)
            run_directory = None
        if wanted:
            wanted.clear()
            child.send_signal(signal.SIGINT)
        time.sleep(POLL_S)
    if directory_of_run is not None:
        from hil.report.make import seal_log

        with suppress(OSError, HilError):  # the exit code is what counts
            seal_log(directory_of_run, LOG)
    write_json(directory / END, {"exit_code": code if code >= 0 else 128 - code, "ended_utc": utc_now()})
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
