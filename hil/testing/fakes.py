"""Public test kit: a clock that only moves when told to, a sink that remembers, a host that only pretends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from hil.core.command import Result
from hil.evidence.events import Event

E = TypeVar("E", bound=Event)


class FakeClock:
    """``hil.core.wait.Clock`` whose ``sleep`` just moves time on."""

    def __init__(self, now: float = 0.0) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class ListSink:
    """A ``hil.evidence.sink.Sink`` that keeps what it is given in ``events``."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)

    def of(self, kind: type[E]) -> list[E]:
        """Return the events of one kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]


class FakeRunner:
    """``hil.core.command.Runner`` that runs nothing: it answers from ``answers`` and keeps ``calls``.

    ``answers`` maps the beginning of a command line to what it returns: a return code, its stdout, or a function
    of the argv.  The longest beginning that fits wins; what fits none succeeds without a word.
    """

    def __init__(self, answers: Mapping[str, int | str | Callable[[Sequence[str]], Result]] | None = None) -> None:
        self.answers = dict(answers or {})
        self.calls: list[tuple[str, ...]] = []
        self.envs: list[dict[str, str]] = []

    def __call__(self, argv: Sequence[str], *, timeout_s: float = 30.0, env: Mapping[str, str] | None = None) -> Result:
        self.calls.append(tuple(argv))
        self.envs.append(dict(env or {}))
        line = " ".join(argv)
        for start in sorted(self.answers, key=len, reverse=True):
            if line.startswith(start):
                answer = self.answers[start]
                if isinstance(answer, int):
                    return Result(tuple(argv), answer, "", f"{argv[0]}: told to fail" if answer else "")
                return Result(tuple(argv), 0, answer, "") if isinstance(answer, str) else answer(argv)
        return Result(tuple(argv), 0, "", "")
