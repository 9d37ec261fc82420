"""Tenants on the routers and links of a bench, with real sockets: who reaches whom."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import pytest

from hil.core import paths
from hil.lab.model import load_lab
from tests.kits.bare_boards import BareBoards

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


def test_no_board_reaches_forges_or_floods_one_of_another_tenant(tmp_path: Path) -> None:
    lab = load_lab(paths.ROOT / "lab/two-tenants.yaml")
    with BareBoards("hiltapart", lab, tmp_path) as boards:
        succeeded = boards.attempts()
    owner = {board: tenant.name for tenant in lab.tenants for board in tenant.boards}
    for here, there in permutations(owner, 2):
        found = succeeded.get((here, there), frozenset())
        if owner[here] == owner[there]:
            assert {"reach", "starve"} <= found, (here, there)
        else:
            assert not found, (here, there)
    assert all("reach" in succeeded[("ground", board)] for board in owner)
