"""How the shared store is named, and what is said when the name is wrong."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from hil.database import connection
from hil.database.connection import HEAD, Server, check_version, shared
from hil.errors import BenchError, ConfigurationError, HilError
from hil.evidence.store import RunStore
from hil.leases.leases import Leases, default_store

SECRET = "geheim"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (SECRET, "no URL"),
        (f"mysql://hil:{SECRET}@host/hil", "no URL"),
        (f"postgresql:/hil:{SECRET}@host/hil", "no URL"),
        (f"sqlite:///{SECRET}", "names SQLite"),
        (f"postgresql://hil:{SECRET}@host", "names no database"),
        (f"postgresql://hil:{SECRET}@host/hil?colour={SECRET}", "makes no sense"),
        (f"postgresql://hil:{SECRET}%zz@host/hil", "makes no sense"),
        (f"postgresql://hil:{SECRET}@127.0.0.1:{SECRET}/hil", "makes no sense"),
        (f"postgresql://hil:a@{SECRET}@host/hil", "makes no sense"),
        (f"postgresql://hil:a/{SECRET}@host/hil", "makes no sense"),
        (f"postgresql://hil:{SECRET}@127.0.0.1:1/hil", "refused"),
        (f"postgresql://hil:{SECRET}@/hil?host=/nowhere", "No such file"),
        (f"postgresql://hil@/hil?host=/nowhere&password={SECRET}&sslmode={SECRET}", "invalid"),
        (f"postgresql://hil:{SECRET}@/hil%1b[2J?host=/nowhere", "No such file"),
    ],
)
def test_a_wrong_url_is_told_with_a_remedy_and_without_the_password(
    url: str, said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HIL_STORE", url)
    monkeypatch.delenv("HIL_LEASES", raising=False)
    for use in (lambda: Leases().list(), lambda: RunStore(tmp_path).runs()):
        with pytest.raises((ConfigurationError, BenchError)) as raised:
            use()
        error = raised.value
        assert said in error.message and error.remedy
        assert SECRET not in f"{error}{error!r}" and "\x1b" not in str(error)


def test_a_file_that_is_named_for_the_leases_comes_before_the_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HIL_STORE", f"postgresql://hil:{SECRET}@host:5433/hil")
    monkeypatch.setenv("HIL_LEASES", str(tmp_path / "leases.db"))
    assert default_store() == tmp_path / "leases.db"
    monkeypatch.delenv("HIL_LEASES")
    assert str(default_store()) == "postgresql://hil@host:5433/hil" == str(shared())
    assert SECRET not in repr(shared())


def test_without_psycopg_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "psycopg", None)
    with pytest.raises(ConfigurationError, match=r"orbital-hil\[postgres\]"):
        Server.named("postgresql://hil@host/hil")


def test_a_store_of_a_later_release_is_refused(tmp_path: Path) -> None:
    leases, runs = Leases(tmp_path / "leases.db"), RunStore(tmp_path)
    leases.list()
    runs.start({}, tmp_path / "runs" / "r1")
    for path, use in ((leases.path, leases.list), (tmp_path / "runs.sqlite", runs.runs)):
        assert isinstance(path, Path)
        with sqlite3.connect(path) as db:
            db.execute("UPDATE alembic_version SET version_num = '9999'")
        with pytest.raises(HilError, match="is of a later release: its tables are 9999"):
            use()
    assert check_version(HEAD, "it") and not check_version("", "it")


def test_parameters_are_those_of_both_drivers() -> None:
    adapted = connection._adapted("SELECT :a, b::json->'x', '12:30', 5 % 2 WHERE c = :long_name")
    assert adapted == "SELECT %(a)s, b::json->'x', '12:30', 5 %% 2 WHERE c = %(long_name)s"
    assert connection._fit("a\0b\ud800") == "a\ufffdb?" and connection._fit(True) == 1
