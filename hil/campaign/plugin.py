"""The pytest plugin: options, markers, fixtures, and nothing else until a campaign is being run.

A campaign is a folder with a ``plan.yaml``; :mod:`hil.campaign` then records evidence and turns outcomes into
verdicts.  This module is imported by every pytest run of the environment, so it imports nothing that costs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hil.campaign.options import CAMPAIGN, add_options, no_xdist, shares_out
from hil.campaign.short_errors import ShortErrors

if TYPE_CHECKING:
    from hil.campaign.hooks import Campaign
    from hil.evidence.events import Measurement
    from hil.evidence.record import Recorder
    from hil.evidence.test_plan import Plan

MARKERS = (
    "requirement(*ids): requirements of the plan that this test demonstrates; all must exist in plan.yaml",
    "step(name): name under which other tests can need this one (default: the test's name without test_)",
    "needs(*steps): NOT RUN unless all these steps passed before",
    "keeps_changes: what this test changes of links and power stays; else it is undone at the test's end",
    "retry_bench(n): repeat up to n times when the bench was at fault; every retry is recorded and shown",
)


pytest_plugins = ("hil.campaign.fixtures.bench", "hil.campaign.fixtures.rollout")


def pytest_addoption(parser: pytest.Parser) -> None:
    add_options(parser, prefix="--hil-")
    parser.getgroup("hil").addoption(
        "--hil-out", metavar="DIR", help="where runs and reports go (default: reports/out)"
    )


def pytest_load_initial_conftests(early_config: pytest.Config, args: list[str]) -> None:
    """Refuse -n for a campaign also where pytest-xdist is not installed, and pytest would not know the option."""
    if early_config.pluginmanager.has_plugin("xdist") or not shares_out(args):
        return
    here, words = early_config.invocation_params.dir, early_config.known_args_namespace.file_or_dir
    paths = [(here / word.split("::")[0]).resolve() for word in words]
    if any((folder / "plan.yaml").is_file() for path in paths for folder in (path, *path.parents)):
        sys.stderr.write(f"hil: error (configuration): {no_xdist()}\n")
        raise SystemExit(2)


def pytest_configure(config: pytest.Config) -> None:
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    if config.getoption("help", False) or config.getoption("version", 0):
        return
    config.pluginmanager.register(ShortErrors(), "hil-short-errors")
    plan_dirs = campaign_folders(config)
    if not plan_dirs:
        return
    from hil.campaign.hooks import Campaign
    from hil.core.closed_pipe import go_on_unread

    go_on_unread()  # before pytest's terminal reporter takes sys.stdout
    config.pluginmanager.register(Campaign.start(config, plan_dirs), CAMPAIGN)


def campaign_folders(config: pytest.Config) -> list[Path]:
    """Return the folders with a ``plan.yaml`` at or above the paths on the command line, not above the root folder.

    With a lab or a bench also the folders just below them, so that ``pytest testplans --hil-lab ...`` works.
    """
    below = bool(config.getoption("hil_lab") or config.getoption("hil_bench"))
    found: dict[Path, None] = {}
    for argument in config.args:
        path = (config.invocation_params.dir / argument.split("::")[0]).resolve()
        for folder in (path, *path.parents):
            if (folder / "plan.yaml").is_file():
                found[folder] = None
                break
            if folder == config.rootpath or folder.parent == folder:
                if below and path.is_dir():
                    found.update(dict.fromkeys(plan.parent for plan in sorted(path.glob("*/plan.yaml"))))
                break
    return list(found)


def _campaign(config: pytest.Config) -> Campaign | None:
    campaign: Campaign | None = config.pluginmanager.get_plugin(CAMPAIGN)
    return campaign


@pytest.fixture(scope="session")
def recorder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    """The run's recorder (``hil.evidence.record.Recorder``); outside of a campaign in pytest's temporary folder."""
    campaign = _campaign(request.config)
    if campaign is not None:
        yield campaign.recorder
        return
    from hil.evidence.record import Recorder

    with Recorder.create(tmp_path_factory.mktemp("evidence") / "run", {}) as recorder:
        yield recorder


@pytest.fixture(scope="session")
def plan(request: pytest.FixtureRequest) -> Plan:
    """The campaign's plan (``hil.evidence.test_plan.Plan``)."""
    campaign = _campaign(request.config)
    if campaign is None:
        pytest.fail("the fixture `plan` is only there in a campaign: a folder with a plan.yaml")
    return campaign.plan


@pytest.fixture(scope="session")
def parameters(request: pytest.FixtureRequest, plan: Plan) -> Mapping[str, float]:
    """The plan's parameters by name, as this run has them (``--hil-set NAME=VALUE``)."""
    campaign = _campaign(request.config)
    return campaign.run.parameters if campaign is not None else {}


@pytest.fixture(scope="session")
def measure(recorder: Recorder) -> Callable[..., Measurement]:
    """``measure(name, value, unit, limit=at_most(0.5), board=name)``: record a value.

    ``board``, ``link``, ``direction`` and ``slot`` say what it was measured of; they do not go into the name.
    The test goes on when the limit is violated, and fails at its end.  ``blame=Blame.BENCH`` makes a violation
    the bench's fault (INCONCLUSIVE).  Limits are made by the functions in :mod:`hil.evidence.model`.
    """
    return recorder.measure


@pytest.fixture(scope="session")
def verify(recorder: Recorder) -> Callable[..., Measurement]:
    """As ``measure``, but a violated limit ends the test at once, with the limit printed."""

    def verify_now(name: str, value: Any, unit: str = "", **options: Any) -> Measurement:
        __tracebackhide__ = True
        from hil.evidence.blame import raise_if_violated

        taken = recorder.measure(name, value, unit, **options)
        raise_if_violated([taken])
        return taken

    return verify_now
