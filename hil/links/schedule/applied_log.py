"""The log of applied rows in numbers: how many, how late, what went wrong."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

COLUMNS = ("planned_s", "late_us", "link", "direction", "up", "delay_us", "loss_ppm", "error", "held")
"""Of the log: seconds since the schedule's zero, one row per link and direction; ``error`` is an errno."""


class AppliedCounts:
    """Counts of applied rows, in bounded memory: lateness is kept to three significant digits."""

    def __init__(self) -> None:
        self.rows = self.errors = self.held = self.lost = 0
        self._late: Counter[int] = Counter()
        self._latest_us = 0

    def add(self, late_us: int, error: int, held: bool) -> None:
        self.rows += 1
        self.errors += bool(error)
        self.held += held
        self._late[int(float(f"{late_us:.3g}"))] += 1
        self._latest_us = max(self._latest_us, late_us)

    def summary(self) -> dict[str, int]:
        return {
            "rows": self.rows,
            "late_p50_us": self._percentile(0.50),
            "late_p99_us": self._percentile(0.99),
            "late_max_us": self._latest_us,
            "errors": self.errors,
            "held": self.held,
            "lost": self.lost,
        }

    def _percentile(self, share: float) -> int:
        passed = 0
        for late_us, count in sorted(self._late.items()):
            passed += count
            if passed >= share * self.rows:
                return late_us
        return 0


def summarise(log_path: Path) -> dict[str, int]:
    """Return what :meth:`Player.summary` says, from the log that a player wrote (``lost`` is not in it and reads 0)."""
    tally = AppliedCounts()
    with log_path.open(newline="") as log:
        for row in csv.DictReader(log):
            if row["held"]:  # else the line that is being written
                tally.add(int(row["late_us"]), int(row["error"]), row["held"] == "1")
    return tally.summary()
