"""Jobs of the gateway: a scene cut into tiles, inferred by all members, put together again."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.onboard.files import read_object, write_durably, write_json
from hil.onboard.node.answers import ContractError, Health
from hil.onboard.node.client import LONGEST_REASON, Connect, Peer, connect
from hil.onboard.node.epoch import Config
from hil.onboard.node.errors import ApiError
from hil.onboard.node.infer import from_npy, to_npy

if TYPE_CHECKING:
    from numpy.typing import NDArray

TILE_S = 20.0
"""A board that has not answered a tile for so long is given up for this tile."""
RETRY_PAUSE_S = 0.25
MAX_FAILURES = 12
"""So many failures in a row, and a board is left out for the rest of the job."""
LAPSES = 8
"""A board that refuses its first tile keeps it for so many tries (its lease may lapse between two renewals); one that
is silent or cannot be reached does not."""


@dataclass
class BoardWork:
    """What one board did in a job. Bytes are those of tiles (in) and masks (out) as the board sees them."""

    tiles: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    seconds: float = 0.0  # from sending a tile to having its mask
    failures: int = 0
    last_error: str = ""
    provider: str = ""  # execution provider of its network: TensorRT, CUDA or CPU

    def document(self) -> dict[str, Any]:
        rate = self.tiles / self.seconds if self.seconds > 0 else 0.0
        return {**asdict(self), "tiles_per_s": round(rate, 3)}


@dataclass
class Job:
    """One run over one scene.  ``state``: running, done or failed."""

    id: str
    scene: str
    epoch: int
    state: str = "running"
    error: str = ""
    tiles: int = 0
    done: int = 0
    retried: int = 0
    seconds: float = 0.0
    boards: dict[str, BoardWork] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        return {**asdict(self), "boards": {name: work.document() for name, work in self.boards.items()}}


class Jobs:
    """Runs jobs one at a time, each in threads of its own; results stay under ``root``."""

    def __init__(self, root: Path, *, connector: Connect = connect) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root = root
        self._connector = connector
        self._lock = threading.Lock()
        self._running: Job | None = None

    def start(self, scene_id: str, scene: Path, config: Config, still_claims: Callable[[], bool]) -> Job:
        """Begin a job under a configuration. ApiError 409 while another one runs."""
        with self._lock:
            if self._running is not None:
                raise ApiError(409, f"job {self._running.id} is running", job=self._running.id)
            number = 1 + max((int(p.stem) for p in self._root.glob("*.json") if p.stem.isdecimal()), default=0)
            job = Job(str(number), scene_id, config.epoch)
            job.boards = {name: BoardWork() for name in sorted(config.members)}
            write_json(self._root / f"{job.id}.json", {**job.document(), "state": "cut off"})
            threading.Thread(
                target=self._run, args=(job, scene, config, still_claims), name=f"job-{job.id}", daemon=True
            ).start()
            self._running = job  # it ends under this lock
        return job

    def get(self, job_id: str) -> dict[str, Any]:
        """Return a job's state and statistics; ApiError 404."""
        with self._lock:
            if self._running is not None and self._running.id == job_id:
                return self._running.document()
        document = read_object(self._root / f"{job_id}.json") if job_id.isdigit() else {}
        if not document:
            raise ApiError(404, "no such job")
        return document

    def mask(self, job_id: str) -> bytes:
        """Return the mask of a finished job as ``.npy``; ApiError 409 while it is not done."""
        if (state := self.get(job_id).get("state")) != "done":
            raise ApiError(409, f"job {job_id} is {state}")
        return (self._root / f"{job_id}.npy").read_bytes()

    def forget_mask(self, job_id: str) -> None:
        """Remove the mask of a job that nobody needs any more."""
        if job_id.isdigit():
            (self._root / f"{job_id}.npy").unlink(missing_ok=True)

    def _run(self, job: Job, scene: Path, config: Config, still_claims: Callable[[], bool]) -> None:
        start, state, error = time.monotonic(), "done", ""
        try:
            mask = self._infer(job, scene, config, still_claims)
            write_durably(self._root / f"{job.id}.npy", to_npy(mask))
        except Exception as exc:  # whatever it was: no job may run for ever
            expected = isinstance(exc, ApiError | OSError | ImportError)
            state, error = "failed", str(exc) if expected else repr(exc)
        took = round(time.monotonic() - start, 6)
        try:  # until this is on disk the job is running: what is said to be done stays so
            write_json(
                self._root / f"{job.id}.json", {**job.document(), "state": state, "error": error, "seconds": took}
            )
        finally:
            with self._lock:
                self._running = None

    def _infer(self, job: Job, scene: Path, config: Config, still_claims: Callable[[], bool]) -> NDArray[Any]:
        import numpy as np

        image = from_npy(scene.read_bytes())
        size = config.content.params.tile
        if image.ndim != 3 or not image.size or image.shape[1] % size or image.shape[2] % size:
            raise ApiError(400, f"scene must be [bands, H, W] with H and W multiples of {size}")
        work = _Work(image, size, sorted(config.members))
        job.tiles = len(work)
        mask = np.zeros(image.shape[1:], dtype=np.uint8)
        threads = [
            threading.Thread(
                target=self._serve,
                args=(job, name, config.content.members[name], work, mask, still_claims),
                name=f"tiles-{name}",
                daemon=True,
            )
            for name in sorted(config.members)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        job.retried = work.retried
        if job.done < job.tiles:
            reasons = {n: w.last_error for n, w in job.boards.items() if w.last_error}
            raise ApiError(503, f"{job.tiles - job.done} of {job.tiles} tiles were not inferred: {reasons}")
        return mask

    def _serve(
        self, job: Job, name: str, address: str, work: _Work, mask: NDArray[Any], still_claims: Callable[[], bool]
    ) -> None:
        """Feed one board until there is no more work; a tile it fails goes to the others, but for its first one."""
        board, in_a_row = job.boards[name], 0
        peer = Peer(address, timeout_s=TILE_S, connector=self._connector)
        try:
            while in_a_row < MAX_FAILURES:
                if not still_claims():  # no work without a claim, but a lease may lapse between two renewals
                    board.last_error = f"the gateway does not claim epoch {job.epoch}"
                    in_a_row += 1
                    time.sleep(RETRY_PAUSE_S)
                    continue
                place = work.take(name)
                if place is None:
                    return
                row, column, tile = place
                start = time.monotonic()
                try:
                    body = to_npy(tile)
                    status, content = peer.request("POST", f"/infer?epoch={job.epoch}", body)
                    if status != 200:
                        raise ApiError(status, content[:200].decode(errors="replace"))
                    part = from_npy(content)
                    if part.shape != tile.shape[1:] or part.dtype != mask.dtype:
                        raise ApiError(502, f"the mask of a tile is {part.dtype} {part.shape}")
                except Exception as exc:  # whatever the board answers, the others must get the tile
                    refused = isinstance(exc, ApiError) and in_a_row < LAPSES
                    work.give_back(name, place, own=board.tiles == 0 and refused)
                    board.failures += 1
                    board.last_error = str(exc)[:LONGEST_REASON]
                    in_a_row += 1
                    time.sleep(RETRY_PAUSE_S)
                    continue
                in_a_row = 0
                board.provider = board.provider or _provider(peer)
                mask[row : row + part.shape[0], column : column + part.shape[1]] = part
                with self._lock:
                    job.done += 1
                    board.tiles += 1
                    board.bytes_in += len(body)
                    board.bytes_out += len(content)
                    board.seconds = round(board.seconds + time.monotonic() - start, 6)
                work.finish()
        finally:
            work.leave(name)
            peer.close()


def _provider(peer: Peer) -> str:
    """Ask a board what its network runs on; empty when it does not say, for no job fails over that."""
    try:
        return Health.from_json(peer.json("GET", "/health")).model_provider or ""
    except (OSError, ApiError, ContractError):
        return ""


Place = tuple[int, int, "NDArray[Any]"]


class _Work:
    """The tiles still to do.  Every board has one of its own first, so that each takes part; the rest is shared."""

    def __init__(self, image: NDArray[Any], size: int, boards: list[str]) -> None:
        self._changed = threading.Condition()
        self._shared: deque[Place] = deque(
            (row, column, image[:, row : row + size, column : column + size])
            for row in range(0, image.shape[1], size)
            for column in range(0, image.shape[2], size)
        )
        self._total = self._left = len(self._shared)
        self._own = {name: self._shared.popleft() for name in boards if self._shared}
        self.retried = 0

    def __len__(self) -> int:
        return self._total

    def take(self, board: str) -> Place | None:
        """Return the next tile for a board; waits while others may still give one back; None when all are done."""
        with self._changed:
            while self._left:
                if board in self._own:
                    return self._own.pop(board)
                if self._shared:
                    return self._shared.popleft()
                self._changed.wait(0.5)
            return None

    def give_back(self, board: str, place: Place, *, own: bool) -> None:
        """Give a tile that failed to the others, or keep it for the board as its ``own``."""
        with self._changed:
            self.retried += 1
            if own:
                self._own[board] = place
            else:
                self._shared.append(place)
            self._changed.notify_all()

    def finish(self) -> None:
        with self._changed:
            self._left -= 1
            self._changed.notify_all()

    def leave(self, board: str) -> None:
        """A board that takes no more leaves its own tile to the others."""
        with self._changed:
            if board in self._own:
                self.retried += 1
                self._shared.append(self._own.pop(board))
            self._changed.notify_all()
