"""A small threaded HTTP/1.1 server: routes, JSON, streams.

One client can take so many connections, so much memory and so much time, and no more.
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from hil.onboard.node.answers import ContractError, Signed, json_object, must_be_signed
from hil.onboard.node.client import DeadlinedSocket
from hil.onboard.node.errors import ApiError
from hil.onboard.node.flight import Gate, Identity
from hil.onboard.node.request_record import RequestRecord

MAX_JSON_BYTES = 64 << 10
IDLE_S = 15.0
"""How long a kept connection may be silent between or inside requests, and an answer may find no taker."""
HEAD_S = 5.0
"""The head of a request must end so soon after its first byte."""
BODY_S = 10.0
SLOWEST_BYTES_PER_S = 4096
"""The body must end ``BODY_S`` after its head, and a slow path gets the time that this rate takes."""
BODY_BYTES = 128 << 20
"""Memory for the bodies of all requests together, a quarter for one address; a stream has a fixed buffer instead."""
DRAIN_BYTES = 4 << 20
"""A refused body of up to so many bytes is read and dropped, so that its sender hears why it was refused."""
MAX_CONNECTIONS = 96
MAX_PER_PEER = 32
"""Connections from one address, and with one certificate."""
MAX_GUESTS = 24
"""Connections of all tenants and guests together: the operator and the boards always find a place."""
MAX_STRANGERS = 48
MAX_STRANGERS_PER_PEER = 16
"""Of these so many may be in their handshake: who has no certificate takes no place of those who have one."""
TCP_USER_TIMEOUT_MS = 3000
"""Unacknowledged data older than this ends a connection: after an outage a fresh one is faster than TCP's back-off."""


class Memory:
    """``BODY_BYTES`` for all bodies that are being read or worked on.  Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._taken: Counter[str] = Counter()

    def take(self, peer: str, size: int) -> int:
        """Return ``size``; ApiError 503 when so much is not left, for this address or at all."""
        with self._lock:
            if self._taken[peer] + size > BODY_BYTES // 4 or self._taken.total() + size > BODY_BYTES:
                raise ApiError(503, "no memory for this body now: too many others are being read")
            self._taken[peer] += size
        return size

    def give(self, peer: str, size: int) -> None:
        with self._lock:
            self._taken[peer] -= size
            self._taken += Counter()  # without those that have none

    @property
    def taken(self) -> int:
        """Bytes that are taken now."""
        with self._lock:
            return self._taken.total()


@dataclass
class Request:
    """One request. ``body`` is read by :meth:`json`, :meth:`read_all` or, for streams, :meth:`read_some`."""

    method: str
    path: str
    query: dict[str, str]
    params: tuple[str, ...]
    peer: str  # IPv4 address
    length: int
    reader: DeadlinedSocket = field(repr=False)
    _rfile: Any = field(repr=False)
    _memory: Memory = field(repr=False)
    unread: int = 0
    held: int = 0
    identity: Identity | None = None
    """Whom the certificate names; None without flight security."""
    order: Signed | None = None
    """The order that it is; None without flight security, and of a request that needs none."""
    target: str = ""
    """Path and query as they were sent."""
    _body: bytes | None = field(default=None, repr=False)

    def stream(self, silence_s: float) -> None:
        """Let the body take as long as it likes, with no more than ``silence_s`` between two bytes."""
        self.reader.silence_s, self.reader.end = silence_s, float("inf")

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
        """Return the whole body; ApiError 413 when it is longer than ``limit`` bytes, 503 when there is no memory."""
        if self._body is not None:
            return self._body
        if self.length > limit:
            raise ApiError(413, f"body may have {limit} bytes")
        self.held += self._memory.take(self.peer, self.unread)
        body: bytes = self._rfile.read(self.unread)
        if len(body) < self.unread:
            raise ConnectionError("the peer closed the connection inside a body")
        self.unread = 0
        self._body = body
        return body

    def drain(self) -> None:
        """Drop what is left of a short body, for ``BODY_S`` at most."""
        self.reader.end = min(self.reader.end, time.monotonic() + BODY_S)
        buffer = memoryview(bytearray(min(self.unread, 64 << 10)))
        while 0 < self.unread <= DRAIN_BYTES and self.read_some(buffer):
            pass

    def release(self) -> None:
        """Give back the memory of the body."""
        self._memory.give(self.peer, self.held)
        self.held = 0

    def json(self, limit: int = MAX_JSON_BYTES) -> dict[str, Any]:
        """Return the body as a JSON object; ApiError 400 when it is not one. An empty body is an empty object."""
        raw = self.read_all(limit)
        try:
            return json_object(raw, "the body") if raw else {}
        except ContractError as exc:
            raise ApiError(400, str(exc)) from None

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


@dataclass(frozen=True)
class Route:
    """One address of the service."""

    method: str
    pattern: re.Pattern[str]
    handler: Handler
    roles: frozenset[str]
    """Who may ask, where there is flight security."""
    name: str
    """Method and address, ``*`` for what varies in it."""


class Routes:
    """(method, path pattern, handler, roles).  A pattern's groups become ``request.params``."""

    def __init__(self, *routes: tuple[str, str, Handler, str]) -> None:
        self._routes = [
            Route(
                method,
                re.compile(pattern + r"\Z"),
                handler,
                frozenset(roles.split()),
                f"{method} {re.sub(r'[(].*?[)]', '*', pattern)}",
            )
            for method, pattern, handler, roles in routes
        ]

    def find(self, method: str, path: str) -> tuple[Route, tuple[str, ...]]:
        """ApiError 404 for an unknown path, 405 for a known one with another method."""
        known = False
        for route in self._routes:
            if match := route.pattern.match(path):
                if route.method == method:
                    return route, match.groups()
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
        self.rfile.close()
        self._identity: Identity | None = None
        self._changes = 0
        if self.server.gate is not None:
            self._identity, self._changes = self.server.holders[self.connection]
        self._reader = DeadlinedSocket(self.connection, 0.0, IDLE_S)
        self.rfile = self._buffered = io.BufferedReader(self._reader)

    def handle_one_request(self) -> None:
        """Wait for the first byte of a request, then give its head ``HEAD_S``."""
        self._reader.silence_s, self._reader.end = IDLE_S, time.monotonic() + IDLE_S
        self.close_connection = True
        with contextlib.suppress(OSError):
            if self._buffered.peek(1):
                self._reader.end = time.monotonic() + HEAD_S
                super().handle_one_request()

    def version_string(self) -> str:
        return "hil-node"

    def log_message(self, format: str, *args: Any) -> None:
        return None

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        self._send(Answer(code, {"error": message or "bad request"}))

    def do_GET(self) -> None:
        request: Request | None = None
        route: Route | None = None
        why = ""
        try:
            request = self._request()
            route, request.params = self.server.routes.find(request.method, request.path)
            self._authorise(request, route)
            answer = route.handler(request)
        except ApiError as exc:
            answer, why = Answer(exc.status, exc.document()), exc.message
        except OSError as exc:
            if isinstance(exc, ConnectionError | TimeoutError):
                self.close_connection = True
                return
            answer = Answer(500, {"error": f"storage or network failed: {exc}"})
        except Exception as exc:  # one bad request must not end the service
            answer = Answer(500, {"error": f"{type(exc).__name__}: {exc}"})
        finally:
            if request is not None:
                request.release()
        with contextlib.suppress(OSError):
            if request is not None:
                request.drain()
        if request is None or request.unread:
            self.close_connection = True  # what is left of the body would be taken for the next request
        who = str(self._identity or "")
        self.server.record.note(who, self.client_address[0], route.name if route else "", answer.status, why)
        self._send(answer)

    do_PUT = do_POST = do_PATCH = do_DELETE = do_GET

    def _authorise(self, request: Request, route: Route) -> None:
        """ConnectionError when the certificate is good no more, ApiError when its holder may not ask this."""
        gate = self.server.gate
        if gate is None or self._identity is None:
            return
        if not gate.still(self._identity, self._changes):
            raise ConnectionError("the certificates changed, or this one has expired: it has to connect again")
        request.identity = self._identity
        if self._identity.role not in route.roles:
            raise ApiError(403, f"{self._identity} has no right to {request.method} {request.path[:80]}")
        if must_be_signed(request.method, request.path):
            body = request.read_all(MAX_JSON_BYTES)
            headers = {name.title(): value for name, value in self.headers.items()}
            request.order = gate.obey(request.method, request.target, body, headers, route.roles)

    def _request(self) -> Request:
        if self.headers.get("Transfer-Encoding"):
            raise ApiError(411, "send a Content-Length")
        text, *more = self.headers.get_all("Content-Length", ["0"])
        if more or not text.isascii() or not text.isdigit() or len(text) > 18:
            raise ApiError(400, "Content-Length must be one whole number")
        try:
            parts = urlsplit(self.path)
        except ValueError:
            raise ApiError(400, "the path is none") from None
        self._reader.end = time.monotonic() + BODY_S + int(text) / SLOWEST_BYTES_PER_S
        return Request(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            params=(),
            peer=self.client_address[0],
            length=int(text),
            reader=self._reader,
            _rfile=self.rfile,
            _memory=self.server.memory,
            unread=int(text),
            target=self.path,
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
            self.connection.settimeout(IDLE_S)
            self.connection.sendall("\r\n".join([*head, "", ""]).encode() + (body or b""))
            if answer.stream is not None:
                answer.stream(self.connection)
        except (OSError, ApiError):
            self.close_connection = True


class NodeServer(ThreadingHTTPServer):
    """Serves ``routes`` until :meth:`stop`.

    More than ``MAX_CONNECTIONS`` at once, and more than ``MAX_PER_PEER`` from one address, are turned away.
    With a ``gate`` connections are TLS, and fewer may be in their handshake.
    """

    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    block_on_close = False

    def __init__(
        self, address: tuple[str, int], routes: Routes, gate: Gate | None = None, record: RequestRecord | None = None
    ) -> None:
        self.routes = routes
        self.gate = gate
        self.record = record or RequestRecord()
        self.memory = Memory()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, str] = {}
        self._strangers: dict[socket.socket, str] = {}
        """Those of them that are in their handshake."""
        self.holders: dict[socket.socket, tuple[Identity, int]] = {}
        """Whom the certificates of the others name, and the changes they were checked with."""
        self._thread: threading.Thread | None = None
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # http.server would look the host name up in DNS here
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        peer = client_address[0]
        with self._lock:
            welcome = Counter(self._open.values())[peer] < MAX_PER_PEER and len(self._open) < MAX_CONNECTIONS
            if welcome and self.gate is not None:
                known = Counter(self._strangers.values())
                welcome = known[peer] < MAX_STRANGERS_PER_PEER and known.total() < MAX_STRANGERS
                if welcome:
                    self._strangers[request] = peer
            if welcome:
                self._open[request] = peer
        if welcome:
            super().process_request(request, client_address)
        else:
            self.record.note("", peer, "", 429, "too many connections")
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        admitted = None
        try:
            admitted = request if self.gate is None else self._admit(self.gate, request, client_address[0])
            if admitted is not None:
                super().process_request_thread(admitted, client_address)
        finally:
            with self._lock:
                self._open.pop(request, None)
                self._open.pop(admitted, None)  # type: ignore[arg-type]  # None is not there
                self.holders.pop(admitted, None)  # type: ignore[arg-type]

    def _admit(self, gate: Gate, request: socket.socket, peer: str) -> socket.socket | None:
        """Return the connection after its handshake, which counts as a stranger's until then; None without one."""
        try:
            tls, identity, changes = gate.admit(request)
        except (OSError, ValueError, ApiError) as exc:  # ValueError: the other side was gone before it began
            self.record.note("", peer, "", 401, str(exc))
            self.shutdown_request(request)
            return None
        finally:
            with self._lock:
                self._strangers.pop(request, None)
        with self._lock:
            self._open.pop(request, None)
            holders = Counter(holder for holder, _ in self.holders.values())
            guests = sum(count for holder, count in holders.items() if holder.role in ("tenant", "guest"))
            welcome = holders[identity] < MAX_PER_PEER
            if identity.role in ("tenant", "guest"):
                welcome = welcome and guests < MAX_GUESTS
            if welcome:
                self._open[tls] = peer
                self.holders[tls] = identity, changes
        if not welcome:
            self.record.note(str(identity), peer, "", 429, "too many connections")
            self.shutdown_request(tls)
            return None
        return tls

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
