"""The board objects of a bench, the same in the keeper and in any process that uses the bench."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from hil.bench.plumbing import Plumbing
from hil.bench.stand_in_strip import ADDRESS
from hil.bench.state import disk_dir
from hil.boards.console.log_console import ConsoleLine
from hil.boards.container.board import LABEL
from hil.boards.kinds import Site, kind_of
from hil.evidence.sink import Sink

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.boards.protocol import Board
    from hil.images.pki import Pki


def sites(plumbing: Plumbing, client: DockerClient, image_id: str, pki: Pki, sink: Sink) -> dict[str, Site]:
    """Return what the bench gives to each board's driver, by the board's name."""
    return {
        board.name: Site(
            bench=plumbing.bench,
            spacecraft=plumbing.lab.spacecraft_of(board.name).name,
            addresses=plumbing.board_address(board.name),
            facts=plumbing.board_facts(board.name),
            disks=disk_dir(plumbing.bench),
            management=plumbing.management,
            strip=(ADDRESS, number),
            client=client,
            image_id=image_id,
            plug=partial(plumbing.plug, board.name),
            pki=pki,
            sink=sink,
        )
        for number, board in enumerate(plumbing.lab.boards)
    }


def boards_of(
    plumbing: Plumbing,
    client: DockerClient,
    image_id: str,
    consoles: Mapping[str, ConsoleLine],
    pki: Pki,
    sink: Sink,
) -> dict[str, Board]:
    """Return the drivers of all boards of a lab by name, in lab file order; nothing is started."""
    places = sites(plumbing, client, image_id, pki, sink)
    return {
        board.name: kind_of(board).board(board, places[board.name], consoles[board.name])
        for board in plumbing.lab.boards
    }


def firmware_pids(client: DockerClient, bench: str) -> dict[str, int]:
    """Return the host PID of the firmware of every board of a bench that runs in a container now, by its name."""
    containers = client.containers.list(filters={"label": f"{LABEL}={bench}"})
    return {
        c.labels["hil.board"]: int(c.attrs["State"]["Pid"]) for c in containers if c.attrs["State"]["Pid"]
    }
