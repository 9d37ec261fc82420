"""Figures of runs, series of trials and nights for Prometheus, from the reports folder: for a scrape, or as a textfile.

A run is over before anybody scrapes it, so what is told is what the folder knows: totals by verdict, and the last run
of each plan and lab.  Names are stable: a changed meaning gets another name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING

from hil.core.files import on_this_machine, write_atomic
from hil.errors import ConfigurationError, HilError
from hil.evidence.model import Verdict
from hil.evidence.store import Run, RunStore, counted
from hil.monitor.metrics import Metric, Series, described, moment
from hil.nightly.night import Night, all_nights
from hil.text import one_line
from hil.trials.series import Standing, all_series

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client import Metric as Family

LATEST_SERIES = 10
"""So many series of trials are told, the newest."""
JOB = "hil"
"""Name of the job at a pushgateway."""
PUSH_S = 10.0


@dataclass(frozen=True)
class Reports:
    """What a reports folder has."""

    out: Path

    @cached_property
    def runs(self) -> list[Run]:
        """All runs that ended, the newest first; none where the store cannot be read."""
        with suppress(HilError):
            store = RunStore(self.out)
            store.rebuild()
            return [run for run in store.runs(brief=True) if run.verdict]
        return []

    @cached_property
    def last(self) -> list[Run]:
        """The last run of each plan and lab that counts."""
        return list({(run.plan, run.lab): run for run in reversed(counted(self.runs)[0])}.values())

    @cached_property
    def series(self) -> list[tuple[tuple[str, str, str], Standing, int]]:
        """(id, lab, profile), standing and most trials of the newest series."""
        found = []
        for each in all_series(self.out)[:LATEST_SERIES]:
            with suppress(HilError, ValueError, KeyError, TypeError):
                facts = each.facts
                found.append(((facts.id, facts.lab, str(facts.profile.get("name"))), each.standing(), facts.most))
        return found

    @cached_property
    def nights(self) -> list[Night]:
        """The last night of each name."""
        return list({str(night.facts["name"]): night for night in reversed(all_nights(self.out))}.values())


def _each_verdict(labels: tuple[str, ...], verdict: str) -> Iterator[tuple[tuple[str, ...], float]]:
    """Yield 1 for a verdict and 0 for the others, so that a change is seen and no series is left behind."""
    for each in Verdict:
        yield (*labels, each.value), each.value == verdict


@described("hil_runs_total", "plan", "lab", "verdict")
def _runs(reports: Reports) -> Series:
    """Runs that ended, by verdict; those whose directory was deleted count, too."""
    yield from Counter((run.plan, run.lab, run.verdict) for run in reports.runs).items()


@described("hil_run_last_start_timestamp_seconds", "plan", "lab")
def _last_start(reports: Reports) -> Series:
    """Begin of the last run of a plan on a lab that counts (no partial one), Unix time."""
    for run in reports.last:
        yield (run.plan, run.lab), moment(run.started_utc)


@described("hil_run_last_duration_seconds", "plan", "lab")
def _last_duration(reports: Reports) -> Series:
    """How long it took."""
    for run in reports.last:
        begin, end = moment(run.started_utc), moment(run.ended_utc)
        yield (run.plan, run.lab), None if begin is None or end is None else end - begin


@described("hil_run_last_verdict", "plan", "lab", "verdict")
def _last_verdict(reports: Reports) -> Series:
    """1 for its verdict, 0 for the others."""
    for run in reports.last:
        yield from _each_verdict((run.plan, run.lab), run.verdict)


@described("hil_run_last_tests", "plan", "lab", "verdict")
def _last_tests(reports: Reports) -> Series:
    """Its tests, by verdict."""
    for run in reports.last:
        for verdict, count in run.counts.items():
            yield (run.plan, run.lab, verdict), count


@described("hil_series_trials", "series", "lab", "profile", "verdict")
def _trials(reports: Reports) -> Series:
    """Trials of a series that ended so far, by verdict; of the ten newest series, also while they go on."""
    for labels, standing, _ in reports.series:
        counts = {"PASS": standing.passes, "FAIL": standing.failures, "INCONCLUSIVE": standing.inconclusive}
        for verdict, count in counts.items():
            yield (*labels, verdict), count


@described("hil_series_trials_most", "series", "lab", "profile")
def _trials_most(reports: Reports) -> Series:
    """Trials after which its rule ends it at the latest."""
    for labels, _, most in reports.series:
        yield labels, most


@described("hil_series_verdict", "series", "lab", "profile", "verdict")
def _series_verdict(reports: Reports) -> Series:
    """1 for its verdict, 0 for the others; no series while it goes on."""
    for labels, standing, _ in reports.series:
        if standing.verdict is not None:
            yield from _each_verdict(labels, standing.verdict.value)


@described("hil_night_last_start_timestamp_seconds", "night")
def _night_start(reports: Reports) -> Series:
    """Begin of the last night of that name, Unix time."""
    for night in reports.nights:
        yield (str(night.facts["name"]),), moment(str(night.facts["started_utc"]))


@described("hil_night_last_verdict", "night", "verdict")
def _night_verdict(reports: Reports) -> Series:
    """1 for its verdict (NOT RUN while it goes on and nothing is known), 0 for the others."""
    for night in reports.nights:
        yield from _each_verdict((str(night.facts["name"]),), night.verdict.value)


@described("hil_night_last_jobs", "night", "verdict")
def _night_jobs(reports: Reports) -> Series:
    """Its jobs, by verdict."""
    for night in reports.nights:
        for verdict, count in Counter(night.verdict_of(job["name"]).value for job in night.jobs).items():
            yield (str(night.facts["name"]), verdict), count


RUN_METRICS: tuple[Metric[Reports], ...] = (
    *(_runs, _last_start, _last_duration, _last_verdict, _last_tests),
    *(_trials, _trials_most, _series_verdict, _night_start, _night_verdict, _night_jobs),
)


def table() -> list[tuple[str, str, str, str]]:
    """Return (name, kind, labels, meaning) of every metric, as the documentation lists it."""
    return [(m.name, m.kind, ", ".join(m.labels), m.help) for m in RUN_METRICS]


class ReportsCollector:
    """A ``prometheus_client`` collector that reads a reports folder on every scrape."""

    def __init__(self, out: Path) -> None:
        self._out = out

    def collect(self) -> Iterator[Family]:
        """Yield every family, also those without a series."""
        reports = Reports(self._out)
        for metric in RUN_METRICS:
            family = metric.family()
            for labels, value in metric.known(reports):
                family.add_metric(labels, value)
            yield family


def _registry(out: Path) -> CollectorRegistry:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry(auto_describe=False)
    registry.register(ReportsCollector(out))
    return registry


def text_of(out: Path) -> str:
    """Return the figures in Prometheus's text format."""
    from prometheus_client import generate_latest

    return generate_latest(_registry(out)).decode()


def write_textfile(out: Path, path: Path) -> None:
    """Replace a file for node_exporter's textfile collector in one step.  ConfigurationError: it cannot be written."""
    if path.suffix != ".prom":
        raise ConfigurationError(
            f"{path}: node_exporter reads only files that end in .prom", remedy=f"name it {path.with_suffix('.prom')}"
        )
    with on_this_machine(path):
        write_atomic(path, text_of(out), durable=False)


def push(out: Path, gateway: str, grouping: Mapping[str, str] | None = None) -> None:
    """Put the figures at a pushgateway (HOST:PORT), in the place of those before.  ConfigurationError: it refuses."""
    from prometheus_client import push_to_gateway

    try:
        push_to_gateway(gateway, job=JOB, registry=_registry(out), grouping_key=dict(grouping or {}), timeout=PUSH_S)
    except (OSError, ValueError, HTTPException) as exc:
        raise ConfigurationError(
            f"the pushgateway {gateway} did not take the figures: {one_line(str(exc), 200)}",
            remedy="give its HOST:PORT; is it up?",
        ) from exc
