"""Boards that are a network namespace and nothing else, on the routers and links of a real bench: who reaches whom?"""

from __future__ import annotations

import select
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hil.bench.plumbing import FLIGHT_NIC, Plumbing
from hil.bench.routing import Routing
from hil.core import netns
from hil.lab.model import Lab
from hil.links.link_box import LinkBox

PORT = 8470
QUIET_S = 1.0
TRIES = ("reach", "forge", "starve")
"""TCP to the node's port; a UDP packet as if from a board of the other's tenant; a hundred with one's own address."""
_BURST = 100
_SO_RCVBUFFORCE = 33


class BareBoards:
    """All boards of a lab, each a namespace; the routers, switches and links are those of a bench."""

    def __init__(self, name: str, lab: Lab, directory: Path) -> None:
        self.lab, self._name, self._directory = lab, name, directory
        self.plumbing = Plumbing(name, lab)
        self._stack = ExitStack()

    def __enter__(self) -> BareBoards:
        with ExitStack() as stack:
            stack.callback(self.plumbing.remove)
            self.plumbing.build()
            for board in self.lab.boards:
                netns.create(self.namespace(board.name))
                argv = netns.argv_inside(self.namespace(board.name), ["sleep", "600"])
                sleeper = subprocess.Popen(argv, start_new_session=True)
                stack.callback(sleeper.wait)
                stack.callback(sleeper.kill)
                while Path(f"/proc/{sleeper.pid}/ns/net").stat().st_ino != self._inode(board.name):
                    time.sleep(0.01)
                self.plumbing.plug(board.name, sleeper.pid)
            socket_path = self._directory / "links.sock"
            self.links = stack.enter_context(
                LinkBox.up(self.plumbing.box, self.plumbing.wires({}), socket_path=socket_path)
            )
            self.plumbing.address_links()
            Routing(self.plumbing).apply()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def namespace(self, board: str) -> str:
        return f"hil.{self._name}.board-{board}"

    def _inode(self, board: str) -> int:
        return netns.path_of(self.namespace(board)).stat().st_ino

    def address(self, board: str) -> str:
        return self.plumbing.addresses[board].flight

    def attempts(self) -> dict[tuple[str, str], frozenset[str]]:
        """Let every board try :data:`TRIES` on every other; return what succeeded, by pair.

        The ground station, as the board "ground", tries to reach each.
        """
        done: dict[tuple[str, str], set[str]] = {}
        names = [board.name for board in self.lab.boards]
        with ExitStack() as stack:
            tcp, udp = {}, {}
            for name in names:
                with netns.inside(self.namespace(name)):
                    tcp[name] = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
                    udp[name] = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                tcp[name].bind((self.address(name), PORT))
                tcp[name].listen(256)
                udp[name].bind((self.address(name), PORT))
                udp[name].setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
                udp[name].setblocking(False)
            calls = {}
            for here in (*names, "ground"):
                for there in names:
                    if here != there:
                        calls[here, there] = stack.enter_context(self._call(here, there))
            for here in names:
                for there in names:
                    if here != there:
                        self._forge(here, there)
            time.sleep(QUIET_S)
            for pair, call in calls.items():
                ready = select.poll()
                ready.register(call, select.POLLOUT)
                if ready.poll(0) and not call.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    done.setdefault(pair, set()).add("reach")
            for there in names:
                for text in _received(udp[there]):
                    what, here = text.split()
                    done.setdefault((here, there), set()).add(what)
        return {pair: frozenset(found) for pair, found in done.items()}

    @contextmanager
    def _call(self, here: str, there: str) -> Iterator[socket.socket]:
        with netns.inside(self.plumbing.ground if here == "ground" else self.namespace(here)):
            call = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        with call:
            call.setblocking(False)
            call.connect_ex((self.address(there), PORT))
            yield call

    def _forge(self, here: str, there: str) -> None:
        """Send a packet as if from a board of the other's tenant, and many as oneself."""
        own = self.lab.tenant_of(there)
        mates = [name for name in (own.boards if own else ()) if name != there] or [there]
        for what, source in (("forge", self.address(mates[0])), ("starve", self.address(here))):
            with netns.inside(self.namespace(here)):
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            with sock:
                sock.setsockopt(socket.IPPROTO_IP, socket.IP_TRANSPARENT, 1)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, FLIGHT_NIC.encode())
                sock.setblocking(False)
                sock.bind((source, 0))
                for _ in range(_BURST if what == "starve" else 1):
                    try:
                        sock.sendto(f"{what} {here}".encode(), (self.address(there), PORT))
                    except OSError:
                        break


def _received(sock: socket.socket) -> Iterator[str]:
    while True:
        try:
            yield sock.recv(100).decode()
        except BlockingIOError:
            return
