"""Claim intervals of all boards in one clock, and the search for two that must not overlap.  Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hil.onboard.node.answers import Health

CLOCK_RATE_ERROR = 0.02
"""A board's clock may run so much faster or slower than ours; its durations are shortened by this."""


@dataclass(frozen=True)
class ClaimInterval:
    """An interval of the watcher's clock during which a board certainly claimed."""

    board: str
    start_s: float
    end_s: float
    epoch: int
    os_version: str

    def overlaps(self, other: ClaimInterval) -> bool:
        return self.start_s <= other.end_s and other.start_s <= self.end_s

    def __str__(self) -> str:
        span = f"from {self.start_s:.3f} to {self.end_s:.3f} s"
        return f"{self.board} claimed epoch {self.epoch} on OS {self.os_version} {span}"


@dataclass(frozen=True)
class Violation:
    """Two boards that must not have claimed at the same time."""

    kind: str  # "mixed-epoch" | "mixed-os"
    first: ClaimInterval
    second: ClaimInterval

    def __str__(self) -> str:
        return f"{self.kind}: {self.first}, {self.second}"


def oddity(health: Health) -> str:
    """Return what is missing in a claim, so that it could hide a violation; empty when nothing is."""
    claim = health.claim
    if claim.serving and (claim.epoch is None or claim.since_s is None):
        return "it serves, and does not say under which epoch or since when"
    return ""


def definite(health: Health, sent_s: float, received_s: float) -> ClaimInterval | None:
    """Return what one answer proves.

    The board looked at its claim at some moment between ``sent_s`` and ``received_s``, and had then claimed for
    ``since_s`` without a break: so it claimed from ``received_s - since_s`` at the latest until ``sent_s`` at the
    earliest.  None when it does not claim or has only just begun.
    """
    claim = health.claim
    if not claim.serving or claim.epoch is None or claim.since_s is None:
        return None
    start_s = received_s - claim.since_s * (1 - CLOCK_RATE_ERROR)
    if start_s > sent_s:
        return None
    return ClaimInterval(
        board=health.board, start_s=start_s, end_s=sent_s, epoch=claim.epoch, os_version=health.os_version or ""
    )


class Ledger:
    """All intervals seen.  Not thread-safe."""

    def __init__(self) -> None:
        self.intervals: dict[str, list[ClaimInterval]] = {}
        self.violations: list[Violation] = []
        self._known: set[tuple[object, ...]] = set()

    def add(self, interval: ClaimInterval) -> list[Violation]:
        """Take an interval; the violations that it reveals, each pair of claims only once."""
        mine = self.intervals.setdefault(interval.board, [])
        last = mine[-1] if mine else None
        if (
            last is not None
            and (last.epoch, last.os_version) == (interval.epoch, interval.os_version)
            and interval.start_s <= last.end_s
        ):
            interval = replace(last, start_s=min(last.start_s, interval.start_s), end_s=max(last.end_s, interval.end_s))
            mine[-1] = interval
        else:
            mine.append(interval)
        found = [v for v in self._conflicts(interval) if self._is_new(v)]
        self.violations += found
        return found

    def _conflicts(self, interval: ClaimInterval) -> list[Violation]:
        out = []
        for board, others in self.intervals.items():
            if board == interval.board:
                continue
            for other in others:
                if not interval.overlaps(other):
                    continue
                if other.epoch != interval.epoch:
                    out.append(Violation("mixed-epoch", other, interval))
                elif other.os_version != interval.os_version:
                    out.append(Violation("mixed-os", other, interval))
        return out

    def _is_new(self, violation: Violation) -> bool:
        """Return the same two claims may grow, sample by sample; they are one violation."""
        pair = sorted((c.board, c.epoch, c.os_version) for c in (violation.first, violation.second))
        key = (violation.kind, *pair)
        if key in self._known:
            return False
        self._known.add(key)
        return True
