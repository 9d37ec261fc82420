"""A fault: the data partition of a board is full."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hil.errors import BenchError
from hil.faults.fault import Fault, Parameter

if TYPE_CHECKING:
    from hil.bench.bench import Bench
    from hil.boards.protocol import Shell

DIRECTORIES = ("/data", "/var/tmp")
LEFT_MB = Parameter("left_mb", 1.0, 0.0, 1e6, "MiB that stay free")
FILL_S = 120.0


class DiskFull:
    """A file takes the free space of the data partition; healed, it is gone."""

    description = "fills the data partition of a board"
    parameters = (LEFT_MB,)

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return all boards."""
        return tuple(bench.boards)

    @contextmanager
    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Iterator[None]:
        """Fill the partition; afterwards remove the file, over a new session. BenchError without free space."""
        board = bench.boards[target]
        with board.shell() as shell:
            directory = next(d for d in DIRECTORIES if shell.run(["test", "-d", d], check=False).returncode == 0)
            filler = f"{directory}/disk-full"
            size_mb = int(_free_mb(shell, directory) - values[LEFT_MB.name])
            if size_mb < 1:
                raise BenchError(f"board {target}: {directory} has no {size_mb} MiB to fill")
        try:
            with board.shell() as shell:
                fill = ["dd", "if=/dev/zero", f"of={filler}", "bs=1M", f"count={size_mb}", "conv=fsync"]
                shell.run(fill, timeout_s=FILL_S)
            yield
        finally:
            with board.shell() as shell:
                shell.run(["rm", "-f", filler])


def _free_mb(shell: Shell, directory: str) -> float:
    row = shell.run(["df", "-P", "-k", directory]).stdout.strip().splitlines()[-1]
    return int(row.split()[3]) / 1024


DISK_FULL: Fault = DiskFull()
