"""A campaign under pytest: evidence, verdicts, exit codes, retries, and a report whatever happens."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import jinja2
import jinja2.ext
import pytest

from hil.campaign import hooks
from hil.core import paths
from hil.evidence.store import list_runs
from hil.lab import model
from hil.report import html, make_report, terminal

LOADED = (hooks, model, html, terminal, jinja2)
"""Loaded here because pytester forgets, after each of its runs, what was first imported during it."""

pytest_plugins = ["pytester"]

OTHERS = (
    "hypothesispytest",
    "randomly",
    "html",
    "metadata",
    "rerunfailures",
    "timeout",
    "allure_pytest",
    "xdist",
)
PLAIN = ("-p", "no:cacheprovider", *(word for name in OTHERS for word in ("-p", f"no:{name}")))
"""Without the plugins of others that cost a second at every start."""

PLAN = """\
schema: 1
id: demo
title: A demo campaign
requirements:
  - {id: DEM-1, text: It works., method: T, level: system, fidelity_needed: virtual}
  - {id: DEM-2, text: It works on hardware., method: T, level: system, fidelity_needed: hardware}
"""

HEAD = """
import pytest
from hil.errors import *
from hil.evidence.model import *

"""

PASSES = (
    HEAD
    + """
@pytest.mark.requirement("DEM-1", "DEM-2")
def test_the_os_boots(verify):
    '''It boots.'''
    verify("boot time", 0.4, "s", limit=at_most(2))
"""
)


@pytest.fixture
def out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HIL_REPORTS", str(tmp_path / "out"))
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    return tmp_path / "out"


class Campaign:
    """Runs campaigns in a folder of their own and reads what they left."""

    def __init__(self, pytester: pytest.Pytester, out: Path) -> None:
        self.pytester, self.out = pytester, out
        self.folder = pytester.mkdir("demo")
        (self.folder / "plan.yaml").write_text(PLAN, "utf-8")

    def write(self, text: str, name: str = "test_1.py") -> None:
        (self.folder / name).write_text(text, "utf-8")

    def run(self, *arguments: str) -> pytest.RunResult:
        return self.pytester.runpytest_inprocess("demo", *PLAIN, *arguments)

    def run_apart(self, *arguments: str) -> pytest.RunResult:
        """In a process of its own: pytester cannot hold a pytest that ends before it has begun."""
        return self.pytester.runpytest_subprocess("demo", *PLAIN, *arguments)

    def directory(self) -> Path:
        (directory,) = (self.out / "runs").iterdir()
        return directory

    @property
    def result(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads((self.directory() / "result.json").read_text("utf-8"))
        return result

    @property
    def verdicts(self) -> dict[str, str]:
        return {t["title"]: t["verdict"] for t in self.result["tests"]}

    def nothing_was_written(self) -> bool:
        return not self.out.exists()


@pytest.fixture
def campaign(pytester: pytest.Pytester, out: Path) -> Campaign:
    return Campaign(pytester, out)


def test_a_campaign_that_passes_ends_with_0_a_verdict_and_the_reports_path(campaign: Campaign) -> None:
    campaign.write(PASSES)
    outcome = campaign.run()
    assert outcome.ret == 0
    outcome.stdout.fnmatch_lines(
        [
            "PASS: 1 test demonstrated 2 requirements on the virtual bench.",
            f"report: {campaign.out}/*/report.html",
        ]
    )
    assert (campaign.directory() / "report.html").is_file()
    test = campaign.result["tests"][0]
    assert (test["title"], test["step"]) == ("The OS boots", "the_os_boots")
    assert test["measurements"] == [
        {"name": "boot time", "value": 0.4, "unit": "s", "limit": "<= 2 s", "ok": True, "dimensions": {}}
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
        HEAD
        + "def test_it(measure):\n    measure('first', 2, 'ms', limit=at_most(1))\n    measure('second', 5)\n"
    )
    outcome = campaign.run()
    (test,) = campaign.result["tests"]
    assert [m["name"] for m in test["measurements"]] == ["first", "second"]
    assert test["message"] == "first = 2 ms, limit <= 1 ms: violated"
    outcome.stdout.fnmatch_lines(["*first = 2 ms, limit <= 1 ms: violated*"])


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


RETRIES = (
    HEAD
    + """
tries, sessions = [], []

@pytest.fixture(scope="session")
def bench():
    sessions.append(1)
    return "bench"

@pytest.fixture
def flaky(bench):
    tries.append(1)
    if len(tries) < 3:
        raise BenchError(f"flaky {len(tries)}")

@pytest.mark.retry_bench(2)
def test_it(flaky, measure):
    measure("tries", len(tries))

def test_bench_was_kept(bench, verify):
    verify("set up", len(sessions), limit=equals(1))
"""
)


def test_a_bench_error_is_retried_visibly_and_the_bench_is_kept(campaign: Campaign) -> None:
    campaign.write(RETRIES)
    outcome = campaign.run("-v")
    assert campaign.verdicts == {"It": "PASS", "Bench was kept": "PASS"}
    assert campaign.result["tests"][0]["retries"] == 2
    assert [m["value"] for m in campaign.result["tests"][0]["measurements"]] == [3]
    outcome.stdout.fnmatch_lines(["*BENCH RETRY*", "*repeated because the bench was at fault: 2*"])
    lines = [json.loads(x) for x in (campaign.directory() / "evidence.jsonl").read_text("utf-8").splitlines()]
    assert [e["error"] for e in lines if e["kind"] == "bench.retry"] == ["flaky 1", "flaky 2"]
    assert outcome.ret == 3  # DEM-1 is named by no test


def test_a_retry_that_also_fails_is_inconclusive(campaign: Campaign) -> None:
    campaign.write(RETRIES.replace("retry_bench(2)", "retry_bench(1)"))
    campaign.run()
    assert campaign.verdicts["It"] == "INCONCLUSIVE"
    assert campaign.result["tests"][0]["retries"] == 1


BRING_UP = (
    HEAD
    + """
tries = []

@pytest.fixture(scope="session")
def bench():
    tries.append(1)
    if len(tries) < 2:
        raise BenchError("no bench yet")
    return "bench"

@pytest.fixture(scope="session")
def boards(bench):
    return [bench]

@pytest.mark.retry_bench(1)
def test_boards(boards):
    assert boards == ["bench"]
"""
)


def test_a_bench_that_does_not_come_up_is_tried_again(campaign: Campaign) -> None:
    campaign.write(BRING_UP)
    campaign.run()
    assert campaign.verdicts == {"Boards": "PASS"}
    assert campaign.result["tests"][0]["retries"] == 1


def test_a_bench_that_never_comes_up_is_not_blamed_on_the_device(campaign: Campaign) -> None:
    campaign.write(BRING_UP.replace("len(tries) < 2", "True"))
    assert campaign.run().ret == 3
    (test,) = campaign.result["tests"]
    assert (test["verdict"], test["blame"], test["message"]) == ("INCONCLUSIVE", "bench", "no bench yet")


def test_what_the_device_does_is_never_retried(campaign: Campaign) -> None:
    campaign.write(
        HEAD
        + "tries = []\n@pytest.mark.retry_bench(5)\ndef test_it():\n    tries.append(1)\n    assert len(tries) > 1\n"
    )
    assert campaign.run().ret == 1
    assert campaign.result["tests"][0]["retries"] == 0


@pytest.mark.parametrize(
    ("tests", "plan", "says"),
    [
        (PASSES.replace("DEM-2", "DEM-9"), PLAN, "*no requirement DEM-9 in *plan.yaml*"),
        (
            PASSES + "@pytest.mark.needs('nothing')\ndef test_b(): pass\n",
            PLAN,
            "*needs step nothing, which no test is*",
        ),
        (
            HEAD + "@pytest.mark.needs('b')\ndef test_a(): pass\ndef test_b(): pass\n",
            PLAN,
            "*needs step b, which does not come before*",
        ),
        (
            HEAD + "@pytest.mark.retry_bench('often')\ndef test_a(): pass\n",
            PLAN,
            "*retry_bench takes a number*",
        ),
        (PASSES, PLAN.replace("method: T", "method: Q", 1), "*plan.yaml:5: requirements.0.method*"),
        (PASSES, "- not\n- a plan\n", "*plan.yaml*"),
    ],
)
def test_a_configuration_error_ends_with_2_before_anything_is_written(
    campaign: Campaign, tests: str, plan: str, says: str
) -> None:
    campaign.write(tests)
    (campaign.folder / "plan.yaml").write_text(plan, "utf-8")
    outcome = campaign.run_apart()
    assert outcome.ret == 2
    assert fnmatch(outcome.stdout.str() + outcome.stderr.str(), says)
    assert campaign.nothing_was_written()


def test_a_lab_file_that_is_wrong_ends_with_2_before_anything_is_written(campaign: Campaign) -> None:
    campaign.write(PASSES)
    (campaign.pytester.path / "lab.yaml").write_text("schema: 1\nname: virtual\nboards: []\n", "utf-8")
    for lab in ("lab.yaml", "no-such.yaml"):
        assert campaign.run_apart("--hil-lab", lab).ret == 2
    assert campaign.run_apart("--hil-lab", "lab.yaml", "--hil-bench", "x").ret == 2
    assert campaign.run_apart("--hil-run-id", "../x").ret == 2
    assert campaign.nothing_was_written()


def test_a_configuration_error_while_running_stops_the_campaign_with_2(campaign: Campaign) -> None:
    campaign.write(HEAD + "def test_a(): raise ConfigurationError('no lab')\ndef test_b(): pass\n")
    assert campaign.run().ret == 2
    assert campaign.verdicts == {"A": "NOT RUN", "B": "NOT RUN"}
    assert (campaign.directory() / "report.html").is_file()


def test_a_test_that_cannot_be_imported_ends_with_2_before_anything_is_written(campaign: Campaign) -> None:
    campaign.write("import does_not_exist\n")
    assert campaign.run().ret == 2
    assert campaign.nothing_was_written()


def test_collecting_only_writes_nothing(campaign: Campaign) -> None:
    campaign.write(PASSES)
    assert campaign.run("--collect-only").ret == 0
    assert campaign.nothing_was_written()


def test_a_run_id_is_used_and_never_reused(campaign: Campaign) -> None:
    campaign.write(PASSES)
    assert campaign.run("--hil-run-id", "night-1").ret == 0
    assert campaign.directory().name == "night-1"
    assert campaign.run_apart("--hil-run-id", "night-1").ret == 2


def test_a_run_keeps_its_log_and_pytests_own_options_show_the_same(campaign: Campaign) -> None:
    body = "import logging; logging.getLogger('hil.boards').debug('GET /relay/0'); assert False"
    campaign.write(f"def test_it():\n    {body}\n")
    quiet = campaign.run_apart()
    (log,) = campaign.directory().glob("artefacts/harness.log")
    assert "step it, attempt 1" in log.read_text() and "DEBUG   hil.boards: GET /relay/0" in log.read_text()
    assert not list(campaign.directory().glob("harness.log"))
    assert "GET /relay" not in quiet.stdout.str().replace(
        body, ""
    )  # a failure shows no more than was asked for
    shown = campaign.run_apart("--log-cli-level=DEBUG")
    shown.stdout.fnmatch_lines(["*DEBUG*hil.boards*GET /relay/0*"])


def test_reports_can_go_elsewhere(campaign: Campaign) -> None:
    campaign.write(PASSES)
    campaign.run("--hil-out", "elsewhere")
    assert list((campaign.pytester.path / "elsewhere" / "runs").glob("*/report.html"))
    assert campaign.nothing_was_written()


def test_a_part_of_the_campaign_says_what_was_left_out(campaign: Campaign) -> None:
    campaign.write(PASSES + "def test_b(): pass\n")
    assert campaign.run("-k", "boots").ret == 3
    assert campaign.verdicts == {"The OS boots": "PASS", "B": "NOT RUN"}
    assert campaign.result["tests"][1]["message"] == "not selected in this run"


def test_the_lab_file_is_copied_and_its_facts_recorded(campaign: Campaign) -> None:
    campaign.write(PASSES)
    assert campaign.run("--hil-lab", str(paths.ROOT / "lab" / "virtual.yaml")).ret == 0
    meta = json.loads((campaign.directory() / "run.json").read_text("utf-8"))
    assert (meta["lab"], meta["fidelity"], len(meta["boards"])) == ("virtual", "virtual", 6)
    assert meta["git"]["commit"] and meta["kernel"] and meta["packages"]["pytest"]
    assert (campaign.directory() / "lab.yaml").read_bytes() == (
        paths.ROOT / "lab" / "virtual.yaml"
    ).read_bytes()
    assert campaign.result["requirements"][1]["close_out"] == "demonstrated (virtual), open"


def test_who_takes_part_is_recorded_and_stands_in_the_report(campaign: Campaign) -> None:
    campaign.write(PASSES)
    lab = str(paths.ROOT / "lab" / "virtual.yaml")
    assert campaign.run("--hil-lab", lab, "--hil-on", "sc-b,sc-a", "--hil-split", "2+3").ret == 0
    meta = json.loads((campaign.directory() / "run.json").read_text("utf-8"))
    chosen = {"boards": ["b1", "b2", "a1", "a2", "a3"], "gateway": "b1", "hops": 1, "bystanders": 1}
    assert chosen.items() <= meta["participants"].items()
    page = (campaign.directory() / "report.html").read_text("utf-8")
    assert "b1, b2, a1, a2, a3 (2+3 on sc-b and sc-a); 1 hop apart" in page


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--hil-lab", "LAB", "--hil-on", "sc-a,sc-x"), "*no spacecraft sc-x*choose two of sc-a, sc-b*"),
        (("--hil-lab", "LAB", "--hil-split", "4+2"), "*sc-a has 3 boards, 4 are wanted*"),
        (("--hil-split", "3+3"), "*--hil-on and --hil-split choose boards of a lab*"),
        (("--hil-epoch", "2026-03-21T05:14:00Z"), "*--hil-epoch is for a lab that this run brings up*"),
        (("--hil-lab", "LAB", "--hil-epoch", "2026-03-21T05:14:00Z"), "*no orbit section*"),
        (("--hil-lab", "LAB", "--hil-epoch", "noon"), "*'noon' is not a time*"),
    ],
)
def test_a_choice_that_is_not_possible_ends_with_2_before_anything_is_written(
    campaign: Campaign, arguments: tuple[str, ...], says: str
) -> None:
    campaign.write(PASSES)
    lab = str(paths.ROOT / "lab" / "virtual.yaml")
    outcome = campaign.run_apart(*(lab if a == "LAB" else a for a in arguments))
    assert outcome.ret == 2
    assert fnmatch(outcome.stdout.str() + outcome.stderr.str(), says)
    assert campaign.nothing_was_written()


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
    assert reasons["DEM-3"] == (
        "not in this lab, open",
        "lab virtual has no second way between sc-a and sc-b",
    )
    assert reasons["DEM-4"] == ("not in this lab, open", "every board of lab virtual takes part")
    steps = " ".join(campaign.result["next_steps"])
    assert "Run DEM-3 in another lab: lab virtual has no second way" in steps
    assert "Run what was not run" not in steps


def test_the_next_run_is_compared_with_this_one(campaign: Campaign) -> None:
    campaign.write(PASSES)
    campaign.run("--hil-run-id", "r1")
    campaign.write(PASSES.replace("0.4", "2.4"))
    campaign.run("--hil-run-id", "r2")
    page = (campaign.out / "runs" / "r2" / "report.html").read_text("utf-8")
    assert "PASS → FAIL: new regression" in page
    assert "0.4 s → 2.4 s (+500%)" in page
    result = json.loads((campaign.out / "runs" / "r2" / "result.json").read_text("utf-8"))
    assert (result["statistics"]["passes"], result["statistics"]["runs"]) == (1, 2)


def test_a_folder_without_a_plan_is_an_ordinary_test_run(pytester: pytest.Pytester, out: Path) -> None:
    pytester.makepyfile(
        """
        import pytest
        from hil.evidence.events import LinkCut
        from hil.evidence.model import at_most

        def test_fixtures_work(recorder, measure, verify):
            recorder.emit(LinkCut("x"))
            assert measure("x", 2, limit=at_most(1)).ok is False
            with pytest.raises(AssertionError, match="<= 1"):
                verify("x", 2, limit=at_most(1))

        def test_plan_is_not_there(plan):
            pass
        """
    )
    outcome = pytester.runpytest_inprocess(*PLAIN)
    outcome.assert_outcomes(passed=1, errors=1)
    outcome.stdout.fnmatch_lines(["*only there in a campaign*"])
    assert not out.exists()


def test_a_campaign_is_found_from_the_folder_above_when_a_lab_is_given(campaign: Campaign) -> None:
    campaign.write(PASSES)
    lab = str(paths.ROOT / "lab" / "virtual.yaml")
    assert campaign.pytester.runpytest_inprocess(".", "--hil-lab", lab, *PLAIN).ret == 0
    assert campaign.result["verdict"] == "PASS"


def test_one_test_of_a_campaign_can_be_named(campaign: Campaign) -> None:
    campaign.write(PASSES)
    assert campaign.pytester.runpytest_inprocess(*PLAIN, "demo/test_1.py::test_the_os_boots").ret == 0
    assert campaign.result["verdict"] == "PASS"


def test_tests_from_elsewhere_are_refused(campaign: Campaign) -> None:
    campaign.write(PASSES)
    campaign.pytester.makepyfile(test_stranger="def test_x(): pass")
    assert campaign.pytester.runpytest_inprocess(*PLAIN, "demo", "test_stranger.py").ret == 2
    assert campaign.nothing_was_written()


SLOW = (
    HEAD
    + """
import time, pathlib

@pytest.fixture(scope="session")
def bench():
    yield
    pathlib.Path("torn-down").touch()

def test_quick(bench): pass

def test_slow(bench):
    pathlib.Path("slow").touch()
    time.sleep(60)

def test_never(bench): pass
"""
)


def _interruptible() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _interrupted(campaign: Campaign, number: int) -> tuple[int, str]:
    """Run the slow campaign in a process of its own and send it a signal during its second test."""
    campaign.write(SLOW)
    argv = [sys.executable, "-m", "pytest", "demo", *PLAIN]
    environment = {**os.environ, "HIL_REPORTS": str(campaign.out)}
    with subprocess.Popen(
        argv,
        cwd=campaign.pytester.path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        # As in a terminal: what runs in the background of a script inherits SIGINT ignored.
        preexec_fn=_interruptible,
    ) as process:
        deadline = time.monotonic() + 60
        while not (campaign.pytester.path / "slow").exists():
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    return process.returncode, output.decode()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_campaign_is_torn_down_and_reported(
    campaign: Campaign, number: signal.Signals
) -> None:
    code, output = _interrupted(campaign, number)
    assert code == 3
    assert "report.html" in output
    assert (campaign.pytester.path / "torn-down").exists()
    assert campaign.verdicts == {"Quick": "PASS", "Slow": "INCONCLUSIVE", "Never": "NOT RUN"}
    assert (campaign.directory() / "report.html").is_file()
    assert list_runs(campaign.out)[0].state == "finished"


def test_a_campaign_killed_with_sigkill_is_recognised_and_its_report_can_be_made(campaign: Campaign) -> None:
    code, _ = _interrupted(campaign, signal.SIGKILL)
    assert code == -signal.SIGKILL
    (run,) = list_runs(campaign.out)
    assert (run.state, run.verdict) == ("crashed", "")
    page = make_report(run.directory)
    assert "The run was killed after 1 of 3 tests." in page.read_text("utf-8")
    assert campaign.verdicts == {"Quick": "PASS", "Slow": "INCONCLUSIVE", "Never": "NOT RUN"}


def test_only_runs_on_the_same_boards_count_for_the_statistics(campaign: Campaign) -> None:
    campaign.write(PASSES)
    demonstrated = []
    for on in ("sc-01,sc-02", "sc-01,sc-02", "sc-05,sc-06"):
        before = set((campaign.out / "runs").glob("*"))
        campaign.run("--hil-lab", str(paths.ROOT / "lab/kepler.yaml"), "--hil-on", on)
        (directory,) = set((campaign.out / "runs").glob("*")) - before
        statistics = json.loads((directory / "result.json").read_text("utf-8"))["statistics"]
        demonstrated.append((statistics["passes"], statistics["runs"]))
    assert demonstrated == [(1, 1), (2, 2), (1, 1)]
