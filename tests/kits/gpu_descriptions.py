"""A host with a GPU: device tree, driver and CDI description, as ``nvidia-ctk cdi generate`` (1.17) writes it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

LIBRARIES = "usr/lib/x86_64-linux-gnu"
NVIDIA = f"""\
---
cdiVersion: 0.5.0
containerEdits:
    deviceNodes:
        - path: /dev/nvidia-uvm
        - path: /dev/nvidiactl
    env:
        - NVIDIA_VISIBLE_DEVICES=void
    hooks:
        - args: [nvidia-cdi-hook, create-symlinks, --link, "libcuda.so.1::/{LIBRARIES}/libcuda.so"]
          hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
        - args: [nvidia-cdi-hook, update-ldcache, --folder, /{LIBRARIES}]
          hookName: createContainer
          path: /usr/bin/nvidia-cdi-hook
    mounts:
        - containerPath: /{LIBRARIES}/libcuda.so.580.65.06
          hostPath: /{LIBRARIES}/libcuda.so.580.65.06
          options: [ro, nosuid, nodev, bind]
        - containerPath: /usr/bin/nvidia-smi
          hostPath: /usr/bin/nvidia-smi
          options: [ro, nosuid, nodev, bind]
devices:
    - containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
      name: "0"
    - containerEdits:
        deviceNodes:
            - path: /dev/nvidia1
      name: "1"
    - containerEdits:
        deviceNodes:
            - path: /dev/nvidia0
            - path: /dev/nvidia1
      name: all
kind: nvidia.com/gpu
"""


def gpu_host(root: Path, description: str = NVIDIA, *, nodes: bool = False) -> Path:
    """Lay a host out below ``root``; ``nodes``: with device nodes, which lead to /dev/null (root only)."""
    for place in ("etc/cdi", "dev", LIBRARIES, "usr/bin"):
        (root / place).mkdir(parents=True)
    (root / "etc/cdi/nvidia.yaml").write_text(description)
    for name in ("nvidia0", "nvidia1", "nvidia-uvm", "nvidiactl"):
        if nodes:
            os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        else:
            (root / "dev" / name).touch()
    (root / "usr/bin/nvidia-smi").write_text("#!/bin/sh\n")
    (root / LIBRARIES / "libcuda.so.580.65.06").write_text("the driver\n")
    for link in ("libcuda.so", "libcuda.so.1"):
        (root / LIBRARIES / link).symlink_to("libcuda.so.580.65.06")
    return root
