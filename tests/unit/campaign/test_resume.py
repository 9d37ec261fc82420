"""A run that goes on where an earlier one ended: what passed is taken over, on the same bench, unchanged."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hil.bench.bench import Bench
from hil.campaign.resume import Earlier, state_of
from hil.core import paths
from hil.errors import ConfigurationError, DeviceError
from hil.lab.model import load_lab
from tests.kits.campaign_folder import HEAD, Campaign

pytest_plugins = ["pytester"]

STEPS = (
    HEAD
    + """
from pathlib import Path

@pytest.fixture(scope="session", autouse=True)
def kept(recorder):
    yield
    recorder.update_meta(bench_left={"bench": "b1"})

def ran(name):
    with Path("ran").open("a") as file:
        file.write(name + " ")

def test_boards(): ran("boards")
@pytest.mark.needs("boards")
def test_upload(): ran("upload")
@pytest.mark.requirement("DEM-1", "DEM-2")
@pytest.mark.needs("upload")
def test_install():
    ran("install")
    if Path("broken").exists():
        raise KeyboardInterrupt
@pytest.mark.needs("install")
def test_roll_back(): ran("roll-back")
"""
)


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch, campaign: Campaign) -> Campaign:
    """A campaign on the kept bench b1 that was interrupted during its third step."""
    lab = load_lab(paths.ROOT / "lab" / "virtual.yaml")
    monkeypatch.setattr("hil.campaign.run._lab_of", lambda *_: lab)
    with (campaign.folder / "plan.yaml").open("a") as plan:
        plan.write("parameters:\n  cuts: {value: 3, text: How often it is cut}\n")
    campaign.write(STEPS)
    broken = campaign.pytester.path / "broken"
    broken.touch()
    campaign.run("--hil-bench", "b1", "--hil-run-id", "first")
    assert (campaign.pytester.path / "ran").read_text("utf-8") == "boards upload install "
    broken.unlink()
    (campaign.pytester.path / "ran").unlink()
    return campaign


def of_run(campaign: Campaign, run_id: str, file: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((campaign.out / "runs" / run_id / file).read_text("utf-8"))
    return found


def test_what_passed_is_taken_over_and_the_run_says_from_where(kept: Campaign) -> None:
    outcome = kept.run("--hil-bench", "b1", "--hil-resume", "first", "--hil-run-id", "second")
    assert outcome.ret == 0
    outcome.stdout.fnmatch_lines(["hil: taken over from run first: boards, upload"])
    assert (kept.pytester.path / "ran").read_text("utf-8") == "install roll-back "
    result = of_run(kept, "second", "result.json")
    assert [(t["step"], t["verdict"], t["taken_over"]) for t in result["tests"]] == [
        ("boards", "PASS", "first"),
        ("upload", "PASS", "first"),
        ("install", "PASS", ""),
        ("roll_back", "PASS", ""),
    ]
    assert result["reason"].endswith("; 2 of the tests in run first.")
    assert of_run(kept, "second", "run.json")["partial"] == "2 tests are taken over from first"
    # and on: from where each test ran
    third = kept.run("--hil-bench", "b1", "--hil-resume", "second", "--hil-from", "install", "--hil-run-id", "third")
    assert third.ret != 0
    assert "nothing is left to run" in third.stdout.str() + third.stderr.str()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--hil-bench", "b2", "--hil-resume", "first"), "was made with another bench"),
        (("--hil-resume", "first"), "add --hil-bench NAME"),
        (("--hil-bench", "b1", "--hil-split", "2+2", "--hil-resume", "first"), "another choice of boards"),
        (("--hil-bench", "b1", "--hil-set", "cuts=4", "--hil-resume", "first"), "another choice of parameters"),
        (("--hil-bench", "b1", "--hil-resume", "never"), "run never is unknown"),
    ],
)
def test_another_run_is_refused(kept: Campaign, arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(pytest.exit.Exception, match=says):
        kept.pytester.parseconfigure("demo", *arguments)


class Board:
    def __init__(self, boot_id: str) -> None:
        self.boot_id = boot_id

    def identity(self) -> SimpleNamespace:
        if not self.boot_id:
            raise DeviceError("silent")
        return SimpleNamespace(boot_id=self.boot_id)


def bench(boots: dict[str, str], cut: set[str]) -> Bench:
    boards = {name: Board(boot) for name, boot in boots.items()}
    links = SimpleNamespace(cut_links=lambda: frozenset(cut))
    return cast(Bench, SimpleNamespace(name="b1", state=SimpleNamespace(keeper_pid=1), boards=boards, links=links))


@pytest.mark.parametrize(
    ("boots", "cut", "changed"),
    [
        ({"a1": "x", "b1": "y"}, set(), ""),
        ({"a1": "x", "b1": "z"}, set(), "b1 changed"),
        ({"a1": "", "b1": "y"}, set(), "a1 changed"),
        ({"a1": "x", "b1": "y"}, {"isl"}, "isl changed"),
    ],
)
def test_a_bench_that_changed_since_is_refused(boots: dict[str, str], cut: set[str], changed: str) -> None:
    earlier = Earlier("r1", state_of(bench({"a1": "x", "b1": "y"}, set())), {})
    if not changed:
        earlier.check(bench(boots, cut))
        return
    with pytest.raises(ConfigurationError, match=changed):
        earlier.check(bench(boots, cut))
