"""The journal of a bench: who did what to it, when.  One JSON line per entry, bounded, kept when the bench goes down.

Commands and campaigns write it through the bench they use (:class:`JournalSink`), the keeper writes what it does.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from hil.core import paths
from hil.core.processes import current
from hil.evidence.events import BoardPower, Event, LinkCommanded, LinkCut, LinkRestored
from hil.evidence.sink import Sink
from hil.leases.leases import default_holder
from hil.text import clean, one_line

KEPT_BYTES = 1_000_000
"""A journal that has grown to this becomes the older half, in place of the one before."""
WORDS = 300
POWER_OFF = ("off", "cut")
KEEPS_S = 90 * 86400.0
"""So long is the journal of a bench kept that does not come up any more."""


@dataclass(frozen=True)
class JournalEntry:
    """One thing that somebody did, or that the bench did by itself."""

    at_utc: str
    """ISO 8601, milliseconds."""
    mono_s: float
    """CLOCK_MONOTONIC, for what compares within one boot of this host."""
    who: str
    process: str
    """:class:`hil.core.processes.ProcessId` as text."""
    program: str
    verb: str
    """``power``, ``link``, ``slots``, ``mode``, ``push``, ``flash``, ``console``, ``bench``, ``lease``, ``run`` ..."""
    about: str = ""
    """A board or a link; empty for the bench as a whole."""
    what: str = ""
    forced: str = ""
    """Whose lease was overridden, as a sentence."""

    @property
    def clock_time(self) -> str:
        """``2026-03-01 22:19:15 UTC``."""
        return self.at_utc[:19].replace("T", " ") + " UTC"

    def __str__(self) -> str:
        done = " ".join(filter(None, (self.verb, self.about, self.what)))
        by = f"{self.who} ({self.program}, pid {self.process.partition(':')[0]})"
        return f"{done}, by {by}" + (f", by force: {self.forced}" if self.forced else "")


class Journal:
    """The journal of one bench, by its name; there need be no such bench."""

    def __init__(self, bench: str) -> None:
        self.path = journal_folder() / f"{bench}.jsonl"
        self._older = self.path.with_suffix(".old.jsonl")

    def note(self, verb: str, about: str = "", what: str = "", *, forced: str = "") -> None:
        """Append that this process does something now.

        Never raises: what somebody reads later must not decide what is done.
        """
        path = Path(sys.argv[0])
        name = path.parent.name if path.name == "__main__.py" else path.name  # `python -m pytest`
        program = one_line(" ".join([name, *sys.argv[1:]]), 120)
        words = [one_line(text, WORDS) for text in (about, what, forced)]
        moment = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = JournalEntry(
            moment, time.monotonic(), _me(), str(current()), program, verb, words[0], words[1], words[2]
        )
        with suppress(OSError):
            self._append((json.dumps({k: v for k, v in asdict(entry).items() if v != ""}) + "\n").encode())

    def _append(self, line: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        while True:
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                status = os.fstat(file.fileno())
                if not self.path.exists() or self.path.stat().st_ino != status.st_ino:
                    continue  # another process has begun a new one meanwhile
                if status.st_size + len(line) > KEPT_BYTES:
                    self.path.replace(self._older)
                    continue
                file.write(line)
                return

    def entries(self, *, last: int | None = None) -> list[JournalEntry]:
        """Return the entries, oldest first, the ``last`` ones or all; lines that are none are left out."""
        found = [*_read(self._older), *_read(self.path)]
        return found if last is None else found[-last:] if last else []

    def follow(self) -> Iterator[JournalEntry | None]:
        """Yield entries made from now on; None when there is none at this moment."""
        seen = len(self.entries())
        before = self._stamp()
        while True:
            if (now := self._stamp()) != before:
                entries = self.entries()
                new = entries[seen:] if now[0] == before[0] else _read(self.path)
                before, seen = now, len(entries)
                yield from new
            yield None

    def power_off(self, board: str) -> JournalEntry | None:
        """Return who switched a board off, where it was last switched off by somebody; None when it was not."""
        last = next((e for e in reversed(self.entries()) if e.verb == "power" and e.about == board), None)
        return last if last is not None and last.what in POWER_OFF else None

    def _stamp(self) -> tuple[int, int]:
        try:
            status = self.path.stat()
        except OSError:
            return 0, 0
        return status.st_ino, status.st_size


class JournalSink:
    """A sink that also writes into the journal what was done to links and to power."""

    def __init__(self, sink: Sink, journal: Journal) -> None:
        self._sink = sink
        self._journal = journal
        self.switched: dict[str, str] = {}
        """What this process did last to the power of each board."""

    def emit(self, event: Event) -> None:
        self._sink.emit(event)
        match event:
            case BoardPower():
                self.switched[event.board] = event.action
                self._journal.note("power", event.board, event.action)
            case LinkCut():
                self._journal.note("link", event.link, f"cut {event.why}".strip())
            case LinkRestored():
                self._journal.note("link", event.link, f"restore {event.why}".strip())
            case LinkCommanded():
                states = {"a to b": event.a_to_b, "b to a": event.b_to_a}
                said = "; ".join(f"{direction}: {_changes(state)}" for direction, state in states.items() if state)
                self._journal.note("link", event.link, f"set {said}")


def journal_folder() -> Path:
    """Return where the journals of all benches are."""
    return paths.home() / "journal"


def forget_old(live: set[str]) -> None:
    """Remove the journals of benches that have not been up for long."""
    for path in journal_folder().glob("*.jsonl"):
        with suppress(OSError):
            old_s = time.time() - path.stat().st_mtime
            name = path.name.partition(".")[0]
            if name not in live and old_s > (86400.0 if name.removeprefix("run").isdecimal() else KEEPS_S):
                path.unlink()


def _changes(state: object) -> str:
    named = state.items() if isinstance(state, dict) else ()
    return " ".join(f"{key}={value}" for key, value in named if value not in (None, "", False, 0))


def _read(path: Path) -> list[JournalEntry]:
    try:
        lines = path.read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    names = {field.name for field in fields(JournalEntry)}
    found = []
    for line in lines:
        with suppress(ValueError, TypeError, AttributeError):
            document = json.loads(line)
            texts = {k: clean(str(v)) for k, v in document.items() if k in names and k != "mono_s"}
            found.append(JournalEntry(**texts, mono_s=float(document["mono_s"])))
    return found


@cache
def _me() -> str:
    return default_holder()
