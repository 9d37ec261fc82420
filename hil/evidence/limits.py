"""What happens when a limit is violated: an error with the right blame that prints the limit."""

from __future__ import annotations

from collections.abc import Sequence

from hil.errors import BenchError, Blame, ConfigurationError, HarnessError
from hil.evidence.events import Measurement


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
