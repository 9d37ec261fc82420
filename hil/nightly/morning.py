"""What the morning must know of a night: Markdown for the page of a CI job, and a few lines for a chat."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hil.core.files import write_atomic
from hil.errors import HilError
from hil.evidence.manifest import REPORT
from hil.evidence.model import Verdict, plural
from hil.evidence.store import RUNS, Run, RunStore
from hil.nightly.night import Attempt, Night
from hil.report.history_classes import Class
from hil.report.nights import History, histories, noteworthy, plan_and_lab
from hil.report.summary import plain
from hil.text import one_line
from hil.trials.page import PAGE
from hil.trials.series import SERIES

MORNING, CHAT = "morning.md", "chat.txt"
MOST_CHANGES = 20
CHAT_CHANGES = 3
CHAT_CHARACTERS = 1000
BENCH = (Class.BENCH_FAULT, Class.NOT_RUN)
"""What is told of the bench, not of the OS."""


@dataclass(frozen=True)
class Row:
    """One job of the night."""

    name: str
    verdict: Verdict
    reason: str
    attempts: tuple[Attempt, ...]
    page: Path | None
    """Its report, or the page of its series."""

    @property
    def minutes(self) -> float:
        """How long its attempts took."""
        return sum(attempt.seconds for attempt in self.attempts) / 60

    @property
    def retried(self) -> tuple[Attempt, ...]:
        """Attempts that were not the last: the bench failed in them, or the night was killed."""
        return self.attempts[:-1]


@dataclass(frozen=True)
class Morning:
    """One night, as it is told."""

    night: Night
    rows: tuple[Row, ...]
    changes: tuple[tuple[str, History], ...]
    """What is not steady, each with its plan and lab."""
    unknown: tuple[str, ...] = ()
    """What of the changes is not known, and why."""

    @property
    def title(self) -> str:
        day = str(self.night.facts["started_utc"])[:10]
        state = "" if self.night.state == "ended" else f" ({self.night.state})"
        return f"{self.night.verdict}{state}: night {self.night.facts['name']}, {day}"

    @property
    def sentence(self) -> str:
        """How many jobs came to what, and the first thing to know."""
        found = [row.verdict for row in self.rows]
        counts = ", ".join(f"{found.count(v)} {v}" for v in dict.fromkeys(sorted(found, key=list(Verdict).index)))
        worst = next((row for row in self.rows if row.verdict is self.night.verdict), self.rows[0])
        first = "" if worst.verdict is Verdict.PASS else f" {worst.name}: {one_line(worst.reason, 300)}"
        return f"{plural(len(self.rows), 'job')}: {counts}.{first}"


def morning_of(night: Night) -> Morning:
    """Return what there is to say of a night, also of one that was interrupted."""
    rows = tuple(_row(night, job["name"], job["kind"]) for job in night.jobs)
    try:
        return Morning(night, rows, *_changes(night))
    except HilError as exc:  # a broken store must not take the verdicts with it
        return Morning(night, rows, (), (f"the histories cannot be read: {exc.message}",))


def _row(night: Night, name: str, kind: str) -> Row:
    attempts = tuple(night.attempts(name))
    last = attempts[-1] if attempts else None
    page = None
    if last is not None:
        page = (
            night.out / RUNS / last.run_id / REPORT if kind == "campaign" else night.out / SERIES / last.run_id / PAGE
        )
    reason = last.reason if last is not None else "not begun"
    return Row(name, night.verdict_of(name), reason, attempts, page if page and page.is_file() else None)


def _changes(night: Night) -> tuple[tuple[tuple[str, History], ...], tuple[str, ...]]:
    """Return what is not steady in the histories that end with this night's runs, and of what that is not known.

    Each plan and lab is told once, by the latest run of all its jobs.
    """
    store, changes, unknown = RunStore(night.out), list[tuple[str, History]](), list[str]()
    store.rebuild()
    known, tonight = {run.run_id: run for run in store.runs(brief=True)}, dict[tuple[str, str], list[Run]]()
    for job in night.jobs:
        attempts = night.attempts(job["name"]) if job["kind"] == "campaign" else []
        runs = [known[attempt.run_id] for attempt in attempts if attempt.run_id in known]
        for run in runs:
            tonight.setdefault((run.plan, run.lab), []).append(run)
        if attempts and not runs:
            unknown.append(f"{job['name']}: no run of it is in the store")
    for of, runs in tonight.items():
        latest = max(runs, key=lambda run: (run.started_utc, run.run_id))
        told, found = histories(store, *of, until=latest.run_id)
        if told and told[-1].run_id in {run.run_id for run in runs}:
            changes += [(plan_and_lab(*of), each) for each in noteworthy(found)]
        else:
            unknown.append(f"{plan_and_lab(*of)}: no run of this night has a verdict that counts")
    return tuple(changes), tuple(unknown)


def markdown(morning: Morning) -> str:
    """Return the summary for the page of a CI job; links lead from the night's folder to its runs."""
    lines = [f"# {plain(morning.title)}", "", plain(morning.sentence), ""]
    lines += ["| job | verdict | why | attempts | min | page |", "|---|---|---|---:|---:|---|"]
    for row in morning.rows:
        link = f"[page]({_relative(row.page, morning.night.folder)})" if row.page else ""
        cells = [row.name, row.verdict, plain(row.reason), len(row.attempts), f"{row.minutes:.1f}", link]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    device = [(of, each) for of, each in morning.changes if each.finding.kind not in BENCH]
    bench = [(of, each) for of, each in morning.changes if each.finding.kind in BENCH]
    device_lines = [*_list(device), *(f"- Not known: {plain(why)}" for why in morning.unknown)]
    lines += ["", "## What changed", "", *(device_lines or ["Nothing: all is as it was in the nights before."])]
    retried = [f"- {row.name}, attempt {a.number}: {_why(a)}" for row in morning.rows for a in row.retried]
    lines += ["", "## The bench", "", *([*retried, *_list(bench)] or ["No fault of the bench."])]
    return "\n".join([*lines, ""])


def chat(morning: Morning) -> str:
    """Return a message of at most ``CHAT_CHARACTERS``: verdict, jobs, and the first changes."""
    device = [each for _, each in morning.changes if each.finding.kind not in BENCH]
    lines = [morning.title, morning.sentence]
    lines += [f"- {one_line(each.series.label, 120)}: {each.finding.text}" for each in device[:CHAT_CHANGES]]
    if len(device) > CHAT_CHANGES:
        lines.append(f"and {len(device) - CHAT_CHANGES} more changes")
    lost = sum(len(row.retried) for row in morning.rows)
    if lost:
        lines.append(f"bench: {plural(lost, 'attempt')} repeated")
    return one_paragraph("\n".join(lines))


def one_paragraph(text: str) -> str:
    """Return a message that is cut where a chat would cut it."""
    return text if len(text) <= CHAT_CHARACTERS else text[: CHAT_CHARACTERS - 4].rstrip() + " ..."


def write_morning(morning: Morning) -> str:
    """Write the summaries of a night into its folder; return what went wrong, empty when nothing did."""
    folder = morning.night.folder
    try:
        write_atomic(folder / MORNING, markdown(morning).encode("utf-8", "replace"), durable=False)
        write_atomic(folder / CHAT, (chat(morning) + "\n").encode("utf-8", "replace"), durable=False)
    except OSError as exc:
        return f"{folder}: {exc.strerror or exc}"
    return ""


def notify(argv: Sequence[str], text: str, timeout_s: float) -> str:
    """Run a command with the message on its standard input; return what went wrong, empty when nothing did."""
    try:
        done = subprocess.run(
            list(argv),
            input=text.encode("utf-8", "replace"),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"{argv[0]} did not end within {timeout_s:g} s"
    except (OSError, ValueError) as exc:
        return f"{argv[0]} cannot be run: {exc}"
    said = one_line(done.stderr.decode("utf-8", "replace"), 200)
    return f"{argv[0]} ended with {done.returncode}: {said}" if done.returncode else ""


def _list(changes: Sequence[tuple[str, History]]) -> list[str]:
    lines = [
        f"- **{each.finding.kind.value}** {plain(each.series.label)}: {plain(each.finding.text)} ({plain(of)})"
        for of, each in changes[:MOST_CHANGES]
    ]
    more = len(changes) - MOST_CHANGES
    return [*lines, f"- and {more} more: `hil runs history`"] if more > 0 else lines


def _why(attempt: Attempt) -> str:
    if attempt.exit_code is None:
        return "killed with the night"
    return f"{attempt.verdict}: {plain(attempt.reason)}"


def _relative(path: Path, folder: Path) -> str:
    from os.path import relpath
    from urllib.parse import quote

    return quote(relpath(path, folder))
