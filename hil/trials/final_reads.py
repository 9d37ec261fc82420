"""Every board read once more: slot, system, epoch, data; and the file by which lost data is noticed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from hil.boards.protocol import Board, Via
from hil.errors import HilError
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeClient
from hil.trials.history import BoardRead

MARK = "/data/hil-trial-mark"
ANSWER_S = 3.0


def put_marks(fleet: Fleet, seed: int) -> dict[str, str]:
    """Write a file to every board's data partition, synced; the sha256 of each by board. Raises what a session does."""

    def one(board: Board) -> str:
        content = hashlib.sha256(f"{seed} {board.name}".encode()).hexdigest() * 64
        with board.shell() as shell:
            shell.run(["sh", "-c", f"cat >{MARK} && sync {MARK} && sync /data"], stdin=content.encode())
        return hashlib.sha256(content.encode()).hexdigest()

    with ThreadPoolExecutor(len(fleet)) as pool:
        return dict(zip(fleet.names, pool.map(one, fleet.members), strict=True))


def read_all(fleet: Fleet, marks: Mapping[str, str]) -> list[BoardRead]:
    """Read every board over the management network; one that does not answer says why."""
    with ThreadPoolExecutor(len(fleet)) as pool:
        return list(pool.map(lambda board: _read(fleet, board, marks.get(board.name, "")), fleet.members))


def _read(fleet: Fleet, board: Board, mark: str) -> BoardRead:
    read = BoardRead(board.name, board.spacecraft)
    try:
        boot = board.boot.state()
        read = replace(read, active=boot.active, bootable=tuple(slot.bootable for slot in boot.slots))
        who = board.identity()
        read = replace(read, slot=who.slot, os_version=who.os_version, image_sha256=who.image_sha256)
        with board.shell() as shell:
            seen = shell.run(["sha256sum", MARK], check=False).stdout.split()
        read = replace(read, data_intact=seen[:1] == [mark] if mark else None)
        with NodeClient(fleet, board.name, Via.MANAGEMENT, timeout_s=ANSWER_S) as client:
            health = client.health()
        epoch = health.claim.epoch if health.claim.serving else None
        return replace(read, answers=True, confirmed=health.confirmed, healthy=health.healthy, epoch=epoch)
    except HilError as exc:
        return replace(read, problem=exc.message)
