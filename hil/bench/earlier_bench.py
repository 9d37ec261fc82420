"""What a killed keeper left of a bench, taken away by the keeper that brings up one of the same name."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from hil.bench.state import disk_dir
from hil.boards.container.board import LABEL

if TYPE_CHECKING:
    from docker import DockerClient


def remove_earlier_bench(name: str, client: DockerClient) -> None:
    """Nothing of bench ``name`` is there afterwards. The caller holds its lock. Raises what resists."""
    containers = client.containers.list(all=True, filters={"label": f"{LABEL}={name}"})
    if not containers and not disk_dir(name).exists():
        return  # a keeper takes its boards' disks along, unless it was killed
    from hil.bench import leftovers  # only then: everybody who brings a bench up would wait for it

    for container in containers:
        container.remove(force=True, v=True)
    others = leftovers.live_benches() - {name}
    for kind in (leftovers.Namespaces(), leftovers.Nics(), leftovers.Mounts(), leftovers.LoopDevices()):
        for leftover in list(kind.find(others)):
            if leftover.bench == name:
                kind.remove(leftover)
    shutil.rmtree(disk_dir(name), ignore_errors=True)
