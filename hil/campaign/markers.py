"""The markers of a campaign's tests, checked before anything starts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from hil.errors import ConfigurationError
from hil.evidence.events import CollectedTest
from hil.evidence.test_plan import Plan

_ACRONYMS = frozenset({"os", "ai", "gpu", "ssh", "tcp", "uefi", "rauc"})


@dataclass(frozen=True)
class CampaignTest:
    """One test of a campaign."""

    test: str
    title: str
    description: str
    step: str
    requirements: tuple[str, ...]
    needs: tuple[str, ...]
    retries: int

    @classmethod
    def of(cls, item: pytest.Item) -> CampaignTest:
        """Read the markers; ConfigurationError when one has the wrong arguments."""
        function = getattr(item, "function", None)
        name = getattr(item, "originalname", None) or item.name
        document = ((function.__doc__ if function else "") or "").strip().splitlines()
        steps = [str(m.args[0]) for m in item.iter_markers("step") if m.args]
        retries = [m.args[0] if m.args else 1 for m in item.iter_markers("retry_bench")]
        if any(not isinstance(n, int) or n < 0 for n in retries):
            raise ConfigurationError(f"{item.nodeid}: retry_bench takes a number of retries, e.g. retry_bench(1)")
        parameters = item.name.removeprefix(name)
        return cls(
            test=item.nodeid,
            title=title_of(name) + (f" {parameters}" if parameters else ""),
            description=document[0].strip() if document else "",
            step=steps[0] if steps else name.removeprefix("test_"),
            requirements=_arguments(item, "requirement"),
            needs=_arguments(item, "needs"),
            retries=max(retries, default=0),
        )

    def collected(self, *, selected: bool, absent: str = "") -> CollectedTest:
        """Return the test as evidence has it; ``absent`` says why this lab cannot show it."""
        facts = asdict(self)
        del facts["retries"]
        return CollectedTest(**facts, selected=selected, absent=absent)


def check_markers(
    tests: Mapping[str, CampaignTest],
    deselected: Mapping[str, CampaignTest],
    plan: Plan,
    plan_path: Path,
    *,
    whole: bool = True,
) -> None:
    """Raise ConfigurationError that lists every unknown requirement, unknown step and step needed before it comes.

    ``whole``: all files of the campaign were collected.
    """
    requirements = {r.id for r in plan.requirements}
    selected_steps = {t.step for t in tests.values()}
    every_step = selected_steps | {t.step for t in deselected.values()}
    faults: list[str] = []
    seen: set[str] = set()
    for test in tests.values():
        if unknown := [r for r in test.requirements if r not in requirements]:
            faults.append(f"{test.test}: no requirement {', '.join(unknown)} in {plan_path}")
        for need in test.needs:
            if need not in every_step:
                steps = ", ".join(sorted(every_step))
                which = "which no test is" if whole else "which is not in what was named"
                faults.append(f"{test.test}: needs step {need}, {which}; steps: {steps}")
            elif need in selected_steps and need not in seen:
                faults.append(f"{test.test}: needs step {need}, which does not come before it in the file order")
        seen.add(test.step)
    if faults:
        remedy = "correct the markers or the plan" if whole else "give the campaign's folder, and choose tests with -k"
        raise ConfigurationError("\n".join(faults), remedy=remedy)


def absent_reason(plan: Plan, requirements: Iterable[str], reasons: Mapping[str, str]) -> str:
    """Return why a test that names these requirements cannot be run in this lab; empty when it can.

    It can when it names no requirement, or one whose condition holds.
    """
    named = [plan.requirement(identifier).when for identifier in requirements]
    if not named or any(when not in reasons for when in named):
        return ""
    return reasons[named[0]]


def title_of(function_name: str) -> str:
    """Return the sentence that a test's name is: ``test_the_os_boots`` is "The OS boots"."""
    words = function_name.removeprefix("test_").split("_")
    sentence = " ".join(w.upper() if w in _ACRONYMS else w for w in words)
    return sentence[:1].upper() + sentence[1:]


def in_file_order(items: Sequence[pytest.Item], collected: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Sort tests by file name, then by line, then as they were collected (parameters keep their order)."""
    position = {item: number for number, item in enumerate(collected)}
    return sorted(items, key=lambda item: (str(item.path), item.location[1] or 0, position.get(item, len(position))))


def _arguments(item: pytest.Item, marker: str) -> tuple[str, ...]:
    marks = reversed(list(item.iter_markers(marker)))
    return tuple(dict.fromkeys(str(a) for m in marks for a in m.args))
