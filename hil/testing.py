"""Public test kit: a clock that only moves when told to, and a sink that remembers."""

from __future__ import annotations

from typing import Any


class FakeClock:
    """``hil.wait.Clock`` whose ``sleep`` just moves time on."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class ListSink:
    """``hil.evidence.sink.Sink`` that keeps ``(kind, fields)`` in ``events``."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, Any]]] = []

    def event(self, kind: str, **fields: Any) -> None:
        self.events.append((kind, fields))
