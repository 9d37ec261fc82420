"""A run in other people's formats, and result.json in the form of its published schema."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
import xmlschema
from click.testing import CliRunner

from hil.cli.app import cli
from hil.core import paths
from hil.errors import ConfigurationError
from hil.evidence.events import CollectedTest, Measurement, RunCollected, TestEnded, TestStarted
from hil.evidence.foreign_words import table, words_of
from hil.evidence.model import Verdict
from hil.evidence.readback import RunRecord
from hil.evidence.record import Recorder
from hil.report.analysis import Analysis
from hil.report.export import csv_of, ctrf_of, write_allure
from hil.report.make import make_report
from tests.kits.synthetic_run import build
from tests.kits.synthetic_sky import build_sky

SCHEMA = json.loads((paths.PACKAGE / "report/result.schema.json").read_text("utf-8"))
KINDS = ("pass", "fail", "inconclusive", "crash", "gap")
JUNIT = xmlschema.XMLSchema(paths.ROOT / "tests/data/junit.xsd")


@pytest.fixture(scope="module", params=KINDS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("runs") / "run-1"
    made = build_sky(directory, request.param) if request.param == "gap" else build(directory, request.param)
    make_report(made)
    return made


@pytest.fixture(scope="module")
def failed(tmp_path_factory: pytest.TempPathFactory) -> Analysis:
    return Analysis(RunRecord.load(build(tmp_path_factory.mktemp("failed") / "run-1", "fail")))


def test_the_result_is_what_its_schema_says_and_the_schema_knows_every_key(run: Path) -> None:
    result = json.loads((run / "result.json").read_text("utf-8"))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(result, SCHEMA)
    assert set(result) == set(SCHEMA["properties"]) == set(SCHEMA["required"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**result, "verdict": "GREEN"}, SCHEMA)


def test_junit_is_what_jenkins_and_gitlab_read(run: Path) -> None:
    JUNIT.validate(run / "junit.xml")
    suite = ElementTree.parse(run / "junit.xml").getroot()[0]
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        assert int(suite.attrib[name]) == len(suite.findall(f"testcase/{tag}"))
    assert int(suite.attrib["tests"]) == len(suite.findall("testcase"))


def test_ctrf_has_every_attempt_and_calls_no_bench_fault_flaky(failed: Analysis) -> None:
    document: dict[str, Any] = json.loads(ctrf_of(failed))
    results = document["results"]
    assert (document["reportFormat"], results["tool"]["name"]) == ("CTRF", "orbital-hil")
    summary = results["summary"]
    assert (summary["tests"], summary["passed"], summary["failed"], summary["flaky"]) == (13, 12, 1, 0)
    assert summary["stop"] - summary["start"] == summary["duration"] == 55_200
    (retried,) = [test for test in results["tests"] if test["retries"]]
    assert [(a["attempt"], a["status"], a["duration"]) for a in retried["retryAttempts"]] == [(1, "other", 1200)]
    (bad,) = [test for test in results["tests"] if test["status"] == "failed"]
    assert bad["rawStatus"] == "FAIL" and "moments with two epochs" in bad["message"] and bad["trace"]
    assert len({test["id"] for test in results["tests"]}) == 13
    assert ctrf_of(failed) == ctrf_of(Analysis(failed.run)), "the same run, the same ids"


def test_allure_has_a_file_for_each_test_and_the_artefacts(failed: Analysis, tmp_path: Path) -> None:
    assert write_allure(failed, tmp_path / "allure") == 13
    results = [json.loads(path.read_text("utf-8")) for path in (tmp_path / "allure").glob("*-result.json")]
    assert sorted({r["status"] for r in results}) == ["failed", "passed"]
    assert all(r["uuid"] + "-result.json" in {p.name for p in (tmp_path / "allure").iterdir()} for r in results)
    sources = [attachment["source"] for r in results for attachment in r["attachments"]]
    assert len(sources) == 7 and all((tmp_path / "allure" / source).is_file() for source in sources)
    assert {"name": "tag", "value": "SIX-010"} in [label for r in results for label in r["labels"]]


def test_csv_has_a_row_for_each_measurement_and_no_formula(failed: Analysis, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(csv_of(failed))))
    taken = [m for outcome in failed.run.outcomes for m in outcome.measurements]
    assert len(rows) == len(taken)
    assert (rows[0]["plan"], rows[0]["run"]) == ("six-gpu", "run-1")
    hostile = build(tmp_path / "=run")
    assert csv_of(Analysis(RunRecord.load(hostile))).splitlines()[1].startswith("'=run,")


def test_hostile_words_and_numbers_are_written_as_what_they_are(tmp_path: Path) -> None:
    directory = tmp_path / "run-1"
    with Recorder.create(directory, {}) as recorder, recorder.scope(test="t"):
        recorder.emit(RunCollected((CollectedTest("t", "Upload"),)))
        recorder.emit(TestStarted())
        recorder.emit(Measurement("m", 1.0, "=cmd|'/c calc'!A0", "@SUM(1)", True))
        recorder.emit(TestEnded("PASS", duration_s=1e308))
    analysis = Analysis(RunRecord.load(directory))
    assert csv_of(analysis).splitlines()[1].endswith(",1.0,'=cmd|'/c calc'!A0,'@SUM(1),True")
    assert json.loads(ctrf_of(analysis))["results"]["tests"][0]["duration"] == 10**12
    assert write_allure(analysis, tmp_path / "allure") == 1
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="File exists"):
        write_allure(analysis, tmp_path / "file")


def test_every_verdict_has_its_words_and_the_documentation_has_the_table() -> None:
    assert {words_of(verdict).junit for verdict in Verdict} == {"", "failure", "error", "skipped"}
    assert words_of("INCONCLUSIVE", "bench").kcidb == "MISS" and words_of("INCONCLUSIVE", "harness").kcidb == "ERROR"
    assert "\n".join(table()) in (paths.ROOT / "docs/evidence.md").read_text("utf-8")


def test_the_command(tmp_path: Path) -> None:
    directory = build(tmp_path / "run-1")
    shown = CliRunner().invoke(cli, ["runs", "export", str(directory), "--format", "csv"])
    assert shown.output.startswith("run,started_utc,"), shown.output
    words = ["runs", "export", str(directory), "--json", "--format"]
    made = CliRunner().invoke(cli, [*words, "allure", "-o", str(tmp_path / "allure")])
    assert json.loads(made.output) == {"format": "allure", "path": str(tmp_path / "allure"), "tests": 13}
    made = CliRunner().invoke(cli, [*words, "ctrf", "-o", str(tmp_path / "ctrf.json")])
    assert json.loads(made.output)["path"] == str(tmp_path / "ctrf.json") and (tmp_path / "ctrf.json").is_file()
    assert CliRunner().invoke(cli, [*words, "allure"]).exit_code == 2
    assert json.loads(json.loads(CliRunner().invoke(cli, [*words, "schema"]).output)["text"]) == SCHEMA
