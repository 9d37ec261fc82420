"""A board as a server of tiles: whatever it answers is a result or a refusal, and nothing else."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any, cast

import pytest

from hil.rollout.node_client import NodeRefused
from hil.rollout.tile_servers import NodeTileServer
from hil.workload.tile import Tile


def server(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> NodeTileServer:
    monkeypatch.setattr(NodeTileServer, "_ask", lambda *_: (200, answer))
    member = SimpleNamespace(spacecraft="sc-1", address=lambda via: ("", "127.0.0.1"))
    fleet = SimpleNamespace(member=lambda name: member, port=1)
    return NodeTileServer(cast(Any, fleet), "a", 1, str)


def test_a_tile_has_its_mask_and_what_it_took(monkeypatch: pytest.MonkeyPatch) -> None:
    head = json.dumps({"output_sha256": "f" * 64, "seconds": 0.25}).encode()
    result = server(monkeypatch, head + b"\nmask\n").compute(Tile("sc-1", 0, 0, b""))
    assert (result.mask, result.output_sha256, result.seconds) == (b"mask\n", "f" * 64, 0.25)


@pytest.mark.parametrize(
    "head",
    [
        b"[" * 100_000,
        b'{"output_sha256": "f", "seconds": 1%s}' % (b"0" * 400),
        b'{"output_sha256": "f", "seconds": -1}',
        b'{"output_sha256": "f", "seconds": NaN}',
        b'{"output_sha256": "f", "seconds": "inf"}',
        b'{"output_sha256": "f", "seconds": "%s"}' % (b"x" * 100_000),
        b'{"output_sha256": "f"}',
        b"[]",
    ],
)
def test_another_answer_is_refused_and_quoted_short(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    asked = server(monkeypatch, head + b"\nmask")
    with pytest.raises(NodeRefused) as caught:
        asked.compute(Tile("sc-1", 0, 0, b""))
    assert len(str(caught.value)) < 1000
    with pytest.raises(NodeRefused):
        asked.stored_weights()
