"""The boards of a cluster as servers of a stream of tiles, asked from the spacecraft that saw them."""

from __future__ import annotations

import math
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hil.boards.protocol import Via
from hil.core import netns
from hil.onboard.node.answers import json_object
from hil.onboard.node.client import Peer
from hil.onboard.node.errors import ApiError
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeRefused, NodeSilent
from hil.text import one_line
from hil.workload.tile import Tile, TileResult

TILE_S = 20.0
CONNECT_S = 1.0
ASK_AGAIN_S = 0.5


class NodeTileServer:
    """One board. A tile travels from its spacecraft's own network: over the crosslink to boards of another one."""

    def __init__(self, fleet: Fleet, board: str, epoch: int, namespace: Callable[[str], str]) -> None:
        """``namespace``: of a spacecraft, on this bench; there its camera is."""
        self._made_of = (fleet, board, epoch, namespace)
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
            facts = json_object(head)
            seconds = float(facts["seconds"])
            if not 0 <= seconds < math.inf:
                raise ValueError(f"seconds is {seconds}")
            return TileResult(mask, str(facts["output_sha256"])[:64], seconds)
        except (ValueError, KeyError, TypeError, OverflowError) as exc:
            why = f"the answer to a tile does not fit: {one_line(repr(exc))}"
            raise NodeRefused(self.board, 502, why, {}) from exc

    def again(self) -> NodeTileServer:
        """Return another one of the same board, for another thread."""
        return NodeTileServer(*self._made_of)

    def warm_up(self, content: bytes, *, deadline_s: float = 60.0) -> None:
        """Have it compute one tile, so that its network is loaded; its own error after ``deadline_s``."""
        end_s = time.monotonic() + deadline_s
        while True:
            try:
                self.compute(Tile(self.spacecraft, 0, 0, content))
                return
            except (NodeRefused, NodeSilent):
                if time.monotonic() > end_s:
                    raise
                time.sleep(ASK_AGAIN_S)

    def stored_weights(self) -> tuple[str, str]:
        """Return (what the model's file has to be, what it is), as digests. Errors as of :meth:`compute`."""
        status, content = self._ask(self.spacecraft, "GET", f"/weights?epoch={self.epoch}", b"")
        if status != 200:
            raise NodeRefused(self.board, status, content[:200].decode(errors="replace"), {})
        try:
            facts = json_object(content)
            return str(facts["artefact"])[:64], str(facts["sha256"])[:64]
        except (ValueError, KeyError) as exc:
            why = f"the answer about its weights does not fit: {one_line(repr(exc))}"
            raise NodeRefused(self.board, 502, why, {}) from exc

    def _ask(self, craft: str, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        peer = self._peers.get(craft)
        if peer is None:
            host, port = self._address
            space = self._namespace(craft)
            peer = self._peers[craft] = Peer(f"{host}:{port}", timeout_s=TILE_S, connector=lambda *_: self._dial(space))
        try:
            return peer.request(method, path, body)
        except ApiError as exc:
            raise NodeRefused(self.board, exc.status, exc.message, exc.facts) from exc
        except OSError as exc:
            with suppress(OSError):
                peer.close()
            raise NodeSilent(f"{self.board}: no answer to a tile from {craft}: {exc!r}") from exc

    def _dial(self, space: str) -> socket.socket:
        sock, operator = netns.connect(space, self._address, timeout_s=CONNECT_S), self._made_of[0].operator
        return sock if operator is None else operator.secure(sock, self.board)

    def close(self) -> None:
        for peer in self._peers.values():
            peer.close()


@dataclass(frozen=True)
class Flip:
    """Stored weights that are not what they have to be: whose, and when that was found (CLOCK_MONOTONIC, s)."""

    board: str
    sha256: str
    found_s: float


class WeightWatch:
    """Asks every board again and again what its stored weights are: ``with WeightWatch(servers, 30.0) as watch``.

    A board's weights are read once per ``period_s``; the boards take turns.  The servers are the watch's own, and it
    closes them.
    """

    def __init__(
        self, servers: Sequence[NodeTileServer], period_s: float, on_flip: Callable[[Flip], None] | None = None
    ) -> None:
        self._servers, self._period_s, self._on_flip = list(servers), period_s, on_flip
        self._stop = threading.Event()
        self._found = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="weight-watch", daemon=True)
        self.checks = 0
        self.flips: list[Flip] = []

    def __enter__(self) -> WeightWatch:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        self._thread.join()
        for server in self._servers:
            server.close()

    def wait_for(self, board: str, deadline_s: float) -> bool:
        """Wait until a board's flip is found; return whether it was."""
        with self._found:
            return self._found.wait_for(lambda: any(flip.board == board for flip in self.flips), deadline_s)

    def _run(self) -> None:
        begun_s = time.monotonic()
        turn = 0
        while not self._stop.wait(max(0.0, begun_s + turn * self._period_s / len(self._servers) - time.monotonic())):
            server = self._servers[turn % len(self._servers)]
            turn += 1
            try:
                wanted, now = server.stored_weights()
            except (NodeRefused, NodeSilent):
                continue  # its next turn comes
            self.checks += 1
            if wanted != now:
                with self._found:
                    self.flips.append(Flip(server.board, now, time.monotonic()))
                    self._found.notify_all()
                if self._on_flip is not None:
                    self._on_flip(self.flips[-1])
