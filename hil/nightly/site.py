"""Runs, nights and history as static pages that any web server, or the viewer of a CI job's artefacts, shows.

``<site>/``

- ``index.html``: the last nights and runs, search over all runs; ``runs.js`` is its index
- ``runs/<id>/``: the report and files of each run, as they are: its links stay for ever
- ``plans/<plan>/<lab>/index.html``: the class of each test and measurement over the last nights
- ``nights/<id>/index.html``: the morning of each night; ``bench.html``: the week of the bench
- ``series/<id>/index.html``: the page of a night's series of trials, with the evidence of each trial
- ``site.json``: what is built already, so that the next call adds only what is new
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

from hil.core.files import sha256_of, write_atomic
from hil.errors import ConfigurationError, HilError
from hil.evidence.attestation import wrong_signature
from hil.evidence.chain import digest_of
from hil.evidence.manifest import REPORT, STATEMENT
from hil.evidence.record import ARTEFACTS, EVIDENCE, read_json
from hil.evidence.store import RUNS, Run, RunStore
from hil.nightly.bench_week import page as bench_page
from hil.nightly.bench_week import week_of
from hil.nightly.morning import BENCH, Row, morning_of
from hil.nightly.night import NIGHTS, Night, all_nights
from hil.report.analysis import UNVERIFIABLE
from hil.report.nights import histories, plan_and_lab
from hil.report.pages import render
from hil.report.verify import changes_of
from hil.trials.series import SERIES

STATE, INDEX, SEARCH = "site.json", "index.html", "runs.js"
SCHEMA = 1
LATEST = 30
"""Runs and nights on the first page; search finds all."""
BENCH_DAYS = 7


@dataclass
class Built:
    """What a call has done."""

    runs: int = 0
    histories: int = 0
    nights: int = 0


def build_site(out: Path, site: Path, *, artefacts: bool = True, key: Path | None = None) -> Built:
    """Bring a site up to date with a reports folder, and return what was done.

    ConfigurationError when the folder has something else in it, or cannot be written.  ``artefacts``: with consoles and
    other files of each run.  ``key``: a public key (PEM); runs that are not signed with it are marked.
    """
    built, store, signer = Built(), RunStore(out), sha256_of(key) if key is not None else ""
    store.rebuild()
    with _writing(site):
        before = _state_of(site)
    kept: Mapping[str, str] = before["runs"]
    known = [run for run in store.runs(brief=True) if run.state != "running"]
    runs = [run for run in known if run.report is not None and run.report.is_file()]
    keys = {
        run.run_id: f"{run.summary.get('manifest')} {run.verdict} {artefacts} {_signed(run, signer)}" for run in runs
    }
    listed = [run for run in known if run.run_id in {**kept, **keys}]  # those that were deleted have their pages, too
    marks: dict[str, str] = dict(before.get("marks") or {})
    fresh = [run for run in runs if kept.get(run.run_id) != keys[run.run_id]]
    with _writing(site):
        for run in fresh:
            _copy_run(run, site / RUNS / run.run_id, artefacts=artefacts)
            marks[run.run_id] = _mark(run, store, key)
            built.runs += 1
        changed = {(run.plan, run.lab) for run in fresh}
        for plan, lab in changed:
            _write_history(store, site, plan, lab)
            built.histories += 1
        nights = _write_nights(out, site, before["nights"], built, artefacts=artefacts)
        if fresh or not (site / INDEX).is_file():
            _write_index(site, listed, all_nights(out), marks)
            week = week_of(out, datetime.now(UTC) - timedelta(days=BENCH_DAYS))
            write_atomic(site / "bench.html", bench_page(week), durable=False)
        elif built.nights:
            _write_index(site, listed, all_nights(out), marks)
        _keep(site, {"schema": SCHEMA, "runs": {**kept, **keys}, "marks": marks, "nights": nights})
    return built


def _signed(run: Run, signer: str) -> str:
    """Return what stands for the signature that is asked for and the one that is there; empty: none is asked for."""
    statement = run.directory / STATEMENT
    return f"{signer} {statement.stat().st_mtime_ns if statement.is_file() else 0}" if signer else ""


def _mark(run: Run, store: RunStore, key: Path | None) -> str:
    """Return what a reader of the list must know before he believes a verdict; empty when the run is what it was.

    ConfigurationError when the key is none.
    """
    try:
        found = changes_of(run.directory, store)
    except HilError as exc:  # of one run: the others have their pages all the same
        found = [exc.message]
    marks = ["unverifiable"] if UNVERIFIABLE in found else ["does not verify"] if found else []
    if key is not None and (wrong := wrong_signature(run.directory, key)):
        marks.append("not signed" if wrong.startswith("there is no ") else "wrong signature")
    return ", ".join(marks)


@contextmanager
def _writing(site: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigurationError(f"{site}: {exc.strerror or exc}", remedy="name a folder that can be written") from exc


def _state_of(site: Path) -> dict[str, Any]:
    """Return what is built already.  ConfigurationError: the folder is not empty and no site."""
    state = read_json(site / STATE)
    if state.get("schema") == SCHEMA and isinstance(state.get("runs"), dict) and isinstance(state.get("nights"), dict):
        return state
    if site.exists() and (not site.is_dir() or any(site.iterdir())):
        raise ConfigurationError(
            f"{site} is not empty, and no site",
            remedy=f"name a new or an empty folder; a site whose {STATE} is damaged is made again in another one",
        )
    site.mkdir(parents=True, exist_ok=True)
    state = {"schema": SCHEMA, "runs": {}, "nights": {}}
    _keep(site, state)  # first of all: a build that was killed goes on
    return state


def _keep(site: Path, state: Mapping[str, Any]) -> None:
    write_atomic(site / STATE, json.dumps(state) + "\n", durable=False)


def _copy_run(run: Run, target: Path, *, artefacts: bool) -> None:
    """Copy the plain files of a run; links and devices are left out."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    files = run.directory / ARTEFACTS
    folders = [run.directory, *([files] if artefacts and not files.is_symlink() else [])]
    for folder in folders:
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.is_file() and not path.is_symlink():
                copy = target / path.relative_to(run.directory)
                copy.parent.mkdir(exist_ok=True)
                shutil.copyfile(path, copy)


def _write_history(store: RunStore, site: Path, plan: str, lab: str) -> None:
    runs, every = histories(store, plan, lab)
    folder = site / "plans" / _folder(plan) / _folder(lab)
    folder.mkdir(parents=True, exist_ok=True)
    text = render("site_history.html.j2", of=plan_and_lab(plan, lab), runs=runs, every=every)
    write_atomic(folder / INDEX, text, durable=False)


def _write_nights(out: Path, site: Path, before: Mapping[str, str], built: Built, *, artefacts: bool) -> dict[str, str]:
    known = dict(before)
    for night in all_nights(out):
        key = f"{night.state} {_stamp(night)}"
        if known.get(night.id) == key:
            continue
        folder = site / NIGHTS / night.id
        folder.mkdir(parents=True, exist_ok=True)
        morning = morning_of(night)
        changes = [(of, each, each.finding.kind in BENCH) for of, each in morning.changes]
        linked = {row.name: href for row in morning.rows if (href := _page_of(row, site, artefacts=artefacts))}
        text = render("site_night.html.j2", m=morning, changes=changes, linked=linked)
        write_atomic(folder / INDEX, text, durable=False)
        known[night.id] = key
        built.nights += 1
    return known


def _page_of(row: Row, site: Path, *, artefacts: bool) -> str:
    """Return where the page of a job's run or series is in the site, a series copied there; empty when it has none."""
    run_id = row.attempts[-1].run_id if row.attempts else ""
    if run_id and (site / RUNS / run_id / REPORT).is_file():
        return f"{RUNS}/{quote(run_id)}/{REPORT}"
    if row.page is None or row.page.parent.parent.name != SERIES or row.page.is_symlink():
        return ""
    target = site / SERIES / run_id
    evidence = row.page.parent.glob(f"trials/*/{EVIDENCE}") if artefacts else ()
    for path in (row.page, *evidence):
        if path.is_file() and not path.is_symlink() and not path.parent.is_symlink():
            copy = target / path.relative_to(row.page.parent)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
    return f"{SERIES}/{quote(run_id)}/{row.page.name}"


def _stamp(night: Night) -> str:
    return str(sum(file.stat().st_mtime_ns for file in (night.folder / "jobs").glob("*.json")))


def _write_index(site: Path, runs: list[Run], nights: list[Night], marks: Mapping[str, str]) -> None:
    rows = [
        [
            *(run.run_id, run.started_utc[:16], run.plan, run.lab, run.verdict, run.reason, run.commit[:10]),
            marks.get(run.run_id, ""),
        ]
        for run in runs
    ]
    known = json.dumps(rows).replace("<", "\\u003c")  # nothing in it ends a script
    write_atomic(site / SEARCH, f"window.RUNS = {known};\n", durable=False)
    plans = list(dict.fromkeys((run.plan, run.lab) for run in runs))
    links = [
        (plan_and_lab(plan, lab), f"plans/{quote(_folder(plan))}/{quote(_folder(lab))}/{INDEX}") for plan, lab in plans
    ]
    text = render("site_index.html.j2", runs=rows[:LATEST], total=len(rows), nights=nights[:LATEST], plans=links)
    write_atomic(site / INDEX, text, durable=False)


def _folder(name: str) -> str:
    """Return a folder's name for a plan or a lab: without what leads elsewhere, and another one for each name."""
    safe = "".join(c if c.isalnum() or c in "-_." else "_" for c in name[:50]).strip(".")
    return safe if safe and safe == name else f"{safe}-{digest_of(name.encode())[:8]}"
