"""One night: its jobs, each a process of our own command, so many at once as it says, so that SIGKILL loses nothing.

``<reports out>/nights/<id>/``

- ``night.json``: what was fixed at its begin: file and digest, jobs with their command lines, deadlines
- ``notify.json``: the command that is told, for its owner only: there may be a secret in it
- ``jobs/<name>.json``: the attempts at a job, each with exit code, verdict and reason; ``ended``: nothing is left to do
- ``logs/<name>-<attempt>.log``: what it printed
- ``morning.md``, ``chat.txt``: the summary
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from shutil import which
from typing import Any

from hil.bench.state import lease_keys
from hil.core import paths
from hil.core.files import sha256_of, write_atomic
from hil.core.locks import LOOK_S, locked
from hil.core.pick import pick
from hil.core.processes import ProcessId, dies_with_us, end, identify, is_alive, this_process
from hil.core.wait import duration_s
from hil.errors import BenchError, ConfigurationError
from hil.evidence.json_fields import fitting, read_fields
from hil.evidence.model import EXIT_CONFIGURATION, WORST_FIRST, Verdict
from hil.evidence.record import RESULT, read_json, utc_now
from hil.evidence.store import RUNS
from hil.lab.model import Lab, load_lab
from hil.nightly.plan import Job, Notify, argv_of, load_nightly, words_of
from hil.trials.series import FACTS as SERIES_FACTS
from hil.trials.series import SERIES, Series

NIGHTS, FACTS, NOTIFY = "nights", "night.json", "notify.json"
GRACE_S = 90.0
"""After SIGTERM a job takes its bench down and makes its report; then it is killed."""
POLL_S = 0.2
MOST_WORKERS = 16
HIL = (sys.executable, "-m", "hil.cli")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Attempt:
    """One attempt at a job."""

    number: int
    run_id: str
    """Of the run, or of the series."""
    started_utc: str
    seconds: float = 0.0
    exit_code: int | None = None
    """None: it was killed with the night, or goes on."""
    verdict: str = ""
    reason: str = ""
    child: Mapping[str, Any] | None = None


class Night:
    """One night in its folder."""

    def __init__(self, folder: Path) -> None:
        """Open it.  ConfigurationError when there is none."""
        self.folder = folder
        self.facts = read_json(folder / FACTS)
        if not self.facts:
            raise ConfigurationError(f"{folder} is no night", remedy="`hil nightly list` shows those that there are")
        if wrong := _wrong(self.facts):
            raise ConfigurationError(f"{folder / FACTS} makes no sense: {wrong}", remedy="move the folder away")
        self.out = folder.parent.parent

    @classmethod
    def begin(cls, path: Path, out: Path, *, night_id: str = "") -> Night:
        """Check a nightly file and begin a night.  ConfigurationError: something in it is wrong, or the id is taken."""
        plan = load_nightly(path)
        began = datetime.now(UTC)
        name = night_id or f"{began.strftime('%Y%m%dT%H%M%SZ')}-{plan.name}"
        if not paths.is_folder_name(name):
            raise ConfigurationError(f"--id {name}: must be a plain folder name")
        failed = _failed_last(out, plan.name)
        jobs = sorted(words_of(path, plan), key=lambda pair: pair[0].name not in failed)
        facts = {
            "schema": 1,
            "id": name,
            "name": plan.name,
            "file": str(path.absolute()),
            "file_sha256": sha256_of(path),
            "started_utc": utc_now(),
            "deadline_s": duration_s(plan.deadline),
            "workers": plan.workers,
            "jobs": [_job_facts(path, job, words, began) for job, words in jobs],
        }
        told = _notify_facts(path, plan.notify)
        folder = out.absolute() / NIGHTS / name
        try:
            (folder / "jobs").mkdir(parents=True)
        except FileExistsError as exc:
            raise ConfigurationError(f"night {name} exists already", remedy="choose another --id") from exc
        (folder / "logs").mkdir()
        if told is not None:
            _write(folder / NOTIFY, told, mode=0o600)
        _write(folder / FACTS, facts)
        return cls(folder)

    @property
    def notify(self) -> dict[str, Any]:
        """Who is told in the morning: ``argv`` and ``timeout_s``; empty when nobody is."""
        return read_json(self.folder / NOTIFY)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """What was fixed of each job: ``name``, ``kind``, ``words``, ``deadline_s``, ``attempts``; in their order."""
        return list(self.facts["jobs"])

    def attempts(self, job: str) -> list[Attempt]:
        """Return the attempts at a job, the last one last."""
        kept = self._job(job).get("attempts")
        return [read_fields(Attempt, each) for each in kept if isinstance(each, dict)] if isinstance(kept, list) else []

    def ended(self, job: str) -> bool:
        """Return whether nothing is left to do of a job."""
        return bool(self._job(job).get("ended"))

    @property
    def state(self) -> str:
        """``ended``, ``running`` or ``interrupted``."""
        if all(self.ended(job["name"]) for job in self.jobs):
            return "ended"
        return "running" if is_alive(read_json(self.folder / "process.json")) else "interrupted"

    @property
    def verdict(self) -> Verdict:
        """The worst of its jobs."""
        found = {self.verdict_of(job["name"]) for job in self.jobs}
        return next(verdict for verdict in WORST_FIRST if verdict in found)

    def verdict_of(self, job: str) -> Verdict:
        """Return what the last attempt at a job came to."""
        attempts = self.attempts(job)
        if not attempts or not attempts[-1].verdict:
            return Verdict.NOT_RUN
        return Verdict(attempts[-1].verdict) if attempts[-1].verdict in set(Verdict) else Verdict.INCONCLUSIVE

    @property
    def exit_code(self) -> int:
        """2 when a job could not begin, 1 when one is FAIL, 3 when one is not PASS, else 0."""
        codes = {attempts[-1].exit_code for job in self.jobs if (attempts := self.attempts(job["name"]))}
        if EXIT_CONFIGURATION in codes:
            return EXIT_CONFIGURATION
        return {Verdict.PASS: 0, Verdict.WAIVED: 0, Verdict.FAIL: 1}.get(self.verdict, 3)

    def left_s(self) -> float:
        """Return how much of the night is left; its own clock goes on while nobody runs it."""
        began = datetime.fromisoformat(str(self.facts["started_utc"]))
        return float(self.facts["deadline_s"]) - (datetime.now(UTC) - began).total_seconds()

    def run(self, say: Say, hil: Sequence[str] = ()) -> None:
        """Run what is left of the night, by our own command or another one.

        ConfigurationError: it runs already.  BenchError: its files cannot be written.
        """
        taken = ConfigurationError(f"night {self.id} runs already", remedy=f"`hil nightly show {self.id}`")
        with locked(self.folder / "lock", deadline_s=LOOK_S, error=taken):
            try:
                _write(self.folder / "process.json", this_process())
                self._play(say, hil or HIL)
            except OSError as exc:
                raise BenchError(
                    f"night {self.id}: {exc}", remedy=f"mend that, then `hil nightly resume {self.id}`"
                ) from exc

    def _play(self, say: Say, hil: Sequence[str]) -> None:
        """Run so many jobs at once as the night has workers; none beside one that holds a real board of its lab."""
        waiting = [job for job in self.jobs if not self.ended(job["name"])]
        running: dict[Future[None], frozenset[str]] = {}
        wanted, stop = self.facts.get("workers"), threading.Event()
        workers = wanted if isinstance(wanted, int) and 1 <= wanted <= MOST_WORKERS else 1
        with ThreadPoolExecutor(workers, thread_name_prefix="night") as pool:
            try:
                while waiting or running:
                    for job in list(waiting):
                        holds = frozenset(fitting({"holds": tuple[str, ...]}, job)[0].get("holds", ()))
                        if len(running) < workers and holds.isdisjoint(chain.from_iterable(running.values())):
                            waiting.remove(job)
                            running[pool.submit(self._finish, job, say, hil, stop)] = holds
                    for done in wait(running, return_when=FIRST_COMPLETED)[0]:
                        del running[done]
                        done.result()
            except BaseException:
                stop.set()  # each ends its job
                raise

    def _finish(self, job: dict[str, Any], say: Say, hil: Sequence[str], stop: threading.Event) -> None:
        while not (self.ended(job["name"]) or stop.is_set()):
            self._attempt(job, say, hil, stop)

    def _attempt(self, job: dict[str, Any], say: Say, hil: Sequence[str], stop: threading.Event) -> None:
        name, before = job["name"], self.attempts(job["name"])
        if before and before[-1].exit_code is None:
            self._end_orphan(name, before[-1])
        number = len(before) + 1
        run_id = job["id"] if job["kind"] == "trials" else f"{job['id']}-{number}"
        attempt = Attempt(number, run_id, utc_now())
        left_s = min(float(job["deadline_s"]), self.left_s())
        if left_s <= 0:
            reason = "the night's time was over before it began"
            self._keep(name, [*before, _ended(attempt, 0.0, 3, Verdict.INCONCLUSIVE.value, reason)], ended=True)
            return
        log, begun = self.folder / "logs" / f"{name}-{number}.log", time.monotonic()
        with log.open("wb") as output:
            argv = [*hil, *self._words(job, run_id)]
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=dies_with_us(),
            )
            who = identify(child.pid)
            self._keep(name, [*before, Attempt(**{**vars(attempt), "child": who and vars(who)})])
            say(f"{name}, attempt {number}: {run_id}")
            late = _wait(child, left_s, stop)
        if stop.is_set():
            return  # killed with the night
        verdict, reason = self._came_to(job, run_id, child.returncode)
        if late:
            verdict, reason = Verdict.INCONCLUSIVE.value, f"ended at its deadline of {left_s:.0f} s; {reason}"
        done = _ended(attempt, time.monotonic() - begun, child.returncode, verdict, reason)
        again = verdict == Verdict.INCONCLUSIVE.value and job["kind"] == "campaign" and not late
        wanted = int(job["attempts"]) + sum(each.exit_code is None for each in before)  # those that were killed
        self._keep(name, [*before, done], ended=not (again and number < wanted and child.returncode == 3))
        say(f"{name}: {verdict}: {reason} ({done.seconds:.0f} s)")

    def _words(self, job: Mapping[str, Any], run_id: str) -> list[str]:
        if job["kind"] == "campaign":
            return [*job["words"], "--run-id", run_id, "-o", str(self.out)]
        if (self.out / SERIES / run_id / SERIES_FACTS).is_file():
            return ["trials", "resume", run_id, "--out", str(self.out)]
        return [*job["words"], "--id", run_id, "--out", str(self.out)]

    def _came_to(self, job: Mapping[str, Any], run_id: str, code: int) -> tuple[str, str]:
        """Return verdict and reason of an attempt that ended with an exit code."""
        verdict, reason = "", ""
        if job["kind"] == "campaign":
            result = read_json(self.out / RUNS / run_id / RESULT)
            verdict, reason = str(result.get("verdict") or ""), str(result.get("reason") or "")
        else:
            with suppress(ConfigurationError):
                standing = Series(self.out / SERIES / run_id).standing()
                verdict, reason = str(standing.verdict or ""), standing.reason
        if code == EXIT_CONFIGURATION:
            return Verdict.NOT_RUN.value, reason or "a wrong file or argument, or no set-up: see its log"
        if verdict not in set(Verdict):
            verdict, reason = Verdict.INCONCLUSIVE.value, f"no verdict, exit code {code}: see its log"
        return verdict, reason

    def _end_orphan(self, job: str, attempt: Attempt) -> None:
        """Wait for what a killed night had begun: it was asked to end when the night died."""
        child = attempt.child
        pid, ticks = (child.get("pid"), child.get("start_ticks")) if child is not None else (None, None)
        if isinstance(pid, int) and isinstance(ticks, int):
            end(ProcessId(pid, ticks), what=f"job {job}", term_s=GRACE_S)

    def _job(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / "jobs" / f"{name}.json")

    def _keep(self, name: str, attempts: Sequence[Attempt], *, ended: bool = False) -> None:
        _write(self.folder / "jobs" / f"{name}.json", {"attempts": [vars(a) for a in attempts], "ended": ended})


def _wait(child: subprocess.Popen[bytes], seconds: float, stop: threading.Event) -> bool:
    """Wait for a child; True when it had to be ended at its deadline.  Whatever interrupts this ends it, too."""
    try:
        deadline = time.monotonic() + seconds
        while child.poll() is None and not stop.is_set():
            if time.monotonic() > deadline:
                return True
            stop.wait(POLL_S)
        return False
    finally:
        if child.returncode is None:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                child.wait(GRACE_S)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # also what it left in its session
        child.wait()


def _ended(attempt: Attempt, seconds: float, code: int, verdict: str, reason: str) -> Attempt:
    facts = {"seconds": round(seconds, 1), "exit_code": code, "verdict": verdict, "reason": reason, "child": None}
    return Attempt(**{**vars(attempt), **facts})


_FACTS: Mapping[str, Any] = {
    "name": str,
    "started_utc": str,
    "deadline_s": float,
    "jobs": tuple[Mapping[str, Any], ...],
}
_JOB: Mapping[str, Any] = {
    **dict.fromkeys(("name", "kind", "id"), str),
    **{"words": tuple[str, ...], "deadline_s": float, "attempts": int},
}


def _wrong(facts: Mapping[str, Any]) -> str:
    """Return what of a night's facts makes no sense; empty when all does."""
    for kinds, each in ((_FACTS, facts), *((_JOB, job) for job in fitting(_FACTS, facts)[0].get("jobs", ()))):
        good = fitting(kinds, each)[0]
        if missing := [name for name in kinds if not good.get(name)]:
            return f"{missing[0]} is missing, empty or of a wrong type"
        if not paths.is_folder_name(good["name"]):
            return f"{good['name']!r} is no name"
    try:
        dated = datetime.fromisoformat(facts["started_utc"]).tzinfo is not None
    except ValueError:
        dated = False
    return "" if dated else "started_utc is no time"


def _notify_facts(path: Path, wanted: Notify | None) -> dict[str, Any] | None:
    """Return whom to notify; a program that is given by a path is found beside the nightly file.

    ConfigurationError: there is no such program.
    """
    if wanted is None:
        return None
    program = str(path.absolute().parent / wanted.argv[0]) if "/" in wanted.argv[0] else wanted.argv[0]
    if which(program) is None:
        raise ConfigurationError(
            f"{path}: notify: {program} is no program that can be run", remedy="give its path, relative to this file"
        )
    return {"argv": [program, *wanted.argv[1:]], "timeout_s": duration_s(wanted.timeout)}


def _job_facts(path: Path, job: Job, words: Sequence[str], began: datetime) -> dict[str, Any]:
    kind = "trials" if job.trials else "campaign"
    seed = ["--seed", str(int(began.strftime("%Y%m%d")) if job.seed is None else job.seed)] if job.trials else []
    return {
        "name": job.name,
        "kind": kind,
        "holds": _real_things(load_lab(Path(argv_of(path, job)["--lab"]))),
        "id": f"{began.strftime('%Y%m%dT%H%M%SZ')}-{job.name}",
        "words": [*words, *seed],
        "deadline_s": duration_s(job.deadline),
        "attempts": job.attempts,
    }


def _real_things(lab: Lab) -> list[str]:
    """Return what of a lab is there once: real boards and shaper host.  Virtual boards are made for each job."""
    boards = [key for key in lease_keys(lab, bench="") if not key.startswith("/")]
    return [*boards, *([f"shaper host {lab.shaper_host.ssh.address}"] if lab.shaper_host else [])]


def _failed_last(out: Path, name: str) -> set[str]:
    """Return the jobs that failed in the last night of that name: they run first."""
    last = next((night for night in all_nights(out) if night.facts["name"] == name), None)
    return {j["name"] for j in last.jobs if last.verdict_of(j["name"]) is Verdict.FAIL} if last else set()


def all_nights(out: Path | None = None) -> list[Night]:
    """Return all nights, newest first."""
    folder = (out or paths.reports_out()).absolute() / NIGHTS
    return sorted(_nights(folder), key=lambda night: str(night.facts["started_utc"]), reverse=True)


def _nights(folder: Path) -> Iterator[Night]:
    for facts in folder.glob(f"*/{FACTS}"):
        with suppress(ConfigurationError):
            yield Night(facts.parent)


def damaged_nights(out: Path | None = None) -> dict[str, str]:
    """Return the nights that cannot be read, by id, and why: they are in no list of nights."""
    folder, found = (out or paths.reports_out()).absolute() / NIGHTS, {}
    for each in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            if each.is_dir():
                Night(each)
        except ConfigurationError as exc:
            found[each.name] = exc.message
    return found


def get_night(name: str, out: Path | None = None) -> Night:
    """Return a night by id, an unambiguous part of it, or ``last``.  ConfigurationError otherwise."""
    return pick(
        name,
        all_nights(out),
        lambda night: night.id,
        what="night",
        listed_by="hil nightly list",
        made_by="hil nightly run nightly.yaml",
    )


def _write(path: Path, value: Any, *, mode: int = 0o644) -> None:
    """Write JSON that is whole also after a power cut."""
    write_atomic(path, json.dumps(value, indent=2) + "\n", mode=mode)
