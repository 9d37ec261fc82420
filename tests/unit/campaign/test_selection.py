"""A part of a campaign: what was chosen, and the steps that it needs."""

from __future__ import annotations

import json

import pytest

from tests.kits.campaign_folder import HEAD, PASSES, PLAIN, Campaign, without_record

pytest_plugins = ["pytester"]

CHAIN = (
    HEAD
    + """
def test_boards(): pass
@pytest.mark.needs("boards")
@pytest.mark.parametrize("link", ["a", "b"])
def test_links(link): pass
def test_stranger(): pass
@pytest.mark.needs("links")
def test_upload(): pass
@pytest.mark.needs("upload")
def test_install(): pass
"""
)


def meta(campaign: Campaign) -> dict[str, object]:
    found: dict[str, object] = json.loads((campaign.directory() / "run.json").read_text("utf-8"))
    return found


def test_steps_that_a_chosen_step_needs_are_run_with_it_and_the_terminal_says_so(campaign: Campaign) -> None:
    campaign.write(CHAIN)
    outcome = campaign.run("-k", "upload")
    ran = {title for title, verdict in campaign.verdicts.items() if verdict == "PASS"}
    assert ran == {"Boards", "Links [a]", "Links [b]", "Upload"}
    outcome.stdout.fnmatch_lines(["collected 6 items / 2 deselected / 4 selected", "*run with it: boards, links"])
    assert meta(campaign)["partial"] == "4 of 6 tests were chosen"


@pytest.mark.parametrize("words", ["power_cut", "power and cut"])
def test_tests_are_chosen_by_the_names_of_their_steps(campaign: Campaign, words: str) -> None:
    campaign.write(HEAD + '@pytest.mark.step("power cut")\ndef test_a(): pass\ndef test_b(): pass\n')
    campaign.run("-k", words)
    assert {title for title, verdict in campaign.verdicts.items() if verdict == "PASS"} == {"A"}


def test_a_campaign_begins_with_a_step(campaign: Campaign) -> None:
    campaign.write(CHAIN)
    outcome = campaign.run("--hil-from", "install")
    ran = {title for title, verdict in campaign.verdicts.items() if verdict == "PASS"}
    assert ran == {"Boards", "Links [a]", "Links [b]", "Upload", "Install"}
    outcome.stdout.fnmatch_lines(["*run with it: boards, links, upload"])


def test_a_step_that_is_not_there_is_an_error_before_anything_is_written(campaign: Campaign) -> None:
    campaign.write(CHAIN)
    outcome = campaign.refused("--hil-from", "instal")
    assert outcome.ret == 2
    assert "did you mean install?" in outcome.stdout.str() + outcome.stderr.str()
    assert campaign.nothing_was_written()


def test_a_named_part_without_what_it_needs_is_an_error_that_says_how_to_choose(campaign: Campaign) -> None:
    campaign.write(CHAIN)
    outcome = without_record(campaign.pytester, "demo/test_1.py::test_upload")
    assert outcome.ret == 2
    assert "choose tests with -k" in outcome.stdout.str() + outcome.stderr.str()


@pytest.mark.parametrize(
    ("arguments", "partial"), [(("demo",), ""), (("demo/test_1.py",), "only test_1.py was asked for")]
)
def test_a_run_says_whether_it_is_the_whole_campaign(
    campaign: Campaign, arguments: tuple[str, ...], partial: str
) -> None:
    campaign.write(PASSES)
    campaign.pytester.runpytest_inprocess(*PLAIN, *arguments)
    assert meta(campaign)["partial"] == partial


def test_tests_that_need_a_bench_are_refused_without_one_before_anything_is_written(campaign: Campaign) -> None:
    campaign.write(HEAD + "def test_a(): pass\ndef test_b(crosslink): pass\n")
    outcome = campaign.refused()
    assert outcome.ret == 2
    assert "1 of 2 tests need a bench, test_b first" in outcome.stdout.str() + outcome.stderr.str()
    assert campaign.nothing_was_written()
    assert campaign.run("-k", "test_a", "--collect-only").ret == 0


def test_a_run_with_another_parameter_than_the_plans_is_no_run_of_the_whole_plan(campaign: Campaign) -> None:
    plan = campaign.folder / "plan.yaml"
    plan.write_text(plan.read_text() + "parameters:\n  stream_s: {value: 600, unit: s, text: how long, least: 10}\n")
    campaign.write(HEAD + "def test_stream(parameters, measure): measure('stream', parameters['stream_s'], 's')\n")
    campaign.run("--hil-set", "stream_s=30")
    assert meta(campaign)["partial"] == "stream_s was 30 and not 600 s"
    page = (campaign.directory() / "report.html").read_text("utf-8")
    assert "partial run: stream_s was 30 and not 600 s" in page
    assert "stream_s 30.0 s (plan: 600.0)" in page
