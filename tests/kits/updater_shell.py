"""A board's shell that answers from a table, for the tests of OS adapters."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hil.boards.protocol import Completed


class FakeShell:
    """Answers by the first words that fit (``_`` is a space, ``__`` a hyphen); remembers what was run."""

    def __init__(self, **answers: tuple[int, str, str] | Exception | list[Any]) -> None:
        self.answers = answers
        self.ran: list[tuple[str, ...]] = []
        self.closed = 0
        self.stdin: list[bytes] = []

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        self.ran.append(tuple(argv))
        self.stdin.append(stdin)
        words = " ".join(argv)
        for key, answer in self.answers.items():
            if key.replace("_", " ").replace("  ", "-") in words:
                given = answer.pop(0) if isinstance(answer, list) and len(answer) > 1 else answer
                given = given[0] if isinstance(given, list) else given
                if isinstance(given, Exception):
                    raise given
                return Completed(tuple(argv), *given)
        return Completed(tuple(argv), 0, "", "")

    def close(self) -> None:
        self.closed += 1

    def __enter__(self) -> FakeShell:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def push(self, local: Path, remote: str) -> None: ...
    def pull(self, remote: str, local: Path) -> None: ...
    def read(self, remote: str) -> bytes:
        return b""

    def write(self, remote: str, content: bytes) -> None: ...
