"""Processes are known by pid and start time, so that nobody else is ever signalled."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from hil.core.processes import ProcessId, current, end, families, identify, memory_b, processes
from tests.kits.proc_tree import proc_entry


def test_this_process_is_alive_and_another_start_time_is_another_process() -> None:
    me = current()
    assert me.pid == os.getpid() and me.alive()
    assert not replace(me, start_ticks=me.start_ticks + 1).alive()
    assert ProcessId.parse(str(me)) == me


def test_a_name_with_spaces_and_brackets_does_not_confuse_the_reader(tmp_path: Path) -> None:
    proc_entry(tmp_path, 7, ticks=1234, name="evil) S 1 (x")
    assert identify(7, tmp_path) == ProcessId(7, 1234)


def test_a_zombie_is_not_alive(tmp_path: Path) -> None:
    proc_entry(tmp_path, 8, ticks=5, state="Z")
    assert identify(8, tmp_path) is None
    assert not ProcessId(8, 5).alive(tmp_path)


def test_kernel_threads_are_not_listed(tmp_path: Path) -> None:
    proc_entry(tmp_path, 2, ticks=1, argv="")
    proc_entry(tmp_path, 9, ticks=2, argv="dockerd --host x", ppid=4)
    (found,) = processes(tmp_path)
    assert (found.id, found.argv, found.parent) == (ProcessId(9, 2), ("dockerd", "--host", "x"), 4)


def test_something_else_is_not_taken_for_a_process() -> None:
    with pytest.raises(ValueError):
        ProcessId.parse("lock")


def test_ending_a_process_that_ignores_sigterm_takes_sigkill_and_returns_when_it_is_gone() -> None:
    code = "import signal, sys, time; signal.signal(15, signal.SIG_IGN); print('on', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout and child.stdout.readline() == b"on\n"
        who = identify(child.pid)
        assert who
        end(who, what="the child", term_s=0.1)
        assert child.wait(timeout=10) == -9


def test_ending_somebody_who_took_over_the_pid_does_nothing() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        who = identify(child.pid)
        assert who
        end(replace(who, start_ticks=who.start_ticks - 1), what="an earlier process")
        assert child.poll() is None
        child.communicate(b"\n", timeout=10)
        assert child.returncode == 0


def test_ending_a_process_that_is_gone_is_no_error() -> None:
    end(ProcessId(2**22 - 3, 1), what="nobody")


def test_a_family_is_a_process_and_all_that_descend_from_it(tmp_path: Path) -> None:
    for pid, parent in ((10, 1), (11, 10), (12, 11), (20, 1), (21, 12)):
        proc_entry(tmp_path, pid, ticks=5, ppid=parent)
        (tmp_path / str(pid) / "smaps_rollup").write_text("Rss: 9 kB\nPss:  3 kB\nPss_Anon: 1 kB\n")
    family = families([10, 20], tmp_path)
    assert sorted(family[10]) == [10, 11, 12, 21]
    assert family[20] == [20]
    assert memory_b([*family[10], 99], tmp_path) == 4 * 3 * 1024
