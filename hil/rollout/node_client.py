"""The harness's client of a board's node service, over the flight or the management network."""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

from hil.boards.protocol import Via
from hil.errors import BenchError, DeviceError
from hil.onboard.node.answers import ArtefactStatus, ContractError, Health, must_be_signed, read
from hil.onboard.node.client import Peer
from hil.onboard.node.errors import ApiError
from hil.onboard.node.flight import HANDSHAKE_S
from hil.rollout.fleet import Fleet

_log = logging.getLogger(__name__)

CONNECT_S = 0.5
RENUMBERED = 4
"""So often an order gets a new number because others were followed before it."""

T = TypeVar("T")


class NodeRefused(DeviceError):
    """The node answered, with an error, or with what does not fit the contract (status 502).

    ``facts`` are the other fields of its answer.
    """

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
        self._operator = fleet.operator
        self._handshake_s = min(max(connect_s, timeout_s / 2), HANDSHAKE_S / 2)
        address = f"{self.ip}:{fleet.port}"
        self._peer = Peer(address, timeout_s=timeout_s, whole_s=timeout_s, connector=lambda *_: self.dial())

    def __enter__(self) -> NodeClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._peer.close()

    def dial(self) -> socket.socket:
        """Return a fresh connection to the node, TLS where it has flight security. NodeSilent without one."""
        try:
            sock = self._dial()
            return sock if self._operator is None else self._operator.secure(sock, self.board, self._handshake_s)
        except OSError as exc:
            raise NodeSilent(f"{self.board}: no connection to its node service at {self.ip}: {exc}") from exc

    def raw(self, method: str, path: str, body: bytes = b"", *, timeout_s: float | None = None) -> tuple[int, bytes]:
        """Return status and body of one exchange, which ends within ``timeout_s``.

        NodeSilent when there is no answer or no end of it, NodeRefused when it is too long.
        """
        with self.talking(method, path):
            headers = self._headers(method, path)(body)
            status, content = self._peer.request(method, path, body, timeout_s=timeout_s, headers=headers)
            _log.debug("board %s: %s %s: HTTP %d, %d bytes", self.board, method, path, status, len(content))
            return status, content

    def call(self, method: str, path: str, document: Any = None, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Return a JSON exchange. NodeRefused carries the node's own sentence; NodeSilent as in :meth:`raw`."""
        with self.talking(method, path):
            return self._json(method, path, document, timeout_s)

    def ask(self, kind: type[T], method: str, path: str, document: Any = None, *, timeout_s: float | None = None) -> T:
        """Return the answer as the dataclass ``kind``.  NodeRefused, with its words, when it does not fit."""
        with self.talking(method, path):
            return read(kind, self._json(method, path, document, timeout_s), "the answer")

    def _headers(self, method: str, path: str) -> Callable[[bytes], dict[str, str]]:
        """Return what signs a request's body, where the board wants an order."""
        operator = self._operator
        if operator is None or not must_be_signed(method, path):
            return lambda body: {}
        return lambda body: operator.sign(self.board, method, path, body)

    def _json(self, method: str, path: str, document: Any, timeout_s: float | None) -> dict[str, Any]:
        """Return a JSON exchange; an order that another one has overtaken gets a new number."""
        for _ in range(RENUMBERED):
            try:
                return self._peer.json(method, path, document, timeout_s=timeout_s, headers=self._headers(method, path))
            except ApiError as exc:
                if exc.status != 409 or self._operator is None or not self._operator.above(exc.facts):
                    raise
        return self._peer.json(method, path, document, timeout_s=timeout_s, headers=self._headers(method, path))

    @contextmanager
    def talking(self, method: str, path: str) -> Iterator[None]:
        """Turn what went wrong in an exchange into NodeSilent or NodeRefused."""
        try:
            yield
        except ContractError as exc:
            raise NodeRefused(self.board, 502, f"{method} {path}: {exc}", {}) from exc
        except ApiError as exc:
            raise NodeRefused(self.board, exc.status, exc.message, exc.facts) from exc
        except OSError as exc:
            _log.debug("board %s: %s %s: %r", self.board, method, path, exc)
            raise NodeSilent(f"{self.board}: {method} {path}: no answer: {exc!r}") from exc

    def health(self, *, timeout_s: float | None = None) -> Health:
        """Ask ``GET /health``.  NodeRefused also when the answer is another board's."""
        health = self.ask(Health, "GET", "/health", timeout_s=timeout_s)
        if health.board != self.board:
            raise NodeRefused(self.board, 502, f"GET /health: it answers as board {health.board!r}", {})
        return health

    def artefact(self, artefact_id: str) -> ArtefactStatus | None:
        """``GET /artefacts/<id>``; None when the board has never heard of it."""
        try:
            return self.ask(ArtefactStatus, "GET", f"/artefacts/{artefact_id}")
        except NodeRefused as exc:
            if exc.status == 404:
                return None
            raise
