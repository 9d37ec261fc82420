"""A run in other people's formats: CTRF, Allure results, CSV."""

from __future__ import annotations

import csv
import io
import json
import mimetypes
import shutil
import uuid
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from hil.errors import ConfigurationError
from hil.evidence.events import ArtefactStored, TestEnded
from hil.evidence.foreign_words import words_of
from hil.evidence.readback import RunRecord, TestOutcome
from hil.report.analysis import Analysis
from hil.report.orbit import inside

CTRF_VERSION = "1.0.0"
_IDS = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122's namespace of URLs
_COLUMNS = (
    *("run", "started_utc", "plan", "lab", "test", "title", "verdict", "measurement"),
    *("board", "link", "direction", "slot", "value", "unit", "limit", "ok"),
)
MOST_S = 1e9
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def ctrf_of(analysis: Analysis) -> str:
    """Return the run as CTRF, with every attempt at a test; a repeat for a fault of the bench makes no test flaky."""
    run, start = analysis.run, start_ms(analysis.run)
    tests = [_ctrf_test(run, outcome, start) for outcome in analysis.cases]
    statuses = [str(test["status"]) for test in tests]
    document = {
        "reportFormat": "CTRF",
        "specVersion": CTRF_VERSION,
        "reportId": stable_id(run.run_id),
        "timestamp": run.meta.get("started_utc") or "1970-01-01T00:00:00Z",
        "generatedBy": "orbital-hil",
        "results": {
            "tool": {"name": "orbital-hil", "version": str(run.meta.get("hil_version") or "")},
            "summary": {
                "tests": len(tests),
                **{name: statuses.count(name) for name in ("passed", "failed", "skipped", "pending", "other")},
                "flaky": 0,
                "start": start,
                "stop": start + milliseconds(run.duration_s),
                "duration": milliseconds(run.duration_s),
                "extra": {"verdict": analysis.verdict.value, "reason": analysis.result.reason},
            },
            "tests": tests,
        },
    }
    return json.dumps(document, indent=2, ensure_ascii=True) + "\n"


def _ctrf_test(run: RunRecord, outcome: TestOutcome, start: int) -> dict[str, Any]:
    begun = start + milliseconds(outcome.start_s or 0.0)
    file, _, name = outcome.test.partition("::")
    attempts = [
        {
            "attempt": number,
            "status": words_of(end.verdict, end.blame).ctrf,
            "duration": milliseconds(end.duration_s),
            **({"message": end.message} if end.message else {}),
        }
        for number, end in enumerate((e for e in run.of(TestEnded) if e.test == outcome.test and e.retried), start=1)
    ]
    return {
        "id": stable_id(outcome.test),
        "name": outcome.title or name or outcome.test,
        "status": words_of(outcome.verdict, outcome.blame).ctrf,
        "rawStatus": outcome.verdict.value,
        "duration": milliseconds(outcome.duration_s),
        "start": begun,
        "stop": begun + milliseconds(outcome.duration_s),
        "suite": [str(run.meta.get("plan") or "campaign"), outcome.step or "steps"],
        "filePath": file,
        **({"message": outcome.message} if outcome.message else {}),
        **({"trace": outcome.detail} if outcome.detail else {}),
        "retries": outcome.retries,
        **({"retryAttempts": attempts} if attempts else {}),
        "flaky": False,
        "labels": {
            "blame": outcome.blame,
            **({"requirement": list(outcome.requirements)} if outcome.requirements else {}),
        },
        "extra": {"measurements": [{"label": m.label, "value": m.value, "unit": m.unit} for m in outcome.measurements]},
    }


def write_allure(analysis: Analysis, folder: Path) -> int:
    """Write the Allure result of each test into a folder, with the run's artefacts; how many there are.

    ConfigurationError: the folder cannot be made.
    """
    run, start = analysis.run, start_ms(analysis.run)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as exc:
        raise ConfigurationError(f"{folder}: {exc.strerror}", remedy="name a folder that can be written") from exc
    attachments = list(_attachments(run, folder))
    for number, outcome in enumerate(analysis.cases):
        begun = start + milliseconds(outcome.start_s or 0.0)
        labels = {
            "suite": run.meta.get("plan") or "",
            "parentSuite": run.meta.get("lab") or "",
            "subSuite": outcome.step,
        }
        named = [*labels.items(), *(("tag", requirement) for requirement in outcome.requirements)]
        document = {
            "uuid": stable_id(f"{run.run_id} {outcome.test}"),
            "historyId": stable_id(f"{run.meta.get('plan')} {run.meta.get('lab')} {outcome.test}"),
            "testCaseId": stable_id(outcome.test),
            "fullName": outcome.test,
            "name": outcome.title,
            "description": outcome.description,
            "status": words_of(outcome.verdict, outcome.blame).allure,
            "statusDetails": {"message": outcome.message, "trace": outcome.detail},
            "stage": "finished",
            "start": begun,
            "stop": begun + milliseconds(outcome.duration_s),
            "labels": [{"name": name, "value": str(value)} for name, value in named if value],
            "parameters": [
                {"name": m.label, "value": f"{m.value} {m.unit}".strip(), "excluded": True}
                for m in outcome.measurements
            ],
            "attachments": attachments if number == len(analysis.cases) - 1 else [],
        }
        (folder / f"{document['uuid']}-result.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
    return len(analysis.cases)


def _attachments(run: RunRecord, folder: Path) -> Iterator[dict[str, str]]:
    for artefact in run.of(ArtefactStored):
        if (path := inside(run.directory, artefact.path)) is not None and path.is_file() and not path.is_symlink():
            name = f"{stable_id(f'{run.run_id} {artefact.path}')}-attachment{path.suffix}"
            shutil.copyfile(path, folder / name)
            yield {"name": path.name, "source": name, "type": mimetypes.guess_type(path.name)[0] or "text/plain"}


def csv_of(analysis: Analysis) -> str:
    """Return each measurement as a row of CSV (RFC 4180); text that a spreadsheet would compute begins with ``'``."""
    run, text = analysis.run, io.StringIO()
    writer = csv.writer(text)
    writer.writerow(_COLUMNS)
    of = [run.run_id, *(run.meta.get(name) or "" for name in ("started_utc", "plan", "lab"))]
    for outcome in run.outcomes:
        for m in outcome.measurements:
            value = m.value if isinstance(m.value, bool | int | float) else quoted(str(m.value or ""))
            texts = map(quoted, [*of, outcome.test, outcome.title, outcome.verdict.value, m.name])
            dimensions = map(quoted, (m.board, m.link, m.direction, m.slot))
            limit = (quoted(m.unit), quoted(m.limit or ""), "" if m.ok is None else m.ok)
            writer.writerow([*texts, *dimensions, value, *limit])
    return text.getvalue()


def quoted(text: str) -> str:
    """Return text that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def start_ms(run: RunRecord) -> int:
    """Return when a run began, Unix time in milliseconds; 0 when it does not say."""
    try:
        return round(datetime.fromisoformat(str(run.meta["started_utc"])).timestamp() * 1000)
    except (KeyError, ValueError):
        return 0


def milliseconds(seconds: float) -> int:
    """Return whole milliseconds, within what other programs can read."""
    return round(max(-MOST_S, min(MOST_S, seconds)) * 1000)


def stable_id(text: str) -> str:
    """Return the same UUID for the same text, now and in every later run."""
    return str(uuid.uuid5(_IDS, text))
