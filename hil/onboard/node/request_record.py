"""What was asked of a node, by whom, and what came of it: counted, and the noteworthy kept word for word."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from contextlib import suppress
from pathlib import Path
from typing import Any

LONGEST_FILE = 1 << 20
"""Bytes; a file that is longer becomes ``<name>.1``, in place of the one before."""
MOST_PER_S = 50
"""Lines written in a second; a flood is counted."""
MOST_KINDS = 1024
KEPT = 256
LONGEST_REASON = 200


class RequestRecord:
    """Every request, counted by who, what and status; a change or a refusal is a line besides.  Thread-safe."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, str, int]] = Counter()
        self._last: deque[dict[str, Any]] = deque(maxlen=KEPT)
        self._second, self._written, self._unwritten = 0.0, 0, 0

    def note(self, who: str, peer: str, what: str, status: int, why: str = "") -> None:
        """Take note of a request: ``who`` by certificate (empty: nobody), from address ``peer``, and its answer."""
        now = time.time()
        with self._lock:
            key = (who, what, status)
            if key in self._counts or len(self._counts) < MOST_KINDS:
                self._counts[key] += 1
            else:
                self._counts["", "others", 0] += 1
            if status < 400 and (what.startswith("GET ") or what in _CHATTER):
                return
            if now - self._second >= 1:
                self._second, self._written = now, 0
            if self._written >= MOST_PER_S:
                self._unwritten += 1
                return
            self._written += 1
            line = {"at": round(now, 3), "who": who, "peer": peer, "what": what, "status": status}
            if why:
                line["why"] = why[:LONGEST_REASON]
            self._last.append(line)
            self._write(line)

    def document(self) -> dict[str, Any]:
        """Return what ``GET /record`` says."""
        with self._lock:
            counts = [{"who": w, "what": a, "status": s, "count": n} for (w, a, s), n in sorted(self._counts.items())]
            return {"counts": counts, "last": list(self._last), "unwritten": self._unwritten}

    def _write(self, line: dict[str, Any]) -> None:
        if self._file is None:
            return
        with suppress(OSError):  # a full disk must not end the service
            with self._file.open("ab") as file:
                file.write(json.dumps(line).encode() + b"\n")
                long = file.tell() > LONGEST_FILE
            if long:
                self._file.replace(self._file.with_name(f"{self._file.name}.1"))


_CHATTER = frozenset({"POST /cluster/renew", "POST /cluster/wake", "POST /infer", "POST /tile"})
"""What boards and the ground ask of each other all the time."""
