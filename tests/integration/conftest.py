"""Integration tests look at what is left on the whole host: one checkout at a time, while no bench is up."""

from __future__ import annotations

import re
from contextlib import ExitStack
from pathlib import Path

import pytest

from hil.bench.state import is_live, known_benches
from hil.core.locks import is_locked, locked
from tools.run_all_tests import TURN_DEADLINE_S

LONGEST = (
    *("test_rollout_restart", "test_rollout_gap", "test_cli_board", "test_campaign_wheel", "test_boards_conformance"),
    *("test_trials_faults", "test_cli_first_orin", "test_host_cli", "test_boards_update", "test_monitor_export"),
    *("test_onboard_node_network", "test_rollout_updaters"),
)
TURN = Path("/run/lock/orbital-hil-integration-tests")

_ALL_OF_IT = re.compile(r"^pytestmark = [^=]*\bmark\.(side_by_side|quiet)\b", re.MULTILINE)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Import no module of which a stage of `make test` runs nothing: all of them cost some seconds, in each process."""
    if collection_path.suffix != ".py":
        return None
    text, wanted = collection_path.read_text("utf-8"), config.option.markexpr
    if wanted in ("side_by_side", "quiet"):
        return f"mark.{wanted}" not in text or None
    if wanted == "not side_by_side and not quiet":
        return _ALL_OF_IT.search(text) is not None or None
    return None


def pytest_sessionstart(session: pytest.Session) -> None:
    """Wait for our turn: another checkout's tests use the same names of benches, boards and namespaces.

    Workers of pytest-xdist run within the turn of the process that started them.
    """
    if hasattr(session.config, "workerinput") or session.config.option.collectonly:
        return
    if is_locked(TURN):
        print(f"waiting for the integration tests of another checkout to end (up to {TURN_DEADLINE_S / 60:.0f} min)")
    turn = ExitStack()
    session.config.add_cleanup(turn.close)
    turn.enter_context(locked(TURN, deadline_s=TURN_DEADLINE_S, what="the integration tests of another checkout"))


@pytest.fixture(scope="session", autouse=True)
def no_bench_is_up(request: pytest.FixtureRequest) -> None:
    """Stop at once, with the names, when a bench is up; tests that run side by side look only at what is theirs."""
    if all(item.get_closest_marker("side_by_side") for item in request.session.items):
        return
    if up := [name for name in known_benches() if is_live(name)]:
        pytest.exit(
            f"bench {', '.join(up)} is up, and these tests compare what is left on this host: "
            "take it down first (`hil bench down --all`)",
            returncode=3,
        )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first, so that side by side they are not those for which all the others wait."""
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))
