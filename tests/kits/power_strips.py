"""Counterparts of a lab's power strips: real HTTP servers (an SNMP agent and a pty are in ``power_agents.py``).

Each stands for one device with outlets.  ``on_change(outlet, on)`` is called after an outlet switched, so a strip can
carry something: container boards, for instance.  ``fault`` makes it fail the way real ones do.  Loopback only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from enum import StrEnum
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

OnChange = Callable[[int, bool], None]


class Fault(StrEnum):
    """How a strip fails."""

    ERROR_500 = "error-500"
    HANG = "hang"  # takes the request and never answers
    CLOSE = "close"  # closes instead of answering, having done nothing
    LOSE_ANSWER = "lose-answer"  # does what it was told, then closes instead of answering
    LIE = "lie"  # answers as if it had done it
    REDIRECT = "redirect"
    OTHER_PROTOCOL = "other-protocol"  # another service has the port
    DEEP_JSON = "deep-json"  # lists in lists without end
    GARBAGE = "garbage"  # HTTP 200 and a page that is not JSON
    DRIP = "drip"  # answers one byte at a time
    FLOOD = "flood"  # an answer without end
    WRONG_JSON = "wrong-json"  # JSON of another device


class Outlets:
    """The relays themselves."""

    def __init__(self, numbers: range, on_change: OnChange | None = None) -> None:
        self.on = dict.fromkeys(numbers, False)
        self._on_change = on_change
        self._lock = threading.Lock()

    def switch(self, number: int, on: bool) -> bool:
        """Switch one; what it was. KeyError when there is none."""
        with self._lock:
            was, self.on[number] = self.on[number], on
            if was != on and self._on_change:
                self._on_change(number, on)
        return was


class HttpStrip:
    """A strip behind HTTP on a free port of 127.0.0.1; a context manager."""

    def __init__(self, outlets: range, *, on_change: OnChange | None = None, password: str = "") -> None:
        self.outlets = Outlets(outlets, on_change)
        self.password = password
        self.fault: Fault | None = None
        self.fault_commands_only = False  # reading the state works
        self.slow_s = 0.0  # relays follow this much later
        self.seen: list[str] = []  # request lines, e.g. "/relay/0?turn=on"
        self._closing = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)

    # What a kind of strip is:
    def is_command(self, path: str, query: Mapping[str, list[str]]) -> bool:
        raise NotImplementedError

    def reply(self, path: str, query: Mapping[str, list[str]], *, obey: bool) -> tuple[int, dict[str, Any]]:
        """(HTTP status, JSON). ``obey`` False: answer as if the command had been obeyed."""
        raise NotImplementedError

    def challenge(self, handler: BaseHTTPRequestHandler, query: Mapping[str, list[str]]) -> str | None:
        """None when the caller may come in, else the WWW-Authenticate header."""
        return None

    def turn(self, number: int, on: bool, *, obey: bool) -> bool:
        if not obey:
            return self.outlets.on[number]
        if self.slow_s:
            threading.Timer(self.slow_s, self.outlets.switch, (number, on)).start()
            return self.outlets.on[number]
        return self.outlets.switch(number, on)

    def handle(self, handler: BaseHTTPRequestHandler) -> None:
        parts = urlsplit(handler.path)
        query = parse_qs(parts.query)
        self.seen.append(handler.path)
        command = self.is_command(parts.path, query)
        fault = self.fault if command or not self.fault_commands_only else None
        if fault is Fault.HANG:
            self._closing.wait(30)
        if fault in (Fault.HANG, Fault.CLOSE):
            return
        if fault is Fault.ERROR_500:
            return _send(handler, 500, b"Internal Server Error")
        if fault is Fault.REDIRECT:
            return _send(handler, 302, b"", {"Location": f"http://login.invalid/?next={handler.path}"})
        if fault is Fault.OTHER_PROTOCOL:
            handler.wfile.write(b"SSH-2.0-x\r\n")
            return None
        if fault is Fault.DEEP_JSON:
            return _send(handler, 200, b"[" * 60_000)
        if fault is Fault.GARBAGE:
            return _send(handler, 200, b"<html>Welcome to your router</html>")
        if fault is Fault.WRONG_JSON:
            return _send(handler, 200, b'{"device": "coffee machine"}')
        if fault is Fault.FLOOD:
            return self._flood(handler)
        if (header := self.challenge(handler, query)) is not None:
            return _send(handler, 401, b"", {"WWW-Authenticate": header} if header else {})
        try:
            status, document = self.reply(parts.path, query, obey=fault is not Fault.LIE)
        except (KeyError, ValueError, IndexError):
            return _send(handler, 404, b"Not found")
        if fault is Fault.LOSE_ANSWER:
            return None
        body = json.dumps(document).encode()
        if fault is Fault.DRIP:
            return self._drip(handler, body)
        return _send(handler, status, body)

    def _drip(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        with contextlib.suppress(OSError):
            for byte in b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + body + b" " * 500:
                handler.wfile.write(bytes([byte]))
                if self._closing.wait(0.05):
                    return

    def _flood(self, handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not self._closing.is_set():
                handler.wfile.write(b" " * 65536)


class _Server(ThreadingTCPServer):  # not HTTPServer, which asks a name server who 127.0.0.1 is
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that gave up is what the tests are about."""


def _handler(strip: HttpStrip) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            strip.handle(self)

        def log_message(self, *_args: Any) -> None:
            return

    return Handler


def _send(handler: BaseHTTPRequestHandler, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
    handler.send_response(status)
    for name, value in (headers or {}).items():
        handler.send_header(name, value)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class ShellyGen1Strip(HttpStrip):
    """Four relays, counted from 0; Basic log-in when it has a password."""

    def __init__(self, *, on_change: OnChange | None = None, password: str = "", relays: int = 4) -> None:
        super().__init__(range(relays), on_change=on_change, password=password)
        self.overpower = False

    def is_command(self, path: str, query: Mapping[str, list[str]]) -> bool:
        return "turn" in query

    def reply(self, path: str, query: Mapping[str, list[str]], *, obey: bool) -> tuple[int, dict[str, Any]]:
        number = int(re.fullmatch(r"/relay/(\d+)", path)[1])  # type: ignore[index]  # no match: not found
        is_on = self.outlets.on[number]
        if turn := query.get("turn", [""])[0]:
            self.turn(number, turn == "on" and not self.overpower, obey=obey)
            is_on = turn == "on" if not obey else self.outlets.on[number]
        return 200, {"ison": is_on, "has_timer": False, "overpower": self.overpower, "source": "http"}

    def challenge(self, handler: BaseHTTPRequestHandler, query: Mapping[str, list[str]]) -> str | None:
        expected = "Basic " + b64encode(f"admin:{self.password}".encode()).decode()
        if not self.password or handler.headers.get("Authorization") == expected:
            return None
        return 'Basic realm="shellyplug"'


class ShellyGen2Strip(HttpStrip):
    """Four switches, counted from 0; digest log-in (RFC 7616, SHA-256) when it has a password."""

    def __init__(self, *, on_change: OnChange | None = None, password: str = "", switches: int = 4) -> None:
        super().__init__(range(switches), on_change=on_change, password=password)
        self.errors: list[str] = []
        self._nonces: set[str] = set()
        self.stale_answers = 0
        """So many right answers are still refused, with a fresh nonce and stale=true."""

    def is_command(self, path: str, query: Mapping[str, list[str]]) -> bool:
        return path == "/rpc/Switch.Set"

    def reply(self, path: str, query: Mapping[str, list[str]], *, obey: bool) -> tuple[int, dict[str, Any]]:
        number = int(query["id"][0])
        if number not in self.outlets.on:
            return 500, {"code": -105, "message": f"Argument 'id', value {number} not found!"}
        if path == "/rpc/Switch.Set":
            return 200, {"was_on": self.turn(number, query["on"][0] == "true" and not self.errors, obey=obey)}
        if path != "/rpc/Switch.GetStatus":
            raise KeyError(path)
        answer = {"id": number, "source": "HTTP_in", "output": self.outlets.on[number], "apower": 8.9}
        return 200, answer | ({"errors": self.errors} if self.errors else {})

    def challenge(self, handler: BaseHTTPRequestHandler, query: Mapping[str, list[str]]) -> str | None:
        if not self.password:
            return None
        realm = "shellypro4pm-f008d1d8b8b8"
        stale = ""
        given = dict(re.findall(r'(\w+)="?([^",]+)"?', handler.headers.get("Authorization", "")))
        if given.get("nonce") in self._nonces:
            secret = _sha256(f"admin:{realm}:{self.password}")
            request = _sha256(f"GET:{handler.path}")
            proof = _sha256(f"{secret}:{given['nonce']}:{given['nc']}:{given['cnonce']}:{given['qop']}:{request}")
            if given.get("response") == proof and given.get("uri") == handler.path:
                if not self.stale_answers:
                    return None
                self.stale_answers -= 1
                stale = ", stale=true"
        nonce = os.urandom(8).hex()
        self._nonces.add(nonce)
        return f'Digest qop="auth", realm="{realm}", nonce="{nonce}", algorithm=SHA-256{stale}'


class TasmotaStrip(HttpStrip):
    """``relays`` relays, counted from 1; user and password in the query when it has a password."""

    def __init__(self, *, on_change: OnChange | None = None, password: str = "", relays: int = 2) -> None:
        super().__init__(range(1, relays + 1), on_change=on_change, password=password)

    def is_command(self, path: str, query: Mapping[str, list[str]]) -> bool:
        return " " in query.get("cmnd", [""])[0]

    def reply(self, path: str, query: Mapping[str, list[str]], *, obey: bool) -> tuple[int, dict[str, Any]]:
        if self.password and query.get("password") != [self.password]:
            return 200, {"WARNING": "Need user=<username>&password=<password>"}
        verb, _, argument = query["cmnd"][0].partition(" ")
        match = re.fullmatch(r"power(\d+)", verb.lower())
        if path != "/cm" or not match or int(match[1]) not in self.outlets.on:
            return 200, {"Command": "Unknown"}
        number = int(match[1])
        is_on = self.outlets.on[number]
        if argument:
            self.turn(number, argument.lower() == "on", obey=obey)
            is_on = argument.lower() == "on"
        return 200, {"POWER" if len(self.outlets.on) == 1 else f"POWER{number}": "ON" if is_on else "OFF"}


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def wait_for(condition: Callable[[], bool], deadline_s: float = 5.0) -> None:
    """Until the counterpart has seen it. AssertionError at the deadline."""
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the counterpart did not see it"
        time.sleep(0.01)
