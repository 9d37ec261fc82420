"""Run directories that are damaged, or that somebody changed: always a page, never a verdict that was not earned."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import kcidb_io
import pytest

from hil.evidence.readback import RunRecord
from hil.report import vcd
from hil.report.analysis import Analysis
from hil.report.export import csv_of, ctrf_of
from hil.report.junit import strictdoc_of
from hil.report.make import finish_run
from hil.report.summary import markdown_of
from hil.report.telemetry import kcidb_of, otlp_of
from tests.kits.synthetic_run import build

WRONG: tuple[Any, ...] = (
    *(None, True, -1, 5, 1e308, 10**30, "9" * 6000, "NaN", "\ud800", "<b>\x1b[2J\u202e"),
    *([], {}, [1], {"a": 1}, [[[]]]),
)
LINES = ("[" * 100_000, '{"a":' * 50_000, "null", "5", "\x00", '{"kind":5}', "{}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    out = tmp_path_factory.mktemp("whole")
    return [build(out / "runs" / kind, kind) for kind in ("pass", "fail", "gap", "ring", "crash")]


def _places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield place
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in items:
        yield from _places(each, (*place, key))


def _with_damage(text: str, dice: random.Random) -> str:
    """A JSON document in which one value is another one, or is missing."""
    document = json.loads(text)
    place = dice.choice(list(_places(document)))
    if not place:
        return json.dumps(dice.choice(WRONG))
    holder = document
    for key in place[:-1]:
        holder = holder[key]
    if dice.random() < 0.3:
        del holder[place[-1]]
    else:
        holder[place[-1]] = dice.choice(WRONG)
    return json.dumps(document)


def _damage(directory: Path, dice: random.Random) -> None:
    path = directory / dice.choice(("run.json", "plan.json", "history.json", *["evidence.jsonl"] * 3))
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        text = text[: dice.randrange(len(text))] if dice.random() < 0.1 else _with_damage(text, dice)
    else:
        lines = text.splitlines()
        at = dice.randrange(len(lines))
        lines[at : at + 1] = dice.choice(
            ([], [lines[at]] * 2, [lines[at][:20]], [dice.choice(LINES)], [_with_damage(lines[at], dice)])
        )
        text = "\n".join(lines)
    path.write_text(text, "utf-8")


@pytest.mark.parametrize("seed", range(60))
def test_a_damaged_run_still_has_a_page_without_control_characters(
    whole: list[Path], tmp_path: Path, seed: int
) -> None:
    dice = random.Random(seed)
    directory = tmp_path / "out" / "runs" / "run-1"
    shutil.copytree(dice.choice(whole), directory)
    _damage(directory, dice)
    result, page = finish_run(directory, tmp_path / "out")
    assert page is not None, (directory / "report-error.txt").read_text()
    for made in (page.read_text("utf-8"), json.dumps(result, ensure_ascii=False)):
        assert all(c.isprintable() or c in "\n\t" for c in made), "a control character"
    analysis = Analysis(RunRecord.load(directory))
    kcidb_io.schema.LATEST.validate(json.loads(kcidb_of(analysis)))
    assert json.loads(otlp_of(analysis)) and json.loads(ctrf_of(analysis))
    for text in (vcd.reqif_of(analysis), strictdoc_of(analysis)):
        ElementTree.fromstring(text.encode())
    for text in (markdown_of(analysis), csv_of(analysis), vcd.csv_of(analysis)):
        text.encode()


@pytest.mark.parametrize("seed", range(10))
def test_a_run_killed_at_any_moment_has_a_report_that_marks_what_is_missing(tmp_path: Path, seed: int) -> None:
    """Killed while it writes its evidence: what is there ends at some byte, and nothing comes after it."""
    directory = build(tmp_path / "out" / "runs" / "run-1")
    whole, place = (directory / "evidence.jsonl").read_bytes(), random.Random(seed)
    kept = whole[: place.randrange(whole.index(b"\n") + 1, len(whole) - 200)]
    (directory / "evidence.jsonl").write_bytes(kept)
    result, page = finish_run(directory, tmp_path / "out")
    assert page is not None and result["state"] == "crashed"
    ended = sum(b'"test.end"' in line and b'"retried":false' in line for line in kept.split(b"\n")[:-1])
    text = page.read_text("utf-8")
    assert result["verdict"] == "INCONCLUSIVE" and f"killed after {ended} of 13 tests" in text
    assert "run crashed" in text and (directory / "junit.xml").is_file()
    missing = [test for test in result["tests"] if test["verdict"] in ("NOT RUN", "INCONCLUSIVE")]
    assert len(missing) == 13 - ended
    assert {test["message"] for test in missing} <= {
        "the run ended before this test",
        "the run was killed during this test",
    }
    assert ("could not be read" in text) is not kept.endswith(b"\n") or kept.rpartition(b"\n")[2].endswith(b"}")


def test_what_could_not_be_read_is_named_on_the_page(whole: list[Path], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(whole[0], directory)
    (directory / "plan.json").write_text("[]", "utf-8")
    result, page = finish_run(directory, None)
    assert page is not None and "plan.json cannot be read" in page.read_text("utf-8")
    assert (result["verdict"], result["damage"][0][:23]) == ("INCONCLUSIVE", "plan.json cannot be rea")


def test_a_changed_artefact_is_no_evidence(whole: list[Path], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(whole[0], directory)
    assert finish_run(directory, None)[0]["verdict"] == "PASS"
    (directory / "artefacts" / "mask.png").write_bytes(b"another")
    result, _ = finish_run(directory, None)
    assert result["verdict"] == "INCONCLUSIVE" and "artefacts/mask.png" in result["reason"]


def test_a_pass_beside_a_violated_limit_is_a_contradiction(whole: list[Path], tmp_path: Path) -> None:
    directory = tmp_path / "run"
    shutil.copytree(next(run for run in whole if run.name == "fail"), directory)
    evidence = directory / "evidence.jsonl"
    forged = re.sub(r'"verdict": ?"FAIL"', '"verdict":"PASS"', evidence.read_text("utf-8"))
    evidence.write_text(forged, "utf-8")
    result, _ = finish_run(directory, None)
    assert result["verdict"] == "INCONCLUSIVE" and "contradicts itself" in result["reason"]
