"""What goes into a link comes out of it, byte for byte: throughput and delay alone do not show that."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.core import netns
from hil.links.link_box import End, LinkBox, Wire
from hil.links.state import LinkState

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

NEAR, FAR, BOX = (f"hilt-integrity-{os.getpid()}-{end}" for end in ("a", "b", "box"))
CONTENT = os.urandom(4_000_000)


@pytest.fixture(params=["exact", "bulk"])
def link(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Two namespaces joined by one link of 200 Mbit/s, 2 ms."""
    state = LinkState(delay_us=2000, rate_bps=200_000_000)
    wire = Wire("wire", End(NEAR, "nic"), End(FAR, "nic"), state, state)
    try:
        for name in (NEAR, FAR, BOX):
            netns.create(name)
        with LinkBox.up(BOX, [wire], socket_path=tmp_path / "links.sock", profile=request.param):
            for name, address in ((NEAR, "198.18.77.1"), (FAR, "198.18.77.2")):
                netns._ip("-n", name, "addr", "add", f"{address}/24", "dev", "nic")
            yield
    finally:
        for name in (NEAR, FAR, BOX):
            netns.delete(name)


@pytest.mark.parametrize(
    ("sender", "receiver", "address"),
    [(NEAR, FAR, "198.18.77.2"), (FAR, NEAR, "198.18.77.1")],
    ids=["near to far", "far to near"],
)
def test_a_stream_arrives_byte_for_byte(link: None, sender: str, receiver: str, address: str) -> None:
    with netns.inside(receiver):
        server = socket.create_server((address, 0))
    arrived = bytearray()

    def receive() -> None:
        connection, _ = server.accept()
        with connection:
            while part := connection.recv(65536):
                arrived.extend(part)

    reader = threading.Thread(target=receive, daemon=True)
    reader.start()
    with server, netns.connect(sender, (address, server.getsockname()[1]), timeout_s=20) as sock:
        sock.sendall(CONTENT)
        sock.shutdown(socket.SHUT_WR)
        reader.join(30)
    wrong = [i for i in range(0, len(CONTENT), 1448) if arrived[i : i + 1448] != CONTENT[i : i + 1448]]
    assert len(arrived) == len(CONTENT)
    assert wrong == [], f"{len(wrong)} segments differ, the first at byte {wrong[0]}"
