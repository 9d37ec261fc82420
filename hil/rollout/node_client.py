"""The harness's client of a board's node service, over the flight or the management network."""

from __future__ import annotations

import json
import logging
import socket
from functools import partial
from typing import Any

from hil.boards.protocol import Via
from hil.errors import BenchError, DeviceError
from hil.onboard.node.client import Peer
from hil.onboard.node.contract import ContractError, Health
from hil.rollout.fleet import Fleet

_log = logging.getLogger(__name__)

CONNECT_S = 0.5


class NodeRefused(DeviceError):
    """The node answered, with an error. ``facts`` are the other fields of its answer."""

    def __init__(self, board: str, status: int, reason: str, facts: dict[str, Any]) -> None:
        super().__init__(f"{board}: {reason} (HTTP {status})")
        self.status = status
        self.reason = reason
        self.facts = facts


class NodeSilent(BenchError):
    """The node did not answer: it is down, restarting, or there is no path to it."""


class NodeClient:
    """Requests to one board's node service on a kept connection.  Not thread-safe: one per thread."""

    def __init__(
        self, fleet: Fleet, board: str, via: Via, *, timeout_s: float = 3.0, connect_s: float = CONNECT_S
    ) -> None:
        self.board = board
        namespace, self.ip = fleet.member(board).address(via)
        self._dial = partial(fleet.dial, namespace, (self.ip, fleet.port), timeout_s=connect_s)
        self._peer = Peer(f"{self.ip}:{fleet.port}", timeout_s=timeout_s, connector=lambda *_: self.dial())

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._peer.close()

    def dial(self) -> socket.socket:
        """Return a fresh TCP connection to the node. NodeSilent when there is none to be had."""
        try:
            return self._dial()
        except OSError as exc:
            raise NodeSilent(f"{self.board}: no connection to its node service at {self.ip}: {exc}") from exc

    def raw(self, method: str, path: str, body: bytes = b"", *, timeout_s: float | None = None) -> tuple[int, bytes]:
        """Return status and body of one exchange. NodeSilent when there is no answer within ``timeout_s``."""
        try:
            status, content = self._peer.request(method, path, body, timeout_s=timeout_s)
        except OSError as exc:
            _log.debug("board %s: %s %s: %r", self.board, method, path, exc)
            raise NodeSilent(f"{self.board}: {method} {path}: no answer: {exc!r}") from exc
        _log.debug("board %s: %s %s: HTTP %d, %d bytes", self.board, method, path, status, len(content))
        return status, content

    def call(self, method: str, path: str, document: Any = None, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Return a JSON exchange. NodeRefused carries the node's own sentence; NodeSilent as in :meth:`raw`."""
        body = b"" if document is None else json.dumps(document).encode()
        status, content = self.raw(method, path, body, timeout_s=timeout_s)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise NodeRefused(self.board, status, f"{method} {path}: the answer is not a JSON object", {})
        if status // 100 != 2:
            raise NodeRefused(self.board, status, str(answer.pop("error", "refused")), answer)
        return answer

    def health(self, *, timeout_s: float | None = None) -> Health:
        """Ask ``GET /health``. Raises NodeRefused also when the answer does not fit the contract."""
        answer = self.call("GET", "/health", timeout_s=timeout_s)
        try:
            return Health.from_json(answer)
        except ContractError as exc:
            raise NodeRefused(self.board, 200, f"GET /health: {exc}", {}) from exc

    def artefact(self, artefact_id: str) -> dict[str, Any] | None:
        """``GET /artefacts/<id>``; None when the board has never heard of it."""
        try:
            return self.call("GET", f"/artefacts/{artefact_id}")
        except NodeRefused as exc:
            if exc.status == 404:
                return None
            raise
