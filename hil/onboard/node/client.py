"""Node to node: one kept HTTP connection with short time-outs."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from typing import Any

from hil.onboard.node.errors import ApiError

TCP_USER_TIMEOUT_MS = 1500
CONNECT_S = 1.0

Connect = Callable[[str, int, float], socket.socket]
"""Opens a TCP connection: host, port, time-out in seconds."""


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """Return a TCP connection that notices a dead path within ``TCP_USER_TIMEOUT_MS``."""
    sock = socket.create_connection((host, port), timeout=timeout_s)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)
    # Without data on the way only keep-alive probes notice that the other board lost its power
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    return sock


def split(address: str) -> tuple[str, int]:
    """``ip:port`` to its parts; ApiError 400 when it is something else."""
    host, _, port = address.rpartition(":")
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ApiError(400, f"{address!r} must be ip:port")
    return host, int(port)


class Peer:
    """Requests to one other node.  Not thread-safe: one per thread."""

    def __init__(self, address: str, *, timeout_s: float, connector: Connect = connect) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self._connector = connector
        self._connection: http.client.HTTPConnection | None = None

    def request(
        self, method: str, path: str, body: bytes = b"", *, timeout_s: float | None = None
    ) -> tuple[int, bytes]:
        """Return status and body.  A kept connection that the peer has closed meanwhile is replaced once.

        OSError when the peer cannot be reached or falls silent for ``timeout_s``.
        """
        while True:
            fresh = self._connection is None
            try:
                return self._exchange(method, path, body, timeout_s or self.timeout_s)
            except (OSError, http.client.HTTPException) as exc:
                self.close()
                if not fresh and not isinstance(exc, TimeoutError):
                    continue
                if isinstance(exc, OSError):
                    raise
                raise ConnectionError(f"{self.address}: {exc!r}") from exc

    def _exchange(self, method: str, path: str, body: bytes, timeout_s: float) -> tuple[int, bytes]:
        connection = self._connection
        if connection is None:
            host, port = split(self.address)
            connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
            connection.sock = self._connector(host, port, min(timeout_s, CONNECT_S))
            self._connection = connection
        connection.sock.settimeout(timeout_s)
        connection.request(method, path, body=body or None)
        response = connection.getresponse()
        content = response.read()
        if response.will_close:
            self.close()
        return response.status, content

    def json(self, method: str, path: str, document: Any = None, *, timeout_s: float | None = None) -> dict[str, Any]:
        """Return a JSON answer; ApiError with the peer's own status and sentence when it is not 2xx."""
        body = b"" if document is None else json.dumps(document).encode()
        status, content = self.request(method, path, body, timeout_s=timeout_s)
        try:
            answer = json.loads(content)
        except ValueError:
            answer = {"error": "the peer's answer is not JSON"}
        if not isinstance(answer, dict):
            answer = {"error": "the peer's answer is not a JSON object"}
        if status // 100 != 2:
            message = str(answer.pop("error", "refused"))
            raise ApiError(status, message, **answer)
        return answer

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
