"""A bench that is looked at for days: through its restarts, every few seconds, in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hil.bench.state import is_up, read_state
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import HilError
from hil.monitor.background import one_line
from hil.monitor.bench_watch import DEADLINE_S, Monitor

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.monitor.health import Health

Attach = Callable[[str], "Bench"]


class Watched(AbstractContextManager["Watched"]):
    """A bench by name, through its restarts: attached when it is up, let go when it goes down."""

    def __init__(self, name: str, *, probe: bool = False, attach: Attach | None = None) -> None:
        self.name = name
        self._probe = probe
        self._attach = attach or _attach
        self._life = ""
        self._monitor: Monitor | None = None
        self._exits = ExitStack()

    def look(self) -> Health | None:
        """The bench now; None while it is not up.  HilError when it is up and cannot be used."""
        state = read_state(self.name)
        if state is None or not is_up(self.name):
            self.close()
            return None
        life = f"{state.keeper_pid} {state.started_utc}"
        if self._monitor is None or life != self._life:
            self.close()
            bench = self._attach(self.name)
            self._exits.callback(bench.close)
            self._monitor = self._exits.enter_context(Monitor(bench, probe=self._probe))
            self._life = life
        return self._monitor.snapshot()

    def close(self) -> None:
        self._monitor = None
        self._exits.close()

    def __exit__(self, *exc: object) -> None:
        self.close()


@dataclass(frozen=True)
class Sample:
    """What the last look gave: ``health`` None: the bench is down, or ``error`` says why it cannot be looked at."""

    number: int
    at_s: float  # of the sampler's clock
    health: Health | None
    error: str = ""


class Sampler(AbstractContextManager["Sampler"]):
    """Looks every ``every_s`` seconds in a thread of its own; ``latest`` is the last look."""

    def __init__(
        self, look: Callable[[], Health | None], *, every_s: float, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.every_s = every_s
        self._look = look
        self._clock = clock
        self.latest: Sample | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)

    def __enter__(self) -> Sampler:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join(DEADLINE_S + 1.0)

    def fresh(self) -> Sample | None:
        """The last look, unless it is so old that it says nothing about now."""
        sample = self.latest
        if sample is None or self._clock.monotonic() - sample.at_s > 2 * self.every_s + 2 * DEADLINE_S:
            return None
        return sample

    def health(self) -> Health | None:
        """What :meth:`fresh` found; None also while the bench is down."""
        sample = self.fresh()
        return sample.health if sample is not None else None

    @property
    def error(self) -> str:
        """Why the last look failed, if it did."""
        return self.latest.error if self.latest is not None else ""

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            begun = self._clock.monotonic()
            health, error = None, ""
            try:
                health = self._look()
            except HilError as exc:
                error = one_line(exc)
            except Exception as exc:  # goes on: the next look may succeed, and the page says what happened
                error = f"harness: {one_line(exc)}"
            number += 1
            self.latest = Sample(number, self._clock.monotonic(), health, error)
            self._stop.wait(max(0.0, self.every_s - (self._clock.monotonic() - begun)))


def _attach(name: str) -> Bench:
    from hil.bench.bench import Bench

    return Bench.attach(name)
