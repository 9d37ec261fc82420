"""What the twin of a bench says: written by the keeper, read by every process that uses the bench."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hil.bench.state import bench_dir
from hil.core.files import write_atomic
from hil.evidence.event import Event
from hil.evidence.events import RestartOrdered, from_record
from hil.evidence.record import Recorder, jsonable, utc_now
from hil.evidence.twin import TwinChange, TwinSample, TwinStarted

LARGEST_B = 8 << 20
"""A journal of this size is begun anew: a bench may be up for weeks, and its directory is in memory."""
FOLLOW_S = 0.5
KINDS = (TwinStarted, TwinSample, TwinChange, RestartOrdered)


def journal_file(bench: str) -> Path:
    """Return where the twin writes an event per line; it is there from the twin's start on."""
    return bench_dir(bench) / "twin.jsonl"


def now_file(bench: str) -> Path:
    """Return the last sample of every spacecraft, by its name."""
    return bench_dir(bench) / "twin.json"


def last_samples(bench: str) -> list[TwinSample]:
    """Return the last sample of every spacecraft; none where the bench has no twin in the loop."""
    try:
        document = json.loads(now_file(bench).read_text("utf-8"))
    except (OSError, ValueError):
        return []
    lines = (
        {"kind": TwinSample.kind, "t_utc": "", "mono_s": document["mono_s"], **each}
        for each in document["spacecraft"].values()
    )
    return [event for line in lines if isinstance(event := from_record(line, 0.0), TwinSample)]


class Journal:
    """The keeper's side."""

    def __init__(self, bench: str) -> None:
        self._path, self._now = journal_file(bench), now_file(bench)
        self._lock = threading.Lock()
        self._path.write_text("")

    def emit(self, event: Event) -> None:
        """Append one line."""
        line = json.dumps(
            {"mono_s": time.monotonic(), "t_utc": utc_now(), "kind": event.kind, **jsonable(event.fields())}
        )
        with self._lock:
            if self._path.stat().st_size > LARGEST_B:
                self._path.replace(self._path.with_suffix(".old"))
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    def show(self, samples: Sequence[TwinSample]) -> None:
        """Replace the last samples."""
        document = {sample.spacecraft: jsonable(sample.fields()) for sample in samples}
        write_atomic(self._now, json.dumps({"mono_s": time.monotonic(), "spacecraft": document}), durable=False)


class Follower:
    """Reads a journal on: the lines that came since the last look."""

    def __init__(self, bench: str, *, from_start: bool = False) -> None:
        self._path = journal_file(bench)
        self._inode, self._offset, self._rest = 0, 0, b""
        if not from_start:
            for _ in self.lines():
                pass

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield complete lines; of a journal that was begun anew, those of the new file."""
        with suppress(OSError), self._path.open("rb") as file:
            inode = file.seek(0, 2) and self._path.stat().st_ino
            if inode != self._inode:
                self._inode, self._offset, self._rest = inode, 0, b""
            file.seek(self._offset)
            data = file.read()
            self._offset += len(data)
            *whole, self._rest = (self._rest + data).split(b"\n")
            for line in whole:
                with suppress(ValueError):
                    document = json.loads(line)
                    if isinstance(document, dict):
                        yield document


class TwinRecords:
    """Copies what the twin says into a campaign's evidence, from the moment on at which it starts.

    ``with TwinRecords(...)``; also tells which restarts the twin ordered, before any other part sees them happen.
    """

    def __init__(self, bench: str, recorder: Recorder) -> None:
        self._bench, self._recorder = bench, recorder
        self._lock = threading.Lock()
        self._ordered: dict[str, list[float]] = {}
        self._stop = threading.Event()
        self._follower = Follower(bench)
        self._thread = threading.Thread(target=self._run, name="twin-records", daemon=True)

    def __enter__(self) -> TwinRecords:
        for line in Follower(self._bench, from_start=True).lines():
            if line.get("kind") == TwinStarted.kind:
                self._copy(line)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        self.read()

    def read(self) -> None:
        """Copy what has come."""
        with self._lock:
            for line in self._follower.lines():
                self._copy(line)

    def ordered_s(self, board: str) -> Sequence[float]:
        """Return when the twin ordered a board to be switched (CLOCK_MONOTONIC s); it says so before it does."""
        self.read()
        return tuple(self._ordered.get(board, ()))

    def _copy(self, line: dict[str, Any]) -> None:
        if line.get("kind") not in {kind.kind for kind in KINDS}:
            return
        event, mono_s = from_record(line, 0.0), float(line["mono_s"])
        if isinstance(event, RestartOrdered):
            self._ordered.setdefault(event.board, []).append(mono_s)
        self._recorder.emit(event, mono_s=mono_s)

    def _run(self) -> None:
        while not self._stop.wait(FOLLOW_S):
            self.read()
