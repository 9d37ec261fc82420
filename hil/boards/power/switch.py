"""One outlet, and the switch that believes it only when it has read it back; and the pins of a board's header.

An :class:`Outlet` says one thing to a strip and reads one thing from it; every driver in this package is one.
:class:`ConfirmedSwitch` makes verbs of it that return when the thing is true.

What is repeated: reading the state, until the deadline.  What is not: a command.  A command whose answer is lost
may have been obeyed; it is never sent again, the state that is read back decides.
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from hil.boards.protocol import PowerState
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import BenchError
from hil.evidence.events import PowerAnswerLost
from hil.evidence.sink import NullSink, Sink

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reading:
    """What a strip says of one outlet."""

    state: PowerState
    trouble: str = ""  # why it switched itself off, in its own word, e.g. "overpower"


class Outlet(Protocol):
    """One outlet of one strip, spoken to once per call."""

    @property
    def name(self) -> str: ...

    def command(self, wanted: PowerState) -> None:
        """Send the command once. NoAnswerError when it may have been obeyed, BenchError when it was refused."""

    def read(self) -> Reading:
        """Ask once. BenchError (NoAnswerError when nothing came back)."""


class NoAnswerError(BenchError):
    """A strip was asked and did not answer: whether it did what it was told is not known."""


class ConfirmedSwitch:
    """Power of one board: command its outlet once, then read back until it is so; BenchError at the deadline."""

    def __init__(
        self,
        outlet: Outlet,
        *,
        deadline_s: float = 10.0,
        every_s: float = 0.1,
        sink: Sink | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        """Give a whole verb ``deadline_s``; the request under way at its end may take its own time-out more."""
        self._outlet = outlet
        self._deadline_s = deadline_s
        self._every_s = every_s
        self._sink = sink or NullSink()
        self._clock = clock

    @property
    def name(self) -> str:
        return self._outlet.name

    def on(self) -> None:
        self._make(PowerState.ON)

    def off(self) -> None:
        self._make(PowerState.OFF)

    def state(self) -> PowerState:
        return self._outlet.read().state

    def _make(self, wanted: PowerState) -> None:
        end = self._clock.monotonic() + self._deadline_s
        lost: NoAnswerError | None = None
        _log.debug("%s: turn %s", self.name, wanted.value)
        try:
            self._outlet.command(wanted)
        except NoAnswerError as exc:
            lost = exc
            self._sink.emit(PowerAnswerLost(self.name, wanted.value, exc.message))
        reading, failure = self._read_until(wanted, end)
        if reading is None:
            raise NoAnswerError(
                f"{self.name}: told to turn {wanted.value}, and whether it did cannot be read within "
                f"{self._deadline_s:g} s: {failure.message if failure else 'no state'}",
                remedy="look at the outlet itself before touching the board; then check the strip's cable and power",
            ) from (failure or lost)
        if reading.state is wanted:
            return
        if reading.trouble:
            raise BenchError(
                f"{self.name}: told to turn {wanted.value}, is {reading.state.value} and gives the reason: "
                f"{reading.trouble}",
                remedy="find what draws too much or heats the strip; it clears this when switched on by hand",
            )
        if lost:
            message = f"{lost.message}; read back, it is still {reading.state.value}"
            raise BenchError(message, remedy=lost.remedy) from lost
        raise BenchError(
            f"{self.name}: it accepted the command to turn {wanted.value}, but {self._deadline_s:g} s later says it "
            f"is {reading.state.value}",
            remedy="look for an overload trip, a timer, an interlock or a locked outlet on the strip; a welded relay "
            "looks like this too",
        )

    def _read_until(self, wanted: PowerState, end: float) -> tuple[Reading | None, BenchError | None]:
        """Read until it is ``wanted`` or the time is up: (what was read last, why the last read failed)."""
        while True:
            reading, failure = None, None
            try:
                reading = self._outlet.read()
            except BenchError as exc:
                failure = exc
            _log.debug("%s: reads back %.300r", self.name, reading.state.value if reading else str(failure))
            if (reading and reading.state is wanted) or self._clock.monotonic() >= end:
                return reading, failure
            self._clock.sleep(self._every_s)


# Wiring: FC_REC and SYS_RESET of an Orin are pulled up on the module; pull them low, never drive them high.


class ResetPin(Protocol):
    """SYS_RESET of a module."""

    @property
    def name(self) -> str: ...

    def pulse(self) -> None:
        """Press and release. BenchError."""


class RecoveryPin(Protocol):
    """FC_REC of a module."""

    @property
    def name(self) -> str: ...

    def held(self) -> AbstractContextManager[None]:
        """Hold it; released on the way out, however that is. BenchError."""
