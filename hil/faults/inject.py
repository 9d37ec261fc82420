"""Faults that strike in the middle of something."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Generic, TypeVar, cast

from hil.core.wait import SYSTEM_CLOCK, Clock, wait_until
from hil.errors import Abandoned, BenchError
from hil.evidence.events import FaultInjected
from hil.evidence.sink import Sink
from hil.faults.links import LinkSet

_log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Struck(Generic[T]):
    """The outcome of an action that a fault struck."""

    at: int  # progress when the fault struck
    result: T | None
    error: Exception | None

    def unwrap(self) -> T:
        """Return the action's result; raises what the action raised."""
        if self.error:
            raise self.error
        return cast(T, self.result)  # None is a result, too


@contextmanager
def outage(links: LinkSet, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Iterator[None]:
    """Lose the links; when the block ends wait until they were lost for ``seconds``, and bring them back."""
    try:
        links.cut()
        until_s = clock.monotonic() + seconds
        yield
        clock.sleep(max(0.0, until_s - clock.monotonic()))
    finally:
        links.restore()


def strike(
    action: Callable[[], T],
    fault: Callable[[], None] | AbstractContextManager[None],
    *,
    progress: Callable[[], int],
    threshold: int,
    what: str,
    sink: Sink,
    reach_deadline_s: float = 60.0,
    end_deadline_s: float = 180.0,
) -> Struck[T]:
    """Run ``action`` in a thread; once ``progress()`` reaches ``threshold``, cause ``fault``; wait for the end.

    ``fault`` has taken effect when it returns, or as a context manager when its block is entered: it is healed at
    once (:func:`outage` waits first).  ``what`` names the fault for the evidence ("crosslink lost during relay").
    BenchError when the action ends before the fault could strike, or succeeds before it has taken effect (then
    nothing was shown), or does not end within ``end_deadline_s``.
    """
    work = Work(action, what)

    def reached() -> tuple[int] | None:
        if work.ended:
            return (-1,)
        now = progress()
        return (now,) if now >= threshold else None

    (at,) = wait_until(reached, what=f"progress {threshold} ({what})", deadline_s=reach_deadline_s, every_s=0.005)
    if at < 0:
        work.must_run("before the fault could strike")
    _log.info("fault at progress %d: %s", at, what)
    sink.emit(FaultInjected(what, at))
    with fault if isinstance(fault, AbstractContextManager) else nullcontext(fault()):
        effect_s = time.monotonic()
    work.wait(end_deadline_s)
    work.must_have_run_until(effect_s)
    return Struck(at, work.result, work.error)


class Work(Generic[T]):
    """An action in a thread of its own, begun at once."""

    def __init__(self, action: Callable[[], T], what: str) -> None:
        self._what = what
        self.result: T | None = None
        self.error: Exception | None = None
        self._ended_s = math.inf
        self._thread = threading.Thread(target=self._run, args=(action,), name=f"struck by: {what}", daemon=True)
        self._thread.start()

    def _run(self, action: Callable[[], T]) -> None:
        try:
            self.result = action()
        except Abandoned as exc:
            self.error = exc.error
        except Exception as exc:  # handed to the caller, who knows whether it was to be expected
            self.error = exc
        finally:
            self._ended_s = time.monotonic()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def must_run(self, when: str) -> None:
        """Raises what the action raised; BenchError when it ended without an error, because nothing was shown."""
        if self.ended:
            if self.error:
                raise self.error
            raise BenchError(f"{self._what}: the action ended {when}, so nothing was shown")

    def must_have_run_until(self, effect_s: float) -> None:
        """Raises BenchError when the action succeeded before that moment (``time.monotonic``)."""
        if self.error is None and self._ended_s < effect_s:
            raise BenchError(
                f"{self._what}: the action had ended {effect_s - self._ended_s:.2f} s before the fault took effect, "
                "so nothing was shown",
                remedy="the bench was too slow to strike in time: free the host, or strike earlier",
            )

    def wait(self, deadline_s: float) -> None:
        """Until the action has ended; BenchError at the deadline."""
        self._thread.join(deadline_s)
        if self._thread.is_alive():
            raise BenchError(f"{self._what}: what was struck did not end within {deadline_s:g} s")
