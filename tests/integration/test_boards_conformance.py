"""The container driver passes the suite that every board driver must pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hil.boards.conformance import BoardConformance
from hil.boards.container import ContainerBoard
from tests.integration.board_kit import boards, engine_client

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def board() -> Iterator[ContainerBoard]:
    with engine_client() as client, boards(client, 1) as (made, _):
        yield made[0]


class TestContainerBoard(BoardConformance):
    boot_deadline_s = 30.0
