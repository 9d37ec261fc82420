"""Node to node: one kept HTTP connection with short time-outs."""

from __future__ import annotations

import http.client
import io
import json
import socket
import time
from collections.abc import Callable, Mapping
from typing import Any

from hil.onboard.node.answers import LONGEST_ANSWER, ContractError, ip_and_port, json_object
from hil.onboard.node.errors import ApiError

TCP_USER_TIMEOUT_MS = 1500
CONNECT_S = 1.0
LONGEST_REASON = 1000
"""Characters of a refusal that are kept."""
PATIENCE = 20
"""A whole exchange may last so many times longer than a silence; a slow link is no dead one."""

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
    try:
        return ip_and_port(address)
    except ContractError as exc:
        raise ApiError(400, str(exc)) from exc


class DeadlinedSocket(io.RawIOBase):
    """What HTTP is read from: a read ends after ``silence_s``, all at ``end`` (monotonic, s); both may be changed."""

    def __init__(self, sock: socket.socket, end: float, silence_s: float) -> None:
        super().__init__()
        self._sock = sock
        self.end = end
        self.silence_s = silence_s

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read what there is.  TimeoutError at the end of the silence, or of the whole exchange."""
        left = min(self.end - time.monotonic(), self.silence_s)
        if left <= 0:
            raise TimeoutError("the message did not end in time")
        self._sock.settimeout(left)
        return self._sock.recv_into(buffer)


def read_answer(
    sock: socket.socket, method: str, *, silence_s: float, end: float, limit: int = LONGEST_ANSWER
) -> tuple[http.client.HTTPResponse, bytes]:
    """Return the response to a request that was sent, and at most ``limit + 1`` bytes of its body.

    TimeoutError after ``silence_s`` without a byte, or at ``end``; ConnectionError when it ends too soon; ApiError 502
    when it is no HTTP.
    """
    reader = DeadlinedSocket(sock, end, silence_s)
    response = http.client.HTTPResponse(reader, method=method)  # type: ignore[arg-type]  # it needs makefile only
    try:
        response.begin()
        return response, response.read(limit + 1)
    except http.client.IncompleteRead as exc:
        raise ConnectionResetError(f"the answer ended too soon: {exc!r}") from exc
    except (http.client.HTTPException, ValueError) as exc:
        if isinstance(exc, OSError):  # RemoteDisconnected is both
            raise
        quoted = repr(str(exc)[:LONGEST_REASON])  # and not the exception itself, whose text is the peer's bytes
        raise ApiError(502, f"the answer is not HTTP ({type(exc).__name__}): {quoted}") from None


class Peer:
    """Requests to one other node.  Not thread-safe: one per thread."""

    def __init__(
        self, address: str, *, timeout_s: float, whole_s: float | None = None, connector: Connect = connect
    ) -> None:
        """``timeout_s``: of silence; ``whole_s``: of one exchange, ``PATIENCE`` times longer when None."""
        self.address = address
        self.timeout_s = timeout_s
        self._whole_s = whole_s
        self._connector = connector
        self._sock: socket.socket | None = None

    def request(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        timeout_s: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, bytes]:
        """Return status and body.  A kept connection that the peer has closed meanwhile is replaced once.

        OSError when the peer cannot be reached, falls silent for ``timeout_s`` or does not end; ApiError 502 when its
        answer is no HTTP, or longer than ``LONGEST_ANSWER``.
        """
        while True:
            fresh = self._sock is None
            try:
                return self._exchange(method, path, body, timeout_s or self.timeout_s, headers or {})
            except OSError as exc:
                self.close()
                if fresh or isinstance(exc, TimeoutError):
                    raise
            except ApiError:
                self.close()
                raise

    def _exchange(
        self, method: str, path: str, body: bytes, timeout_s: float, headers: Mapping[str, str]
    ) -> tuple[int, bytes]:
        if self._sock is None:
            self._sock = self._connector(*split(self.address), min(timeout_s, CONNECT_S))
        end = time.monotonic() + (PATIENCE * timeout_s if self._whole_s is None else max(self._whole_s, timeout_s))
        self._sock.settimeout(timeout_s)
        head = [f"{method} {path} HTTP/1.1", f"Host: {self.address}", f"Content-Length: {len(body)}"]
        head += [f"{name}: {value}" for name, value in headers.items()]
        self._sock.sendall("\r\n".join([*head, "", ""]).encode() + body)
        response, content = read_answer(self._sock, method, silence_s=timeout_s, end=end)
        if response.will_close or len(content) > LONGEST_ANSWER:
            self.close()
        if len(content) > LONGEST_ANSWER:
            raise ApiError(502, f"{method} {path}: the answer is longer than {LONGEST_ANSWER} bytes")
        return response.status, content

    def json(
        self,
        method: str,
        path: str,
        document: Any = None,
        *,
        timeout_s: float | None = None,
        headers: Callable[[bytes], Mapping[str, str]] = lambda body: {},
    ) -> dict[str, Any]:
        """Return a JSON answer.  ``headers``: what goes with a body of these bytes.

        ApiError with the peer's own status, sentence and facts when it is not 2xx; 502 when it is no JSON object.
        """
        body = b"" if document is None else json.dumps(document).encode()
        status, content = self.request(method, path, body, timeout_s=timeout_s, headers=headers(body))
        try:
            answer = json_object(content)
        except ContractError as exc:
            raise ApiError(502, f"{method} {path}: HTTP {status}: {exc}") from exc
        if status // 100 != 2:
            raise refusal(status, answer)
        return answer

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def refusal(status: int, answer: dict[str, Any]) -> ApiError:
    """Return the error that an answer with an HTTP status other than 2xx stands for."""
    error = ApiError(status, str(answer.pop("error", "refused"))[:LONGEST_REASON])
    error.facts.update(answer)
    return error
