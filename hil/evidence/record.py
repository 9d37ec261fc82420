"""The recorder: an append-only run directory that survives SIGKILL.

``<run dir>/``

- ``run.json``: what ran where: versions, commit, kernel, engine, seeds, lab, fidelity (rewritten atomically)
- ``evidence.jsonl``: one JSON object per line, one ``write`` each: ``t_utc``, ``mono_s``, ``kind``, fields, and
  ``prev``, the digest of the line before (:mod:`hil.evidence.chain`)
- ``artefacts/``: copies of files, each announced by an ``artefact`` event with its sha256 and size
- ``lab.yaml``, ``plan.json``, ``history.json``: copied at the start, so that the report needs nothing else
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path, PurePath
from typing import Any, Self

from hil.core.files import plain_bytes, sha256_of, write_atomic
from hil.errors import Blame, HarnessError
from hil.evidence.chain import digest_of
from hil.evidence.events import ArtefactFollowed, ArtefactLost, ArtefactStored, Event, Measurement
from hil.evidence.model import Limit, Value
from hil.text import clean

EVIDENCE = "evidence.jsonl"
META = "run.json"
PLAN = "plan.json"
HISTORY = "history.json"
LAB = "lab.yaml"
RESULT = "result.json"
RECORDED = (META, PLAN, HISTORY, LAB)
"""Files whose digests the last line of a run has."""
ARTEFACTS = "artefacts"
TAIL_BYTES = 65_536
"""Read at a time, to find where the last line begins."""
LONGEST_TEXT = 100_000
"""Characters of one text in evidence."""


def utc_now() -> str:
    """Return now, ISO 8601 with milliseconds and Z."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def jsonable(value: Any) -> Any:
    """Return ``value`` as strict JSON can say it: non-finite and huge numbers and unknown objects become text.

    Text may be a board's, so it is cleaned, and cut after ``LONGEST_TEXT`` characters.
    """
    if isinstance(value, Enum):
        return jsonable(value.value)
    if isinstance(value, str):
        return clean(value[:LONGEST_TEXT])
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**64:
        return f"{value:#x}"[:LONGEST_TEXT]
    if value is None or isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(jsonable(k)): jsonable(v) for k, v in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [jsonable(v) for v in value]
    if is_dataclass(value):
        return {each.name: jsonable(getattr(value, each.name)) for each in fields(value) if each.init}
    if isinstance(value, PurePath):
        return jsonable(str(value))
    if hasattr(value, "item") and callable(value.item):  # a numpy scalar
        return jsonable(value.item())
    return jsonable(str(value))


class Recorder:
    """Writes what happens into a run directory; implements :class:`hil.evidence.sink.Sink`.

    Safe from any thread.  Several processes may append to one run (:meth:`attach`): a line is one ``write``
    to a file opened with O_APPEND.  ``mono_s`` is CLOCK_MONOTONIC, which all processes of the host share.
    """

    def __init__(self, directory: Path) -> None:
        """Append to the run in ``directory`` (use :meth:`create` or :meth:`attach`)."""
        self.directory = directory
        self.run_id = directory.name
        self._lock = threading.Lock()
        self._scope: dict[str, Any] = {}
        self._followed: dict[Path, ArtefactFollowed] = {}
        path = directory / EVIDENCE
        self._fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        self._end = 0
        """Where our last line ended; the file is longer when another process has written since."""
        self._head = ""
        """Digest of our last line."""

    @classmethod
    def create(cls, directory: Path, meta: Mapping[str, Any]) -> Self:
        """Start a run in a new ``directory``; HarnessError when it exists (runs are never overwritten)."""
        try:
            (directory / ARTEFACTS).mkdir(parents=True)
        except FileExistsError as exc:
            raise HarnessError(f"run directory {directory} exists already", remedy="choose another --run-id") from exc
        start = {
            "schema": 1,
            "run_id": directory.name,
            "started_utc": utc_now(),
            "mono_start_s": time.monotonic(),
            **jsonable(meta),
        }
        write_json(directory / META, start)
        return cls(directory)

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """Append to a run that another process started; HarnessError when there is none."""
        if not (directory / META).is_file():
            raise HarnessError(f"{directory} is not a run directory (no {META})")
        return cls(directory)

    def emit(self, event: Event, *, mono_s: float | None = None) -> None:
        """Append one line; ``mono_s`` (CLOCK_MONOTONIC) is for an event that happened earlier than now."""
        mono_s = round(time.monotonic(), 6) if mono_s is None else mono_s
        record = {"t_utc": utc_now(), "mono_s": mono_s, "kind": event.kind, **self._scope}
        record.update(jsonable(event.fields()))
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        content = text.encode("utf-8", "backslashreplace")
        with self._lock:
            if self._fd < 0:
                raise HarnessError(f"run {self.run_id} is closed; `{event.kind}` came too late")
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            try:
                self._append(content)
            finally:
                fcntl.flock(self._fd, fcntl.LOCK_UN)

    def _append(self, content: bytes) -> None:
        """Write a line, linked to the last one, whoever wrote that.  HarnessError when not all of it was written."""
        end = os.fstat(self._fd).st_size
        if end != self._end:
            self._head = digest_of(self._last_line(end)) if end else ""
        line = content[:-1] + b',"prev":"%s"}' % self._head.encode()
        self._end = -1  # not known, should the write fail
        if os.write(self._fd, line + b"\n") != len(line) + 1:
            raise HarnessError(f"{self.directory / EVIDENCE}: short write; is the disk full?")
        self._end, self._head = os.fstat(self._fd).st_size, digest_of(line)

    def _last_line(self, end: int) -> bytes:
        """Return the last line of the file, which is ended first where a killed writer left half of it."""
        if os.pread(self._fd, 1, end - 1) != b"\n":
            os.write(self._fd, b"\n")
            end += 1
        tail, start = b"", end - 1
        while b"\n" not in tail and start > 0:
            step = min(start, TAIL_BYTES)
            start -= step
            tail = os.pread(self._fd, step, start) + tail
        return tail.rpartition(b"\n")[2]

    @contextmanager
    def scope(self, **fields: Any) -> Iterator[None]:
        """Add ``fields`` (e.g. ``test=...``) to every event of every thread while the block runs."""
        before = self._scope
        self._scope = {**before, **jsonable(fields)}
        try:
            yield
        finally:
            self._scope = before

    def measure(
        self,
        name: str,
        value: Value | None,
        unit: str = "",
        *,
        limit: Limit | None = None,
        blame: Blame = Blame.DEVICE,
        board: str = "",
        link: str = "",
        direction: str = "",
        slot: str = "",
    ) -> Measurement:
        """Record one measurement and return it; a violated limit raises nothing here (look at ``.ok``).

        ``name`` says what was measured; ``board``, ``link``, ``direction`` and ``slot`` of what.
        """
        value = jsonable(value)
        limit_text, ok = (limit.text(unit), limit.holds(value)) if limit else (None, None)
        bounds = (limit.low, limit.high, jsonable(limit.allowed or ())) if limit else ()
        taken = Measurement(name, value, unit, limit_text, ok, blame.value, board, link, direction, slot, *bounds)
        self.emit(taken)
        return taken

    def artefact(
        self, source: Path | str, *, kind: str, name: str = "", board: str = "", from_source: str = ""
    ) -> Path:
        """Copy a file into the run and record its hash and size; return the path of the copy.

        ``kind`` is e.g. ``console``, ``mask``, ``log``; ``board`` says whose it is.
        """
        with self._stored(name or Path(source).name, kind, board, from_source) as target:
            shutil.copyfile(source, target)
        return target

    def artefact_bytes(self, name: str, content: bytes, *, kind: str, board: str = "") -> Path:
        """Store content in memory as :meth:`artefact` stores a file."""
        with self._stored(name, kind, board) as target:
            target.write_bytes(content)
        return target

    def follow(self, source: Path | str, *, kind: str, board: str = "") -> None:
        """Collect a file that is still growing (a console log): copied at :meth:`close`, or, when the run is
        killed before that, when its report is made."""
        path = Path(source).absolute()
        followed = ArtefactFollowed(str(path), kind, path.name, board)
        with self._lock:
            if path in self._followed:
                return
            self._followed[path] = followed
        self.emit(followed)

    def update_meta(self, **fields: Any) -> None:
        """Merge ``fields`` into ``run.json``, atomically."""
        with self._lock:
            path = self.directory / META
            write_json(path, {**json.loads(path.read_text("utf-8")), **jsonable(fields)})

    def collect(self) -> None:
        """Copy what :meth:`follow` named, as it is now (each file once)."""
        with self._lock:
            followed, self._followed = list(self._followed.values()), {}
        for each in followed:
            collect_followed(self, each)

    def close(self) -> None:
        """Collect followed files and close; calling it twice does nothing."""
        if self._fd < 0:
            return
        self.collect()
        with self._lock:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @contextmanager
    def _stored(self, name: str, kind: str, board: str, from_source: str = "") -> Iterator[Path]:
        """Yield a free name among the artefacts, for the block to fill; then record its hash and size."""
        folder = self.directory / ARTEFACTS
        safe = Path(name).name or "artefact"
        target, number = folder / safe, 2
        with self._lock:
            while target.exists():
                target = folder / f"{Path(safe).stem}-{number}{Path(safe).suffix}"
                number += 1
            target.touch()  # claims the name
        yield target
        path, size = f"{ARTEFACTS}/{target.name}", target.stat().st_size
        self.emit(ArtefactStored(path, kind, sha256_of(target), size, board, from_source))


def collect_followed(recorder: Recorder, followed: ArtefactFollowed) -> None:
    """Copy one followed file; when it is gone already, say so in the evidence instead of failing."""
    try:
        recorder.artefact(
            followed.source,
            kind=followed.artefact_kind,
            name=followed.name,
            board=followed.board,
            from_source=followed.source,
        )
    except OSError as exc:
        recorder.emit(ArtefactLost(followed.source, str(exc)))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of a run; empty when it is missing, torn or something else."""
    try:
        value = json.loads(plain_bytes(path).decode("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically: a reader sees the old file or the new one, never half of one."""
    write_atomic(path, json.dumps(jsonable(value), indent=2, ensure_ascii=False) + "\n", durable=False)
