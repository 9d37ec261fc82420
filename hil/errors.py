"""Typed blame: every error says whose fault it is and what to do about it.

Only :class:`DeviceError` (the device under test) can turn a trial into FAIL.  Bench and harness errors make it
INCONCLUSIVE; configuration errors stop the run before anything is touched (exit code 2).
"""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from hil.text import clean


class Blame(StrEnum):
    """Whose fault an error is."""

    CONFIGURATION = "configuration"
    BENCH = "bench"
    DEVICE = "device under test"
    HARNESS = "harness"


class HilError(Exception):
    """Base of every error this project raises on purpose.

    ``remedy`` is one sentence that tells the reader what to do next; it is printed under the message.  Both may quote
    a board, so both are cleaned.
    """

    blame: Blame = Blame.HARNESS

    def __init__(self, message: str, *, remedy: str = "") -> None:
        self.message = clean(message)
        self.remedy = clean(remedy)
        super().__init__(self.message)

    def with_context(self, message: str) -> Self:
        """Return the same error, of the same type and with all that it carries, with another message."""
        other = type(self).__new__(type(self), message)  # its own __init__ may want more than a message
        vars(other).update(vars(self) | {"message": clean(message)})
        return other

    def __str__(self) -> str:
        return f"{self.message}\n  remedy: {self.remedy}" if self.remedy else self.message


class ConfigurationError(HilError):
    """A file or an argument is wrong: names the file, the line or key, what is allowed."""

    blame = Blame.CONFIGURATION


class BenchError(HilError):
    """The bench failed: a link, a container engine, a cable, a namespace. Makes a trial INCONCLUSIVE."""

    blame = Blame.BENCH


class DeviceError(HilError):
    """The device under test failed: its OS, its updater, its answer. Makes a trial FAIL."""

    blame = Blame.DEVICE


class HarnessError(HilError):
    """This software failed (a bug of ours). Makes a trial INCONCLUSIVE."""

    blame = Blame.HARNESS


class Abandoned(BaseException):
    """A wait that is given up because the bench is lost.  No HilError: what tries again must not take it for one.

    ``error`` says what was lost.
    """

    def __init__(self, error: BenchError) -> None:
        super().__init__(error.message)
        self.error = error
