"""One store of leases for all users of a machine: found by everybody, made by nobody who only looks."""

from __future__ import annotations

import grp
import os
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from hil.core import paths
from hil.core.locks import is_locked, locked
from hil.errors import ConfigurationError
from hil.host import shared
from hil.leases.leases import Leases, default_store
from tests.kits.lease_store import A1, file_of


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("HIL_HOME", "HIL_LEASES", "HIL_LEASE", "HIL_RUN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(paths, "SYSTEM_HOME", tmp_path / "system")
    monkeypatch.setattr(paths, "SYSTEM_RUN", tmp_path / "run")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    return tmp_path / "system"


def test_a_plain_user_gets_the_store_of_the_machine_and_no_empty_one_of_his_own(system: Path) -> None:
    assert default_store() == paths.home() / "leases.db"  # nothing was set up
    system.mkdir()
    (system / "leases.db").touch()
    assert default_store() == system / "leases.db"
    (system / "leases").mkdir()
    assert default_store() == system / "leases/leases.db"
    assert paths.run_dir() == paths.home() / "run"
    (paths.SYSTEM_RUN / "bench").mkdir(parents=True)
    assert paths.run_dir() == paths.SYSTEM_RUN


def test_who_may_not_use_it_is_told_whom_to_ask(system: Path) -> None:
    (system / "leases").mkdir(parents=True)
    (system / "leases/leases.db").mkdir()  # cannot be opened, also by root
    with pytest.raises(ConfigurationError):
        Leases().list()
    (system / "leases/leases.db").rmdir()
    (system / "leases").rmdir()
    (system / "leases").write_text("")
    with pytest.raises(ConfigurationError, match="this user may not use them") as told:
        Leases().list()
    assert "ask to be added to group hil" in told.value.remedy


def test_a_store_in_a_directory_of_a_group_is_the_groups(tmp_path: Path) -> None:
    folder = tmp_path / "leases"
    folder.mkdir()
    folder.chmod(0o2775)
    leases = Leases(folder / "leases.db")
    leases.reserve([A1], purpose="new fan")
    assert stat.S_IMODE(file_of(leases).stat().st_mode) == 0o664


def test_set_up_makes_the_directory_of_the_group_once_nobody_holds_a_board(
    system: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(grp, "getgrnam", lambda _name: SimpleNamespace(gr_gid=os.getgid()))
    monkeypatch.setattr(os, "chown", lambda *_: None)
    assert shared.missing()
    before = Leases().reserve([A1], holder="anna", purpose="new fan")
    assert default_store() == system / "leases.db" and not shared.missing()
    Leases().free(before.id, by="anna")
    assert shared.missing()
    shared.make()
    assert not shared.missing() and default_store() == system / "leases/leases.db"
    assert stat.S_IMODE((system / "leases").stat().st_mode) == 0o2775
    assert Leases().reserve([A1], purpose="night").token > before.token
    assert [path.name for path in system.iterdir()] == ["leases"]
    monkeypatch.setenv("HIL_HOME", str(system / "mine"))
    assert not shared.missing()


@pytest.mark.parametrize("came_since", [False, True])
def test_a_move_of_the_store_that_was_killed_is_finished(
    system: Path, monkeypatch: pytest.MonkeyPatch, *, came_since: bool
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(grp, "getgrnam", lambda _name: SimpleNamespace(gr_gid=os.getgid()))
    monkeypatch.setattr(os, "chown", lambda *_: None)
    (system / ".leases").mkdir(parents=True)
    (system / ".leases/leases.db").write_text("moved")
    (system / "leases.db-wal").write_text("not yet")
    if came_since:
        (system / "leases.db").write_text("another one")
    shared.make()
    there = {path.name: path.read_text() for path in (system / "leases").iterdir()}
    assert there == {"leases.db": "moved"} | ({} if came_since else {"leases.db-wal": "not yet"})
    assert (system / "leases.db").exists() is came_since


def test_looking_at_a_lock_needs_no_right_to_write(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch(0o444)
    with locked(path):
        assert is_locked(path)
    assert not is_locked(path)
