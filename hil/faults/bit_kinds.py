"""Faults of stored data: bits that flip, writes that are torn, old blocks that come back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hil.boards.protocol import Board, Slot
from hil.errors import BenchError, DeviceError
from hil.faults.fault import Bite, Fault, Parameter, Proof
from hil.faults.os_kinds import WORKS_ON, on_board

if TYPE_CHECKING:
    from hil.bench.bench import Bench

ARTEFACTS = "/data/hil/artefacts"
SLOT_DEVICES: Mapping[Slot, str] = {"A": "/dev/mmcblk0p1", "B": "/dev/mmcblk0p2"}
DAMAGE_S = 60.0

# Runs on the board: changes regions of a file or device, drawn from a seed, and prints what it changed as JSON.
# A squashfs is changed only as far as it reaches: the rest of a slot is never read.
_DAMAGE = r"""
import hashlib, json, os, random, sys
path, mode, source, count, length, seed = *sys.argv[1:4], *map(int, sys.argv[4:7])
fd = os.open(path, os.O_RDWR)
other = os.open(source, os.O_RDONLY) if source else -1
size, head = os.lseek(fd, 0, 2), os.pread(fd, 48, 0)
if head[:4] == b"hsqs": size = min(size, int.from_bytes(head[40:48], "little"))
chance, done = random.Random(seed), []
for _ in range(count):
    at = chance.randrange(max(1, size - length))
    old = os.pread(fd, length, at)
    if mode == "flip": new = bytes([old[0] ^ (1 << chance.randrange(8))]) + old[1:]
    elif mode == "old": new = os.pread(other, length, at)
    else: new = bytes(len(old))
    os.pwrite(fd, new, at)
    if new != old: done.append([at, len(new), hashlib.sha256(new).hexdigest()])
os.fsync(fd)
print(json.dumps(done))
"""
# Reads the same regions again, past the page cache where the kernel can drop it.
_LOOK = r"""
import hashlib, json, os, sys
fd = os.open(sys.argv[1], os.O_RDONLY)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
print(json.dumps([hashlib.sha256(os.pread(fd, n, at)).hexdigest() for at, n, _ in json.loads(sys.argv[2])]))
"""


class Damaged:
    """Stored data of a board is damaged; nothing heals that but the system itself."""

    works_on = WORKS_ON

    def __init__(self, description: str, mode: str, what: str, *, regions: int, length_b: int) -> None:
        """``mode`` is flip, zero or old; ``what`` is slot (the one that does not run), os or model (an artefact)."""
        self.description = description
        self.parameters: Sequence[Parameter] = (
            Parameter("regions", regions, 1, 10_000, "how many places are changed", (1, 2 * regions)),
            Parameter("length_b", length_b, 1, 1 << 20, "length of each, bytes (of a flip: one bit in it)"),
            Parameter("seed", 1, 0, 2**32 - 1, "of the places", (0, 2**32 - 1)),
        )
        self._mode, self._what = mode, what

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all boards."""
        return tuple(bench.boards)

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Damage it; the proof reads the changed regions back. BenchError when the board has no such data."""
        board = bench.boards[target]
        path, source = self.places(board)
        changed = self.bite(board, path, source, values)

        def prove() -> Proof:
            try:
                seen = json.loads(_python(board, _LOOK, path, json.dumps(changed)))
                there = sum(digest == new for digest, (_, _, new) in zip(seen, changed, strict=True))
            except (ValueError, TypeError, RecursionError) as exc:
                raise BenchError(f"board {board.name}: {path} cannot be read back: {exc}") from exc
            first = f"; the first one is at byte {changed[0][0]}" if changed else ""
            what = f"{there} of {len(changed)} regions in {path} of {target} read back as changed{first}"
            return Proof.of(0 < there == len(changed), what)

        return Bite(prove)

    def bite(self, board: Board, path: str, source: str, values: Mapping[str, float]) -> list[tuple[int, int, str]]:
        """Return (offset, length, sha256) of each region that has another content now."""
        numbers = [str(int(values[name])) for name in ("regions", "length_b", "seed")]
        try:
            done = json.loads(_python(board, _DAMAGE, path, self._mode, source, *numbers))
            return [(int(at), int(length), str(digest)) for at, length, digest in done]
        except (DeviceError, ValueError, TypeError, RecursionError) as exc:
            raise BenchError(f"board {board.name}: {path} cannot be damaged: {exc}") from exc

    def places(self, board: Board) -> tuple[str, str]:
        """Return the file or device to damage, and the one that has the old content where that is needed."""
        if self._what == "slot":
            running = board.boot.state().running
            if running is None:
                raise BenchError(f"board {board.name}: no OS runs, so no slot is known to be the other one")
            other: Slot = "B" if running == "A" else "A"
            return SLOT_DEVICES[other], SLOT_DEVICES[running] if self._mode == "old" else ""
        script = f'grep -lE \'"kind": ?"{self._what}"\' {ARTEFACTS}/*/manifest.json | head -n1'
        manifest = on_board(board, script, check=False)
        if not manifest:
            raise BenchError(f"board {board.name} has no {self._what} artefact to damage", remedy="upload one first")
        return manifest.replace("manifest.json", "data"), ""

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Do nothing: what is stored stays damaged until the system writes it anew."""


def _python(board: Board, program: str, *words: str) -> str:
    return on_board(board, f"python3 -S -c {shlex.quote(program)} {shlex.join(words)}", timeout_s=DAMAGE_S)


FLIP_BUNDLE: Fault = Damaged("flips bits of the OS bundle that a board keeps", "flip", "os", regions=4, length_b=1)
FLIP_MODEL: Fault = Damaged("flips bits in the weights of a board's AI model", "flip", "model", regions=4, length_b=1)
FLIP_SLOT: Fault = Damaged("flips bits in the slot that a board does not run", "flip", "slot", regions=4, length_b=1)
TORN_SLOT: Fault = Damaged(
    "leaves parts of the slot that a board does not run unwritten (zeros): torn writes",
    *("zero", "slot"),
    regions=2,
    length_b=65_536,
)
OLD_BLOCKS: Fault = Damaged(
    "brings old blocks back in the slot that a board does not run: those of the slot that it runs",
    *("old", "slot"),
    regions=8,
    length_b=131_072,
)
