"""Makes the outputs of a run: ``result.json``, ``junit.xml``, ``report.html``, and the manifest of all its files."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hil.core.files import sha256_of
from hil.database.connection import ServerAway
from hil.errors import ConfigurationError
from hil.evidence.events import ArtefactFollowed, ArtefactLost, ArtefactStored, RunJudged
from hil.evidence.manifest import JUNIT, REPORT, REPORT_ERROR, seal
from hil.evidence.readback import RunRecord
from hil.evidence.record import RESULT, Recorder, collect_followed, read_json, write_json
from hil.evidence.store import RUNS, RunStore
from hil.report.analysis import Analysis
from hil.report.html import html_of
from hil.report.junit import junit_of
from hil.report.result import result_of

_log = logging.getLogger(__name__)


def make_report(directory: Path) -> Path:
    """Make all outputs of the run in ``directory`` again, from the directory alone; path of the page.

    Works on a run that was killed half-way.  ConfigurationError when the directory is not a run.
    When the directory lies in a reports folder, the run store there learns the result.
    """
    _, page = finish_run(directory, directory.parent.parent if directory.parent.name == RUNS else None)
    if page is None:
        raise RuntimeError(f"{directory}: the page could not be made; see {REPORT_ERROR} there")
    return page


def seal_log(directory: Path, name: str) -> None:
    """Take the terminal's log of a run, which ends after its report, into the manifest and the run store."""
    if result := read_json(directory / RESULT):
        seal(directory, grown=(name,))
        with _or_later(directory):
            RunStore(directory.parent.parent).finish(directory, result)


def finish_run(directory: Path, out: Path | None) -> tuple[dict[str, Any], Path | None]:
    """Make the outputs and the store entry of a run that ended; return the result and the path of the page.

    A page that cannot be made must not lose the verdict: its error is written to ``report-error.txt``, and the
    path is None.
    """
    run = _with_followed_files(RunRecord.load(directory))
    store, known = RunStore(out) if out is not None else None, None
    if store is not None:
        with _or_later(directory):
            store.rebuild()
            known = {each.run_id: each for each in store.runs()}
    analysis = Analysis(run, known=known)
    result = result_of(analysis)
    write_json(directory / RESULT, result)
    _note_verdict(run, result)
    page: Path | None = directory / REPORT
    try:
        (directory / JUNIT).write_text(junit_of(analysis), encoding="utf-8")
        (directory / REPORT).write_text(html_of(analysis), encoding="utf-8")
    except Exception:
        (directory / REPORT_ERROR).write_text(traceback.format_exc(), encoding="utf-8")
        page = None
    with suppress(OSError, ConfigurationError):  # must not lose the verdict; `hil runs verify` says what is missing
        seal(directory)
    if store is not None:
        with _or_later(directory):
            store.finish(directory, result)
    return result, page


@contextmanager
def _or_later(directory: Path) -> Iterator[None]:
    """Go on without the server of the store: what a run has shown is in its directory."""
    try:
        yield
    except ServerAway as exc:
        _log.warning("run %s: the next `hil runs list` here takes it into the index: %s", directory.name, exc.message)


def _note_verdict(run: RunRecord, result: Mapping[str, Any]) -> None:
    """Add the verdict and the digest of ``result.json`` to a chain that is whole, once for each result."""
    if run.end is None or not run.chain.linked or run.changes():
        return
    judged = RunJudged(result["verdict"], sha256_of(run.directory / RESULT))
    if run.last(RunJudged) != judged:
        with Recorder.attach(run.directory) as recorder:
            recorder.emit(judged, mono_s=run.end.t_s + (run.meta.get("mono_start_s") or 0.0))


def _with_followed_files(run: RunRecord) -> RunRecord:
    """Collect the growing files (console logs) that a killed run could not collect itself."""
    if run.state != "crashed":
        return run
    had = {e.source for e in run.of(ArtefactLost)} | {e.from_source for e in run.of(ArtefactStored)}
    missing = [e for e in run.of(ArtefactFollowed) if e.source not in had]
    if not missing:
        return run
    with Recorder.attach(run.directory) as recorder:
        for event in missing:
            collect_followed(recorder, event)
    return RunRecord.load(run.directory)
