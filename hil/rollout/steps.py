"""What all parts of a rollout share: recorded steps, work on many boards, blame for silence."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

from hil.boards.protocol import Via
from hil.core.activity import doing
from hil.core.wait import Clock, poll_until
from hil.errors import BenchError, Blame, DeviceError, HilError
from hil.evidence.events import RolloutStep
from hil.evidence.sink import Sink
from hil.onboard.node.answers import Health
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeClient, NodeRefused, NodeSilent
from hil.rollout.policy import RolloutPolicy
from hil.rollout.restart_barrier import HeldBack

_log = logging.getLogger(__name__)

T = TypeVar("T")


class Context:
    """One rollout's fleet, policy, clock and recorder."""

    def __init__(self, fleet: Fleet, sink: Sink, policy: RolloutPolicy, clock: Clock) -> None:
        self.fleet = fleet
        self.sink = sink
        self.policy = policy
        self.clock = clock

    @contextmanager
    def step(self, step: str, board: str) -> Iterator[dict[str, Any]]:
        """Record a step's start and end; what is put into the dictionary goes into the end's ``detail``."""
        start = self.clock.monotonic()
        _log.info("board %s: %s begins", board, step)
        self.sink.emit(RolloutStep(board, step, "start"))
        facts: dict[str, Any] = {}
        try:
            with doing(f"{board}: {step}"):
                yield facts
        except BaseException as exc:
            self._end(step, board, start, ok=False, detail=exc.message if isinstance(exc, HilError) else repr(exc))
            raise
        detail = ", ".join(f"{k} {v}" for k, v in facts.items())
        self._end(step, board, start, ok=True, detail=detail, **facts)

    def _end(self, step: str, board: str, start: float, *, ok: bool, detail: str, **facts: Any) -> None:
        seconds = round(self.clock.monotonic() - start, 3)
        outcome = "done" if ok else "failed"
        _log.info("board %s: %s %s after %.1f s: %.300r", board, step, outcome, seconds, detail)
        self.sink.emit(RolloutStep(board, step, "end", seconds, ok=ok, detail=detail, **facts))

    def polling(self, deadline_s: float) -> Iterator[float]:
        """:func:`hil.core.wait.poll_until` on this rollout's clock and at its policy's pace."""
        return poll_until(deadline_s, every_s=self.policy.poll_s, clock=self.clock)

    def client(self, board: str, via: Via = Via.FLIGHT, *, timeout_s: float = 3.0) -> NodeClient:
        """Return a client of a board's node; from the ground over the flight network unless said otherwise."""
        return NodeClient(self.fleet, board, via, timeout_s=timeout_s)

    def each(self, boards: Iterable[str], work: Callable[[str], T]) -> dict[str, T]:
        """Do the work on all boards at once.  When some fail the worst error is raised, with notes on the others."""
        names = list(boards)
        if not names:
            return {}
        with ThreadPoolExecutor(len(names), thread_name_prefix="rollout") as pool:
            futures = {name: pool.submit(work, name) for name in names}
        errors = {name: exc for name, f in futures.items() if (exc := f.exception()) is not None}
        if errors:
            raise worst(errors)
        return {name: f.result() for name, f in futures.items()}

    def health(self, board: str, *, deadline_s: float) -> Health:
        """Return a board's health over the flight network, as soon as it answers."""
        last: HilError | None = None
        with self.client(board) as client:
            for _ in self.polling(deadline_s):
                try:
                    return client.health()
                except (NodeSilent, NodeRefused) as exc:
                    last = exc
        raise self.silence(board, f"answer within {deadline_s:g} s", last) from last

    def silence(self, board: str, what: str, cause: Exception | None) -> HilError:
        """The error for a board that did not do something.

        The path's fault when the board answers through the lab's own cable and not over the flight network.
        """
        because = f" (last error: {cause})" if cause is not None else ""
        message = f"{board} did not {what} over the flight network{because}"
        lost = isinstance(cause, NodeSilent) and not self._answers(board, Via.FLIGHT)
        if lost and self._answers(board, Via.MANAGEMENT):
            return BenchError(
                f"{message}; through the management network it answers",
                remedy="a link is down or mis-shaped: see `hil link show`",
            )
        return DeviceError(message, remedy=f"see `hil board console {board}`")

    def _answers(self, board: str, via: Via) -> bool:
        """Return whether a board's node answers at all on this way."""
        with suppress(HilError), self.client(board, via, timeout_s=1.0) as client:
            client.health()
            return True
        return False


def worst(errors: dict[str, BaseException]) -> BaseException:
    """Return the error to raise for several boards: one that is not the device's hides the device, and decides."""

    def rank(exc: BaseException) -> int:
        if not isinstance(exc, HilError):
            return 0  # not foreseen: a bug, and it must be seen
        if isinstance(exc, HeldBack):
            return 9  # only a consequence of another board's error
        return (Blame.CONFIGURATION, Blame.HARNESS, Blame.BENCH, Blame.DEVICE).index(exc.blame) + 1

    chosen = min(errors, key=lambda name: rank(errors[name]))
    for name, exc in errors.items():
        if name != chosen:
            errors[chosen].add_note(f"also {name}: {exc}")
    return errors[chosen]
