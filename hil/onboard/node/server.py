"""A small threaded HTTP/1.1 server: routes, JSON, streams, bounded threads."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hil.onboard.node.errors import ApiError

MAX_JSON_BYTES = 16 << 20
IDLE_S = 15.0
"""How long a kept connection may be silent between or inside requests."""
MAX_CONNECTIONS = 96
TCP_USER_TIMEOUT_MS = 3000
"""Unacknowledged data older than this ends a connection: after an outage a fresh one is faster than TCP's back-off."""


@dataclass
class Request:
    """One request. ``body`` is read by :meth:`json`, :meth:`read_all` or, for streams, :meth:`read_some`."""

    method: str
    path: str
    query: dict[str, str]
    params: tuple[str, ...]
    peer: str  # IPv4 address
    length: int
    connection: socket.socket
    _rfile: Any = field(repr=False)
    unread: int = 0

    def read_some(self, buffer: memoryview) -> int:
        """Up to ``len(buffer)`` bytes of the body; 0 at its end. OSError when the peer went away or fell silent."""
        if not self.unread:
            return 0
        got = int(self._rfile.readinto1(buffer[: self.unread]))
        if not got:
            raise ConnectionError("the peer closed the connection inside a body")
        self.unread -= got
        return got

    def read_all(self, limit: int) -> bytes:
        """Return the whole body; ApiError 413 when it is longer than ``limit`` bytes."""
        if self.length > limit:
            raise ApiError(413, f"body may have {limit} bytes")
        body: bytes = self._rfile.read(self.unread)
        if len(body) < self.unread:
            raise ConnectionError("the peer closed the connection inside a body")
        self.unread = 0
        return body

    def json(self) -> dict[str, Any]:
        """Return the body as a JSON object; ApiError 400 when it is not one. An empty body is an empty object."""
        raw = self.read_all(MAX_JSON_BYTES)
        try:
            document = json.loads(raw) if raw else {}
        except ValueError:
            raise ApiError(400, "body is not JSON") from None
        if not isinstance(document, dict):
            raise ApiError(400, "body must be a JSON object")
        return document

    def integer(self, key: str, default: int | None = None) -> int:
        """Return a whole number of the query, not negative; ApiError 400 when it is missing or something else."""
        text = self.query.get(key, "" if default is None else str(default))
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ApiError(400, f"query: {key} must be a whole number")
        return int(text)


@dataclass(frozen=True)
class Answer:
    """What a handler returns: JSON, bytes, or a stream that writes the connection itself."""

    status: int = 200
    document: Any = None
    body: bytes | None = None
    content_type: str = "application/json"
    length: int | None = None  # of a stream; None: until the connection closes
    stream: Callable[[socket.socket], None] | None = None


Handler = Callable[[Request], Answer]


class Routes:
    """(method, path pattern) to handler.  A pattern's groups become ``request.params``."""

    def __init__(self, *routes: tuple[str, str, Handler]) -> None:
        self._routes = [(method, re.compile(pattern + r"\Z"), handler) for method, pattern, handler in routes]

    def find(self, method: str, path: str) -> tuple[Handler, tuple[str, ...]]:
        """ApiError 404 for an unknown path, 405 for a known one with another method."""
        known = False
        for verb, pattern, handler in self._routes:
            if match := pattern.match(path):
                if verb == method:
                    return handler, match.groups()
                known = True
        raise ApiError(405 if known else 404, f"no {method} {path} here")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = IDLE_S
    server: NodeServer

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, TCP_USER_TIMEOUT_MS)

    def version_string(self) -> str:
        return "hil-node"

    def log_message(self, format: str, *args: Any) -> None:
        return None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        self._send(Answer(code, {"error": message or "bad request"}))

    def do_GET(self) -> None:
        request: Request | None = None
        try:
            request = self._request()
            handler, params = self.server.routes.find(request.method, request.path)
            request.params = params
            answer = handler(request)
        except ApiError as exc:
            answer = Answer(exc.status, exc.document())
        except OSError as exc:
            if isinstance(exc, ConnectionError | TimeoutError):
                self.close_connection = True
                return
            answer = Answer(500, {"error": f"storage or network failed: {exc}"})
        except Exception as exc:  # one bad request must not end the service
            answer = Answer(500, {"error": f"{type(exc).__name__}: {exc}"})
        if request is None or request.unread:
            self.close_connection = True  # what is left of the body would be taken for the next request
        self._send(answer)

    do_PUT = do_POST = do_PATCH = do_DELETE = do_GET

    def _request(self) -> Request:
        if self.headers.get("Transfer-Encoding"):
            raise ApiError(411, "send a Content-Length")
        text = self.headers.get("Content-Length", "0")
        if not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ApiError(400, "Content-Length must be a whole number")
        parts = urlsplit(self.path)
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            params=(),
            peer=self.client_address[0],
            length=int(text),
            connection=self.connection,
            _rfile=self.rfile,
            unread=int(text),
        )

    def _send(self, answer: Answer) -> None:
        body = answer.body
        if body is None and answer.stream is None:
            body = json.dumps(answer.document, separators=(",", ":")).encode()
        length = answer.length if body is None else len(body)
        if length is None:
            self.close_connection = True
        head = [f"HTTP/1.1 {answer.status} {self.responses.get(answer.status, ('',))[0]}"]
        head.append(f"Content-Type: {answer.content_type}")
        if length is not None:
            head.append(f"Content-Length: {length}")
        head.append(f"Connection: {'close' if self.close_connection else 'keep-alive'}")
        try:
            self.connection.sendall("\r\n".join([*head, "", ""]).encode() + (body or b""))
            if answer.stream is not None:
                answer.stream(self.connection)
        except (OSError, ApiError):
            self.close_connection = True


class NodeServer(ThreadingHTTPServer):
    """Serves ``routes`` until :meth:`stop`.  More than ``MAX_CONNECTIONS`` at once are turned away."""

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    block_on_close = False

    def __init__(self, address: tuple[str, int], routes: Routes) -> None:
        self.routes = routes
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._open: set[socket.socket] = set()
        self._thread: threading.Thread | None = None
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # http.server would look the host name up in DNS here
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._slots.acquire(blocking=False):
            self.shutdown_request(request)
            return
        self._open.add(request)
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._open.discard(request)
            self._slots.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A connection that broke is not worth a traceback on the console."""

    def start(self) -> None:
        self._thread = threading.Thread(
            target=self.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the listening socket and every connection."""
        if self._thread is not None:
            self.shutdown()
            self._thread.join(5)
        self.server_close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
