"""Faults of the bench itself bite where the other tests of faults cannot have them: on a bench and a disk of their own.

`bench-clock-jump` moves the time of day of a process that was started for that, and touches no board:
tests/unit/faults/test_clock_kinds.py does so.  What all of them make of a trial is in tests/benchmarks/bench_faults.py.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.bench.bench import Bench
from hil.bench.clean import clean
from hil.errors import HilError
from hil.faults import bench_kinds
from hil.faults.bench_kinds import DISKS, KEEPER, LINK_BOX, MIB, PartKilled
from hil.faults.fault import Injection, Outcome
from hil.testing.fakes import ListSink
from tests.kits import checkout
from tests.kits.host_state import leftovers

pytestmark = [
    pytest.mark.integration,
    pytest.mark.side_by_side,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

SIZE_MB = 16


def test_link_box_and_keeper_are_killed_which_is_confirmed_only_when_they_are_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The link box first: a bench without its keeper goes down."""
    name = f"parts{os.getpid()}"
    with suppress(HilError), Bench(checkout.TWO_BOARDS, name=name, sink=ListSink()) as bench:
        parts = PartKilled().targets(bench)
        assert {*parts} in ({LINK_BOX, KEEPER}, {KEEPER})  # links in the host's kernel have no process
        for part in sorted(parts, reverse=True):
            injection = Injection("bench-part-killed", bench, part, {})
            with monkeypatch.context() as idle:
                idle.setattr(PartKilled, "bite", lambda self, pids: None)
                idle.setattr(bench_kinds, "EFFECT_S", 0.1)
                assert injection.begin().outcome is Outcome.MISMATCH, injection.proof
            assert injection.begin().outcome is Outcome.CONFIRMED, injection.proof
    clean()
    assert [left for left in leftovers() if name in str(left)] == []


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[Path]:
    """A small file system of its own."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE_MB}m", "hil-disks", str(tmp_path)], check=True)
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def test_the_boards_disks_are_full_until_they_are_healed(disks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_kinds, "disk_dir", lambda name: disks)
    bench: Any = SimpleNamespace(name="six", sink=ListSink())
    injection = Injection("bench-disks-full", bench, DISKS, {})
    with monkeypatch.context() as idle:
        idle.setattr(bench_kinds.DisksFull, "bite", lambda self, folder, left_b: None)
        assert injection.begin().outcome is Outcome.MISMATCH, injection.proof
    assert injection.begin().outcome is Outcome.CONFIRMED, injection.proof
    with pytest.raises(OSError, match="No space left"):
        (disks / "data.img").write_bytes(bytes(2 * MIB))
    injection.end()
    (disks / "data.img").write_bytes(bytes(8 * MIB))
