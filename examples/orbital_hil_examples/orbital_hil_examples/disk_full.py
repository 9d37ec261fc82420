"""A fault: the data partition of a board is full."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hil.errors import BenchError
from hil.faults.fault import Bite, Fault, Parameter, Proof

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Shell

FILLER = "disk-full"
DIRECTORIES = ("/data", "/var/tmp")
LEFT_MB = Parameter("left_mb", 1.0, 0.0, 1e6, "MiB that stay free")
FILL_S = 120.0


class DiskFull:
    """A file takes the free space of the data partition; healed, it is gone."""

    description = "fills the data partition of a board"
    works_on = "any board over SSH"
    parameters = (LEFT_MB,)

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all boards."""
        return tuple(bench.boards)

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Fill the partition; the proof reads what is free. BenchError without free space."""
        board, left_mb = bench.boards[target], values[LEFT_MB.name]
        with board.shell() as shell:
            directory = _directory(shell)
            size_mb = int(_free_mb(shell, directory) - left_mb)
            if size_mb < 1:
                raise BenchError(f"board {target}: {directory} has no {size_mb} MiB to fill")
            fill = ["dd", "if=/dev/zero", f"of={directory}/{FILLER}", "bs=1M", f"count={size_mb}", "conv=fsync"]
            shell.run(fill, timeout_s=FILL_S)

        def prove() -> Proof:
            with board.shell() as shell:
                free_mb = _free_mb(shell, directory)
            return Proof.of(free_mb <= left_mb + 1, f"{free_mb:.1f} MiB of {directory} are free")

        return Bite(prove)

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Remove the file, if it is there."""
        with bench.boards[target].shell() as shell:
            shell.run(["rm", "-f", f"{_directory(shell)}/{FILLER}"])


def _directory(shell: Shell) -> str:
    return next(d for d in DIRECTORIES if shell.run(["test", "-d", d], check=False).returncode == 0)


def _free_mb(shell: Shell, directory: str) -> float:
    row = shell.run(["df", "-P", "-k", directory]).stdout.strip().splitlines()[-1]
    return int(row.split()[3]) / 1024


DISK_FULL: Fault = DiskFull()
