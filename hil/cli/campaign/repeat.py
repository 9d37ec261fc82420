"""`hil campaign run --repeat`: the same campaign again and again, a line for each run, and what they show together."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.output import Progress, plural, print_json, print_table, say
from hil.errors import HarnessError
from hil.evidence.record import RESULT, read_json
from hil.report.make import seal_log

if TYPE_CHECKING:
    from hil.bench.bench import Bench

POLL_S = 0.5
SILENCE_S = 28.0
"""Without a terminal a line comes after so long."""
STOPS = {"fail": (1, 2), "inconclusive": (1, 2, 3), "never": ()}
"""Exit codes of a run after which no other begins, by ``--stop-on``; 2 is a configuration error, which stays one."""
WORST = (2, 1, 3, 0)
_ERROR = re.compile(r"\b(configuration|device|bench|harness) error: .*")


@dataclass(frozen=True)
class Repetition:
    """One of the runs."""

    run_id: str
    exit_code: int
    seconds: float
    log: Path
    result: dict[str, Any]

    @property
    def verdict(self) -> str:
        return str(self.result.get("verdict") or f"no verdict, exit code {self.exit_code}")

    @property
    def why(self) -> str:
        """The first thing to know: the result's reason, or the error before there was a result, or where to look."""
        if reason := self.result.get("reason"):
            return str(reason)
        said = _ERROR.search(self.log.read_text("utf-8", errors="replace"))
        return f"{said[0].strip()} ({self.log})" if said else f"see {self.log}"


class SeriesBench:
    """The bench on which a series runs: up from its first run to its last; after a run without a verdict a fresh one.

    A lab whose links follow an orbit has none: each of its runs begins at the same moment of the mission, on a bench of
    its own.
    """

    def __init__(self, lab: Path, *, lease_wait_s: float | None = None) -> None:
        self._lab, self._lease_wait_s = lab, lease_wait_s
        self._bench: Bench | None = None

    @property
    def name(self) -> str:
        """The bench's name; it comes up when it is not up. Raises what its keeper met."""
        from hil.bench.bench import Bench
        from hil.bench.state import is_up

        if self._bench is not None and not is_up(self._bench.name):
            self.close()
        if self._bench is None:
            bench = Bench(self._lab, name=f"series{os.getpid()}", lease_wait_s=self._lease_wait_s)
            with Progress() as progress:
                bench.up(progress=progress.say)
            self._bench = bench
        return self._bench.name

    def close(self) -> None:
        """Take it down, if it is up."""
        if self._bench is not None:
            bench, self._bench = self._bench, None
            bench.close()


def repeat(
    argv: Callable[[str], Sequence[str]],
    ids: Sequence[str],
    runs: Path,
    *,
    stop_on: str,
    as_json: bool,
    bench: SeriesBench | None = None,
) -> int:
    """Run pytest once for each run id, its output in a file, and print what came of it; the worst exit code.

    ``argv`` makes the command line of a run, ``runs`` is the folder where their directories are made.  A ``bench`` is
    taken down at the end, and after a run that was neither PASS nor FAIL.
    """
    try:
        return _repeat(argv, ids, runs, stop_on=stop_on, as_json=as_json, bench=bench)
    finally:
        if bench is not None:
            bench.close()


def _repeat(
    argv: Callable[[str], Sequence[str]],
    ids: Sequence[str],
    runs: Path,
    *,
    stop_on: str,
    as_json: bool,
    bench: SeriesBench | None,
) -> int:
    done: list[Repetition] = []
    with Progress() as progress:
        for number, run_id in enumerate(ids, 1):
            progress.begin(f"run {number} of {len(ids)}, {run_id}")
            one = _run(argv(run_id), run_id, runs, progress)
            if bench is not None and one.exit_code not in (0, 1):
                bench.close()  # whatever was wrong with it, the next run does not begin with that
            done.append(one)
            progress.end(f"{one.verdict}: {one.why}", one.seconds)
            if one.exit_code not in (0, 1, 3) or one.exit_code in STOPS[stop_on] or _interrupted(one):
                break
    return _summary(done, len(ids), as_json=as_json)


def _run(argv: Sequence[str], run_id: str, runs: Path, progress: Progress) -> Repetition:
    begun = last = time.monotonic()
    log = runs.parent / f".{run_id}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    shown = ""
    with log.open("wb") as output:
        child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)
        while child.returncode is None:
            try:
                child.wait(POLL_S)
            except subprocess.TimeoutExpired:
                line = _last_line(log)
                if line != shown and (progress.on_terminal or time.monotonic() - last >= SILENCE_S):
                    shown, last = line, time.monotonic()
                    progress.say(line)
            except BaseException:
                child.terminate()  # it takes its bench down and makes its report
                child.wait()
                raise
    directory = runs / run_id
    if directory.is_dir():
        log = log.rename(directory / "terminal.log")
        seal_log(directory, log.name)
    return Repetition(run_id, child.returncode, time.monotonic() - begun, log, read_json(directory / RESULT))


def _last_line(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 2000))
        lines = file.read().decode("utf-8", "replace").strip().splitlines()
    return lines[-1].strip() if lines else ""


def _interrupted(one: Repetition) -> bool:
    return "cut short" in str(one.result.get("reason") or "")


def _summary(done: Sequence[Repetition], wanted: int, *, as_json: bool) -> int:
    if not done:
        raise HarnessError("no run was made")
    last = next((one for one in reversed(done) if one.result), done[-1])
    code = next((code for code in WORST if code in [one.exit_code for one in done]), done[-1].exit_code)
    statistics = last.result.get("statistics") or {}
    if as_json:
        rows = [
            {
                "run_id": r.run_id,
                "verdict": r.result.get("verdict"),
                "exit_code": r.exit_code,
                "seconds": round(r.seconds, 1),
            }
            for r in done
        ]
        print_json({"runs": rows, "wanted": wanted, "statistics": statistics, "exit_code": code})
        return code
    click.echo()
    print_table(
        ["run", "verdict", "s", "first thing to know"], [[r.run_id, r.verdict, f"{r.seconds:.0f}", r.why] for r in done]
    )
    verdicts = [one.verdict for one in done]
    counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in dict.fromkeys(verdicts))
    click.echo(f"\n{plural(len(done), 'run')} of {wanted}: {counted}")
    if statistics.get("sentence"):
        click.echo(statistics["sentence"])
    if last.result:
        say(f"`hil runs open {last.run_id}` has the report of the last one")
    return code
