"""Faults that strike in the middle of something."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from hil.errors import BenchError
from hil.evidence.sink import Sink
from hil.wait import SYSTEM_CLOCK, Clock, wait_until

T = TypeVar("T")


@dataclass(frozen=True)
class Struck(Generic[T]):
    """What became of an action that a fault struck."""

    at: int  # progress when the fault struck
    result: T | None
    error: Exception | None

    def unwrap(self) -> T:
        """The action's result; raises what the action raised."""
        if self.error:
            raise self.error
        assert self.result is not None
        return self.result


def strike(
    action: Callable[[], T],
    fault: Callable[[], None],
    *,
    progress: Callable[[], int],
    threshold: int,
    what: str,
    sink: Sink,
    reach_deadline_s: float = 60.0,
    end_deadline_s: float = 180.0,
) -> Struck[T]:
    """Run ``action`` in a thread; once ``progress()`` reaches ``threshold``, call ``fault()``; wait for the end.

    ``what`` names the fault for the evidence ("crosslink lost during relay").  BenchError when the action ends
    before the fault could strike (then nothing was shown), or does not end within ``end_deadline_s``.
    """
    results: list[T] = []
    errors: list[Exception] = []

    def act() -> None:
        try:
            results.append(action())
        except Exception as exc:  # handed to the caller, who knows whether it was to be expected
            errors.append(exc)

    worker = threading.Thread(target=act, name=f"struck by: {what}", daemon=True)
    worker.start()

    def reached() -> tuple[int] | None:
        if not worker.is_alive():
            return (-1,)
        now = progress()
        return (now,) if now >= threshold else None

    (at,) = wait_until(
        reached, what=f"progress {threshold} ({what})", deadline_s=reach_deadline_s, every_s=0.005
    )
    if at < 0:
        if errors:
            raise errors[0]
        raise BenchError(f"{what}: the action ended before the fault could strike, so nothing was shown")
    sink.event("fault", what=what, progress=at)
    fault()
    worker.join(end_deadline_s)
    if worker.is_alive():
        raise BenchError(f"{what}: what was struck did not end within {end_deadline_s:g} s")
    return Struck(at, results[0] if results else None, errors[0] if errors else None)


class Losable(Protocol):
    """Links that can be lost and come back: ``hil.links.box.LinkBox``."""

    def cut(self, link: str) -> None: ...
    def restore(self, link: str) -> None: ...


def outage(links: Losable, link: str, seconds: float, clock: Clock = SYSTEM_CLOCK) -> Callable[[], None]:
    """A fault for :func:`strike`: the link is lost for ``seconds`` and then comes back."""

    def lose() -> None:
        links.cut(link)
        try:
            clock.sleep(seconds)
        finally:
            links.restore(link)

    return lose
