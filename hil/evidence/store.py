"""The run store: one SQLite file that knows every run, or the server that several hosts share.

The run directories are the truth; the store is an index that can be made again from them (:meth:`RunStore.rebuild`).
A run whose process is gone without an end is recognised as ``crashed`` whenever runs are listed on its host.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any

from hil.core import paths
from hil.core.files import sha256_of
from hil.core.pick import pick
from hil.core.processes import is_alive
from hil.database.access import make_current, opened
from hil.database.connection import Database, Server, shared, upsert, writing
from hil.errors import ConfigurationError
from hil.evidence import points
from hil.evidence.json_fields import fitting
from hil.evidence.manifest import MANIFEST, REPORT
from hil.evidence.model import Verdict, label_of, plural
from hil.evidence.points import Point, Series
from hil.evidence.readback import RunRecord, read_meta
from hil.evidence.record import META, RESULT, jsonable, read_json, write_json
from hil.text import one_line

STORE = "runs.sqlite"
RUNS = "runs"
RELEASES = "releases.json"
"""Which runs are releases, beside the file: a file that is made again keeps them.  A server has a table of them."""
_LOCK = "SELECT pg_advisory_xact_lock(4802133)"
"""Runs of one plan that end on two hosts at once write the same series: one waits for the other."""
_NO_RELEASE = "DELETE FROM releases WHERE run_id = :run_id"

_BRIEF = {
    "sqlite": "json_object('partial', json_extract(summary, '$.partial'), 'evidence',"
    " json_extract(summary, '$.evidence'), 'manifest', json_extract(summary, '$.manifest'))",
    "server": "json_build_object('partial', summary::json->'partial', 'evidence', summary::json->'evidence',"
    " 'manifest', summary::json->'manifest')::text",
}
"""Of the summary of a run, which may be long, only what says whether it counts, and the manifest."""
_BRIEFLY = (
    "run_id, dir, plan, plan_sha256, lab, lab_sha256, started_utc, ended_utc, state, verdict, reason, commit_id,"
    " fidelity, engine, report, counts, host, {brief} AS summary"
)
_TEXTS = ("verdict", "reason", "state", "ended_utc", "engine", "fidelity", "plan", "lab", "partial", "tests_sha256")
_RESULT: Mapping[str, Any] = {
    **dict.fromkeys(_TEXTS, str | None),
    "counts": Mapping[str, int] | None,
    "boards": tuple[str, ...] | None,
    "evidence": Mapping[str, Any] | None,
}
"""Types of what the index takes from ``result.json``."""
_FROM_META = ("plan", "plan_sha256", "lab", "lab_sha256", "started_utc", "fidelity")


@dataclass(frozen=True)
class Run:
    """One run as the store knows it."""

    run_id: str
    directory: Path
    plan: str
    plan_sha256: str
    lab: str
    lab_sha256: str
    started_utc: str
    ended_utc: str
    state: str  # running, finished, crashed
    verdict: str  # "" until there is one
    reason: str
    commit: str
    fidelity: str
    engine: str
    report: Path | None
    counts: Mapping[str, int]  # tests by verdict
    host: str  # "": not known
    summary: Mapping[str, Any]  # requirement verdicts, measurements and boards that took part, for comparison

    def as_dict(self) -> dict[str, Any]:
        """Return the facts of ``--json``, with None for what is not known (yet)."""
        left_out = ("plan_sha256", "lab_sha256", "summary")
        facts = {name: value for name, value in vars(self).items() if name not in left_out}
        unknown = {name: facts[name] or None for name in ("ended_utc", "verdict", "report")}
        kept = {"partial": self.summary.get("partial") or None, "head": self.evidence.get("head") or None}
        return jsonable({**facts, **unknown, **kept})  # type: ignore[no-any-return]

    @property
    def evidence(self) -> Mapping[str, Any]:
        """What was kept of the run's chain of digests: ``first``, ``head``; empty for runs of earlier versions."""
        kept = self.summary.get("evidence")
        return kept if isinstance(kept, dict) else {}


class RunStore:
    """The server ``HIL_STORE``, else ``<reports out>/runs.sqlite``.  Every call opens and closes it."""

    def __init__(self, out: Path) -> None:
        self.out = out
        self.path = shared() or out / STORE

    def start(self, meta: Mapping[str, Any], directory: Path) -> None:
        """Insert a run that began (or is indexed anew) as running."""
        row = self._begun(meta, directory)
        with self._open() as db, writing(db, lock=_LOCK):
            db.execute("DELETE FROM runs WHERE run_id = :run_id", row)
            db.execute(upsert("runs", row, key="run_id"), row)

    def finish(self, directory: Path, result: Mapping[str, Any]) -> None:
        """Record the end of a run, or the report of a crashed one; ``result`` is what is believed of result.json."""
        row = self._ended(directory, result)
        columns = ", ".join(f"{name} = :{name}" for name in row)
        with self._open() as db, writing(db, lock=_LOCK):
            db.execute(f"UPDATE runs SET {columns} WHERE run_id = :run_id", {**row, "run_id": directory.name})
            points.add(db, directory.name, result)

    def history(
        self, plan: str, lab: str, *, nights: int, until: str = "", test: str | None = None
    ) -> tuple[list[Run], dict[Series, dict[str, Point]]]:
        """Return the last runs of a plan on a lab that count, the latest last, and what each of them found.

        ``until`` is the run to end with (default: the latest); ``test`` is the id of the only test of interest.
        """
        if not self.path.exists():
            return [], {}
        with self._open() as db:
            chosen = self._latest(db, plan, lab, until, nights)[::-1]
            return chosen, points.read(db, plan, lab, [run.run_id for run in chosen], test=test)

    def prunable(self, before_utc: str) -> list[Run]:
        """Return the runs that ended before a moment and whose directories may go, the oldest first.

        Kept are releases, the newest run of each plan and lab, and runs that do not say when they began.
        ConfigurationError: which runs are releases cannot be read.
        """
        releases, newest, found = self._kept_releases(), set[tuple[str, str]](), list[Run]()
        for run in self.runs(brief=True):
            of = (run.plan, run.lab)
            own = run.directory == self.out / RUNS / run.run_id and not run.directory.is_symlink()
            old = _is_moment(run.started_utc) and run.started_utc < before_utc
            if of in newest and run.state != "running" and old and run.run_id not in releases:
                found += [run] * (own and run.directory.is_dir())
            newest.add(of)
        return found[::-1]

    def releases(self) -> dict[str, str]:
        """Return the runs that are releases, with their names; a baseline is the latest before a run."""
        if isinstance(self.path, Server):
            with self._open() as db:
                return {row["run_id"]: row["name"] for row in db.execute("SELECT run_id, name FROM releases")}
        found = read_json(self.out / RELEASES)
        return {str(run_id): str(name) for run_id, name in found.items()}

    def _kept_releases(self) -> dict[str, str]:
        path = self.out / RELEASES
        if isinstance(self.path, Server):
            return self.releases()
        if not (found := self.releases()) and path.exists() and not path.read_bytes().split() == [b"{}"]:
            raise ConfigurationError(
                f"{path} cannot be read: it says which runs are releases",
                remedy="mend it (JSON, an object of run ids and names) or move it away, and name the releases again",
            )
        return found

    def release(self, run_id: str, name: str) -> None:
        """Call a run a release; with an empty name no longer.  ConfigurationError: the others cannot be read."""
        if isinstance(self.path, Server):
            row = {"run_id": run_id, "name": name}
            with self._open() as db:
                db.execute(upsert("releases", row, key="run_id") if name else _NO_RELEASE, row)
            return
        kept = {known: called for known, called in self._kept_releases().items() if known != run_id}
        write_json(self.out / RELEASES, {**kept, run_id: name} if name else kept)

    def differences(self, directory: Path) -> list[str]:
        """Return where the index is not what the files of a run say, a sentence each."""
        result = read_json(directory / RESULT)
        with self._open() as db:
            found = db.execute("SELECT * FROM runs WHERE run_id = :id", {"id": directory.name}).fetchone()
            history = points.differs(db, directory.name, result)
        if found is None:
            return ["the index does not know the run"]
        kept = {name: found[name] for name in found.keys()}  # noqa: SIM118
        expected = self._begun(read_meta(directory / META)[0], directory)
        if result and not _makes_sense(result):
            return [f"{RESULT} makes no sense"]
        if result:
            expected |= self._ended(directory, result)
        columns = [name for name in expected if kept.get(name) != expected[name]]
        return [f"the index has another {name}" for name in [*columns, *(["history"] if history else [])]]

    def _begun(self, meta: Mapping[str, Any], directory: Path) -> dict[str, str]:
        return {
            "run_id": directory.name,
            "dir": self._relative(directory),
            **{name: meta.get(name) or "" for name in _FROM_META},
            "state": "running",
            "commit_id": (meta.get("git") or {}).get("commit") or "",
            "process": json.dumps(meta.get("process") or {}),
            "host": one_line(str((meta.get("process") or {}).get("host") or "")),
        }

    def _ended(self, directory: Path, result: Mapping[str, Any]) -> dict[str, str]:
        report, manifest = directory / REPORT, directory / MANIFEST
        summary = {**_summary(result), "manifest": sha256_of(manifest) if manifest.is_file() else ""}
        names = ("verdict", "reason", "ended_utc", "engine", "fidelity")
        return {
            "state": result.get("state") or "finished",
            **{name: result.get(name) or "" for name in names},
            "counts": json.dumps(result.get("counts") or {}),
            "summary": json.dumps(summary),
            "report": self._relative(report) if report.is_file() else "",
        }

    def runs(self, *, plan: str | None = None, lab: str | None = None, brief: bool = False) -> list[Run]:
        """Return all runs, newest first; mark those whose process is gone as crashed.  Makes no file.

        ``brief``: of their summaries, which may be long, only what says whether they count, and the manifest.
        """
        if not self.path.exists():
            return []
        with self._open() as db:
            self._mark_crashed(db)
            rows = db.execute(
                f"SELECT {_briefly(db) if brief else '*'} FROM runs"
                " WHERE (CAST(:plan AS TEXT) IS NULL OR plan = :plan) AND (CAST(:lab AS TEXT) IS NULL OR lab = :lab)"
                " ORDER BY started_utc DESC, run_id DESC",
                {"plan": plan, "lab": lab},
            )
            return [self._run(row) for row in rows]

    def _latest(self, db: Database, plan: str, lab: str, until: str, nights: int) -> list[Run]:
        """Return the last runs of a plan on a lab that count, newest first, with what of the summary says whether."""
        chosen: list[Run] = []
        of: dict[str, Any] = {"plan": plan, "lab": lab, "until": until, "nights": nights, "seen": 0}
        bound = " AND (started_utc, run_id) <= (SELECT started_utc, run_id FROM runs WHERE run_id = :until)"
        while len(chosen) < nights:
            more = db.execute(
                f"SELECT {_briefly(db)} FROM runs WHERE plan = :plan AND lab = :lab AND verdict != ''"
                f"{bound if until else ''} ORDER BY started_utc DESC, run_id DESC LIMIT :nights OFFSET :seen",
                of,
            ).fetchall()
            if not more:
                break
            of["seen"] += len(more)
            chosen = counted([*chosen, *map(self._run, more)])[0]
        return chosen[:nights]

    def get(self, run_id: str) -> Run:
        """Return a run by its id, an unambiguous beginning or end of it, or ``last``.  ConfigurationError otherwise."""
        return pick(
            run_id,
            self.runs(),
            lambda run: run.run_id,
            what="run",
            listed_by="hil runs list",
            made_by="hil campaign run six_gpu --lab virtual",
        )

    def rebuild(self) -> list[str]:
        """Index run directories that the file does not know; their ids.  Makes a lost file whole again.

        Makes none where there is no run: looking at an empty folder leaves it empty.
        """
        metas = sorted((self.out / RUNS).glob(f"*/{META}"))
        if not metas:
            return []
        with self._open() as db:
            known = {row["run_id"]: row["verdict"] for row in db.execute("SELECT run_id, verdict FROM runs")}
            ended = db.execute(
                "SELECT run_id, dir FROM runs WHERE verdict != '' AND run_id NOT IN (SELECT run_id FROM indexed)"
            ).fetchall()
            for row in ended:  # of a version before points were kept
                if (self.out / row["dir"]).is_dir():
                    with writing(db, lock=_LOCK):
                        points.add(db, row["run_id"], _believed(self.out / row["dir"]))
        added = []
        for meta_file in metas:
            directory = meta_file.parent
            if directory.name in known and not known[directory.name] and (directory / RESULT).is_file():
                self.finish(directory, _believed(directory))  # it ended while the store could not be used
            if directory.name in known or not paths.is_folder_name(directory.name):
                continue
            if not (meta := read_meta(meta_file)[0]):
                continue
            self.start(meta, directory)
            # Without a result it still runs, or crashed before its report: the next listing tells.
            if result := _believed(directory):
                self.finish(directory, result)
            added.append(directory.name)
        return added

    @contextmanager
    def _open(self) -> Iterator[Database]:
        if isinstance(self.path, Server):
            with opened(self.path) as server, _sensible(f"the runs in the store {self.path}", "delete that row"):
                yield server
            return
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ConfigurationError(
                f"{self.out}: {exc.strerror}", remedy="name a folder that can be written: --hil-out or HIL_REPORTS"
            ) from exc
        remedy = "move the file away, it is rebuilt from the run directories; is the folder writable?"
        with _sensible(str(self.path), remedy), closing(_connect(self.path)) as db:
            make_current(db, ["runs"], f"the run store {self.path}")
            yield db

    def _mark_crashed(self, db: Database) -> None:
        for row in db.execute("SELECT run_id, process, host FROM runs WHERE state = 'running'").fetchall():
            elsewhere = isinstance(self.path, Server) and row["host"] not in ("", os.uname().nodename)
            if not elsewhere and not is_alive(json.loads(row["process"])):
                query = "UPDATE runs SET state = 'crashed' WHERE run_id = :id AND state = 'running'"
                db.execute(query, {"id": row["run_id"]})

    def _relative(self, path: Path) -> str:
        """Return ``path`` relative to the store where possible, so that reports/out can be moved as a whole."""
        absolute, out = path.absolute(), self.out.absolute()
        return str(absolute.relative_to(out)) if absolute.is_relative_to(out) else str(absolute)

    def _run(self, row: Any) -> Run:
        if not paths.is_folder_name(row["run_id"]):
            raise ValueError(f"a run is called {row['run_id']!r}")
        plain = {each.name: row[each.name] for each in fields(Run) if each.name in row.keys()}  # noqa: SIM118
        return Run(
            **{
                **plain,
                "directory": self.out / row["dir"],
                "commit": row["commit_id"],
                "report": self.out / row["report"] if row["report"] else None,
                "counts": json.loads(row["counts"]),
                "summary": json.loads(row["summary"]),
            }
        )


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=10.0, isolation_level=None)
    db.row_factory = sqlite3.Row
    db.execute("PRAGMA journal_mode = WAL")
    return db


def _briefly(db: Database) -> str:
    return _BRIEFLY.format(brief=_BRIEF["sqlite" if isinstance(db, sqlite3.Connection) else "server"])


@contextmanager
def _sensible(what: str, remedy: str) -> Iterator[None]:
    try:
        yield
    except (sqlite3.DatabaseError, ValueError, TypeError) as exc:  # the last two: a row that makes no sense
        raise ConfigurationError(f"{what}: {exc}", remedy=remedy) from exc


def _summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of result.json is kept for comparison."""
    return {
        "requirements": {r["id"]: r["verdict"] for r in result.get("requirements") or ()},
        "measurements": measurements_of(result),
        "boards": result.get("boards") or [],
        "evidence": result.get("evidence") or {},
        "partial": result.get("partial") or "",
        "tests_sha256": result.get("tests_sha256") or "",
    }


def _believed(directory: Path) -> dict[str, Any]:
    """Return ``result.json`` as far as the evidence beside it bears it out."""
    try:
        result = jsonable(read_json(directory / RESULT))
    except RecursionError:
        return {"verdict": Verdict.INCONCLUSIVE.value, "reason": f"{RESULT} is nested too deeply."}
    if not result:
        return {}
    try:
        run = RunRecord.load(directory)
    except ConfigurationError:
        return {}
    kept = result.get("evidence")
    kept = kept if isinstance(kept, dict) else {}
    changes = run.changes(str(kept.get("head") or ""))
    if not run.result_is_written():
        changes.append(f"{RESULT} is not the file that was written")
    if not _makes_sense(result):
        changes.append(f"{RESULT} makes no sense")
    if not changes:
        return {**result, "evidence": {**kept, "first": run.chain.first}}
    return {"verdict": Verdict.INCONCLUSIVE.value, "reason": f"{changes[0]}.", "evidence": kept}


def _makes_sense(result: Mapping[str, Any]) -> bool:
    """Return whether the index can take from a ``result.json`` what it needs."""
    try:
        _summary(result)
    except (TypeError, KeyError, AttributeError):
        return False
    good, wrong = fitting(_RESULT, result)
    return not wrong and all(len(good.get(name) or ()) == len(result.get(name) or ()) for name in ("counts", "boards"))


def _is_moment(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def counted(runs: Iterable[Run]) -> tuple[list[Run], list[str]]:
    """Return the runs of a plan that count, and in words those that do not: partial ones and copies.

    Of a run and its copies the one that failed counts, then one that passed: a copy that was changed hides neither.
    """
    runs = list(runs)
    whole = [run for run in runs if not run.summary.get("partial")]
    best: dict[str, Run] = {}
    for run in sorted(whole, key=lambda run: {"FAIL": 0, "PASS": 1}.get(run.verdict, 2)):
        best.setdefault(_first_line(run) or run.run_id, run)
    chosen = [run for run in whole if best[_first_line(run) or run.run_id] is run]
    partial, copies = len(runs) - len(whole), len(whole) - len(chosen)
    left_out = [f"{copies} cop{'y' if copies == 1 else 'ies'} of runs"] if copies else []
    return chosen, [*left_out, *([plural(partial, "partial run")] if partial else [])]


def _first_line(run: Run) -> str:
    """Return the digest of the first line of a run's evidence, which its copies have too; empty when not kept."""
    return str(run.evidence.get("first") or "")


def list_runs(out: Path | None = None) -> list[Run]:
    """Return every run, newest first (default: the reports folder of this checkout); crashed ones are recognised."""
    return _rebuilt(out).runs()


def get_run(run_id: str, out: Path | None = None) -> Run:
    """Return one run by id, unambiguous part of it, or ``last``; ConfigurationError when there is none."""
    return _rebuilt(out).get(run_id)


def _rebuilt(out: Path | None) -> RunStore:
    store = RunStore(out or paths.reports_out())
    store.rebuild()
    return store


def measurements_of(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return every measurement of result.json by test and label; results of earlier versions have no dimensions."""
    return {
        f"{test['title']}: {label_of(m['name'], m.get('dimensions', {}))}": m
        for test in result.get("tests") or ()
        for m in test.get("measurements") or ()
    }
