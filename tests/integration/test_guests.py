"""An aircraft crosses the contacts of three spacecraft, is handed over twice, gets its mask, and sees nothing else."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hil.core import netns, paths
from hil.core.wait import wait_until
from hil.lab.addressing import guest_address, node_address
from hil.lab.model import load_lab
from hil.onboard.node.answers import PORT
from tests.kits.bare_boards import BareBoards
from tests.kits.container_boards import ip

pytestmark = pytest.mark.integration

LAB = paths.ROOT / "lab/guests.yaml"
NIC = "hiltgst0"


# Not beside others: its flight goes on by the clock, and what is late there is not repeated.
def test_an_aircraft_is_handed_over_twice_gets_its_mask_once_and_sees_nothing_else(tmp_path: Path) -> None:
    words = ["campaign", "run", "guest", "--lab", "guests", "-o", str(tmp_path / "out"), "-q"]
    done = subprocess.run(
        [sys.executable, "-m", "hil.cli", *words], cwd=tmp_path, capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = tmp_path.glob("out/runs/*/result.json")
    result = json.loads(path.read_text())
    values = {each["name"]: each["value"] for test in result["tests"] for each in test["measurements"]}
    assert values["hand-overs"] == 2 and values["spacecraft that served it"] == 3
    assert values["pixels that differ"] == 0 and values["jobs that were run"] == 1
    assert values["attempts at others"] == 2 * (2 * (4 + 4 + 3) - 1) and values["of these reached"] == 0


@pytest.mark.side_by_side
def test_a_real_machine_behind_a_nic_of_this_host_reaches_its_board_and_cannot_be_another(tmp_path: Path) -> None:
    """On the routers, switches and links of a bench, with bare namespaces for boards and the machine."""
    lab = load_lab(LAB)
    (guest,) = lab.guests
    real = lab.model_copy(update={"guests": (guest.model_copy(update={"nic": NIC}),)})
    with machine() as here, BareBoards("hiltnic", real, tmp_path) as boards, listening(boards):
        own, router = guest_address(real, guest.name), node_address(real, guest.name)
        ip("-n", here, "addr", "add", f"{own}/24", "dev", "eth0")
        ip("-n", here, "addr", "add", "198.18.2.11/32", "dev", "lo")  # a board's own address, to come from
        ip("-n", here, "route", "add", "198.18.0.0/15", "via", router)
        wait_until(lambda: answers(boards, here, "g01a", own), what="the board that serves it", deadline_s=5)
        for board in ("g01b", "g02a", "g10a"):
            assert not answers(boards, here, board, own), board
        assert not answers(boards, here, "g01a", "198.18.2.11"), "with the address of another board"
        assert answers(boards, boards.namespace("g02a"), "g01a", boards.address("g02a")), "boards among themselves"
        for place in (boards.plumbing.ground, boards.namespace("g01a")):
            with netns.inside(here):
                server = socket.create_server((own, PORT))
            with server, pytest.raises(OSError):
                netns.connect(place, (own, PORT), timeout_s=1.0).close()
    # The kernel takes the cable away some time after the namespace at its other end
    wait_until(lambda: not Path(f"/sys/class/net/{NIC}").exists(), what=f"NIC {NIC} to go", deadline_s=5)


@contextmanager
def machine() -> Iterator[str]:
    """A machine in a namespace, on a cable to a NIC of this host; its namespace."""
    here = "hil.hiltnic.machine"
    netns.create(here)
    try:
        ip("link", "add", NIC, "type", "veth", "peer", "name", "eth0", "netns", here)
        ip("-n", here, "link", "set", "eth0", "up")
        ip("link", "set", NIC, "up")
        yield here
    finally:
        netns.delete(here)


@contextmanager
def listening(boards: BareBoards) -> Iterator[None]:
    """Every board listens at the port of the node service."""
    with ExitStack() as stack:
        for board in boards.lab.boards:
            with netns.inside(boards.namespace(board.name)):
                stack.enter_context(socket.create_server((boards.address(board.name), PORT)))
        yield


def answers(boards: BareBoards, namespace: str, board: str, source: str) -> bool:
    with netns.inside(namespace):
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with sock:
        sock.settimeout(1.0)
        sock.bind((source, 0))
        return sock.connect_ex((boards.address(board), PORT)) == 0
