"""Stores of earlier releases are brought up without loss; all ways to this release end in the same tables."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from hil.database.access import PARTS
from hil.database.connection import HEAD, version_of
from hil.database.migrate import MIGRATIONS, bring_up
from hil.database.schema import METADATA
from hil.database.schema import PARTS as TABLES
from hil.evidence.store import RunStore
from hil.leases.leases import Leases
from tests.kits import checkout

FILES = {"leases": "leases.db", "runs": "runs.sqlite"}


def old(part: str, folder: Path) -> Path:
    """Make the file of the release before migrations were kept."""
    path = folder / FILES[part]
    script = (checkout.ROOT / "tests/data/old_store" / f"{Path(FILES[part]).stem}.sql").read_text("utf-8")
    with closing(sqlite3.connect(path)) as db:
        db.executescript(script)
        db.execute("PRAGMA journal_mode = WAL")
    return path


def columns(path: Path) -> dict[str, Any]:
    with closing(sqlite3.connect(path)) as db:
        names = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'index')")]
        of = {name: sorted(row[1:3] for row in db.execute(f"PRAGMA table_info({name})")) for name in names}
        return {name: of[name] for name in names if not name.startswith("sqlite_")}


def test_leases_marks_and_history_of_an_old_store_are_kept(tmp_path: Path) -> None:
    leases = Leases(old("leases", tmp_path))
    (held,) = leases.list()
    assert (held.id, held.holder, held.purpose, set(held.boards)) == (2, "anna", "new fan", {"six/a1"})
    assert held.store == "b5ffee839c4a6838"
    assert leases.marks.all()["six/a3"].note == "loud fan"
    assert [lease.purpose for lease in leases.marks.history()] == ["night"]
    leases.free(2, force=True)
    assert [lease.purpose for lease in leases.marks.history()] == ["new fan", "night"]


def test_runs_and_points_of_an_old_store_are_kept(tmp_path: Path) -> None:
    old("runs", tmp_path)
    store = RunStore(tmp_path)
    assert [(run.run_id, run.verdict, run.host) for run in store.runs()] == [
        ("20260102-demo-aaaa", "PASS", ""),
        ("20260101-demo-aaaa", "PASS", ""),
    ]
    _, found = store.history("demo", "virtual", nights=40)
    assert {series.label: [point.value for point in points.values()] for series, points in found.items()} == {
        "Links deliver": [2.5, 2.5],
        "Links deliver: delay of isl-ab": [2.5, 3.5],
    }


@pytest.mark.parametrize("part", list(FILES))
def test_an_old_store_gets_the_tables_of_a_new_one(part: str, tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    new, brought_up = tmp_path / "new" / FILES[part], old(part, tmp_path)
    for path in (new, brought_up):
        with closing(sqlite3.connect(path, isolation_level=None)) as db:
            bring_up(db, [part], "it")
            assert version_of(db) == HEAD and not db.in_transaction and db.isolation_level is None
    assert columns(new) == columns(brought_up)


def test_many_that_come_to_an_old_store_at_once_bring_it_up_once(tmp_path: Path) -> None:
    path = old("leases", tmp_path)
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: Leases(path).list()[0].id, range(8)))
    assert found == [2] * 8


def test_a_migration_that_breaks_off_leaves_the_store_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = old("runs", tmp_path)
    before = columns(path)
    monkeypatch.setattr("hil.database.schema.make", lambda *_: 1 / 0)
    with closing(sqlite3.connect(path, isolation_level=None)) as db, pytest.raises(ZeroDivisionError):
        bring_up(db, ["runs"], "it")
    assert columns(path) == before


def test_the_newest_migration_is_the_one_that_this_release_knows() -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD
    assert set(PARTS) == set(TABLES)
    assert {table.name for tables in TABLES.values() for table in tables} == set(METADATA.tables)
