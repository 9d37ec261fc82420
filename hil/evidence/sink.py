"""The interface through which drivers, the rollout and campaigns record events."""

from __future__ import annotations

from typing import Protocol

from hil.evidence.events import Event


class Sink(Protocol):
    """A receiver of events: ``hil.evidence.record.Recorder`` writes them, ``hil.testing.fakes.ListSink`` keeps them."""

    def emit(self, event: Event) -> None:
        """Record that ``event`` happened now."""
        ...


class NullSink:
    """A sink that keeps nothing."""

    def emit(self, event: Event) -> None:
        return None
