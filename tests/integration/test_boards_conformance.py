"""Both drivers pass the suite that every board driver must pass."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hil.boards.conformance import BoardConformance
from hil.boards.container.board import ContainerBoard
from hil.boards.protocol import Board
from tests.kits.container_boards import boards, engine_client
from tests.kits.jetson_stand_ins import StandIn, stand_ins

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


@pytest.fixture(scope="module")
def container() -> Iterator[ContainerBoard]:
    with engine_client() as client, boards(client, 1) as (made, _):
        yield made[0]


@pytest.fixture(scope="module")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandIn]:
    with engine_client() as client, stand_ins(client, 1, tmp_path_factory.mktemp("consoles")) as (made,):
        yield made


class TestContainerBoard(BoardConformance):
    boot_deadline_s = 30.0

    @pytest.fixture
    def board(self, container: ContainerBoard) -> Board:
        return container


class TestJetsonBoard(BoardConformance):
    """Over SSH, a serial line and an HTTP power strip, and nothing else."""

    boot_deadline_s = 30.0

    @pytest.fixture
    def board(self, stand_in: StandIn) -> Board:
        return stand_in.driver()


class TestJetsonBoardFromAnotherProcess(BoardConformance):
    """As a campaign has it: the serial port is the keeper's, this driver only follows its log."""

    boot_deadline_s = 30.0

    @pytest.fixture
    def board(self, stand_in: StandIn) -> Board:
        return stand_in.elsewhere()
