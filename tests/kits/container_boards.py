"""A bench of nothing but boards: scratch management namespace, a veth per board, one console pump."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hil.boards.console.pump import ConsolePump
from hil.boards.container.board import BoardFacts, ContainerBoard, ContainerSpec
from hil.boards.container.gpu import Gpu
from hil.boards.container.os_processes import os_pid
from hil.boards.container.storage import prepare_nv_dir
from hil.boards.protocol import Via
from hil.boards.ssh.login import Target
from hil.core import netns
from hil.errors import BenchError
from hil.images.images import Images, ensure_images
from hil.images.pki import ensure_pki
from hil.images.recipes import REFERENCE, Recipe

if TYPE_CHECKING:
    from docker import DockerClient

MODEL = "NVIDIA Jetson AGX Orin Developer Kit"


def engine_client() -> AbstractContextManager[DockerClient]:
    """A container engine for the time of a test module."""
    from hil.host.engine.engine import engine

    return engine()


def ip(*argv: str) -> None:
    subprocess.run(["ip", *argv], check=True, capture_output=True, text=True)


def plug_management(namespace: str, index: int, pid: int) -> None:
    """A veth from the scratch namespace to the board's eth0, as the bench does it for real."""
    near, far, board = f"m{index}", f"198.19.{index}.1/30", f"198.19.{index}.2/30"
    inside = ["nsenter", f"--net=/proc/{pid}/ns/net", "--", "ip"]
    subprocess.run(["ip", "-n", namespace, "link", "delete", near], capture_output=True)
    peer = ["type", "veth", "peer", "name", "eth0", "netns", str(pid)]
    ip("-n", namespace, "link", "add", near, *peer)
    ip("-n", namespace, "address", "add", far, "dev", near)
    ip("-n", namespace, "link", "set", near, "up")
    for words in (["address", "add", board, "dev", "eth0"], ["link", "set", "eth0", "up"]):
        subprocess.run([*inside, *words], check=True, capture_output=True)


@contextmanager
def boards(
    client: DockerClient,
    count: int,
    *,
    data_size_bytes: int = 256 << 20,
    recipe: Recipe = REFERENCE,
    model: str = MODEL,
    module: str = "p3701-0005",
    names: Sequence[str] = (),
    gpu: Gpu | None = None,
    twin: bool = False,
) -> Iterator[tuple[list[ContainerBoard], Images]]:
    """``count`` boards, created but powered off; everything is gone afterwards."""
    images = ensure_images(client, recipe=recipe)
    pki = ensure_pki()
    directory = Path(tempfile.mkdtemp(prefix="hilt-twin-"))
    namespace = directory.name
    netns.create(namespace)
    made: list[ContainerBoard] = []
    try:
        with ConsolePump(directory) as pump:
            try:
                for index in range(1, count + 1):
                    name = names[index - 1] if names else f"twin-{index}"
                    facts = BoardFacts(
                        name,
                        "A",
                        model,
                        f"14230000000{index}",
                        f"198.18.1.{10 + index}",
                        f"198.19.{index}.2",
                        {},
                        module,
                        twin,
                    )
                    key, host_key = pki.ssh_key, pki.host_key(name).public_line
                    target = Target(name, namespace, facts.management_address, key, host_key)
                    spec = ContainerSpec(
                        bench=namespace,
                        facts=facts,
                        nv_dir=directory / name,
                        image_id=images.hardware_image_id,
                        console=pump.add(name),
                        targets={Via.MANAGEMENT: target},
                    )
                    prepare_nv_dir(spec.nv_dir, facts, images.factory, pki, data_size_bytes=data_size_bytes)

                    def plug(pid: int, number: int = index) -> None:
                        plug_management(namespace, number, pid)

                    board = ContainerBoard(spec, client, plug)
                    made.append(board)
                    board.create(gpu)
                yield made, images
            finally:
                for board in made:
                    board.remove()
    finally:
        netns.delete(namespace)
        shutil.rmtree(directory, ignore_errors=True)


def freeze_os(firmware_pid: int, *, frozen: bool) -> None:
    """Stop (or continue) every process of the OS but not the firmware: a hang that the watchdog must notice.

    BenchError when no OS runs.
    """
    init = os_pid(firmware_pid)
    if init is None:
        raise BenchError("no OS runs on this board: nothing to freeze")
    namespace = Path(f"/proc/{init}/ns/pid").readlink()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if (entry / "ns/pid").readlink() == namespace:
                    os.kill(int(entry.name), signal.SIGSTOP if frozen else signal.SIGCONT)
