"""result.json, JUnit XML and the page, from a run directory alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hil.evidence.readback import RunRecord
from hil.report import units
from hil.report.analysis import Analysis
from hil.report.html import console_tail
from hil.report.make import finish_run, make_report
from hil.report.thumbnail import picture
from tests.kits.html_page import Page
from tests.kits.synthetic_run import MONO_START, build


def _result(directory: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((directory / "result.json").read_text("utf-8"))
    return result


@pytest.fixture(scope="module")
def passed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = build(tmp_path_factory.mktemp("out") / "run-pass")
    make_report(directory)
    return directory


@pytest.mark.parametrize(
    ("kind", "verdict", "reason"),
    [
        ("pass", "PASS", "13 tests demonstrated 10 requirements on the virtual bench."),
        ("fail", "FAIL", "1 of 13 tests failed. No mixed epoch when the crosslink is lost"),
        ("inconclusive", "INCONCLUSIVE", "1 of 13 tests could not be judged. Inference across six boards"),
        ("crash", "INCONCLUSIVE", "The run was killed after 8 of 13 tests."),
    ],
)
def test_the_page_says_the_verdict_and_its_reason_first(tmp_path: Path, kind: str, verdict: str, reason: str) -> None:
    page = make_report(build(tmp_path / "run", kind))
    text = Page(page.read_text("utf-8")).text
    assert reason in text
    assert text.index(verdict) < text.index(reason) < text.index("Still unproven")
    assert _result(tmp_path / "run")["verdict"] == verdict


def test_the_page_needs_nothing_but_itself(passed: Path) -> None:
    html = (passed / "report.html").read_text("utf-8")
    page = Page(html)
    assert all(s.startswith("data:image/png") for s in page.sources) and page.sources
    assert not re.search(r"https?://|@import|url\((?!#)", html)  # a pattern of the page itself is url(#...)
    assert "script" not in page.tags and re.findall("<link[^>]*>", html) == ['<link rel="icon" href="data:,">']


def test_every_link_of_the_page_leads_somewhere(passed: Path) -> None:
    page = Page((passed / "report.html").read_text("utf-8"))
    assert len(page.ids) == len(set(page.ids))
    for link in page.links:
        if link.startswith("#"):
            assert link[1:] in page.ids
        else:
            assert (passed / link).exists(), link


def test_the_page_shows_what_the_programme_lead_asks_for(passed: Path) -> None:
    text = Page((passed / "report.html").read_text("utf-8")).text
    for expected in (
        "Demonstrated 3/3 over all stored runs of this plan, lab file and boards: "
        "reliability >= 0.464 at 90% confidence.",
        "19 more without a failure would show 0.9.",
        "demonstrated (virtual), open (7)",
        "no test of this campaign names it",
        "Write a test for SIX-150",
        "Repeat on real Orin boards: 7 requirements",
        "to be closed by review of design: docs/boards.md",
        "Rate-scaled. isl-ab: 200 Mbit/s stands for 2500 Mbit/s",
        "14.417 ms",
        "+0.031 ms",
        "uml 6.1.82",
        "2.1 1/s → 3.2 1/s (+52%)",
        "Links deliver what was commanded: links are outside tolerance",
        "There is no GPU: inference runs on the host's processors.",
        "commit 77aa00ffee to 9f1c2ab47d",
        "Contains modified Copernicus Sentinel data.",
        "3,120 (3,011 answers)",
    ):
        assert expected in text, expected


def test_text_from_the_evidence_is_escaped(tmp_path: Path) -> None:
    html = make_report(build(tmp_path / "run", "fail")).read_text("utf-8")
    assert "assert failed &lt;here&gt; &amp; there" in html
    assert "<here>" not in html


def test_the_timeline_shows_steps_outages_power_and_epochs_of_each_board(passed: Path) -> None:
    html = (passed / "report.html").read_text("utf-8")
    assert html.count('<svg class="timeline"') == 1 + 4  # nothing happened to boards and links in the first file
    assert "Close-up: Safety net, 26 to 32 s" in html
    for title in (
        "upload: 8.9 to 13.6 s (4.70 s)",
        "isl-ab cut: 44.6 to 48.9 s (4.30 s)",
        "upload interrupted: 16.0 to 18.0 s (2.00 s), no usable chain of links from the ground to sc-a",
        "power cut: 28.9 to 29.3 s",
        "install: 28.6 to 28.9 s (0.30 s), did not end",
        "booted 2.0.0 from slot B at 37.1 s",
        "epoch 2: 49.3 to 54.8 s",
        "fault at 16.0 s: ground link lost during the upload",
    ):
        assert title in html, title


def test_a_virtual_run_closes_only_what_a_virtual_run_can(passed: Path) -> None:
    result = _result(passed)
    closed = {r["id"] for r in result["requirements"] if r["closed"]}
    assert closed == {"SIX-010", "SIX-080", "SIX-130"}
    uncovered = {r["id"] for r in result["requirements"] if not r["covered"]}
    assert uncovered == {"SIX-150", "SIX-900"}


def test_risks_move_only_as_far_as_the_statistics_carry_them(passed: Path) -> None:
    risks = {r["id"]: r for r in _result(passed)["risks"]}
    assert risks["R-02"]["now"] == risks["R-02"]["before"]
    assert "need hardware. Virtual evidence: 4/4 runs, P(failure) <= 43.8% at 90%" in risks["R-02"]["reason"]
    assert risks["R-06"]["reason"] == "Stays: SIX-150 NOT RUN."
    assert "2,298 more without a failure" in risks["R-04"]["reason"]


def test_a_risk_reaches_its_planned_cell_when_enough_runs_passed(tmp_path: Path) -> None:
    directory = build(tmp_path / "run")
    past = json.loads((directory / "history.json").read_text("utf-8"))["runs"][0]
    (directory / "history.json").write_text(json.dumps({"runs": [past] * 2302}), encoding="utf-8")
    make_report(directory)
    risk = next(r for r in _result(directory)["risks"] if r["id"] == "R-04")
    assert (risk["now"], risk["reached"]) == ({"likelihood": 2, "severity": 4}, True)


def test_junit_has_the_requirements_as_properties_and_tells_the_verdicts_apart(tmp_path: Path) -> None:
    directory = build(tmp_path / "run", "inconclusive")
    make_report(directory)
    suites = ElementTree.parse(directory / "junit.xml").getroot()
    suite = suites[0]
    assert [suite.get(k) for k in ("tests", "failures", "errors", "skipped")] == ["13", "0", "1", "0"]
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    relay = cases["test_the_bundle_crosses_the_crosslink_once"]
    properties = [(p.get("name"), p.get("value")) for p in relay.iter("property")]
    assert [v for n, v in properties if n == "requirement"] == ["SIX-030", "SIX-040"]
    inference = cases["test_inference_across_six_boards_matches_the_reference"]
    error = inference.find("error")
    assert error is not None and error.get("type") == "bench"
    assert relay.get("classname") == "testplans.six_gpu.test_2_upload"


def test_junit_holds_console_output_that_xml_cannot(tmp_path: Path) -> None:
    directory = build(tmp_path / "run", "fail")
    path = directory / "evidence.jsonl"
    path.write_text(path.read_text("utf-8").replace("assert failed", "assert \\u001b[31mfailed\\u0000"), "utf-8")
    make_report(directory)
    failure = next(ElementTree.parse(directory / "junit.xml").getroot().iter("failure"))
    assert "\ufffd[31mfailed\ufffd" in (failure.text or "")


def test_calibration_outside_tolerance_makes_the_run_inconclusive(tmp_path: Path) -> None:
    directory = build(tmp_path / "run", "fail")
    _append(
        directory,
        kind="link.calibration",
        link="isl-ab",
        direction="a_to_b",
        quantity="rate",
        commanded=200.0,
        measured=120.0,
        unit="Mbit/s",
        tolerance=6.0,
        ok=False,
    )
    make_report(directory)
    result = _result(directory)
    assert result["verdict"] == "INCONCLUSIVE"
    assert result["reason"].startswith("The bench is outside tolerance: rate of isl-ab")


def test_a_violation_the_watcher_saw_fails_the_run_even_when_all_tests_passed(tmp_path: Path) -> None:
    directory = build(tmp_path / "run")
    _append(directory, kind="watch.violation", what="mixed-epoch", detail="a1 in 1 and b1 in 2")
    make_report(directory)
    result = _result(directory)
    assert (result["verdict"], result["reason"]) == (
        "FAIL",
        "The watcher saw a violation of the epoch invariant: a1 in 1 and b1 in 2.",
    )


def test_console_logs_of_a_killed_run_are_collected_when_its_report_is_made(tmp_path: Path) -> None:
    console = tmp_path / "a1.console.log"
    console.write_text("last words\n", "utf-8")
    directory = build(tmp_path / "run", "crash")
    _append(
        directory,
        kind="artefact.follow",
        source=str(console),
        artefact_kind="console",
        name="a1.console.log",
        board="a1",
    )
    for _ in range(2):
        page = make_report(directory)
    assert "last words" in page.read_text("utf-8")
    assert len(list((directory / "artefacts").glob("a1.console-*.log"))) == 1


def _append(directory: Path, **event: Any) -> None:
    line = json.dumps({"t_utc": "2026-11-21T02:14:40.000Z", "mono_s": MONO_START + 33.0, **event})
    with (directory / "evidence.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")


@pytest.mark.parametrize(
    "event",
    [
        {"kind": "watch.summary"},
        {"kind": "watch.summary", "violations": None, "claims": None, "samples": "many"},
        {"kind": "inference.result"},
        {"kind": "inference.result", "per_board": {"a1": {}}},
        {"kind": "link.calibration", "link": "x"},
        {"kind": "link.restore", "link": "never-cut"},
        {"kind": "board.power", "board": "unknown", "action": "on"},
        {"kind": "rollout.step", "board": "a1", "phase": "end"},
        {"kind": "artefact"},
        {"kind": "artefact", "path": "../../../etc/passwd", "artefact_kind": "console"},
        {"kind": "bench.up"},
        {"kind": "bench.retry"},
        {"kind": "measurement", "test": "unknown"},
        {"kind": "something.new", "a": [1, {"b": 2}]},
    ],
    ids=lambda e: "-".join(map(str, e)) + str(len(str(e))),
)
def test_evidence_that_lacks_fields_still_gives_a_page(tmp_path: Path, event: dict[str, Any]) -> None:
    directory = build(tmp_path / "run")
    _append(directory, **event)
    page = make_report(directory).read_text("utf-8")
    assert "root:x:0" not in page


def test_an_empty_run_gives_a_page(tmp_path: Path) -> None:
    directory = tmp_path / "run"
    directory.mkdir()
    (directory / "run.json").write_text("{}", "utf-8")
    result, page = finish_run(directory, None)
    assert page is not None and page.is_file()
    assert result["verdict"] == "INCONCLUSIVE"


def test_a_page_that_cannot_be_made_does_not_lose_the_verdict(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(analysis: object) -> str:
        raise RuntimeError("template is gone")

    monkeypatch.setattr("hil.report.make.html_of", broken)
    directory = build(tmp_path / "run")
    result, page = finish_run(directory, None)
    assert (result["verdict"], page) == ("PASS", None)
    assert "template is gone" in (directory / "report-error.txt").read_text("utf-8")


def test_a_console_is_shown_without_terminal_control(tmp_path: Path) -> None:
    path = tmp_path / "console.log"
    lines = b"".join(b"line %d\r\n" % n for n in range(100))
    path.write_bytes(b"\x1b[2J\x1b[=3h" + lines + b"\x1b[31mred\x1b[0m\x07 login: \xff")
    tail = console_tail(path).split("\n")
    assert len(tail) == 40
    assert tail[-1] == "red login: \ufffd"
    assert tail[0] == "line 61"
    assert console_tail(tmp_path / "gone") == ""


def test_a_mask_is_painted_small_enough_for_the_page(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    mask = numpy.zeros((768, 1024), dtype=numpy.uint8)
    mask[100:300, 200:500] = 1
    numpy.save(tmp_path / "mask.npy", mask)
    numpy.savez(tmp_path / "mask.npz", mask=mask)
    numpy.save(tmp_path / "cube.npy", numpy.zeros((2, 2, 2)))
    uri = picture(tmp_path / "mask.npy")
    assert uri is not None and uri.startswith("data:image/png;base64,") and len(uri) < 20_000
    assert picture(tmp_path / "mask.npz") == uri
    assert picture(tmp_path / "cube.npy") is None
    assert picture(tmp_path / "gone.png") is None


def test_a_damaged_mask_is_no_picture(tmp_path: Path) -> None:
    numpy = pytest.importorskip("numpy")
    numpy.savez(tmp_path / "packed.npz", mask=numpy.zeros((90, 90)))
    numpy.savez_compressed(tmp_path / "bomb.npz", mask=numpy.zeros((8200, 8200), numpy.uint8))
    numpy.save(tmp_path / "infinite.npy", numpy.full((2, 2), numpy.inf))
    numpy.save(tmp_path / "words.npy", numpy.array([["a", "b"]]))
    whole = (tmp_path / "packed.npz").read_bytes()
    header = "{'descr': '|u1', 'fortran_order': False, 'shape': (10000000, 10000000), }\n"
    for name, content in {
        "empty.npy": b"",
        "empty.npz": b"",
        "cut.npz": whole[: len(whole) // 2],
        "vast.npy": b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "packed.npz").unlink()
    assert {path.name: picture(path) for path in tmp_path.iterdir() if picture(path)} == {}
    numpy.save(tmp_path / "tall.npy", numpy.zeros((100_000, 1), numpy.uint8))
    assert len(picture(tmp_path / "tall.npy") or "") < 1000


@pytest.mark.parametrize(
    ("figure", "unit", "printed"),
    [
        (14386.4, "us", "14.386 ms"),
        (200_013_248.6, "bit/s", "200.01 Mbit/s"),
        (0, "ppm", "0 ppm"),
        (1.5, "V", "1.500 V"),
        (float("nan"), "us", "none"),
        (None, "us", "none"),
    ],
)
def test_link_figures_are_printed_in_the_units_people_read(figure: Any, unit: str, printed: str) -> None:
    assert units.quantity(figure, unit) == printed


def test_errors_of_links_have_a_sign() -> None:
    assert [units.quantity(e, "us", signed=True) for e in (89.1, -89.1)] == ["+0.089 ms", "-0.089 ms"]


def test_figures_that_evidence_lacks_are_blank() -> None:
    assert [units.value(None), units.size(None), units.seconds("x")] == ["", "", ""]
    assert [units.size(n) for n in (999, 52_428_800, 3e12)] == ["999 B", "52.4 MB", "3000.00 GB"]
    assert [units.seconds(s) for s in (0.412, 55.2, 187.4)] == ["0.41 s", "55.2 s", "3 min 07 s"]


def test_long_digests_are_cut_and_other_words_are_not() -> None:
    assert units.brief("= " + "0123456789abcdef" * 4) == "= 0123456789ab…"
    assert units.brief("signature verification failed") == "signature verification failed"
    assert units.brief(None) == ""


def test_a_direction_that_could_not_be_measured_says_why(tmp_path: Path) -> None:
    directory = build(tmp_path / "run")
    _append(
        directory,
        kind="link.calibration",
        link="isl-ab",
        direction="a_to_b",
        quantity="state",
        commanded=0,
        measured=None,
        unit="",
        tolerance=0,
        ok=False,
        note="no packet arrives",
    )
    assert "no packet arrives" in Page(make_report(directory).read_text("utf-8")).text
    assert _result(directory)["calibration"][-1]["measured"] is None
    assert _result(directory)["verdict"] == "INCONCLUSIVE"


@pytest.mark.parametrize(
    ("series", "kind"),
    [
        (["PASS", "PASS"], "new regression"),
        (["FAIL", "FAIL", "PASS"], "failing for 3 runs"),
        (["FAIL", "PASS", "FAIL"], "intermittent"),
        (["FAIL", "FAIL"], "never passed"),
    ],
)
def test_a_failure_is_classed_by_what_went_before(tmp_path: Path, series: list[str], kind: str) -> None:
    directory = build(tmp_path / "run", "fail")
    runs = json.loads((directory / "history.json").read_text("utf-8"))["runs"]
    history = [{**runs[0], "requirements": {**runs[0]["requirements"], "SIX-120": v}} for v in series]
    (directory / "history.json").write_text(json.dumps({"runs": history}), encoding="utf-8")
    comparison = Analysis(RunRecord.load(directory)).comparison
    assert comparison is not None
    assert [c.kind for c in comparison.verdicts if c.requirement == "SIX-120"] == [kind]


def test_another_link_engine_than_the_baselines_is_told(tmp_path: Path) -> None:
    directory = build(tmp_path / "run")
    comparison = Analysis(RunRecord.load(directory)).comparison
    assert comparison is not None and not [text for text in comparison.inputs if "engine" in text]
    path = directory / "history.json"
    path.write_text(path.read_text("utf-8").replace("uml 6.1.82", "host 6.8.0"), "utf-8")
    comparison = Analysis(RunRecord.load(directory)).comparison
    assert comparison is not None and "engine host 6.8.0 to uml 6.1.82" in comparison.inputs


def test_a_release_is_the_baseline_so_that_a_bad_night_is_not(tmp_path: Path) -> None:
    directory = build(tmp_path / "run", "fail")
    runs = json.loads((directory / "history.json").read_text("utf-8"))["runs"]
    last, before, released = (
        {**runs[0], "run_id": f"r{n}", "verdict": v} for n, v in enumerate(("FAIL", "FAIL", "PASS"))
    )
    last["requirements"] = before["requirements"] = {**runs[0]["requirements"], "SIX-120": "FAIL"}
    history = [last, before, {**released, "release": "2.0.0"}]
    (directory / "history.json").write_text(json.dumps({"runs": history}), encoding="utf-8")
    comparison = Analysis(RunRecord.load(directory)).comparison
    assert comparison is not None and (comparison.run_id, comparison.release) == ("r2", "2.0.0")
    (change,) = [c for c in comparison.verdicts if c.requirement == "SIX-120"]
    assert (change.before, change.kind) == ("PASS", "failing for 3 runs")
    assert "Changed since release 2.0.0" in make_report(directory).read_text("utf-8")


def test_without_an_earlier_run_nothing_is_compared(tmp_path: Path) -> None:
    directory = build(tmp_path / "run", past_runs=0)
    assert Analysis(RunRecord.load(directory)).comparison is None
    assert "first run of this plan and lab" in make_report(directory).read_text("utf-8")


def test_what_this_lab_cannot_show_stays_open_and_does_not_count_as_left_out(tmp_path: Path) -> None:
    directory = build(tmp_path / "run")
    path = directory / "evidence.jsonl"
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    for event in lines:
        if event["kind"] == "run.collected":
            event["tests"][4]["absent"] = "there is no second way between sc-a and sc-b"
            name = event["tests"][4]["test"]
    kept = [e for e in lines if not (str(e["kind"]).startswith("test.") and e["test"] == name)]
    path.write_text("".join(json.dumps(e) + "\n" for e in kept), "utf-8")
    text = Page(make_report(directory).read_text("utf-8")).text
    assert "12/12 tests passed 1 not in this lab" in text
    steps = " ".join(_result(directory)["next_steps"])
    assert "Run SIX-040 in another lab: there is no second way between sc-a and sc-b." in steps
    assert "Run what was not run" not in steps
