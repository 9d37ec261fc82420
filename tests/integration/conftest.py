"""Integration tests look at what is left on the whole host, so no bench of anybody may be up meanwhile."""

from __future__ import annotations

import pytest

from hil.bench.state import is_live, known_benches


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
    """Put the longest module first, so that side by side it is not the one for which all the others wait."""
    items.sort(key=lambda item: item.path.name != "test_rollout_restart.py")
