"""The lab equipment of stand-ins: a power strip that real drivers speak to over HTTP.

It behaves like a Shelly of the second generation with one switch per board: ``/rpc/Switch.Set?id=N&on=true``,
``/rpc/Switch.GetStatus?id=N``, ``/rpc/Shelly.GetDeviceInfo`` (Shelly Gen2+ API).  A relay has switched, and
what hangs on it has power or has none, when the answer comes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from hil.boards.kinds import Load
from hil.core import netns
from hil.errors import HilError

ADDRESS = "127.0.0.1"
PORT = 80
"""The strip has a namespace's loopback to itself, so its address need not be told to anybody."""
_NOT_FOUND = -105
_UNAVAILABLE = -114


class _Relay:
    """One switch. A load that refuses leaves the relay as it was."""

    def __init__(self, load: Load) -> None:
        self.output = False
        self._load = load
        self._lock = threading.Lock()

    def switch(self, on: bool) -> bool:
        """Switch; what it was."""
        with self._lock:
            was = self.output
            if was != on:
                if on:
                    self._load.on()
                else:
                    self._load.cut()
                self.output = on
            return was


class PowerStrip:
    """The strip on ``ADDRESS``:``port`` of ``namespace``, all outlets off; a context manager.

    ``port`` 0 takes a free one.  Leaving it does not switch anything: loads that are on stay on.
    """

    def __init__(self, namespace: str, loads: Mapping[int, Load], *, port: int = PORT) -> None:
        self._relays = {number: _Relay(load) for number, load in loads.items()}
        with netns.inside(namespace):
            self._server = _Server((ADDRESS, port), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.2,), name="power-strip", daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def __enter__(self) -> PowerStrip:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5.0)

    def answer(self, target: str) -> tuple[int, dict[str, Any]]:
        """(HTTP status, JSON) of a request."""
        parts = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        if parts.path == "/rpc/Shelly.GetDeviceInfo":
            return 200, {"id": "stand-in", "model": "stand-in", "gen": 2, "app": "rack"}
        if parts.path not in ("/rpc/Switch.Set", "/rpc/Switch.GetStatus"):
            return 404, {"code": 404, "message": f"No handler for {parts.path}"}
        number = query.get("id", "")
        relay = self._relays.get(int(number)) if number.isdecimal() else None
        if relay is None:
            return 500, {"code": _NOT_FOUND, "message": f"Argument 'id', value {number} not found!"}
        if parts.path == "/rpc/Switch.GetStatus":
            return 200, {"id": int(number), "source": "HTTP_in", "output": relay.output}
        if query.get("on") not in ("true", "false"):
            return 500, {"code": _NOT_FOUND, "message": "Missing or bad argument 'on'!"}
        try:
            return 200, {"was_on": relay.switch(query["on"] == "true")}
        except HilError as exc:  # the container engine refuses: to the driver, a strip that fails
            return 500, {"code": _UNAVAILABLE, "message": exc.message}


class _Server(ThreadingTCPServer):  # not HTTPServer, which asks a name server who 127.0.0.1 is
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True


def _handler(strip: PowerStrip) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 10.0

        def do_GET(self) -> None:
            status, document = strip.answer(self.path)
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_args: Any) -> None:
            """Nobody reads it."""

    return Handler
