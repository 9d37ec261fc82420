"""A campaign beside other pytest plug-ins: none breaks it, none changes its order, verdicts or retries."""

from __future__ import annotations

import json
from typing import Any

import pytest

pytest_plugins = ["pytester"]

PLAN = """\
schema: 1
id: demo
title: A demo campaign
requirements:
  - {id: D-1, text: It works., method: T, level: system, fidelity_needed: virtual}
"""
TESTS = """
import pytest
from hil.errors import BenchError

attempts = []

@pytest.mark.retry_bench(1)
@pytest.mark.requirement("D-1")
def test_whose_bench_fails_once(measure):
    measure("value", 1)
    attempts.append(1)
    if len(attempts) == 1:
        raise BenchError("the cable was loose")

@pytest.mark.parametrize("n", range(4))
def test_in_order(n, measure): pass

def test_that_fails_once():
    attempts.append(1)
    assert len(attempts) != 3

def test_after(): pass
"""
NEIGHBOURS = {
    "xdist": ("-p", "xdist.plugin"),
    "html": ("-p", "pytest_metadata.plugin", "-p", "pytest_html.plugin", "--html=page.html"),
    "rerunfailures": ("-p", "pytest_rerunfailures", "--reruns=2"),
    "randomly": ("-p", "pytest_randomly", "--randomly-seed=7"),
    "timeout": ("-p", "pytest_timeout", "--timeout=60"),
    "allure": ("-p", "allure_pytest.plugin", "--alluredir=allure"),
}


class Folder:
    """A campaign of eight tests in a folder of its own, run in a process of its own."""

    def __init__(self, pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
        self.pytester = pytester
        self.out = pytester.path / "out"
        monkeypatch.setenv("HIL_REPORTS", str(self.out))
        monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
        monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
        folder = pytester.mkdir("demo")
        (folder / "plan.yaml").write_text(PLAN, "utf-8")
        (folder / "test_1.py").write_text(TESTS, "utf-8")

    def run(self, *arguments: str) -> pytest.RunResult:
        plugins = ("-p", "no:cacheprovider", "-p", "hil.campaign.plugin")
        return self.pytester.runpytest_subprocess("demo", "-v", *plugins, *arguments)

    def results(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text("utf-8")) for path in sorted(self.out.glob("runs/*/result.json"))]


@pytest.fixture
def folder(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Folder:
    return Folder(pytester, monkeypatch)


def _installed(name: str) -> tuple[str, ...]:
    """Return the arguments for that plug-in; skip the test where it is not installed."""
    for word in NEIGHBOURS[name]:
        if not word.startswith("-"):
            pytest.importorskip(word)
    return NEIGHBOURS[name]


@pytest.mark.parametrize("name", NEIGHBOURS)
def test_a_campaign_has_its_order_its_retry_and_its_verdict_beside(folder: Folder, name: str) -> None:
    outcome = folder.run(*_installed(name))
    outcome.stdout.no_fnmatch_line("*INTERNALERROR*")
    assert outcome.ret == 1, outcome.stdout.str() + outcome.stderr.str()
    (result,) = folder.results()
    verdicts = [(test["title"], test["verdict"]) for test in result["tests"]]
    assert verdicts == [
        ("Whose bench fails once", "PASS"),
        *((f"In order [{n}]", "PASS") for n in range(4)),
        ("That fails once", "FAIL"),
        ("After", "PASS"),
    ]
    outcome.stdout.fnmatch_lines(["*test_whose_bench_fails_once BENCH RETRY*", "*1 failed, 6 passed, 1 rerun*"])


@pytest.mark.parametrize("arguments", [("--reruns=2",), ("-o", "reruns=2")], ids=["option", "ini"])
def test_reruns_of_a_failure_are_ignored_and_the_run_says_so(folder: Folder, arguments: tuple[str, ...]) -> None:
    pytest.importorskip("pytest_rerunfailures")
    outcome = folder.run("-p", "pytest_rerunfailures", *arguments)
    outcome.stdout.fnmatch_lines(["hil: --reruns has no effect on a campaign:*retry_bench(n)*"])


@pytest.mark.parametrize("option", ["-n2", "--dist=load"])
def test_a_campaign_is_not_shared_out_over_workers(folder: Folder, option: str) -> None:
    outcome = folder.run(*_installed("xdist"), option)
    assert outcome.ret == 2
    outcome.stderr.fnmatch_lines(["*one bench and one order of tests: pytest-xdist cannot share it out*"])
    assert not folder.out.exists()


def test_a_conftest_may_have_options_of_the_short_names(pytester: pytest.Pytester, folder: Folder) -> None:
    names = ("lab", "bench", "on", "split", "epoch", "lease-wait", "no-clean", "from", "resume", "run-id")
    options = "\n".join(f"    parser.addoption('--{name}')" for name in names)
    pytester.makeconftest(f"def pytest_addoption(parser):\n{options}")
    outcome = folder.run("--lab=ours", "--hil-run-id=r1")
    assert outcome.ret == 1
    assert (folder.out / "runs/r1").is_dir()


def test_a_page_of_pytest_html_is_made_of_a_run_with_a_bench_retry(folder: Folder) -> None:
    folder.run(*_installed("html"))
    assert "test_whose_bench_fails_once" in (folder.pytester.path / "page.html").read_text("utf-8")
