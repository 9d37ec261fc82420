"""The cables of a board on a table: its sshd on a port of the loopback, its flight port on a NIC of this machine."""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from socket import socket
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

from hil.boards.container.board import ContainerBoard
from hil.core import netns
from tests.kits.container_boards import ip


class Forward(ThreadingTCPServer):
    """A port of the loopback that leads to a board's sshd, as a cable in a lab would."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, namespace: str, address: str) -> None:
        class Handler(BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    there = netns.connect(namespace, (address, 22), timeout_s=1.0)
                    there.settimeout(None)
                    back = threading.Thread(target=_copy, args=(there, self.request), daemon=True)
                    back.start()
                    _copy(self.request, there)
                    back.join()
                    there.close()

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A board without power is what some tests are about."""


def _copy(source: socket, sink: socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(1)


@dataclass(frozen=True)
class FlightCable:
    """From NIC ``nic`` of this machine to a hub in a namespace of its own, into which a board is plugged."""

    namespace: str
    nic: str

    @contextlib.contextmanager
    def laid(self) -> Iterator[None]:
        netns.create(self.namespace)
        try:
            self._ip("link", "add", "hub", "type", "bridge", "forward_delay", "0")
            ip("link", "add", self.nic, "type", "veth", "peer", "name", "c0", "netns", self.namespace)
            self._ip("link", "set", "c0", "master", "hub", "up")
            self._ip("link", "set", "hub", "up")
            yield
        finally:
            netns.delete(self.namespace)

    def plug(self, board: ContainerBoard, address: str) -> None:
        """The board's flight port into the hub, with the address (of a /24) that its OS was given."""
        pid = str(board.firmware_pid())
        subprocess.run(["ip", "-n", self.namespace, "link", "delete", "b0"], capture_output=True)
        self._ip("link", "add", "b0", "type", "veth", "peer", "name", "mgbe0", "netns", pid)
        self._ip("link", "set", "b0", "master", "hub", "up")
        for words in (
            ["address", "add", f"{address}/24", "dev", "mgbe0"],
            ["link", "set", "mgbe0", "up"],
            ["route", "add", "198.18.0.0/15", "via", f"{address.rsplit('.', 1)[0]}.1"],
        ):
            subprocess.run(["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip", *words], check=True)

    def _ip(self, *words: str) -> None:
        ip("-n", self.namespace, *words)
