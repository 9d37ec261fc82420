"""Where evidence goes: the one thing drivers and the rollout need to know about recording."""

from __future__ import annotations

from typing import Any, Protocol


class Sink(Protocol):
    """Takes what happened. ``hil.evidence.record.Recorder`` writes it; tests use ``hil.testing.fakes.ListSink``."""

    def event(self, kind: str, **fields: Any) -> None:
        """Something happened now. ``kind`` is dotted, e.g. ``rollout.step``, ``link.cut``, ``board.power``.

        Fields are JSON values; ``board``, ``link``, ``step``, ``phase`` ("start" or "end") are understood by the
        report's timeline.
        """
        ...


class NullSink:
    """Forgets everything."""

    def event(self, kind: str, **fields: Any) -> None:
        return None
