"""From outcomes to verdicts: what may count as what."""

from __future__ import annotations

import datetime
from dataclasses import replace
from typing import Any

import pytest

from hil.evidence.campaign_verdict import CampaignVerdict, Finding, judge
from hil.evidence.model import Verdict
from hil.evidence.readback import TestOutcome
from hil.evidence.test_plan import Plan

DAY = datetime.date(2026, 11, 21)


def _plan(**changes: Any) -> Plan:
    def requirement(identifier: str, needs: str = "virtual", method: str = "T") -> dict[str, Any]:
        return {"id": identifier, "text": "It works.", "method": method, "level": "system", "fidelity_needed": needs}

    return Plan.model_validate(
        {
            "schema": 1,
            "id": "demo",
            "title": "A demo",
            "requirements": [
                requirement("DEM-1"),
                requirement("DEM-2", "hardware"),
                requirement("DEM-3", "hardware"),
                requirement("DEM-4", method="A"),
            ],
            **changes,
        }
    )


def _outcome(number: int, verdict: Verdict, *requirements: str, message: str = "") -> TestOutcome:
    return TestOutcome(
        test=f"t::{number}", title=f"Step {number}", verdict=verdict, requirements=requirements, message=message
    )


def _judge(*outcomes: TestOutcome, plan: Plan | None = None, fidelity: str = "virtual", **more: Any) -> CampaignVerdict:
    return judge(plan or _plan(), outcomes, fidelity=fidelity, day=DAY, **more)


def test_a_campaign_whose_tests_pass_is_a_pass() -> None:
    result = _judge(_outcome(1, Verdict.PASS, "DEM-1"), _outcome(2, Verdict.PASS, "DEM-1", "DEM-2"))
    assert result.verdict is Verdict.PASS
    assert result.reason == "2 tests demonstrated 2 requirements on the virtual bench."


def test_a_virtual_pass_never_closes_a_requirement_that_needs_hardware() -> None:
    outcomes = (_outcome(1, Verdict.PASS, "DEM-1", "DEM-2"),)
    first, second, *_ = _judge(*outcomes).requirements
    assert (first.close_out, first.closed) == ("closed", True)
    assert (second.verdict, second.close_out, second.closed) == (Verdict.PASS, "demonstrated (virtual), open", False)
    assert _judge(*outcomes, fidelity="hardware").requirements[1].closed


def test_a_requirement_passes_only_when_all_its_tests_do() -> None:
    for other in (Verdict.FAIL, Verdict.INCONCLUSIVE, Verdict.NOT_RUN):
        result = _judge(_outcome(1, Verdict.PASS, "DEM-1"), _outcome(2, other, "DEM-1", message="because"))
        assert result.requirements[0].verdict is other
        assert result.requirements[0].reason == "because"


def test_inconclusive_is_neither_pass_nor_fail() -> None:
    result = _judge(
        _outcome(1, Verdict.PASS, "DEM-1"), _outcome(2, Verdict.INCONCLUSIVE, "DEM-2", message="cable\nmore")
    )
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.reason == "1 of 2 tests could not be judged. Step 2 (cable)."


def test_a_failure_outweighs_what_could_not_be_judged() -> None:
    result = _judge(_outcome(1, Verdict.INCONCLUSIVE, "DEM-1"), _outcome(2, Verdict.FAIL, "DEM-2", message="dead"))
    assert (result.verdict, result.reason) == (Verdict.FAIL, "1 of 2 tests failed. Step 2 (dead).")


def test_a_failing_test_without_a_requirement_fails_the_campaign_too() -> None:
    assert _judge(_outcome(1, Verdict.PASS, "DEM-1"), _outcome(2, Verdict.FAIL)).verdict is Verdict.FAIL


def test_a_part_of_a_campaign_is_inconclusive() -> None:
    result = _judge(_outcome(1, Verdict.PASS, "DEM-1"), _outcome(2, Verdict.NOT_RUN, "DEM-2"))
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, "1 of 2 tests did not run. Step 2.")
    assert _judge(_outcome(1, Verdict.NOT_RUN, "DEM-1")).verdict is Verdict.NOT_RUN
    assert _judge().verdict is Verdict.NOT_RUN


def test_requirements_without_a_test_are_listed_as_not_covered() -> None:
    result = _judge(_outcome(1, Verdict.PASS, "DEM-1"))
    third, fourth = result.requirements[2:]
    assert (third.verdict, third.covered, third.close_out) == (Verdict.NOT_RUN, False, "not covered, open")
    assert fourth.reason.startswith("to be closed by analysis")
    assert [line.split(":")[0] for line in result.unproven] == ["DEM-2", "DEM-3", "DEM-4"]


def test_a_virtual_requirement_that_no_test_names_keeps_a_campaign_from_passing() -> None:
    result = _judge(_outcome(1, Verdict.PASS, "DEM-2"))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert "DEM-1" in result.reason


def _absent(number: int, *requirements: str) -> TestOutcome:
    why = "this lab has no second way"
    return replace(_outcome(number, Verdict.NOT_RUN, *requirements, message=why), absent=why)


def test_what_this_lab_cannot_show_is_not_run_with_the_reason_and_does_not_count() -> None:
    criteria = [{"id": "C-1", "text": "Enough", "requirements": ["DEM-1", "DEM-2"]}]
    outcomes = (_outcome(1, Verdict.PASS, "DEM-1"), _absent(2, "DEM-2"))
    result = _judge(*outcomes, plan=_plan(criteria=criteria))
    assert (result.verdict, result.reason) == (Verdict.PASS, "1 test demonstrated 1 requirement on the virtual bench.")
    second = result.requirements[1]
    assert (second.verdict, second.closed, second.close_out) == (Verdict.NOT_RUN, False, "not in this lab, open")
    assert second.reason == "this lab has no second way"
    assert any(line.startswith("DEM-2") for line in result.unproven)


def test_a_criterion_of_which_this_lab_can_show_nothing_is_not_met_and_does_not_count() -> None:
    criteria = [
        {"id": "C-1", "text": "Enough", "requirements": ["DEM-1"]},
        {"id": "C-2", "text": "A way round", "requirements": ["DEM-2"]},
    ]
    outcomes = (_outcome(1, Verdict.PASS, "DEM-1"), _absent(2, "DEM-2"))
    result = _judge(*outcomes, plan=_plan(criteria=criteria))
    assert result.verdict is Verdict.PASS
    assert [c.verdict for c in result.criteria] == [Verdict.PASS, Verdict.NOT_RUN]
    assert _judge(_absent(2, "DEM-2"), plan=_plan(criteria=criteria)).verdict is Verdict.NOT_RUN


def test_a_requirement_that_this_lab_cannot_show_is_not_shown_by_a_test_that_ran_for_another() -> None:
    result = _judge(_outcome(1, Verdict.PASS, "DEM-1", "DEM-2"), _absent(2, "DEM-2"))
    assert result.requirements[1].verdict is Verdict.NOT_RUN
    assert result.requirements[1].absent


def test_criteria_of_the_plan_decide_when_there_are_any() -> None:
    plan = _plan(criteria=[{"id": "C-1", "text": "Enough", "requirements": ["DEM-2"]}])
    result = _judge(_outcome(1, Verdict.PASS, "DEM-2"), plan=plan)
    assert result.verdict is Verdict.PASS
    strict = _plan(criteria=[{"id": "C-1", "text": "Enough", "requirements": ["DEM-2", "DEM-3"]}])
    result = _judge(_outcome(1, Verdict.PASS, "DEM-2"), plan=strict)
    assert result.verdict is Verdict.INCONCLUSIVE
    assert result.criteria[0].reason == "DEM-3: no test of this campaign names it"


WAIVER = {
    "id": "NCR-1",
    "requirement": "DEM-1",
    "date": datetime.date(2026, 11, 1),
    "approved_by": "A. Reviewer",
    "reason": "mended in the next version",
}


def test_a_failure_is_waived_only_by_a_record_that_names_it_and_is_in_force() -> None:
    failed = _outcome(1, Verdict.FAIL, "DEM-1", message="too slow")
    result = _judge(failed, plan=_plan(waivers=[WAIVER]))
    waived = result.requirements[0]
    assert (waived.verdict, waived.close_out, waived.closed) == (Verdict.WAIVED, "waived by NCR-1, open", False)
    assert "A. Reviewer" in waived.reason and "too slow" in waived.reason
    assert (result.verdict, result.reason) == (
        Verdict.PASS,
        "1 test demonstrated 0 requirements on the virtual bench; 1 accepted by waiver.",
    )
    for change in ({"date": datetime.date(2026, 12, 1)}, {"expires": DAY - datetime.timedelta(days=1)}):
        assert _judge(failed, plan=_plan(waivers=[{**WAIVER, **change}])).verdict is Verdict.FAIL
    other = {**WAIVER, "requirement": "DEM-2"}
    assert _judge(failed, plan=_plan(waivers=[other])).verdict is Verdict.FAIL


def test_a_waiver_of_one_requirement_does_not_hide_the_failure_of_another() -> None:
    failed = _outcome(1, Verdict.FAIL, "DEM-1", "DEM-2")
    assert _judge(failed, plan=_plan(waivers=[WAIVER])).verdict is Verdict.FAIL


def test_a_waiver_does_not_turn_inconclusive_into_waived() -> None:
    result = _judge(_outcome(1, Verdict.INCONCLUSIVE, "DEM-1"), plan=_plan(waivers=[WAIVER]))
    assert result.requirements[0].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("outcome", [Verdict.PASS, Verdict.FAIL])
def test_on_a_bench_outside_tolerance_nothing_is_known(outcome: Verdict) -> None:
    finding = Finding(Verdict.INCONCLUSIVE, "The bench is outside tolerance.", overrides=True)
    result = _judge(_outcome(1, outcome, "DEM-1"), findings=[finding])
    assert (result.verdict, result.reason) == (Verdict.INCONCLUSIVE, finding.text)


def test_a_violated_invariant_fails_a_run_whose_tests_passed() -> None:
    finding = Finding(Verdict.FAIL, "Two epochs at once.")
    assert _judge(_outcome(1, Verdict.PASS, "DEM-1"), findings=[finding]).verdict is Verdict.FAIL


def test_a_run_that_was_cut_short_after_its_last_test_is_not_a_pass() -> None:
    finding = Finding(Verdict.INCONCLUSIVE, "The run was killed.")
    assert _judge(_outcome(1, Verdict.PASS, "DEM-1"), findings=[finding]).verdict is Verdict.INCONCLUSIVE
