"""Work that guests of the constellation ask for: a scene comes in pieces, the cluster makes its mask, once.

A guest names each request by a key of its own and may say everything again after it lost contact: nothing is computed
twice because of that.  It sees its own requests and nothing else of the board.
"""

from __future__ import annotations

import hashlib
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from hil.onboard.node import state
from hil.onboard.node.answers import ContractError, read
from hil.onboard.node.errors import ApiError
from hil.onboard.node.jobs import Job, Jobs

PIECE_BYTES = 256 << 10
"""A scene arrives, and a mask leaves, in pieces of at most so many bytes: what a hand-over can cost."""
LARGEST_SCENE_BYTES = 8 << 20
MOST_OPEN = 2
"""Requests of one guest that wait for something; and of all guests together ``MOST_OPEN_AT_ALL``."""
MOST_OPEN_AT_ALL = 4
MOST_TAKEN = 16
"""Requests of one guest that are remembered after it has its mask."""
KEPT_S = 3600.0
"""A request of which nobody has asked for so long gives its place to another one."""
MOST_RUNS = 3
"""So often a job is begun again because its board restarted."""
OPEN = ("receiving", "queued", "running", "done")


@dataclass(frozen=True)
class GuestRequest:
    """One request.  ``state``: receiving, queued, running, done, taken or failed."""

    size: int
    sha256: str
    state: str = "receiving"
    have: int = 0
    """Bytes of the scene that are here."""
    job: str = ""
    runs: int = 0
    """How often its job was begun."""
    mask_bytes: int = 0
    error: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.size <= LARGEST_SCENE_BYTES:
            raise ContractError(f"size must be 1 to {LARGEST_SCENE_BYTES} bytes, not {self.size}")
        if not re.fullmatch("[0-9a-f]{64}", self.sha256):
            raise ContractError("sha256 must be 64 hexadecimal digits")
        if not 0 <= self.have <= self.size or not 0 <= self.mask_bytes <= LARGEST_SCENE_BYTES:
            raise ContractError(f"have {self.have} of {self.size} bytes, mask_bytes {self.mask_bytes}: out of range")


class GuestWork:
    """The requests of all guests, on disk below ``root``.  Thread-safe."""

    def __init__(
        self, root: Path, jobs: Jobs, start: Callable[[str, Path], Job], *, clock: Callable[[], float] = time.time
    ) -> None:
        """``start``: begins a job over a scene (digest, file), or raises ApiError 409 when that cannot be now.

        ``clock``: seconds since 1970, as of the files' times.
        """
        self._root, self._jobs, self._start, self._clock = root, jobs, start, clock
        self._lock = threading.Lock()

    def open(self, guest: str, key: str, document: object) -> GuestRequest:
        """Take a request, or return it when it is known.

        ApiError 400 when it is none, 409 when the key is another one's, 503 when there are too many.
        """
        try:
            wanted = read(GuestRequest, document, "a request")
            wanted = GuestRequest(wanted.size, wanted.sha256)
        except ContractError as exc:
            raise ApiError(400, str(exc)) from exc
        with self._lock:
            known = self._asked(guest, key)
            if known is not None:
                if (known.size, known.sha256) != (wanted.size, wanted.sha256):
                    raise ApiError(409, "this key is that of another request")
                return known
            self._make_room(guest)
            (self._root / guest).mkdir(parents=True, exist_ok=True)
            self._scene(guest, key).write_bytes(b"")
            return self._save(guest, key, wanted)

    def append(self, guest: str, key: str, offset: int, piece: bytes) -> GuestRequest:
        """Take the next piece of the scene, and begin the job with the last one.

        ApiError 404; 409 with ``have`` when another piece is the next.
        """
        with self._lock:
            request = self._get(guest, key)
            if request.state != "receiving" or offset != request.have:
                raise ApiError(409, "another piece is the next one", have=request.have)
            if offset + len(piece) > request.size:
                raise ApiError(413, f"the scene has only {request.size} bytes")
            scene = self._scene(guest, key)
            with scene.open("r+b") as file:  # what a cut-off write left behind ``have`` is written over
                file.seek(offset)
                file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            request = self._save(guest, key, replace(request, have=offset + len(piece)))
            if request.have < request.size:
                return request
            if hashlib.sha256(scene.read_bytes()).hexdigest() != request.sha256:
                return self._fail(guest, key, request, "the scene does not fit its digest")
            return self._advance(guest, key, replace(request, state="queued"))

    def status(self, guest: str, key: str) -> GuestRequest:
        """Return how far a request is; one that waits for another job is tried again. ApiError 404."""
        with self._lock:
            return self._advance(guest, key, self._get(guest, key))

    def mask(self, guest: str, key: str, offset: int) -> bytes:
        """Return the next piece of the mask. ApiError 404, 409 while there is none, 410 when it was taken."""
        with self._lock:
            request = self._advance(guest, key, self._get(guest, key))
            if request.state != "done":
                raise ApiError(410 if request.state == "taken" else 409, f"the request is {request.state}")
            return self._jobs.mask(request.job)[offset : offset + PIECE_BYTES]

    def taken(self, guest: str, key: str) -> GuestRequest:
        """Note that the guest has its mask, and forget both scene and mask. ApiError 404, 409 while there is none."""
        with self._lock:
            request = self._advance(guest, key, self._get(guest, key))
            if request.state == "taken":
                return request
            if request.state != "done":
                raise ApiError(409, f"the request is {request.state}")
            return self._close(guest, key, replace(request, state="taken"))

    # --- under the lock ----------------------------------------------------------------------------------------

    def _advance(self, guest: str, key: str, request: GuestRequest) -> GuestRequest:
        if request.state == "running":
            try:
                job = self._jobs.get(request.job)
            except ApiError:
                job = {}
            job_is = job.get("state")
            if job_is == "done":
                mask_bytes = len(self._jobs.mask(request.job))
                request = self._save(guest, key, replace(request, state="done", mask_bytes=mask_bytes))
            elif job_is == "failed":
                return self._fail(guest, key, request, str(job.get("error", "")))
            elif job_is != "running":  # the board restarted, or the job's file is damaged
                request = replace(request, state="queued")
        if request.state != "queued":
            return request
        if request.runs >= MOST_RUNS:
            return self._fail(guest, key, request, f"begun {MOST_RUNS} times, and cut off each time")
        try:
            begun = self._start(request.sha256, self._scene(guest, key))
        except ApiError as exc:
            if exc.status != 409:
                return self._fail(guest, key, request, exc.message)
            waiting = replace(request, error=exc.message[:200])
            return request if waiting == request else self._save(guest, key, waiting)
        running = replace(request, state="running", job=begun.id, runs=request.runs + 1, error="")
        return self._save(guest, key, running)

    def _known(self, guest: str, key: str) -> GuestRequest | None:
        path = self._root / guest / f"{key}.json"
        if not path.exists():
            return None
        try:
            return read(GuestRequest, state.load(path), path.name)
        except ContractError as exc:
            state.set_aside(path, exc)
            self._scene(guest, key).unlink(missing_ok=True)
            return None

    def _asked(self, guest: str, key: str) -> GuestRequest | None:
        """Return a request if it is known; that it was asked for is the time of its file."""
        request = self._known(guest, key)
        if request is not None:
            now_s = self._clock()
            with suppress(OSError):
                os.utime(self._root / guest / f"{key}.json", (now_s, now_s))
        return request

    def _get(self, guest: str, key: str) -> GuestRequest:
        request = self._asked(guest, key)
        if request is None:
            raise ApiError(404, "no such request")
        return request

    def _scene(self, guest: str, key: str) -> Path:
        return self._root / guest / f"{key}.npy"

    def _save(self, guest: str, key: str, request: GuestRequest) -> GuestRequest:
        state.save(self._root / guest / f"{key}.json", asdict(request))
        return request

    def _fail(self, guest: str, key: str, request: GuestRequest, why: str) -> GuestRequest:
        return self._close(guest, key, replace(request, state="failed", error=why[:200]))

    def _close(self, guest: str, key: str, request: GuestRequest) -> GuestRequest:
        self._save(guest, key, request)
        self._scene(guest, key).unlink(missing_ok=True)
        self._jobs.forget_mask(request.job)
        return request

    def _make_room(self, guest: str) -> None:
        """Forget what nobody asks for any more; ApiError 503 when still too many are open."""
        opened = [each for each in self._all() if each[2].state in OPEN]
        for name, key, request in list(opened):
            if self._clock() - (self._root / name / f"{key}.json").stat().st_mtime > KEPT_S:
                self._fail(name, key, request, "nobody asked for it any more")
                opened.remove((name, key, request))
        if sum(name == guest for name, _, _ in opened) >= MOST_OPEN or len(opened) >= MOST_OPEN_AT_ALL:
            raise ApiError(503, "too many requests of guests are open")
        closed = sorted(
            (path for path in (self._root / guest).glob("*.json") if path.stem not in {key for _, key, _ in opened}),
            key=lambda path: path.stat().st_mtime,
        )
        for path in closed[: max(0, len(closed) - MOST_TAKEN + 1)]:
            if (old := self._known(guest, path.stem)) is not None:
                self._jobs.forget_mask(old.job)  # the job may have ended after the request gave way
            path.unlink(missing_ok=True)

    def _all(self) -> Iterator[tuple[str, str, GuestRequest]]:
        for path in sorted(self._root.glob("*/*.json")):
            if (request := self._known(path.parent.name, path.stem)) is not None:
                yield path.parent.name, path.stem, request
