"""What an exception means for the verdict, and the exception of a violated limit.

===========================================  =================
an assertion, ``pytest.fail``                 FAIL (device)
:class:`hil.errors.DeviceError`               FAIL (device)
``BenchError``, ``HarnessError``              INCONCLUSIVE
:class:`hil.errors.Abandoned`                 INCONCLUSIVE (bench)
any other exception                           INCONCLUSIVE (harness: a bug of ours or of the test)
``ConfigurationError``, ``pytest.skip``       NOT RUN
===========================================  =================
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from hil.errors import Abandoned, BenchError, Blame, ConfigurationError, HarnessError, HilError
from hil.evidence.measurement import Measurement
from hil.evidence.model import WORST_FIRST, Verdict

_OF_BLAME = {
    Blame.DEVICE: Verdict.FAIL,
    Blame.BENCH: Verdict.INCONCLUSIVE,
    Blame.HARNESS: Verdict.INCONCLUSIVE,
    Blame.CONFIGURATION: Verdict.NOT_RUN,
}
_NOT_THE_DEVICES = frozenset(_OF_BLAME) - {Blame.DEVICE}


@dataclass(frozen=True)
class Judgement:
    """Verdict of one phase of a test and whose fault it was; ``blame`` is None when nobody's."""

    verdict: Verdict
    blame: Blame | None = None
    message: str = ""
    remedy: str = ""


def judge_exception(exc: BaseException | None) -> Judgement:
    """Return what ``exc`` (None: nothing was raised) makes of the test that raised it."""
    if exc is None:
        return Judgement(Verdict.PASS)
    if isinstance(exc, Abandoned):
        exc = exc.error
    if isinstance(exc, HilError):
        return Judgement(_OF_BLAME[exc.blame], exc.blame, exc.message, exc.remedy)
    if isinstance(exc, AssertionError):
        return Judgement(Verdict.FAIL, Blame.DEVICE, str(exc) or "assertion failed")
    if isinstance(exc, BaseExceptionGroup):
        return _of_group(exc)
    kind = type(exc).__name__
    # pytest's own outcomes are told by name, because this module must not need pytest.
    if any((c.__module__, c.__name__) == ("_pytest.outcomes", "OutcomeException") for c in type(exc).__mro__):
        if kind == "Skipped":
            return Judgement(Verdict.NOT_RUN, None, str(exc))
        if kind == "Exit":
            return Judgement(Verdict.INCONCLUSIVE, Blame.HARNESS, f"the run was ended: {exc}")
        return Judgement(Verdict.FAIL, Blame.DEVICE, str(exc) or "failed")
    if isinstance(exc, KeyboardInterrupt):
        return Judgement(Verdict.INCONCLUSIVE, Blame.HARNESS, "interrupted by the operator")
    return Judgement(Verdict.INCONCLUSIVE, Blame.HARNESS, f"{kind}: {exc}")


def _of_group(group: BaseExceptionGroup[BaseException]) -> Judgement:
    """Return the judgement of several at once; one that is not the device's decides, as it hides the device."""
    parts = [judge_exception(e) for e in group.exceptions]
    decisive = next((p for p in parts if p.verdict is not Verdict.FAIL), parts[0])
    more = f" (and {len(parts) - 1} more)" if len(parts) > 1 else ""
    return Judgement(decisive.verdict, decisive.blame, decisive.message + more, decisive.remedy)


def gravest(judgements: list[Judgement]) -> Judgement:
    """Return the judgement of a test from those of its phases.

    As in a group, one that is not the device's hides the device and decides; then the device's failure stays in the
    message.
    """
    failed = next((j for j in judgements if j.verdict is Verdict.FAIL), None)
    faults = [j for j in judgements if j.blame in _NOT_THE_DEVICES]
    decisive = min(faults or judgements, key=lambda j: WORST_FIRST.index(j.verdict))
    if failed is None or failed is decisive:
        return decisive
    return replace(decisive, message=f"{decisive.message}; the test ended with: {failed.message}")


class LimitViolated(AssertionError):
    """The device under test is outside a limit."""


def raise_if_violated(measurements: Sequence[Measurement]) -> None:
    """Raise for the measurements outside their limits; nothing when there is none.

    LimitViolated (FAIL) when all of them are the device's; when one is the bench's or the harness's, that
    error (INCONCLUSIVE), because on a bench outside its limits nothing is known about the device.
    """
    __tracebackhide__ = True
    violated = [m for m in measurements if m.ok is False]
    if not violated:
        return
    message = "\n".join(str(m) for m in violated)
    blames = {Blame(m.blame) for m in violated}
    if Blame.CONFIGURATION in blames:
        raise ConfigurationError(message)
    if Blame.BENCH in blames:
        raise BenchError(message, remedy="the bench is outside its limits; repeat on a quieter machine")
    if Blame.HARNESS in blames:
        raise HarnessError(message)
    raise LimitViolated(message)
