"""Conditions that a requirement may have (``when:``), held against a lab and its participants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hil.evidence.test_plan import Plan
    from hil.lab.model import Lab
    from hil.rollout.participants import Participants


def unmet(lab: Lab, participants: Participants) -> dict[str, str]:
    """Return the conditions of ``Requirement.when`` that do not hold, each with the reason."""
    from hil.rollout.participants import second_way

    reasons: dict[str, str] = {}
    if second_way(lab, participants) is None:
        between = " and ".join(participants.spacecraft)
        reasons["detour"] = f"lab {lab.name} has no second way between {between}"
    if not participants.others:
        reasons["uninvolved_boards"] = f"every board of lab {lab.name} takes part"
    if lab.orbit is None:
        reasons["orbit"] = f"the links of lab {lab.name} are fixed; they follow no orbit"
    return reasons


def absent_reason(plan: Plan, requirements: Iterable[str], reasons: Mapping[str, str]) -> str:
    """Return why a test that names these requirements cannot be run in this lab; empty when it can.

    It can when it names no requirement, or one whose condition holds.
    """
    named = [plan.requirement(identifier).when for identifier in requirements]
    if not named or any(when not in reasons for when in named):
        return ""
    return reasons[named[0]]
