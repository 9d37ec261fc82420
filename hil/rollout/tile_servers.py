"""The boards of a cluster as servers of a stream of tiles, asked from the spacecraft that saw them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress

from hil.boards.protocol import Via
from hil.core import netns
from hil.onboard.node.client import Peer
from hil.onboard.node.errors import ApiError
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeRefused, NodeSilent
from hil.workload.stream import Tile, TileResult

TILE_S = 20.0
CONNECT_S = 1.0
ASK_AGAIN_S = 0.5


class NodeTileServer:
    """One board. A tile travels from its spacecraft's own network: over the crosslink to boards of another one."""

    def __init__(self, fleet: Fleet, board: str, epoch: int, namespace: Callable[[str], str]) -> None:
        """``namespace``: of a spacecraft, on this bench; there its camera is."""
        member = fleet.member(board)
        self.board, self.spacecraft = board, member.spacecraft
        self.epoch, self._namespace = epoch, namespace
        self._address = (member.address(Via.FLIGHT)[1], fleet.port)
        self._peers: dict[str, Peer] = {}

    def compute(self, tile: Tile) -> TileResult:
        """Send a tile and return its result. NodeSilent without an answer, NodeRefused with another one."""
        status, content = self._ask(tile.spacecraft, "POST", f"/tile?epoch={self.epoch}", tile.content)
        if status != 200:
            raise NodeRefused(self.board, status, content[:200].decode(errors="replace"), {})
        head, _, mask = content.partition(b"\n")
        try:
            facts = json.loads(head)
            return TileResult(mask, str(facts["output_sha256"])[:64], float(facts["seconds"]))
        except (ValueError, KeyError, TypeError) as exc:
            raise NodeRefused(self.board, 502, f"the answer to a tile does not fit: {exc!r}", {}) from exc

    def stored_weights(self) -> tuple[str, str]:
        """Return (what the model's file has to be, what it is), as digests. Errors as of :meth:`compute`."""
        status, content = self._ask(self.spacecraft, "GET", f"/weights?epoch={self.epoch}", b"")
        if status != 200:
            raise NodeRefused(self.board, status, content[:200].decode(errors="replace"), {})
        try:
            facts = json.loads(content)
            return str(facts["artefact"])[:64], str(facts["sha256"])[:64]
        except (ValueError, KeyError, TypeError) as exc:
            raise NodeRefused(self.board, 502, f"the answer about its weights does not fit: {exc!r}", {}) from exc

    def _ask(self, craft: str, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        peer = self._peers.get(craft)
        if peer is None:
            host, port = self._address
            space = self._namespace(craft)
            peer = self._peers[craft] = Peer(
                f"{host}:{port}",
                timeout_s=TILE_S,
                connector=lambda *_: netns.connect(space, self._address, timeout_s=CONNECT_S),
            )
        try:
            return peer.request(method, path, body)
        except ApiError as exc:
            raise NodeRefused(self.board, exc.status, exc.message, exc.facts) from exc
        except OSError as exc:
            with suppress(OSError):
                peer.close()
            raise NodeSilent(f"{self.board}: no answer to a tile from {craft}: {exc!r}") from exc

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()


def flipped_weights(servers: list[NodeTileServer], *, deadline_s: float = 30.0) -> dict[str, str]:
    """Return the boards whose model's file is not what it has to be, with its digest now; one check of all boards.

    A board that does not serve at the moment is asked again; its own error after ``deadline_s``.
    """
    found = {}
    end_s = time.monotonic() + deadline_s
    for server in servers:
        while True:
            try:
                wanted, now = server.stored_weights()
                break
            except (NodeRefused, NodeSilent):
                if time.monotonic() > end_s:
                    raise
                time.sleep(ASK_AGAIN_S)
        if wanted != now:
            found[server.board] = now
    return found
