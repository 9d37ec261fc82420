"""Which runs count: whole ones, of the same tests, each once; decided before their first test."""

from __future__ import annotations

import json
import shutil

import pytest

from hil.evidence.store import list_runs
from tests.kits.campaign_folder import HEAD, PASSES, PLAIN, Campaign

pytest_plugins = ["pytester"]

TWO = HEAD + "@pytest.mark.requirement('DEM-1')\ndef test_one(): pass\ndef test_two(): pass\n"


def _last(campaign: Campaign) -> dict[str, object]:
    result: dict[str, object] = json.loads((list_runs(campaign.out)[0].directory / "result.json").read_text("utf-8"))
    return result


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("demo", "-x"), "it was started with -x or --maxfail"),
        (("demo", "-k", "one"), "1 of 2 tests were chosen"),
        (("demo", "--deselect", "demo/test_1.py::test_two"), "1 of 2 tests were chosen"),
        (("demo", "--ignore", "demo/test_2.py"), "it was started with --ignore"),
        (("demo/test_1.py",), "only test_1.py was asked for"),
        (("demo",), ""),
        ((".", "--hil-lab", "virtual"), ""),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("passes", [True, False], ids=["passes", "fails"])
def test_a_partial_run_counts_neither_for_nor_against(
    campaign: Campaign, arguments: tuple[str, ...], reason: str, passes: bool
) -> None:
    campaign.write(TWO if passes else TWO.replace("test_one(): pass", "test_one(): assert False"))
    campaign.pytester.runpytest_inprocess(*arguments, *PLAIN)
    result = campaign.result
    assert result["partial"] == reason
    counted = result["statistics"]["runs"]
    assert counted == (0 if reason else 1)
    assert (reason in result["statistics"]["sentence"]) and (result["verdict"] == "FAIL") >= (not passes)


def test_copies_and_partial_runs_are_left_out_of_the_next_runs_record(campaign: Campaign) -> None:
    campaign.write(PASSES)
    campaign.run()
    first = campaign.directory()
    for number in range(21):
        shutil.copytree(first, first.with_name(f"copy-{number}"))
    campaign.run("-x")
    campaign.run()
    statistics = _last(campaign)["statistics"]
    assert isinstance(statistics, dict)
    assert (statistics["passes"], statistics["runs"]) == (2, 2)
    assert "21 copies of runs: not counted. 1 partial run: not counted." in statistics["sentence"]


def test_a_plan_that_is_used_for_other_tests_begins_anew(campaign: Campaign) -> None:
    campaign.write(PASSES)
    campaign.run()
    campaign.write(PASSES.replace("0.4", "0.3"))
    campaign.run()
    statistics = _last(campaign)["statistics"]
    assert isinstance(statistics, dict)
    assert statistics["runs"] == 1
