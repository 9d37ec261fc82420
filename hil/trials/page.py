"""The page of a series: what was shown by which rule, what failed and why, what was left out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from hil.core.files import write_atomic
from hil.evidence.model import Verdict
from hil.trials.comparison import interval, median_interval
from hil.trials.series import COUNTED, SHOWN_CONFIDENCE, Series, Standing
from hil.trials.stopping_rules import true_error

PAGE = "index.html"


@dataclass(frozen=True)
class Stratum:
    """The counted trials that have something in common; one trial may be in several."""

    name: str
    passes: int
    trials: int
    low: float
    high: float


@dataclass(frozen=True)
class Cause:
    """Failures that have the same checker and words, boards and numbers aside."""

    checker: str
    text: str
    trials: tuple[str, ...]
    faults: tuple[tuple[str, int], ...]
    """How often each fault was in these trials, the most frequent first."""


def strata(lines: Iterable[Mapping[str, Any]], of: str) -> list[Stratum]:
    """Group counted trials by ``fault``, ``moment`` or ``target`` of the faults that struck in them."""
    groups: dict[str, list[bool]] = defaultdict(list)
    for line in _conclusive(lines):
        struck = [s["strike"] for s in line["struck"] if s["began_s"] is not None]
        for name in {strike[of] for strike in struck} or {"none"}:
            groups[name].append(line["verdict"] == Verdict.PASS.value)
    found = []
    for name, passed in sorted(groups.items()):
        low, high = interval(sum(passed), len(passed), SHOWN_CONFIDENCE)
        found.append(Stratum(name, sum(passed), len(passed), low, high))
    return found


def causes(lines: Iterable[Mapping[str, Any]]) -> list[Cause]:
    """Group failures by what the checkers found, most frequent first."""
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = defaultdict(list)
    for line in _conclusive(lines):
        for checker, texts in line["found"].items():
            groups[checker, _shape(texts[0])].append(line)
    found = []
    for (checker, text), own in groups.items():
        faults = Counter(s["strike"]["fault"] for line in own for s in line["struck"] if s["began_s"] is not None)
        names = tuple(f"{line['number']:04d}-{line['attempt']}" for line in own)
        found.append(Cause(checker, text, names, tuple(faults.most_common(5))))
    return sorted(found, key=lambda cause: -len(cause.trials))


def _shape(text: str) -> str:
    """Return a message without what differs from trial to trial: numbers, and names of boards."""
    words = ["#" if any(c.isdigit() for c in word) else word for word in text.split()]
    return " ".join(words)[:160]


def _conclusive(lines: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    wanted = (Verdict.PASS.value, Verdict.FAIL.value)
    return [line for line in lines if line["role"] == COUNTED and line["verdict"] in wanted]


CAVEATS = (
    "Trials on one bench are not independent as boards in orbit are: they share one host, one power supply and one "
    "kernel. A failure of the host touches all of them.",
    "INCONCLUSIVE trials are left out of k and n. Were they left out because the device made them so, the figures "
    "would be too good: their reasons are listed above.",
    "The faults are drawn from the profile, not from a rate in orbit: the figure is a reliability under this profile.",
    "Container boards: a virtual pass closes no requirement that needs hardware.",
)


def facts(series: Series) -> dict[str, Any]:
    """Return all figures of the page."""
    lines = series.lines()
    standing = series.standing()
    counted = [line for line in lines if line["role"] == COUNTED]
    seconds = [sum(line["phases_s"].values()) for line in counted]
    recoveries = [line["converged_s"] for line in _conclusive(lines) if line["converged_s"] is not None]
    return {
        "facts": series.facts,
        "rule": series.rule,
        "standing": standing,
        "error": true_error(series.rule),
        "bound": standing.bound(),
        "anytime": standing.bound_at_any_time(),
        "confidence": SHOWN_CONFIDENCE,
        "lines": lines,
        "strata": {of: strata(lines, of) for of in ("fault", "moment", "target")},
        "causes": causes(lines),
        "inconclusive": [line for line in counted if line["verdict"] == Verdict.INCONCLUSIVE.value],
        "mean_s": sum(seconds) / len(seconds) if seconds else None,
        "recovery": median_interval(recoveries, SHOWN_CONFIDENCE),
        "recoveries": len(recoveries),
        "struck": sum(s["began_s"] is not None for line in counted for s in line["struck"]),
        "drawn": sum(len(line["struck"]) for line in counted),
        "caveats": CAVEATS,
    }


def at_most_left(series: Series) -> int:
    """Return how many more trials may count before the rule ends the series in any case; 0 when it is over."""
    standing = series.standing()
    return 0 if standing.verdict is not None else max(0, series.rule.most - standing.trials)


def summary(series: Series) -> dict[str, Any]:
    """Return the figures for ``--json``."""
    own = facts(series)
    standing: Standing = own["standing"]
    recovery: Sequence[float] | None = own["recovery"]
    return {
        "id": series.facts.id,
        "started_utc": series.facts.started_utc,
        "lab": series.facts.lab,
        "profile": series.facts.profile["name"],
        "seed": series.facts.seed,
        "commit": series.facts.commit,
        "rule": {"name": series.rule.name, "says": series.rule.describe(), "true_error": own["error"]},
        "passes": standing.passes,
        "trials": standing.trials,
        "inconclusive": standing.inconclusive,
        "canary": standing.canary,
        "decision": standing.decision.value,
        "verdict": standing.verdict.value if standing.verdict else None,
        "reason": standing.reason,
        "lower_bound": own["bound"],
        "lower_bound_at_any_time": own["anytime"],
        "confidence": SHOWN_CONFIDENCE,
        "mean_trial_s": own["mean_s"],
        "at_most_left": at_most_left(series),
        "recovery_s": {"median": recovery[0], "low": recovery[1], "high": recovery[2]} if recovery else None,
        "strata": {of: [vars(each) for each in rows] for of, rows in own["strata"].items()},
        "causes": [vars(each) for each in own["causes"]],
        "page": str(series.folder / PAGE),
    }


def write_page(series: Series) -> Path:
    """Write the page of a series, and its path."""
    environment = Environment(
        loader=PackageLoader("hil.trials"), autoescape=select_autoescape(), undefined=StrictUndefined, trim_blocks=True
    )
    page = series.folder / PAGE
    write_atomic(page, environment.get_template("series.html.j2").render(**facts(series)), durable=False)
    return page
