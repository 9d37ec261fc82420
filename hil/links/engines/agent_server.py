"""Agents lent to other processes over a unix socket: the server beside their owner, and who speaks for one of them."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hil.errors import BenchError, HilError
from hil.links.engines.agent import Agent
from hil.links.engines.relay import Kind

_CALL = struct.Struct("<IBB")
"""Payload length, kind; then the agent's number, or in an answer whether it failed."""
_OK, _FAILED = 0, 1
_AGAIN_S = 0.1
"""A client is accepted again after this, where the process has no descriptor left."""


class AgentServer:
    """Lends agents to other processes over a unix socket; the requests to one agent take turns.

    A thread per client, all ended by :meth:`close`; the agents themselves stay the caller's.
    """

    def __init__(self, agents: Sequence[Agent], socket_path: Path) -> None:
        self._agents = tuple(agents)
        self._path = socket_path
        self._clients: set[socket.socket] = set()
        self._lock = threading.Lock()
        _refuse_if_served(socket_path)
        socket_path.parent.mkdir(parents=True, exist_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._listener.bind(str(socket_path))
            socket_path.chmod(0o600)
            self._listener.listen()
        except OSError as exc:
            self._listener.close()
            raise BenchError(f"cannot serve the link box at {socket_path}: {exc}") from exc
        self._thread = threading.Thread(target=self._accept, name="link-box", daemon=True)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes accept(), which close() alone would not
        self._listener.close()
        self._thread.join(timeout=5)
        with self._lock:
            for client in self._clients:
                with suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        self._path.unlink(missing_ok=True)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError as exc:
                if exc.errno in (errno.EBADF, errno.EINVAL):  # it was closed
                    return
                time.sleep(_AGAIN_S)
                continue
            with self._lock:
                self._clients.add(client)
            threading.Thread(target=self._serve, args=(client,), name="link-box-client", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            while True:
                length, kind, number = _CALL.unpack(_exactly(client, _CALL.size))
                payload = _exactly(client, length)
                status, answer = _OK, b""
                try:
                    answer = self._agents[number].ask(Kind(kind), payload)
                except (HilError, ValueError, IndexError) as exc:
                    status, answer = _FAILED, (exc.message if isinstance(exc, HilError) else str(exc)).encode()
                client.sendall(_CALL.pack(len(answer), kind, status) + answer)
        except OSError:
            return  # the client went away
        finally:
            with self._lock:
                self._clients.discard(client)
            client.close()


class AgentClient(Agent):
    """One of the agents that another process serves at ``socket_path``. BenchError when nobody does."""

    def __init__(self, socket_path: Path, number: int = 0, *, timeout_s: float = 20.0) -> None:
        self._path, self._number = socket_path, number
        self._lock = threading.Lock()
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._sock.settimeout(timeout_s)
        try:
            self._sock.connect(str(socket_path))
        except OSError as exc:
            self._sock.close()
            raise BenchError(
                f"no link box answers at {socket_path}: {exc.strerror or exc}",
                remedy="bring the bench up (`hil bench up`)",
            ) from exc
        self._greet()

    def ask(self, kind: Kind, payload: bytes = b"") -> bytes:
        with self._lock:
            try:
                self._sock.sendall(_CALL.pack(len(payload), kind, self._number) + payload)
                length, _, status = _CALL.unpack(_exactly(self._sock, _CALL.size))
                answer = _exactly(self._sock, length)
            except OSError as exc:
                raise BenchError(
                    f"the link box at {self._path} went away: {exc}", remedy="bring the bench up again (`hil bench up`)"
                ) from exc
        if status != _OK:
            raise BenchError(answer.decode(errors="replace"))
        return answer

    def close(self) -> None:
        self._sock.close()


def _exactly(sock: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = sock.recv(length - len(data))
        if not piece:
            raise ConnectionResetError("connection closed")
        data += piece
    return data


def _refuse_if_served(socket_path: Path) -> None:
    """Remove a socket that a killed owner left; BenchError when a living one answers there."""
    if not socket_path.exists():
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(socket_path))
        except OSError:
            socket_path.unlink(missing_ok=True)
            return
    raise BenchError(f"a link box is already served at {socket_path}", remedy="`hil bench down` first")
