"""What a test does decides its verdict, what comes after it, and the exit code."""

from __future__ import annotations

import pytest

from hil.core import paths
from hil.evidence.store import list_runs
from tests.kits.campaign_folder import HEAD, PASSES, PLAIN, PLAN, Campaign

pytest_plugins = ["pytester"]


def test_a_run_without_a_bench_closes_no_requirement_and_says_so(campaign: Campaign) -> None:
    campaign.write(PASSES)
    (campaign.folder / "conftest.py").unlink()
    assert campaign.run("--hil-lab", str(paths.ROOT / "lab" / "virtual.yaml")).ret == 0
    assert campaign.result["reason"] == "1 test demonstrated 2 requirements without a bench."
    assert [r["closed"] for r in campaign.result["requirements"]] == [False, False]
    assert campaign.result["fidelity"] == "none"


def test_a_campaign_that_passes_ends_with_0_a_verdict_and_the_reports_path(campaign: Campaign) -> None:
    campaign.write(PASSES)
    outcome = campaign.run()
    assert outcome.ret == 0
    outcome.stdout.fnmatch_lines(
        ["PASS: 1 test demonstrated 2 requirements on the virtual bench.", f"report: {campaign.out}/*/report.html"]
    )
    assert (campaign.directory() / "report.html").is_file()
    test = campaign.result["tests"][0]
    assert (test["title"], test["step"]) == ("The OS boots", "the_os_boots")
    dut = "device under test"
    assert test["measurements"] == [
        {"name": "boot time", "value": 0.4, "unit": "s", "limit": "<= 2 s", "ok": True, "blame": dut, "dimensions": {}}
    ]
    assert [(r.verdict, r.state) for r in list_runs(campaign.out)] == [("PASS", "finished")]


@pytest.mark.parametrize(
    ("body", "code", "verdict", "blame"),
    [
        ("assert 1 == 2", 1, "FAIL", "device under test"),
        ("raise DeviceError('no boot')", 1, "FAIL", "device under test"),
        ("raise BenchError('cable')", 3, "INCONCLUSIVE", "bench"),
        ("raise HarnessError('bug')", 3, "INCONCLUSIVE", "harness"),
        ("1 / 0", 3, "INCONCLUSIVE", "harness"),
        ("pytest.skip('no supervisor here')", 3, "NOT RUN", ""),
        ("verify('x', 2, limit=at_most(1))", 1, "FAIL", "device under test"),
        ("verify('x', 2, limit=at_most(1), blame=Blame.BENCH)", 3, "INCONCLUSIVE", "bench"),
        ("measure('x', 2, limit=at_most(1))", 1, "FAIL", "device under test"),
        ("measure('x', 2, limit=at_most(1)); raise BenchError('cable')", 3, "INCONCLUSIVE", "bench"),
        ("measure('x', 2, limit=at_most(1), blame=Blame.BENCH); assert 1 == 2", 3, "INCONCLUSIVE", "bench"),
    ],
)
def test_what_a_test_raises_decides_its_verdict_and_the_exit_code(
    campaign: Campaign, body: str, code: int, verdict: str, blame: str
) -> None:
    campaign.write(HEAD + f"@pytest.mark.requirement('DEM-1')\ndef test_it(measure, verify):\n    {body}\n")
    assert campaign.run().ret == code
    (test,) = campaign.result["tests"]
    assert (test["verdict"], test["blame"]) == (verdict, blame)


def test_a_violated_measure_lets_the_test_go_on_and_fail_at_its_end(campaign: Campaign) -> None:
    campaign.write(
        HEAD + "def test_it(measure):\n    measure('first', 2, 'ms', limit=at_most(1))\n    measure('second', 5)\n"
    )
    outcome = campaign.run()
    (test,) = campaign.result["tests"]
    assert [m["name"] for m in test["measurements"]] == ["first", "second"]
    assert test["message"] == "first = 2 ms, limit <= 1 ms: violated"
    outcome.stdout.fnmatch_lines(["*first = 2 ms, limit <= 1 ms: violated*"])


@pytest.mark.parametrize(("blame", "verdict"), [("DEVICE", "FAIL"), ("BENCH", "INCONCLUSIVE")])
def test_what_teardown_measures_is_judged(campaign: Campaign, blame: str, verdict: str) -> None:
    campaign.write(
        HEAD
        + f"""
@pytest.fixture
def watched(measure):
    yield
    measure("jitter", 9, limit=at_most(1), blame=Blame.{blame})

def test_it(watched): pass
"""
    )
    campaign.run()
    (test,) = campaign.result["tests"]
    assert (test["verdict"], test["message"]) == (verdict, "jitter = 9, limit <= 1: violated")


def test_an_expected_failure_is_a_failure(campaign: Campaign) -> None:
    campaign.write(HEAD + "@pytest.mark.xfail\ndef test_it():\n    assert False\n")
    assert campaign.run().ret == 1


def test_an_error_in_a_fixture_has_the_blame_of_that_error(campaign: Campaign) -> None:
    campaign.write(
        HEAD
        + """
@pytest.fixture(scope="session")
def bench(recorder):
    raise BenchError("no engine", remedy="start one")

def test_one(bench): pass
def test_two(bench): pass
"""
    )
    assert campaign.run().ret == 3
    assert [(t["blame"], t["remedy"]) for t in campaign.result["tests"]] == [("bench", "start one")] * 2


def test_a_test_whose_precondition_did_not_pass_is_not_run(campaign: Campaign) -> None:
    campaign.write(
        HEAD
        + """
@pytest.mark.step("upload")
def test_first(): assert False

@pytest.mark.needs("upload")
def test_second(): raise AssertionError("must not run")

@pytest.mark.needs("second")
def test_third(): raise AssertionError("must not run")

def test_fourth(): pass
"""
    )
    campaign.run()
    assert campaign.verdicts == {"First": "FAIL", "Second": "NOT RUN", "Third": "NOT RUN", "Fourth": "PASS"}
    messages = [t["message"] for t in campaign.result["tests"]]
    assert messages[1:3] == ["needs step upload, which is FAIL", "needs step second, which is NOT RUN"]


def test_a_step_of_several_tests_has_passed_only_when_all_have(campaign: Campaign) -> None:
    campaign.write(
        HEAD
        + """
@pytest.mark.step("both")
@pytest.mark.parametrize("n", [1, 2])
def test_first(n): assert n == 2

@pytest.mark.needs("both")
def test_second(): pass
"""
    )
    campaign.run()
    assert campaign.verdicts == {"First [1]": "FAIL", "First [2]": "PASS", "Second": "NOT RUN"}


def test_tests_run_in_the_order_of_files_and_lines(campaign: Campaign) -> None:
    campaign.write("import pytest\ndef test_z(): pass\ndef test_a(): pass\n", "test_1.py")
    campaign.write("def test_b(): pass\n", "test_2.py")
    campaign.write(
        "import pytest\n@pytest.fixture(scope='session', params=[1, 2])\ndef p(request): return request.param\n"
        "def test_c(p): pass\ndef test_d(p): pass\n",
        "test_3.py",
    )
    campaign.pytester.runpytest_inprocess(*PLAIN, "demo/test_3.py", "demo/test_2.py", "demo/test_1.py")
    order = [t["title"] for t in campaign.result["tests"]]
    assert order == ["Z", "A", "B", "C [1]", "C [2]", "D [1]", "D [2]"]


DETOUR = (
    PASSES
    + """
@pytest.mark.requirement("DEM-3")
def test_another_way(): raise AssertionError("must not run")

@pytest.mark.requirement("DEM-3", "DEM-1")
def test_that_shows_more_than_the_detour(): pass

@pytest.mark.requirement("DEM-4")
def test_the_others(): pass
"""
)

CONDITIONAL = (
    PLAN
    + """\
  - {id: DEM-3, text: There is a way., method: T, level: system, fidelity_needed: virtual, when: detour}
  - {id: DEM-4, text: Others rest., method: T, level: system, fidelity_needed: virtual, when: bystanders}
"""
)


def test_what_the_lab_cannot_show_is_not_run_and_says_why(campaign: Campaign) -> None:
    campaign.write(DETOUR)
    (campaign.folder / "plan.yaml").write_text(CONDITIONAL, "utf-8")
    lab = str(paths.ROOT / "lab" / "virtual.yaml")
    assert campaign.run("--hil-lab", lab, "--hil-split", "3+2").ret == 0
    assert campaign.verdicts == {
        "The OS boots": "PASS",
        "Another way": "NOT RUN",
        "That shows more than the detour": "PASS",
        "The others": "PASS",
    }
    test = next(t for t in campaign.result["tests"] if t["title"] == "Another way")
    assert test["message"] == "lab virtual has no second way between sc-a and sc-b"


def test_a_campaign_passes_without_what_its_lab_cannot_show(campaign: Campaign) -> None:
    campaign.write(DETOUR.replace('"DEM-3", "DEM-1"', '"DEM-1"'))
    (campaign.folder / "plan.yaml").write_text(CONDITIONAL, "utf-8")
    assert campaign.run("--hil-lab", str(paths.ROOT / "lab" / "virtual.yaml")).ret == 0
    reasons = {r["id"]: (r["close_out"], r["reason"]) for r in campaign.result["requirements"]}
    assert reasons["DEM-3"] == ("not in this lab, open", "lab virtual has no second way between sc-a and sc-b")
    assert reasons["DEM-4"] == ("not in this lab, open", "every board of lab virtual takes part")
    steps = " ".join(campaign.result["next_steps"])
    assert "Run DEM-3 in another lab: lab virtual has no second way" in steps
    assert "Run what was not run" not in steps


def test_a_requirement_that_another_plan_shows_is_open_and_says_where(campaign: Campaign) -> None:
    campaign.write(PASSES.replace('"DEM-1", "DEM-2"', '"DEM-1"'))
    plan = campaign.folder / "plan.yaml"
    plan.write_text(
        PLAN.replace("fidelity_needed: hardware}", "fidelity_needed: hardware, shown_by: always_on}"), "utf-8"
    )
    assert campaign.run().ret == 0
    found = {r["id"]: (r["verdict"], r["close_out"], r["closed"]) for r in campaign.result["requirements"]}
    assert found["DEM-2"] == ("NOT RUN", "tested by always_on, open", False)
    steps = " ".join(campaign.result["next_steps"])
    assert "See the runs of plan always_on for DEM-2" in steps
    assert "Write a test" not in steps


def test_a_result_that_cannot_be_written_is_no_failure_of_the_device(campaign: Campaign) -> None:
    campaign.write(
        HEAD
        + """
@pytest.mark.requirement("DEM-1")
def test_the_os_boots(recorder):
    (recorder.directory / "result.json").mkdir()
"""
    )
    outcome = campaign.run()
    assert outcome.ret == 3
    outcome.stderr.fnmatch_lines(["error (harness): the run could not be finished: *", "*remedy: *hil runs report*"])
    assert "Traceback" not in outcome.stdout.str() + outcome.stderr.str()
