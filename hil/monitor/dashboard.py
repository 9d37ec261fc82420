"""The dashboard: a page on loopback that shows a campaign as it runs.  It changes nothing, unless it has a token."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from socket import gethostname
from threading import BoundedSemaphore, Thread
from typing import Any
from urllib.parse import urlsplit

from hil.errors import ConfigurationError, HilError
from hil.monitor.live_run import Follower

PORT = 9436
MOST_VIEWERS = 50
MOST_CONNECTIONS = 150
"""At once; each has a thread.  Those beyond are closed unanswered."""
REQUEST_S = 30.0
"""A client that says nothing for so long is dropped."""
FILES = {"/": ("dashboard.html", "text/html"), "/dashboard.js": ("dashboard.js", "text/javascript")}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; script-src 'self'; connect-src 'self'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
}
Command = Callable[[], None]


class _Handler(BaseHTTPRequestHandler):
    """One request; ``follower``, ``commands`` and ``token`` are those of the server."""

    server: _Server
    timeout = REQUEST_S
    server_version, sys_version = "hil", ""

    def do_GET(self) -> None:
        if not self._is_for_us():
            return
        if self.path in FILES:
            name, kind = FILES[self.path]
            self._answer(HTTPStatus.OK, (Path(__file__).parent / "pages" / name).read_bytes(), kind)
        elif self.path == "/state":
            self._answer(HTTPStatus.OK, self.server.follower.latest(), "application/json")
        elif self.path == "/events":
            self._stream()
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if not self._is_for_us():
            return
        command = self.server.commands.get(self.path)
        given = self.headers.get("Authorization", "").removeprefix("Bearer ").encode("latin-1", "replace")
        if not self.server.token or not hmac.compare_digest(given, self.server.token.encode()):
            self._answer(HTTPStatus.FORBIDDEN, b"no token, or another one: this page changes nothing")
        elif command is None:
            self._answer(HTTPStatus.NOT_FOUND)
        else:
            try:
                command()
            except HilError as exc:
                self._answer(HTTPStatus.CONFLICT, exc.message.encode())
            else:
                self._answer(HTTPStatus.ACCEPTED, b"done")

    def _is_for_us(self) -> bool:
        """Refuse requests under a name that is not ours: another page's script that has its name lead to loopback."""
        try:
            host = urlsplit(f"//{self.headers.get('Host', '')}").hostname or ""
        except ValueError:
            host = ""
        if host in self.server.names or _is_address(host):  # what is called by its address is called by no other name
            return True
        self._answer(HTTPStatus.MISDIRECTED_REQUEST)
        return False

    def _stream(self) -> None:
        """Send each new state as a server-sent event, until the viewer goes."""
        if not self.server.places.acquire(blocking=False):
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, b"too many viewers")
            return
        try:
            self._head(HTTPStatus.OK, "text/event-stream")
            for document in self.server.follower.versions():
                self.wfile.write(b"data: " + document + b"\n\n" if document else b": still here\n\n")
                self.wfile.flush()
        except OSError:
            pass  # the viewer has gone
        finally:
            self.server.places.release()
            self.close_connection = True

    def _answer(self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain") -> None:
        self._head(status, kind, len(body or status.phrase.encode()))
        self.wfile.write(body or status.phrase.encode())

    def _head(self, status: HTTPStatus, kind: str, length: int | None = None) -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": f"{kind}; charset=utf-8"}.items():
            self.send_header(name, value)
        if length is not None:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = MOST_CONNECTIONS

    def __init__(self, address: tuple[str, int], follower: Follower, commands: dict[str, Command], token: str) -> None:
        self.follower, self.commands, self.token = follower, commands, token
        self.names = {"localhost", address[0], gethostname().lower()}
        self.places, self.connections = BoundedSemaphore(MOST_VIEWERS), BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__(address, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread of its own, while there are not too many."""
        if self.connections.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next one."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.connections.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that went away."""


@contextmanager
def serving(
    follower: Follower, *, host: str, port: int, commands: dict[str, Command] | None = None, token: str = ""
) -> Iterator[int]:
    """Serve the dashboard while the block runs; yield its port (0 takes a free one).

    ``commands`` are done by a POST to their path, with ``Authorization: Bearer`` and the token; without a token by
    nobody.  ConfigurationError when the address cannot be listened on.
    """
    try:
        server = _Server((host, port), follower, commands or {}, token)
    except OSError as exc:
        raise ConfigurationError(
            f"cannot listen on {host}:{port}: {exc.strerror or exc}",
            remedy="is another dashboard at work? choose another port with --listen HOST:PORT",
        ) from exc
    thread = Thread(target=server.serve_forever, args=(0.1,), name="dashboard", daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
