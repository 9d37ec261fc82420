"""Boards, entries and stores of leases, as this host and others see them."""

from __future__ import annotations

import os
import threading
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from hil.leases.leases import LeaseEntry, Leases
from hil.leases.rules import Origin
from hil.testing.fakes import FakeClock

A1, A2, A3 = "six/a1", "six/a2", "six/a3"
WHEN = datetime(2026, 3, 1, tzinfo=UTC)
HERE = Origin(host="ctl", machine="m1", boot="boot-1", clock="time:1", pids="pid:1")


def entry(number: int, *boards: str, holds: bool = False, within: int | None = None) -> LeaseEntry:
    return LeaseEntry(
        id=number,
        boards=frozenset(boards),
        holder="anna",
        purpose="test",
        by_person=False,
        within=within,
        origin=HERE,
        pid=os.getpid(),
        start_ticks=0,
        ttl_s=60,
        renewed_s=0,
        renewals=0,
        asked=WHEN,
        taken=WHEN if holds else None,
        renewed=WHEN,
    )


def elsewhere(path: Path, clock: FakeClock, **place: str) -> Leases:
    """The store as somebody sees it whose processes cannot be seen from here, on a clock that only moves when told."""
    return Leases(path, clock=clock, here=replace(HERE, **place))


def file_of(leases: Leases) -> Path:
    """Return the file of a store that is one."""
    assert isinstance(leases.path, Path)
    return leases.path


def in_thread(work: object) -> threading.Thread:
    assert callable(work)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread
