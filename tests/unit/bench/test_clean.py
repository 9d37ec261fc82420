"""Cleaning: what a killed run left is found and named; what is alive is left alone."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Collection, Iterator
from functools import partial
from pathlib import Path

import pytest

from hil.bench import clean as bench_clean
from hil.bench import leftovers
from hil.bench.clean import clean
from hil.bench.leftovers import Leftover
from hil.bench.state import hold
from hil.core.locks import locked
from hil.core.mounts import mounts_under
from hil.core.processes import ProcessId
from hil.errors import BenchError, ConfigurationError
from hil.host.apt_no_start import ServiceGuard
from hil.links.engines.sysctl import left_raised
from hil.testing.fakes import FakeRunner
from tests.kits.proc_tree import proc_entry


@pytest.fixture(autouse=True)
def own_directories(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HIL_RUN", str(tmp_path / "run"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)


class Shelf:
    """A kind with things in it; some resist."""

    def __init__(self, *names: str, stuck: str = "", log: list[str] | None = None) -> None:
        self.names = list(names)
        self.stuck = stuck
        self.log = log if log is not None else []

    def __call__(self, live: Collection[str]) -> Iterator[Leftover]:
        for name in list(self.names):
            bench = name.partition("-")[0]
            if bench not in live:
                yield Leftover("thing", name, partial(self.remove, name), bench)

    def remove(self, name: str) -> None:
        if name == self.stuck:
            raise BenchError(f"{name} is held by somebody")
        self.log.append(name)
        self.names.remove(name)


def test_what_is_left_is_removed_in_order_and_named() -> None:
    log: list[str] = []
    done = clean(of=[Shelf("dead-container", log=log), Shelf("dead-namespace", log=log)], live=set)
    assert log == ["dead-container", "dead-namespace"]
    assert [x.name for x in done.removed] == log and not done.failed


def test_what_belongs_to_a_live_bench_is_not_touched() -> None:
    shelf = Shelf("dead-x", "alive-x")
    done = clean(of=[shelf], live=lambda: {"alive"})
    assert shelf.names == ["alive-x"]
    assert done.live == ("alive",) and [x.name for x in done.removed] == ["dead-x"]


def test_a_dry_run_only_names() -> None:
    shelf = Shelf("dead-x")
    done = clean(of=[shelf], live=set, dry_run=True)
    assert shelf.names == ["dead-x"] and [x.name for x in done.removed] == ["dead-x"] and done.dry_run


def test_what_resists_is_reported_and_the_rest_is_removed_all_the_same() -> None:
    shelf = Shelf("dead-a", "dead-b", stuck="dead-a")
    done = clean(of=[shelf], live=set)
    assert [(x.name, why) for x, why in done.failed] == [("dead-a", "dead-a is held by somebody")]
    assert [x.name for x in done.removed] == ["dead-b"]
    assert done.as_json()["failed"][0]["error"] == "dead-a is held by somebody"


def test_a_keeper_that_resists_is_reported_and_the_rest_is_removed_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[int] = []

    def end(who: ProcessId, **_: object) -> None:
        if who.pid == 1:
            raise BenchError("it hangs in the kernel")
        ended.append(who.pid)

    monkeypatch.setattr(bench_clean, "keepers", lambda: {"stuck": ProcessId(1, 0), "other": ProcessId(2, 0)})
    monkeypatch.setattr(bench_clean, "end", end)
    live, shelf = iter([{"stuck", "other"}, {"stuck"}]), Shelf("other-x", "stuck-x")
    done = clean(everything=True, of=[shelf], live=lambda: next(live))
    assert [(x.name, why) for x, why in done.failed] == [("stuck", "it hangs in the kernel")]
    assert [x.name for x in done.removed] == ["other", "other-x"] and ended == [2]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(ConfigurationError, match="only root can remove live bench"):
        clean(everything=True, of=[shelf], live=lambda: {"stuck", "other"})
    assert ended == [2]


def test_a_plain_user_is_told_to_be_root_before_anything_is_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    shelf = Shelf("dead-x")
    with pytest.raises(ConfigurationError, match="only root"):
        clean(of=[shelf], live=set)
    assert shelf.names == ["dead-x"]
    assert clean(of=[Shelf()], live=set).removed == ()


def test_every_kind_of_leftover_is_looked_for() -> None:
    names = [find.__name__ for find in leftovers.FINDERS]
    assert names == [
        "user_mode_linux", "containers", "namespaces", "mounts", "loop_devices", "directories", "link_engines",
        "package_guard", "container_engine",
    ]  # fmt: skip


def test_a_bench_is_live_while_its_lock_is_held_or_its_keeper_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers, "DYING_S", 0.05)  # the lock's holder is alive: it will not let go
    (tmp_path / "run/bench/held").mkdir(parents=True)
    (tmp_path / "run/bench/gone").mkdir()
    with hold("held"):
        assert "held" in leftovers.live_benches()
        assert [x.bench for x in leftovers.directories(leftovers.live_benches())] == ["gone"]
    assert "held" not in leftovers.live_benches()
    proc = tmp_path / "proc"
    proc_entry(proc, 50, ticks=9, argv="python3 -m hil.bench.keeper --name kept --lab x")
    proc_entry(proc, 51, ticks=9, argv="grep hil.bench.keeper")
    assert {name: k.pid for name, k in leftovers.keepers(proc).items()} == {"kept": 50}


def test_directories_and_disks_of_benches_that_are_gone_are_removed(tmp_path: Path) -> None:
    for directory in ("run/bench/dead", "home/bench/dead", "home/bench/live"):
        (tmp_path / directory / "x").mkdir(parents=True)
    (tmp_path / "run/bench/dead.lock").touch()
    found = list(leftovers.directories({"live"}))
    assert [(x.kind, x.bench) for x in found] == [("bench", "dead"), ("board disks", "dead")]
    for leftover in found:
        leftover.remove()
    assert not (tmp_path / "home/bench/dead").exists() and (tmp_path / "home/bench/live").exists()


def test_loop_devices_are_ours_by_their_file(tmp_path: Path) -> None:
    block = tmp_path / "block"
    for device, backing in {
        "loop0": f"{tmp_path}/home/bench/dead/a1/slot_a.img (deleted)",
        "loop1": f"{tmp_path}/home/bench/live/a1/slot_a.img",
        "loop2": "/var/lib/snapd/snaps/core.snap",
        "loop3": None,
    }.items():
        (block / device / "loop").mkdir(parents=True)
        if backing:
            (block / device / "loop/backing_file").write_text(backing + "\n")
    runner = FakeRunner()
    (found,) = leftovers.loop_devices({"live"}, block, runner)
    assert (found.name, found.bench) == ("loop0", "dead")
    found.remove()
    assert runner.calls == [("losetup", "--detach", "/dev/loop0")]


def test_mounts_are_found_deepest_first_and_the_engines_and_the_users_own_are_spared(tmp_path: Path) -> None:
    home, info = tmp_path / "home", tmp_path / "mountinfo"
    points = [
        home,
        home / "cache/build",
        home / "cache/build/proc",
        home / "docker/overlay2/x",
        home / "bench/live/m",
        "/mnt",
    ]
    info.write_text("".join(f"1 2 0:3 / {p} rw - ext4 /dev/x rw\n".replace("build", "my\\040build") for p in points))
    found = [x.name for x in leftovers.mounts({"live"}, info)]
    assert found == [f"{home}/cache/my build/proc", f"{home}/cache/my build"]
    assert mounts_under(Path("/mnt"), mountinfo=info) == [Path("/mnt")]


def test_an_orphaned_user_mode_linux_is_ended_and_one_with_its_keeper_is_not(tmp_path: Path) -> None:
    proc, run = tmp_path / "proc", tmp_path / "run"
    proc_entry(proc, 10, ticks=1, argv="python3 -m hil.bench.keeper --name x", ppid=1)
    proc_entry(proc, 11, ticks=2, argv=f"linux.uml uml_dir={run}/uml/10-1/ umid=vm", ppid=10)
    proc_entry(proc, 12, ticks=3, argv=f"linux.uml uml_dir={run}/uml/99-1/ umid=vm", ppid=1)
    proc_entry(proc, 13, ticks=4, argv="linux.uml uml_dir=/home/user/.uml/ umid=mine", ppid=1)
    proc_entry(proc, 14, ticks=5, argv=f"{tmp_path}/home/cache/relay/abc/hil-relay launch", ppid=1)
    found = {x.name for x in leftovers.user_mode_linux(set(), proc)}
    assert found == {"12:3", "14:5"}


def test_containers_of_a_stopped_engine_are_read_from_its_disk(tmp_path: Path) -> None:
    for number, labels in enumerate(({"hil.bench": "dead"}, {"hil.bench": "live"}, {"other": "x"}, None)):
        directory = tmp_path / f"home/docker/containers/{number}"
        directory.mkdir(parents=True)
        config = {"Name": f"/c{number}", "Config": {"Labels": labels}}
        (directory / "config.v2.json").write_text(json.dumps(config))
    (tmp_path / "home/docker/containers/torn").mkdir()
    (tmp_path / "home/docker/containers/torn/config.v2.json").write_text("{")
    assert leftovers.stored_containers(tmp_path / "home/docker") == [("c0", "dead"), ("c1", "live")]


def test_a_set_up_that_is_at_work_keeps_its_package_guard(tmp_path: Path) -> None:
    guard = ServiceGuard(tmp_path / "policy-rc.d")
    guard.__enter__()
    lock = tmp_path / "home/setup.lock"
    lock.parent.mkdir()
    with locked(lock):
        assert list(leftovers.package_guard(set(), guard)) == []
    (found,) = leftovers.package_guard(set(), guard)
    found.remove()
    assert not guard.policy.exists()


def test_run_time_directories_of_link_engines_go_when_their_owner_is_gone(tmp_path: Path) -> None:
    for name in (f"{os.getpid()}-1", f"{2**22 - 3}-1"):
        (tmp_path / "run/uml" / name).mkdir(parents=True)
    (found,) = leftovers.link_engines(set())
    assert found.name.endswith(f"{2**22 - 3}-1")


def test_raised_socket_buffers_are_noticed_unless_a_bench_is_just_coming_up(tmp_path: Path) -> None:
    note = tmp_path / "buffers.json"
    assert not left_raised(note)
    note.write_text("{}")
    assert left_raised(note)
    with note.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not left_raised(note)
