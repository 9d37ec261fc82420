"""A run in other people's formats, and result.json in the form of its published schema."""

from __future__ import annotations

import csv
import io
import json
import re
from html import escape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import kcidb_io
import pytest
import reqif
import xmlschema
from click.testing import CliRunner

from hil.cli.app import cli
from hil.core import paths
from hil.errors import ConfigurationError
from hil.evidence.events import CollectedTest, Measurement, RunCollected, TestEnded, TestStarted, WatchSummary
from hil.evidence.foreign_words import table, words_of
from hil.evidence.model import Verdict
from hil.evidence.readback import RunRecord
from hil.evidence.record import Recorder
from hil.evidence.test_plan import load_plan
from hil.report import vcd
from hil.report.analysis import Analysis
from hil.report.export import csv_of, ctrf_of, write_allure
from hil.report.junit import strictdoc_of
from hil.report.make import finish_run, make_report
from hil.report.pdf import pdf_of, with_styled_pictures
from hil.report.requirements import Foreign, as_plan, differences, requirements_of
from hil.report.summary import markdown_of
from hil.report.telemetry import kcidb_of, otlp_of
from tests.kits.finished_run import make
from tests.kits.synthetic_run import build
from tests.kits.synthetic_sky import build_sky

SCHEMA = json.loads((paths.PACKAGE / "report/result.schema.json").read_text("utf-8"))
KINDS = ("pass", "fail", "inconclusive", "crash", "gap")
REQIF = xmlschema.XMLSchema(Path(reqif.__file__).parent / "reqif_schema/reqif.xsd")
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


def test_strictdoc_gets_what_it_traces_and_nothing_that_it_refuses(run: Path) -> None:
    """What the reader of StrictDoc 0.30.4 demands: no error, no property twice, one field for each name."""
    analysis = Analysis(RunRecord.load(run))
    (suite,) = ElementTree.fromstring(strictdoc_of(analysis))
    cases = suite.findall("testcase")
    assert suite.get("name") and int(suite.attrib["tests"]) == len(cases) == len(analysis.run.outcomes)
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure"))
    assert int(suite.attrib["skipped"]) == len(suite.findall("testcase/skipped"))
    assert suite.findall("testcase/error") == []
    assert len({(case.attrib["classname"], case.attrib["name"]) for case in cases}) == len(cases), "its UIDs"
    for case, outcome in zip(cases, analysis.run.outcomes, strict=True):
        path = case.attrib["classname"].replace(".", "/") + ".py"
        assert f"{path}::{case.attrib['name']}" == outcome.test and float(case.attrib["time"]) >= 0
        names = [each.attrib["name"] for each in case.findall("properties/property")]
        assert names == ["requirements", "verdict"]
        known = outcome.verdict in (Verdict.PASS, Verdict.FAIL)
        assert (case.find("skipped") is None) is known, "a bench fault shows nothing of a requirement"


@pytest.mark.parametrize("changed", [False, True], ids=["violated", "changed"])
def test_a_finding_about_the_whole_run_reaches_programs_that_only_count(tmp_path: Path, changed: bool) -> None:
    directory = make(tmp_path, passes=not changed, more=() if changed else [WatchSummary(violations=("two epochs",))])
    if changed:
        (directory / "lab.yaml").write_text("name: other\n", "utf-8")
        finish_run(directory, tmp_path)
    JUNIT.validate(directory / "junit.xml")
    suite = ElementTree.parse(directory / "junit.xml").getroot()[0]
    counts = [suite.get(name) for name in ("tests", "failures", "errors")]
    assert counts == (["2", "0", "2"] if changed else ["2", "1", "0"]), "a FAIL on a bench not to be trusted is none"
    assert (suite.findall("testcase")[-1].get("classname"), len(suite.findall("testcase"))) == ("campaign", 2)
    analysis = Analysis(RunRecord.load(directory))
    summary = json.loads(ctrf_of(analysis))["results"]["summary"]
    assert (summary["failed"], summary["other"]) == ((0, 2) if changed else (1, 0))
    write_allure(analysis, tmp_path / "allure")
    shown = [json.loads(path.read_text("utf-8"))["status"] for path in (tmp_path / "allure").glob("*-result.json")]
    assert sorted(shown) == (["broken", "broken"] if changed else ["failed", "passed"])
    document = json.loads(kcidb_of(analysis))
    kcidb_io.schema.LATEST.validate(document)
    assert ("FAIL" in {test["status"] for test in document["tests"]}) is not changed
    assert "<failure" not in strictdoc_of(analysis)


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
    assert write_allure(analysis, tmp_path / "allure") == 2, "and that the run was killed"
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="File exists"):
        write_allure(analysis, tmp_path / "file")


def test_kcidb_takes_every_run_and_tells_whose_fault_it_was(run: Path) -> None:
    analysis = Analysis(RunRecord.load(run))
    document = json.loads(kcidb_of(analysis))
    kcidb_io.schema.LATEST.validate(document)
    tests = [test for test in document["tests"] if "verdict" in test["misc"] and "finding" not in test["path"]]
    found = {test["misc"]["verdict"]: test["status"] for test in tests}
    assert {"PASS": "PASS"}.items() <= found.items() and found.get("FAIL", "FAIL") == "FAIL"
    assert found.get("INCONCLUSIVE", "MISS") == ("ERROR" if analysis.run.state == "crashed" else "MISS")
    taken = [test for test in document["tests"] if "number" in test]
    numbers = [m for o in analysis.run.outcomes for m in o.measurements if isinstance(m.value, int | float)]
    assert len(taken) == len(numbers) and {test["status"] for test in taken} <= {"PASS", "FAIL", "DONE"}


@pytest.mark.parametrize(
    ("blame", "of_test", "status"),
    [
        ("device under test", "device under test", "FAIL"),
        ("device under test", "bench", "MISS"),
        ("bench", "device under test", "MISS"),
        ("harness", "harness", "ERROR"),
    ],
)
def test_kcidb_fails_no_device_for_a_limit_of_another(tmp_path: Path, blame: str, of_test: str, status: str) -> None:
    with Recorder.create(tmp_path / "run-1", {}) as recorder, recorder.scope(test="t"):
        recorder.emit(RunCollected((CollectedTest("t", "Upload"),)))
        recorder.emit(TestStarted())
        recorder.emit(Measurement("m", 2.0, "s", "<= 1", False, blame))
        recorder.emit(TestEnded("FAIL" if of_test == "device under test" else "INCONCLUSIVE", blame=of_test))
    document = json.loads(kcidb_of(Analysis(RunRecord.load(tmp_path / "run-1"))))
    assert [test["status"] for test in document["tests"] if "number" in test] == [status]


def test_the_spans_of_opentelemetry_are_the_run_and_its_attempts(failed: Analysis) -> None:
    (resource,) = json.loads(otlp_of(failed))["resourceSpans"]
    root, *spans = resource["scopeSpans"][0]["spans"]
    assert len(spans) == 14, "thirteen tests, one of them twice"
    assert {span["parentSpanId"] for span in spans} == {root["spanId"]} and "parentSpanId" not in root
    assert len({span["spanId"] for span in (root, *spans)}) == 15
    assert all(re.fullmatch("[0-9a-f]{32}", span["traceId"]) for span in spans)
    assert all(int(s["startTimeUnixNano"]) <= int(s["endTimeUnixNano"]) for s in (root, *spans))
    said = {each["key"]: each["value"]["stringValue"] for each in root["attributes"]}
    assert (said["test.suite.run.status"], said["cicd.pipeline.result"]) == ("failure", "failure")
    assert sorted(span["status"]["code"] for span in spans) == [0, *[1] * 12, 2], "a bench fault is no error"
    assert sum(len(span["events"]) for span in spans) == sum(len(o.measurements) for o in failed.run.outcomes)


def test_the_verification_matrix_goes_out_as_csv_and_reqif_and_comes_back(failed: Analysis, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(vcd.csv_of(failed))))
    assert tuple(rows[0]) == vcd.COLUMNS and len(vcd.COLUMNS) == 10
    by_id = {row["Id"]: row for row in rows}
    assert len(rows) == len(failed.result.requirements)
    assert (by_id["SIX-010"]["Compliance"], by_id["SIX-010"]["Close-out"]) == ("yes", "closed")
    assert (by_id["SIX-020"]["Compliance"], by_id["SIX-120"]["Compliance"]) == ("partial", "no")
    assert (by_id["SIX-150"]["Evidence"], by_id["SIX-150"]["Compliance"]) == ("not covered", "not shown")
    assert by_id["SIX-010"]["Verification plan"] == "six-gpu: C-UPLOAD"
    text = vcd.reqif_of(failed)
    (tmp_path / "vcd.reqif").write_text(text, "utf-8")
    REQIF.validate(tmp_path / "vcd.reqif")
    back = requirements_of(tmp_path / "vcd.reqif")
    assert [(each.id, each.text) for each in back] == [(row["Id"], row["Requirement"]) for row in rows]
    assert failed.plan is not None and differences(failed.plan, back) == []


def test_requirements_of_another_tool_become_those_of_a_plan(tmp_path: Path) -> None:
    there = tmp_path / "there.reqif"
    there.write_text(paths.ROOT.joinpath("tests/data/requirements.reqif").read_text("utf-8"), "utf-8")
    found = requirements_of(there)
    assert [(each.id, each.text) for each in found] == [
        ("UPL-1", "The upload survives an outage & goes on."),
        ("SYS 2.1", "Six boards serve as one."),
    ]
    plan = "schema: 1\nid: mine\ntitle: Mine\n" + as_plan(found)
    (tmp_path / "plan.yaml").write_text(plan, "utf-8")
    made = load_plan(tmp_path)
    assert [(r.id, r.trace, r.text) for r in made.requirements] == [
        ("UPL-1", "", "The upload survives an outage & goes on."),
        ("SYS-2-1", "SYS 2.1", "Six boards serve as one."),
    ]
    assert differences(made, found) == []
    there.write_text(there.read_text("utf-8").replace("Six boards", "Nine boards"), "utf-8")
    compared = CliRunner().invoke(cli, ["campaign", "requirements", str(there), "--plan", str(tmp_path)])
    assert (compared.exit_code, compared.output) == (1, "SYS 2.1 has another text: Nine boards serve as one.\n")


def test_ids_of_another_tool_become_those_of_a_plan_that_can_be_loaded(tmp_path: Path) -> None:
    ids = ["A_1", "A-1", "a.1", "A-" + "B" * 31, "A" * 40 + " 1", "Ж", "—", "7 b", "A-1", "C-" + "D" * 30]
    found = [Foreign(name, f"Text {number}.") for number, name in enumerate(ids)]
    (tmp_path / "plan.yaml").write_text("schema: 1\nid: mine\ntitle: Mine\n" + as_plan(found), "utf-8")
    plan = load_plan(tmp_path)
    assert [(r.trace or r.id, r.text) for r in plan.requirements] == [(each.id, each.text) for each in found]
    made = [r.id for r in plan.requirements]
    assert made[:3] == ["A-1-2", "A-1", "A-1-3"] and made[5:] == ["REQ-6", "REQ-7", "REQ-7-B", "A-1-4", ids[-1]]
    assert differences(plan, found[:8] + found[9:]) == []


def test_a_plain_text_of_another_tool_is_no_markup(tmp_path: Path) -> None:
    document = paths.ROOT.joinpath("tests/data/requirements.reqif").read_text("utf-8")
    plain = "Temperature shall be < 95 C while power is > 40 W, not &lt; 40 W."
    (tmp_path / "x.reqif").write_text(document.replace("SYS 2.1", escape(plain)), "utf-8")
    assert requirements_of(tmp_path / "x.reqif")[1].id == plain


@pytest.mark.parametrize("text", ["", "no xml", "<REQ-IF/>", '<!DOCTYPE x [<!ENTITY a "b">]><REQ-IF>&a;</REQ-IF>'])
def test_what_is_no_reqif_is_refused_with_a_sentence(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.reqif").write_text(text, "utf-8")
    with pytest.raises(ConfigurationError, match=r"x\.reqif: "):
        requirements_of(tmp_path / "x.reqif")


def test_the_summary_for_a_ci_job_shows_hostile_text_as_text(run: Path, failed: Analysis) -> None:
    told = markdown_of(Analysis(RunRecord.load(run)))
    assert told.startswith("# ") and "| requirement | verdict |" in told
    shown = markdown_of(failed)
    assert shown.startswith("# FAIL: OS upload") and "| SIX-120 | FAIL | open |" in shown
    assert "## What to do next" in shown and "<here>" not in shown


def test_a_pdf_is_made_offline_and_the_same_each_time(failed: Analysis, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text(
        '<html><head><style>p { color: red }</style></head><body><p>FAIL</p><img src="http://192.0.2.1/a.png">'
        '<img src="file:///etc/hostname"></body></html>'
    )
    try:
        made = pdf_of(page)
    except ConfigurationError as exc:
        assert "a PDF needs WeasyPrint" in exc.message and "libpango" in exc.remedy
        pytest.skip(exc.message)
    assert made.startswith(b"%PDF-") and made == pdf_of(page)


def test_pictures_of_a_pdf_have_the_colours_of_the_light_page(run: Path) -> None:
    text = (run / "report.html").read_text("utf-8")
    styled = with_styled_pictures(text)
    pictures = re.findall(r"<svg [^>]*role=.img.*?</svg>", styled, re.S)
    assert pictures and styled.count("<svg ") == text.count("<svg ")
    for picture in pictures:
        rules = picture.split("<style>")[1].split("</style>")[0]
        assert ".timeline .test" in rules and "fill: #2f6bd8" in rules and 'id="hatch"' in picture
        assert "var(" not in rules and "@media" not in rules


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
