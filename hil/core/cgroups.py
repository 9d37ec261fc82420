"""The control group of a process, version 1 or 2: how much processor time it used, and how much it may."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hil.core.processes import PROC
from hil.errors import BenchError

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 50_000
"""A group that used its share of a period waits for the next one."""
LEAST_US = 1000
"""The kernel takes no smaller share of a period."""


@dataclass(frozen=True)
class CpuGroup:
    """Where the processor time of a group is counted and limited."""

    usage: Path
    limit: Path
    unified: bool

    @classmethod
    def of(cls, pid: int, *, proc: Path = PROC, root: Path = ROOT) -> CpuGroup:
        """Return the group of a process. BenchError when it has none that can be limited."""
        try:
            rows = [row.split(":", 2) for row in (proc / str(pid) / "cgroup").read_text().splitlines()]
        except OSError as exc:
            raise BenchError(f"process {pid}: its control group cannot be read: {exc}") from exc
        paths = {name: path.lstrip("/") for _, names, path in rows for name in names.split(",")}
        if "cpu" in paths and "cpuacct" in paths:
            return cls(
                root / "cpuacct" / paths["cpuacct"] / "cpuacct.usage",
                root / "cpu" / paths["cpu"] / "cpu.cfs_quota_us",
                unified=False,
            )
        if "" in paths and (own := root / paths[""] / "cpu.max").exists():
            return cls(own.with_name("cpu.stat"), own, unified=True)
        raise BenchError(
            f"process {pid}: no control group here limits its processor time",
            remedy="mount the controllers cpu and cpuacct (cgroup v1), or cgroup v2 with cpu",
        )

    def used_s(self) -> float:
        """Return the processor time used so far, s. OSError when the group is gone."""
        text = self.usage.read_text()
        if not self.unified:
            return int(text) / 1e9
        return int(next(row.split()[1] for row in text.splitlines() if row.startswith("usage_usec "))) / 1e6

    def allow(self, cores: float | None) -> None:
        """Limit it to so many cores; None: no limit. OSError when the group is gone."""
        quota = -1 if cores is None else max(LEAST_US, round(cores * PERIOD_US))
        if self.unified:
            self.limit.write_text(f"{'max' if quota < 0 else quota} {PERIOD_US}")
            return
        with suppress(OSError):  # refused while the old quota is longer than the new period
            self.limit.with_name("cpu.cfs_period_us").write_text(f"{PERIOD_US}")
        self.limit.write_text(f"{quota}")
