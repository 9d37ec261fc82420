"""The driver ``container``: a board in a container of this machine."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from hil.boards.console.log_console import ConsoleLine
from hil.boards.container.board import BoardFacts, ContainerBoard, ContainerSpec
from hil.boards.container.gpu import Gpu, gpu_of, with_cuda
from hil.boards.container.storage import DATA_SIZE_BYTES, prepare_nv_dir
from hil.boards.kinds import BoardKind, Equipment, Rack, Site
from hil.boards.ssh.login import Target
from hil.core.paths import cache
from hil.evidence.sink import Sink
from hil.images.rootfs import cuda_tree
from hil.lab.model import BoardSpec
from hil.lab.yamlfile import with_example


class ContainerBoardSpec(BoardSpec):
    """A board that the bench makes itself: a container that boots and behaves like an Orin module."""

    model_config = with_example("""\
name: a1
driver: container
module: p3701-0005
""")
    orin = True
    driver: Literal["container"] = Field(default="container", description="a virtual board; others: the sections below")
    gpu: str = Field(
        default="auto",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:/-]*(=[A-Za-z0-9][A-Za-z0-9_.:-]*)?$",
        max_length=128,
        description="NVIDIA GPU of this host, by its CDI description: auto (all there are, if any), none, a number "
        "(0), or any CDI device (nvidia.com/gpu=0)",
    )


def container(name: str, site: Site, console: ConsoleLine, sink: Sink) -> ContainerBoard:
    """Return the driver of a board in a container; it makes and starts nothing."""
    host_key = site.pki.host_key(name).public_line
    spec = ContainerSpec(
        bench=site.bench,
        facts=BoardFacts(**site.facts),
        nv_dir=site.disks / name,
        image_id=site.image_id,
        console=console,
        targets={via: Target(name, *way, site.pki.ssh_key, host_key) for via, way in site.addresses.items()},
        quotas=site.quotas,
    )
    return ContainerBoard(spec, site.client, site.plug, sink)


def install(board: ContainerBoard, site: Site, rack: Rack, gpu: Gpu | None = None) -> None:
    """Make the board's disks as they leave the factory, and its container; it has no power.

    Its data partition has no more than its tenant's quota.
    """
    size = min(DATA_SIZE_BYTES, site.quotas.storage_bytes or DATA_SIZE_BYTES)
    prepare_nv_dir(board.spec.nv_dir, board.spec.facts, rack.images.factory, site.pki, data_size_bytes=size)
    board.create(gpu)


def _board(spec: ContainerBoardSpec, site: Site, console: ConsoleLine) -> ContainerBoard:
    return container(spec.name, site, console, site.sink)


def _equip(spec: ContainerBoardSpec, site: Site, rack: Rack) -> Equipment:
    console = rack.pump("consoles").add(spec.name)
    board, gpu = _board(spec, site, console), gpu_of(spec.gpu)
    if gpu and (cuda := cuda_tree(cache())).is_dir():
        gpu = with_cuda(gpu, cuda)

    def power_on() -> None:
        install(board, site, rack, gpu)
        board.supervisor.on()

    return Equipment(board, console, power_on, board.remove)


CONTAINER = BoardKind(ContainerBoardSpec, _board, _equip, data_bytes=lambda _spec: DATA_SIZE_BYTES)
