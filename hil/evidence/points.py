"""Points of history in the run store: the verdict of each test and each measurement, one row per run.

``series`` says what is followed (a test, or a measurement of it with its dimensions), ``points`` what each run found;
their columns are in :mod:`hil.database.schema`.
The rows of a series lie side by side, so that a history is read in milliseconds beside millions of others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hil.database.connection import Database
from hil.errors import Blame
from hil.evidence.model import Verdict, label_of

MOST = 1e300
DIMENSIONS = ("board", "link", "direction", "slot")
_SERIES = ("plan", "lab", "test", "name", *DIMENSIONS)
"""What makes two series different ones."""


@dataclass(frozen=True)
class Series:
    """What is followed over runs: a test, or a measurement of it."""

    test: str
    title: str
    name: str
    dimensions: tuple[tuple[str, str], ...]
    """Those of board, link, direction and slot that apply."""
    unit: str

    @property
    def label(self) -> str:
        """Its name for people."""
        return f"{self.title}: {label_of(self.name, dict(self.dimensions))}" if self.name else self.title


@dataclass(frozen=True)
class Point:
    """What one run found."""

    verdict: str
    value: float | None = None


def add(db: Database, run_id: str, result: Mapping[str, Any]) -> None:
    """Within a transaction: put what a run found in the place of what it had found.

    Of a run that counts for nothing nothing is kept.
    """
    run = {"run_id": run_id}
    if db.execute("SELECT 1 FROM indexed WHERE run_id = :run_id", run).fetchone():
        db.execute("DELETE FROM points WHERE run_id = :run_id", run)
    of = {"plan": str(result.get("plan") or ""), "lab": str(result.get("lab") or "")}
    rows = []
    for series, point in _points(result):
        dimensions = {name: dict(series.dimensions).get(name, "") for name in DIMENSIONS}
        row = {**of, "test": series.test, "name": series.name, **dimensions, "title": series.title}
        rows.append({**row, "unit": series.unit, **run, "verdict": point.verdict, "value": point.value})
    db.executemany(
        f"INSERT INTO series ({', '.join(_SERIES)}, title, unit) VALUES ({', '.join(f':{name}' for name in _SERIES)},"
        f" :title, :unit) ON CONFLICT ({', '.join(_SERIES)}) DO UPDATE SET title = excluded.title,"
        " unit = excluded.unit WHERE series.title != excluded.title OR series.unit != excluded.unit",
        rows,
    )
    db.executemany(
        "INSERT INTO points (series, run_id, verdict, value) SELECT id, CAST(:run_id AS TEXT), CAST(:verdict AS TEXT),"
        f" CAST(:value AS DOUBLE PRECISION) FROM series WHERE {' AND '.join(f'{name} = :{name}' for name in _SERIES)}"
        " ON CONFLICT (series, run_id) DO UPDATE SET verdict = excluded.verdict, value = excluded.value",
        rows,
    )
    db.execute("INSERT INTO indexed VALUES (:run_id) ON CONFLICT DO NOTHING", run)


def differs(db: Database, run_id: str, result: Mapping[str, Any]) -> bool:
    """Return whether the points of a run are not what its result says."""
    rows = db.execute(
        f"SELECT {', '.join(_SERIES)}, unit, verdict, value FROM points"
        " LEFT JOIN series ON series.id = points.series WHERE run_id = :run_id",
        {"run_id": run_id},
    )
    of = (str(result.get("plan") or ""), str(result.get("lab") or ""))
    expected: dict[Any, Any] = {}
    for series, point in _points(result):
        dimensions = tuple(dict(series.dimensions).get(name, "") for name in DIMENSIONS)
        expected[(*of, series.test, series.name, *dimensions)] = (series.unit, point.verdict, point.value)
    return {tuple(row)[:-3]: tuple(row)[-3:] for row in rows} != expected


def read(
    db: Database, plan: str, lab: str, run_ids: Sequence[str], *, test: str | None = None
) -> dict[Series, dict[str, Point]]:
    """Return what these runs found, by series and run; of one test only when it is named."""
    of = {"plan": plan, "lab": lab, "test": test}
    which = "plan = :plan AND lab = :lab AND (CAST(:test AS TEXT) IS NULL OR test = :test)"
    found: dict[int, tuple[Series, dict[str, Point]]] = {}
    for row in db.execute(f"SELECT * FROM series WHERE {which} ORDER BY id", of):
        dimensions = tuple((name, row[name]) for name in DIMENSIONS if row[name])
        found[row["id"]] = Series(row["test"], row["title"], row["name"], dimensions, row["unit"]), {}
    runs = {f"run_{place}": run_id for place, run_id in enumerate(run_ids)}
    if not runs:
        return {}
    rows = db.execute(
        "SELECT id, run_id, verdict, value FROM series CROSS JOIN points WHERE points.series = series.id"
        f" AND {which} AND run_id IN ({', '.join(f':{name}' for name in runs)})",
        {**of, **runs},
    )
    for number, run_id, verdict, value in rows:
        found[number][1][run_id] = Point(verdict, value)
    return {series: points for series, points in found.values() if points}


def _points(result: Mapping[str, Any]) -> list[tuple[Series, Point]]:
    """Return what a run found; nothing of a run that counts for nothing, or whose result makes no sense.

    A failure in a run that is INCONCLUSIVE was not the device's: the bench overrode it.
    """
    try:
        if result.get("partial") or (result.get("evidence") or {}).get("changes"):
            return []
        return list(_found(result, overridden=result.get("verdict") == Verdict.INCONCLUSIVE.value))
    except (KeyError, TypeError, AttributeError):  # a file that somebody wrote
        return []


def _found(result: Mapping[str, Any], *, overridden: bool) -> Iterator[tuple[Series, Point]]:
    for test in result.get("tests") or ():
        verdict = str(test["verdict"])
        if verdict == Verdict.FAIL.value and overridden:
            verdict = Verdict.INCONCLUSIVE.value
        known = (str(test["id"]), str(test.get("title") or test["id"]))
        yield Series(*known, "", (), "s"), Point(verdict, _number(test.get("duration_s")))
        for m in test.get("measurements") or ():
            others = overridden or m.get("blame") not in (None, "", Blame.DEVICE.value)
            judged = (Verdict.INCONCLUSIVE if others else Verdict.FAIL) if m["ok"] is False else Verdict.PASS
            kept = m.get("dimensions") or {}
            dimensions = tuple((name, str(kept[name])) for name in DIMENSIONS if kept.get(name))
            yield Series(*known, str(m["name"]), dimensions, str(m["unit"])), Point(judged.value, _number(m["value"]))


def _number(value: object) -> float | None:
    """Return a value that can be followed over nights; None for a word, and for a number without bounds."""
    return float(value) if isinstance(value, int | float) and abs(value) < MOST else None
