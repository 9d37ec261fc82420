"""A campaign under pytest: its run directory, its choices, and which tests belong to it."""

from __future__ import annotations

import json
from fnmatch import fnmatch
from pathlib import Path

import pytest

from hil.core import paths
from tests.kits.campaign_folder import PASSES, PLAIN, Campaign

pytest_plugins = ["pytester"]


def test_collecting_only_writes_nothing(campaign: Campaign) -> None:
    campaign.write(PASSES)
    assert campaign.run("--collect-only").ret == 0
    assert campaign.nothing_was_written()


def test_a_run_id_is_used_and_never_reused(campaign: Campaign) -> None:
    campaign.write(PASSES)
    assert campaign.run("--hil-run-id", "night-1").ret == 0
    assert campaign.directory().name == "night-1"
    assert campaign.refused("--hil-run-id", "night-1").ret == 2


def test_a_run_keeps_its_log_and_pytests_own_options_show_the_same(campaign: Campaign) -> None:
    body = "import logging; logging.getLogger('hil.boards').debug('GET /relay/0'); assert False"
    campaign.write(f"def test_it():\n    {body}\n")
    quiet = campaign.run()
    (log,) = campaign.directory().glob("artefacts/harness.log")
    assert "step it, attempt 1" in log.read_text() and "DEBUG   hil.boards: GET /relay/0" in log.read_text()
    assert not list(campaign.directory().glob("harness.log"))
    assert "GET /relay" not in quiet.stdout.str().replace(body, "")  # a failure shows no more than was asked for
    shown = campaign.run("--log-cli-level=DEBUG")
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
    assert (campaign.directory() / "lab.yaml").read_bytes() == (paths.ROOT / "lab" / "virtual.yaml").read_bytes()
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
        (("--hil-lab", "LAB", "--hil-tenant", "alpha"), "*--hil-tenant alpha: a tenant's run goes on a bench*"),
        (("--hil-lab", "LAB", "--hil-epoch", "noon"), "*'noon' is not a time*"),
    ],
)
def test_a_choice_that_is_not_possible_ends_with_2_before_anything_is_written(
    campaign: Campaign, arguments: tuple[str, ...], says: str
) -> None:
    campaign.write(PASSES)
    lab = str(paths.ROOT / "lab" / "virtual.yaml")
    outcome = campaign.refused(*(lab if a == "LAB" else a for a in arguments))
    assert outcome.ret == 2
    assert fnmatch(outcome.stdout.str() + outcome.stderr.str(), says)
    assert campaign.nothing_was_written()


def test_the_next_run_is_compared_with_this_one(campaign: Campaign) -> None:
    boots_in = campaign.pytester.path / "boots_in_s"  # the device; the tests stay the same
    campaign.write(PASSES.replace("0.4", f"float(open({str(boots_in)!r}).read())"))
    for run_id, seconds in (("r1", "0.4"), ("r2", "2.4")):
        boots_in.write_text(seconds)
        campaign.run("--hil-run-id", run_id)
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
