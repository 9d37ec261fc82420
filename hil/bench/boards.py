"""The board objects of a bench, the same in the keeper and in any process that uses the bench."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hil.bench.plumbing import Plumbing
from hil.bench.state import disk_dir
from hil.boards.console import ConsoleLine
from hil.boards.container import BoardFacts, ContainerBoard, ContainerSpec
from hil.evidence.sink import Sink

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.twin.pki import Pki


def container_boards(
    plumbing: Plumbing,
    client: DockerClient,
    image_id: str,
    consoles: dict[str, ConsoleLine],
    pki: Pki,
    sink: Sink,
) -> dict[str, ContainerBoard]:
    """Drivers of all container boards of a lab by name, in lab file order; nothing is started."""
    boards: dict[str, ContainerBoard] = {}
    for board in plumbing.lab.boards:
        facts = BoardFacts(**plumbing.board_facts(board.name))
        spec = ContainerSpec(
            bench=plumbing.bench,
            facts=facts,
            nv_dir=disk_dir(plumbing.bench) / board.name,
            image_id=image_id,
            console=consoles[board.name],
            addresses=plumbing.board_address(board.name),
            ssh_key=pki.ssh_key,
            host_key=pki.host_key(board.name).public_line,
        )

        def plug(pid: int, name: str = board.name) -> None:
            plumbing.plug(name, pid)

        boards[board.name] = ContainerBoard(spec, client, plug, sink)
    return boards
