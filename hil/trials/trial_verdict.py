"""The verdict of a trial: was it safe, was it live, and may the device be blamed for what was not?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hil.errors import Blame
from hil.evidence.blame import Judgement
from hil.evidence.carriers import judged_with_bench, silences
from hil.evidence.model import Verdict
from hil.trials.checkers import LIVENESS, SAFETY, check
from hil.trials.history import History


@dataclass(frozen=True)
class TrialVerdict:
    """What a trial came to; ``safe`` and ``live`` are None when the bench was at fault."""

    verdict: Verdict
    safe: bool | None
    live: bool | None
    blame: Blame | None = None
    reason: str = ""
    found: dict[str, list[str]] = field(default_factory=dict)
    """What each checker found, also where the bench is blamed."""


def judge(history: History, bench_faults: Sequence[str] = (), broken: str = "") -> TrialVerdict:
    """Judge a trial; ``broken`` is a bug of the harness that ended a part of it.

    INCONCLUSIVE when the bench failed, a fault was not confirmed, a checker failed, the watch was not complete, or
    what carried the trial was at fault (:mod:`hil.evidence.carriers`).
    """
    unsafe, failed = check(SAFETY, history)
    stuck, more = check(LIVENESS, history)
    bugs = [*filter(None, [broken]), *failed, *more]
    found = {**unsafe, **stuck}
    texts = [text for wrong in found.values() for text in wrong]
    reasons = [*bench_faults, *_not_proven(history), *_not_watched(history, bool(texts))]
    if bugs:
        return TrialVerdict(Verdict.INCONCLUSIVE, None, None, Blame.HARNESS, "; ".join(bugs), found)
    if reasons:
        return TrialVerdict(Verdict.INCONCLUSIVE, None, None, Blame.BENCH, "; ".join(reasons), found)
    own = Judgement(Verdict.FAIL, Blame.DEVICE, "; ".join(texts)) if texts else Judgement(Verdict.PASS)
    judged = judged_with_bench(own, history.events)
    if judged.verdict is Verdict.PASS and (silent := silences(history.events)):
        judged = Judgement(Verdict.INCONCLUSIVE, Blame.BENCH, "; ".join(silent))  # so its faults may not have struck
    if judged.verdict is Verdict.INCONCLUSIVE:
        return TrialVerdict(Verdict.INCONCLUSIVE, None, None, judged.blame, judged.message, found)
    return TrialVerdict(judged.verdict, not unsafe, not stuck, judged.blame, judged.message, found)


def _not_proven(history: History) -> list[str]:
    reasons = []
    for struck in history.struck:
        if struck.error:
            reasons.append(f"fault {struck.strike}: {struck.error}")
        elif struck.began_s is not None and struck.proof != "confirmed":
            reasons.append(f"fault {struck.strike} is not confirmed ({struck.proof or 'unknown'}): {struck.seen}")
    return reasons


def _not_watched(history: History, failed: bool) -> list[str]:
    """A violation may have gone unseen; one that was seen stands all the same."""
    watched = history.watched
    if watched is None:
        return ["the watch over the epochs did not end as it should"]
    if watched.conclusive or failed:
        return []
    return [f"the epochs were not watched without a gap: {watched.max_gap_s} s at {watched.max_gap_board}"]
