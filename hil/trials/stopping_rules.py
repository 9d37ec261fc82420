"""Stopping rules: when a series of trials ends, what it then shows, and the true error of deciding so.

A rule is chosen before the first trial.  Its true error is the probability that it accepts a system whose
reliability is exactly the one to be shown (the worst that is not good enough), computed by exact recursion over all
ways in which the series may go; looking at a Clopper-Pearson bound after every trial has no rule here, because its
true error is 18 to 27 % where it says 10 %.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Protocol

from hil.errors import ConfigurationError
from hil.evidence.stats import runs_for

MOST_TRIALS = 5000


class Decision(StrEnum):
    """What a rule says after a number of trials."""

    GO_ON = "go on"
    SHOWN = "shown"
    NOT_SHOWN = "not shown"


@dataclass(frozen=True)
class Goal:
    """The reliability to be shown, and the confidence in that."""

    reliability: float
    confidence: float

    def __post_init__(self) -> None:
        for name in ("reliability", "confidence"):
            if not 0 < getattr(self, name) < 1:
                raise ConfigurationError(f"{name} is {getattr(self, name):g}", remedy="give a number between 0 and 1")

    def __str__(self) -> str:
        return f"R = {self.reliability:g} at {self.confidence:.0%} confidence"

    @classmethod
    def parse(cls, text: str) -> Goal:
        """Read ``R=0.95,C=0.90`` or ``0.95@90%``. ConfigurationError says how it is written."""
        try:
            if "@" in text:
                reliability, _, confidence = text.partition("@")
                share = float(confidence.rstrip("%")) / (100 if confidence.endswith("%") else 1)
                return cls(float(reliability), share)
            parts = dict(part.split("=", 1) for part in text.replace(" ", "").split(","))
            return cls(float(parts["R"]), float(parts["C"]))
        except (ValueError, KeyError) as exc:
            raise ConfigurationError(f"{text!r} is no goal", remedy="write R=0.95,C=0.90 or 0.95@90%") from exc


class Rule(Protocol):
    """When to stop, and what is shown then."""

    @property
    def name(self) -> str: ...
    @property
    def goal(self) -> Goal | None: ...
    @property
    def most(self) -> int:
        """The number of counted trials at which it ends in any case."""
        ...

    def decide(self, passes: int, trials: int) -> Decision:
        """Return what to do after ``trials`` counted trials of which ``passes`` passed."""
        ...

    def describe(self) -> str:
        """Return one sentence for people."""
        ...


@dataclass(frozen=True)
class Count:
    """A number of trials that was fixed beforehand; nothing is to be shown."""

    most: int
    name: str = "count"
    goal: Goal | None = None

    def decide(self, passes: int, trials: int) -> Decision:
        return Decision.GO_ON if trials < self.most else Decision.NOT_SHOWN

    def describe(self) -> str:
        return f"{self.most} trials, fixed beforehand; the bound below is a statement about them"


@dataclass(frozen=True)
class Fixed:
    """A number of trials and of allowed failures that are fixed beforehand (binomial acceptance sampling)."""

    goal: Goal
    failures: int = 0
    name: str = "fixed"

    @cached_property
    def most(self) -> int:
        return runs_for(self.goal.reliability, self.goal.confidence, self.failures)

    def decide(self, passes: int, trials: int) -> Decision:
        if trials - passes > self.failures:
            return Decision.NOT_SHOWN
        return Decision.SHOWN if trials >= self.most else Decision.GO_ON

    def describe(self) -> str:
        return f"{self.most} trials with at most {self.failures} failures, fixed beforehand"


@dataclass(frozen=True)
class Sprt:
    """Wald's sequential probability ratio test, truncated (Wald, Sequential Analysis, 1947, chapter 5).

    It tests the failure probability ``1 - R`` against a good system's, ``good_failure`` (a fifth of that when None),
    with consumer's risk ``1 - C`` and producer's risk ``producer``.  At ``most`` trials, three times those of the
    fixed rule without failures, it ends with "not shown".
    """

    goal: Goal
    good_failure: float | None = None
    producer: float = 0.1
    name: str = "sprt"

    @cached_property
    def most(self) -> int:
        return 3 * runs_for(self.goal.reliability, self.goal.confidence)

    @cached_property
    def _terms(self) -> tuple[float, float, float, float]:
        """(step for a failure, step for a pass, accept at or below, reject at or above), in natural logarithms."""
        bad = 1 - self.goal.reliability
        good = bad / 5 if self.good_failure is None else self.good_failure
        if not 0 < good < bad:
            raise ConfigurationError(f"a good system fails with {good:g}, which is not below {bad:g}")
        consumer = 1 - self.goal.confidence
        return (
            math.log(bad / good),
            math.log((1 - bad) / (1 - good)),
            math.log(consumer / (1 - self.producer)),
            math.log((1 - consumer) / self.producer),
        )

    def decide(self, passes: int, trials: int) -> Decision:
        failure, passed, accept, reject = self._terms
        ratio = (trials - passes) * failure + passes * passed
        if ratio <= accept:
            return Decision.SHOWN
        return Decision.NOT_SHOWN if ratio >= reject or trials >= self.most else Decision.GO_ON

    def describe(self) -> str:
        _, passed, accept, _ = self._terms
        first = math.ceil(accept / passed)
        return f"SPRT, accepts after {first} trials without failure at the earliest, ends after {self.most}"


PRIOR = 0.2
"""Second parameter of the beta mixture: how much it expects a system that hardly ever fails."""


def log_e_value(passes: int, trials: int, reliability: float, *, below: bool = True) -> float:
    """Return the logarithm of an e-value against "the reliability is at most R" (``below``), or "at least R".

    A likelihood ratio mixed over Beta(1, ``PRIOR``) cut to the other side of R.  For each q above R the ratio
    ``(q/R)^pass * ((1-q)/(1-R))^fail`` is a supermartingale under every reliability up to R, so is the mixture, and
    by Ville's inequality it ever reaches ``1/(1-C)`` with probability ``1-C`` at most (Ramdas and others,
    Game-theoretic statistics and safe anytime-valid inference, Statistical Science 38, 2023).
    """
    from scipy.special import betainc, betaincc, betaln

    a, b = 1.0, PRIOR
    failures = trials - passes
    share = betaincc if below else betainc
    tail, whole = share(a + passes, b + failures, reliability), share(a, b, reliability)
    if tail <= 0.0:
        return -math.inf
    mixed = betaln(a + passes, b + failures) + math.log(tail) - betaln(a, b) - math.log(whole)
    return float(mixed) - passes * math.log(reliability) - failures * math.log1p(-reliability)


@dataclass(frozen=True)
class Anytime:
    """An anytime-valid test: it may be looked at after every trial, and may stop whenever it shows something."""

    goal: Goal
    most: int = 500
    name: str = "anytime"

    def decide(self, passes: int, trials: int) -> Decision:
        limit = -math.log1p(-self.goal.confidence)
        if log_e_value(passes, trials, self.goal.reliability) >= limit:
            return Decision.SHOWN
        if trials >= self.most or log_e_value(passes, trials, self.goal.reliability, below=False) >= limit:
            return Decision.NOT_SHOWN
        return Decision.GO_ON

    def describe(self) -> str:
        first = next((n for n in range(1, self.most + 1) if self.decide(n, n) is Decision.SHOWN), None)
        when = f"accepts after {first} trials without failure at the earliest" if first else "cannot accept"
        return f"anytime-valid (beta mixture), {when}, ends after {self.most}"


def anytime_lower_bound(passes: int, trials: int, confidence: float) -> float:
    """Return the lower bound of the reliability that holds at all moments of a series at once."""
    limit = -math.log1p(-confidence)
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if log_e_value(passes, trials, middle) >= limit:
            low = middle
        else:
            high = middle
    return low


def acceptance(rule: Rule, reliability: float) -> tuple[float, float]:
    """Return (probability that the rule ends with "shown", mean number of trials) for a system that reliable.

    By exact recursion over (trials, failures): the probability of each way that has not ended yet.
    """
    going = {0: 1.0}  # failures so far -> probability
    shown = mean = 0.0
    for trials in range(1, rule.most + 1):
        following: dict[int, float] = {}
        for failures, probability in going.items():
            mean += probability
            for more, share in ((0, reliability), (1, 1 - reliability)):
                total = failures + more
                following[total] = following.get(total, 0.0) + probability * share
        going = {}
        for failures, probability in following.items():
            decision = rule.decide(trials - failures, trials)
            if decision is Decision.GO_ON:
                going[failures] = probability
            elif decision is Decision.SHOWN:
                shown += probability
        if sum(going.values()) < 1e-15:
            break
    return shown, mean


def true_error(rule: Rule) -> float | None:
    """Return the probability that the rule accepts a system exactly as reliable as is not enough; None without goal."""
    return None if rule.goal is None else acceptance(rule, rule.goal.reliability)[0]


RULES: dict[str, Callable[[Goal], Rule]] = {"fixed": Fixed, "sprt": Sprt, "anytime": Anytime}
"""By the name on the command line."""


def rule_of(name: str, goal: Goal, *, failures: int = 0) -> Rule:
    """Return a rule.

    ConfigurationError when it would need more than ``MOST_TRIALS`` trials, can never show the goal, or is not known.
    """
    if name not in RULES:
        raise ConfigurationError(f"there is no rule {name!r}", remedy=f"choose one of {', '.join(RULES)}")
    rule = Fixed(goal, failures) if name == "fixed" else RULES[name](goal)
    if rule.most > MOST_TRIALS:
        raise ConfigurationError(f"{goal} needs {rule.most} trials", remedy="ask for less, or for another rule")
    if rule.decide(rule.most, rule.most) is not Decision.SHOWN:
        text = f"rule {name} cannot show {goal} within {rule.most} trials"
        raise ConfigurationError(text, remedy="ask for less, or for another rule")
    return rule
