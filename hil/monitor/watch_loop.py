"""A loop that polls for days: in the background, and through restarts of the bench."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from hil.bench.state import is_up, read_state
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import HilError
from hil.monitor.background import error_line
from hil.monitor.bench_watch import DEADLINE_S, Monitor

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.monitor.bench_health import Health

T = TypeVar("T")


class BenchFollower(AbstractContextManager["BenchFollower"]):
    """A bench by name, through its restarts: attached when it is up, released when it goes down."""

    def __init__(self, name: str, *, probe: bool = False, attach: Callable[[str], Bench] | None = None) -> None:
        self.name = name
        self._probe = probe
        self._attach = attach or _attach
        self._keeper = ""  # of the bench that is attached
        self._monitor: Monitor | None = None
        self._exits = ExitStack()

    def health(self) -> Health | None:
        """Return the bench's state now; None while it is not up.  HilError when it is up and cannot be used."""
        state = read_state(self.name)
        if state is None or not is_up(self.name):
            self.close()
            return None
        keeper = f"{state.keeper_pid} {state.started_utc}"
        if self._monitor is None or keeper != self._keeper:
            self.close()
            bench = self._attach(self.name)
            self._exits.callback(bench.close)
            self._monitor = self._exits.enter_context(Monitor(bench, probe=self._probe))
            self._keeper = keeper
        return self._monitor.snapshot()

    def close(self) -> None:
        """Release the bench."""
        self._monitor = None
        self._exits.close()

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True)
class Sample(Generic[T]):
    """The result of one poll, or the ``error`` of it; both empty when there was nothing to poll."""

    number: int
    at_s: float  # of the sampler's clock
    value: T | None
    error: str = ""


class Sampler(AbstractContextManager["Sampler[T]"], Generic[T]):
    """Polls every ``every_s`` seconds in a thread of its own; ``latest`` is the last sample."""

    def __init__(self, poll: Callable[[], T | None], *, every_s: float, clock: Clock = SYSTEM_CLOCK) -> None:
        self.every_s = every_s
        self._poll = poll
        self._clock = clock
        self.latest: Sample[T] | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Sampler[T]:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S + 1.0)

    def fresh(self) -> T | None:
        """Return the last value; None when there is none, or when it is too old to describe the present."""
        sample = self.latest
        if sample is None or self._clock.monotonic() - sample.at_s > 2 * self.every_s + 2 * DEADLINE_S:
            return None
        return sample.value

    @property
    def error(self) -> str:
        """The error of the last poll, if it failed."""
        return self.latest.error if self.latest is not None else ""

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            begun_s = self._clock.monotonic()
            value, error = None, ""
            try:
                value = self._poll()
            except HilError as exc:
                error = error_line(exc)
            except Exception as exc:  # goes on: the next poll may succeed, and the page shows the error
                error = f"harness: {error_line(exc)}"
            number += 1
            self.latest = Sample(number, self._clock.monotonic(), value, error)
            self._stop.wait(max(0.0, self.every_s - (self._clock.monotonic() - begun_s)))


def _attach(name: str) -> Bench:
    from hil.bench.bench import Bench

    return Bench.attach(name)
