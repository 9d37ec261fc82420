"""Which tests of a campaign run: those that were chosen, and the steps that they need."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from hil.campaign.attempt import fixture_module
from hil.campaign.markers import CampaignTest, in_file_order
from hil.errors import ConfigurationError

if TYPE_CHECKING:
    from hil.campaign.resume import Earlier

PARTIAL = {
    "maxfail": "-x or --maxfail",
    "stepwise": "--stepwise",
    "lf": "--last-failed",
    "ignore": "--ignore",
    "ignore_glob": "--ignore-glob",
}
"""Options of pytest that end a run at a failure, or leave out tests without saying which."""


class Selection:
    """What was chosen with -k, --lf or ``--hil-from``, completed."""

    def __init__(self, earlier: Earlier | None = None) -> None:
        """``earlier``: the run that is resumed."""
        self.earlier = earlier
        self.taken: dict[str, str] = {}
        """Tests that are taken over, each with the run that it is from."""
        self.remarks: list[str] = []
        """Lines for the terminal."""

    def complete(
        self, chosen: Sequence[pytest.Item], collected: Sequence[pytest.Item], config: pytest.Config
    ) -> list[pytest.Item]:
        """Return the items to run. ConfigurationError when ``--hil-from`` names no step, or a marker is wrong."""
        tests = {item: CampaignTest.of(item) for item in collected}
        items = [item for item in chosen if item in tests]
        if first := config.getoption("hil_from"):
            items = self._from(first, items, tests, config)
        if items and len(items) < len(tests):
            items += self._needed(items, tests, config)
        return self._left_to_run(items, tests, config) if self.earlier else items

    def _needed(
        self, items: list[pytest.Item], tests: Mapping[pytest.Item, CampaignTest], config: pytest.Config
    ) -> list[pytest.Item]:
        """Return the items that those chosen need and that were not chosen, and say so."""
        wanted = needed_steps((tests[item] for item in items), tests.values())
        brought = [item for item, test in tests.items() if test.step in wanted and item not in items]
        if brought:
            steps = dict.fromkeys(tests[item].step for item in brought)
            self.remarks.append("hil: needed by what was chosen, and run with it: " + ", ".join(steps))
            _no_longer_deselected(brought, config)
        return brought

    def _left_to_run(
        self, items: list[pytest.Item], tests: Mapping[pytest.Item, CampaignTest], config: pytest.Config
    ) -> list[pytest.Item]:
        """Return the items that are not taken over from the earlier run. ConfigurationError when none is left."""
        assert self.earlier is not None
        order = [(item.nodeid, tests[item].step, tests[item].needs) for item in in_file_order(list(tests), list(tests))]
        passed = self.earlier.taken_over(order)
        taken = [item for item in items if item.nodeid in passed]
        if len(taken) == len(items):
            raise ConfigurationError(
                f"nothing is left to run: all that was chosen passed in run {self.earlier.run_id}",
                remedy="run it without --resume",
            )
        self.taken = {item.nodeid: passed[item.nodeid] for item in taken}
        for run_id in dict.fromkeys(self.taken.values()):
            steps = dict.fromkeys(tests[item].step for item in taken if self.taken[item.nodeid] == run_id)
            self.remarks.append(f"hil: taken over from run {run_id}: {', '.join(steps)}")
        if taken:
            config.hook.pytest_deselected(items=taken)
        return [item for item in items if item.nodeid not in self.taken]

    def _from(
        self, step: str, items: list[pytest.Item], tests: Mapping[pytest.Item, CampaignTest], config: pytest.Config
    ) -> list[pytest.Item]:
        """Return the items of ``items`` that do not come before a step, and report the others as deselected."""
        order = in_file_order(list(tests), list(tests))
        steps = [tests[item].step for item in order]
        if step not in steps:
            close = get_close_matches(step, steps, n=1)
            meant = f"; did you mean {close[0]}?" if close else ""
            raise ConfigurationError(
                f"--hil-from {step}: no test is that step{meant}", remedy=f"steps: {', '.join(dict.fromkeys(steps))}"
            )
        before = set(order[: steps.index(step)])
        dropped = [item for item in items if item in before]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
        return [item for item in items if item not in before]


def needed_steps(chosen: Iterable[CampaignTest], every: Iterable[CampaignTest]) -> set[str]:
    """Return the steps that the chosen tests need, and those that these need in turn."""
    needs: dict[str, set[str]] = {}
    for test in every:
        needs.setdefault(test.step, set()).update(test.needs)
    found: set[str] = set()
    open_steps = [need for test in chosen for need in test.needs]
    while open_steps:
        step = open_steps.pop()
        if step not in found:
            found.add(step)
            open_steps += needs.get(step, ())
    return found


def refuse_without_bench(items: Sequence[pytest.Item]) -> None:
    """Raise ConfigurationError when one of the tests needs this package's bench, and no lab and no bench was named."""
    needing = [item.name for item in items if fixture_module(item, "bench") == "hil.campaign.fixtures.bench"]
    if needing:
        raise ConfigurationError(
            f"{len(needing)} of {len(items)} tests need a bench, {needing[0]} first",
            remedy="add --hil-lab FILE (or --hil-lab virtual), or --hil-bench NAME of a bench that is up",
        )


def named_parts(config: pytest.Config, folder: Path) -> list[str]:
    """Return the arguments that name a part of the campaign's folder: a file, a test, a folder below it."""
    here = config.invocation_params.dir
    return [word for word in config.args if "::" in word or folder in (here / word).resolve().parents]


def partial_reason(
    config: pytest.Config,
    folder: Path,
    tests: Mapping[str, CampaignTest],
    deselected: Mapping[str, CampaignTest],
    taken: Mapping[str, str],
) -> str:
    """Return why a run is not the whole campaign, ``taken`` being what is taken over; empty when it is.

    Decided before its first test: of runs that end at the first failure only those that pass would be whole.
    """
    if given := [option for name, option in PARTIAL.items() if config.getoption(name, None)]:
        return f"it was started with {given[0]}"
    if taken:
        return f"{len(taken)} tests are taken over from {', '.join(dict.fromkeys(taken.values()))}"
    if deselected:
        return f"{len(tests)} of {len(tests) + len(deselected)} tests were chosen"
    named = [Path(word).name for word in named_parts(config, folder)]
    return f"only {', '.join(named)} was asked for" if named else ""


def _no_longer_deselected(brought: Sequence[pytest.Item], config: pytest.Config) -> None:
    """Take tests out of the terminal's count of those that were deselected."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is not None and "deselected" in reporter.stats:
        reporter.stats["deselected"] = [item for item in reporter.stats["deselected"] if item not in brought]
