"""Waits: every wait has a deadline and says what it waited for; time is an argument."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol, TypeVar

from hil.core.activity import doing
from hil.errors import Abandoned, BenchError, HilError

T = TypeVar("T")


class Clock(Protocol):
    """The two verbs of time that this project uses. ``hil.testing.fakes.FakeClock`` is the other implementation."""

    def monotonic(self) -> float:
        """Return seconds since an arbitrary moment; never goes back."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock; the sleeps of a process whose bench is lost end early (:meth:`abandon`)."""

    def __init__(self) -> None:
        self._lost: BenchError | None = None
        self._abandoned = threading.Event()

    def monotonic(self) -> float:
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        if threading.current_thread() is threading.main_thread():
            time.sleep(seconds)  # the main thread is interrupted by a signal, and takes down what is left
        elif self._abandoned.wait(max(0.0, seconds)) and self._lost is not None:
            raise Abandoned(self._lost)

    def abandon(self, error: BenchError | None) -> None:
        """End the sleeps of all other threads with :class:`hil.errors.Abandoned` from now on; None: no longer."""
        self._lost = error
        (self._abandoned.set if error is not None else self._abandoned.clear)()


SYSTEM_CLOCK = SystemClock()


def poll_until(deadline_s: float, *, every_s: float = 0.05, clock: Clock = SYSTEM_CLOCK) -> Iterator[float]:
    """Yield the seconds waited so far: at once, then every ``every_s``, for the last time after ``deadline_s``.

    For a wait that has its own error: the ``else`` of the loop is reached at the deadline::

        for _ in poll_until(3.0):
            if board.answers():
                break
        else:
            raise DeviceError(f"silent; it said last: {last}")
    """
    start = clock.monotonic()
    with doing("", deadline_s=deadline_s):
        while True:
            yield clock.monotonic() - start
            if clock.monotonic() - start >= deadline_s:
                return
            clock.sleep(every_s)


def wait_until(
    poll: Callable[[], T | None],
    *,
    what: str,
    deadline_s: float,
    every_s: float = 0.05,
    error: type[HilError] = BenchError,
    remedy: str = "",
    clock: Clock = SYSTEM_CLOCK,
) -> T:
    """Call ``poll`` until it returns something true, and return that; :func:`poll_until` is for errors built late.

    ``what`` completes the sentence "waited 3.0 s for ...".  Raises ``error`` when ``deadline_s`` seconds have
    passed; the last exception that ``poll`` raised as a :class:`HilError`, ``OSError`` or ``EOFError`` is chained.
    """
    last: Exception | None = None
    with doing(f"waits for {what}", deadline_s=deadline_s):
        for _ in poll_until(deadline_s, every_s=every_s, clock=clock):
            try:
                value = poll()
                if value:
                    return value
            except (HilError, OSError, EOFError) as exc:
                last = exc
    because = f" (last error: {last})" if last else ""
    raise error(f"waited {deadline_s:g} s for {what}{because}", remedy=remedy) from last


def duration_s(text: str) -> float:
    """Return seconds for ``90s``, ``10ms``, ``2h``, ``1h30m``, ``3d``, or for a number alone, which is seconds.

    ValueError says how durations are written.
    """
    units_s = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    parts = re.findall(r"(\d+(?:\.\d+)?)(ms|us|[dhms])", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration: write 90s, 10m, 2h, 1h30m or 10ms")
    return sum(float(number) * units_s[unit] for number, unit in parts)
