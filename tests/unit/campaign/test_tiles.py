"""Which raw outputs a stream of tiles asks for."""

from __future__ import annotations

from typing import Any, cast

import pytest

from hil.campaign.tiles import _known
from hil.errors import ConfigurationError
from hil.workload.tile import Tile, TileResult

OF_CPU = {0: "cpu 0", 1: "cpu 1"}
PICTURES = [b"0", b"1"]


class Server:
    spacecraft = "sc-a"

    def compute(self, tile: Tile) -> TileResult:
        return TileResult(b"", f"gpu {tile.key} {tile.content!r}", 0.1)


def known(**providers: str) -> dict[int, str]:
    return _known(OF_CPU, providers, cast(Any, Server()), PICTURES)


def test_boards_on_the_cpu_give_the_reference_and_boards_on_a_gpu_what_one_of_them_gave() -> None:
    assert known(a1="CPU", b1="CPU") == OF_CPU
    assert known(a1="CUDA", b1="CUDA") == {0: "gpu 0 b'0'", 1: "gpu 1 b'1'"}


def test_boards_on_different_providers_cannot_be_compared() -> None:
    with pytest.raises(ConfigurationError, match="a1 CPU, b1 CUDA"):
        known(a1="CPU", b1="CUDA")
