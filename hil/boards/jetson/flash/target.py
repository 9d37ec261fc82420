"""The module that is flashed: found by its lab file or on its bench, put into recovery, and written."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hil.boards.capabilities import Recoverable
from hil.boards.jetson.flash.initrd_flash import FlashPlan, FlashReport
from hil.boards.jetson.flash.initrd_flash import flash as write
from hil.boards.jetson.flash.recovery import SYSFS, UsbDevice, UsbPort, enter_recovery
from hil.boards.protocol import Board, Fidelity
from hil.core.command import StepView
from hil.errors import BenchError, ConfigurationError
from hil.lab.model import Lab

EMMC = "emmc"

CONFIGS = {
    "p3701": "jetson-agx-orin-devkit",
    "p3701-0002": "igx-orin-devkit",
    "p3701-0008": "jetson-agx-orin-devkit-industrial",
    "p3767": "jetson-orin-nano-devkit",
}
"""Module, or its family, to the configuration of its developer kit, as NVIDIA's quick-start guide has them."""
STORAGE = {"p3701": EMMC, "p3767": "nvme0n1p1"}
"""Where the root file system goes: of these modules only an AGX has eMMC."""


@dataclass(frozen=True)
class FlashTarget:
    """The module to flash, and how it gets into force-recovery mode."""

    name: str
    module: str
    usb_path: str
    enter: Callable[[], object] | None  # returns once USB proves it; None: by hand only
    by_pin: bool = False  # then it can be reset even when it is in recovery already


def plan_of(
    target: FlashTarget,
    tree: Path,
    *,
    ab: bool,
    size: str = "",
    storage: str | None = None,
    config: str | None = None,
    layout: str = "",
) -> FlashPlan:
    """Return the plan of the flash tool; ConfigurationError when the tree lacks files or the options do not fit."""
    family = target.module.partition("-")[0]
    where = storage or STORAGE[family]
    if where == EMMC and family != "p3701":
        raise ConfigurationError(f"{target.name}: a {target.module} has no eMMC", remedy="--storage nvme0n1p1")
    if ab and where != EMMC and not size:
        raise ConfigurationError(
            "two root file systems need to know how large one is",
            remedy="--size 8GiB; both, and what the layout adds, must fit on the storage",
        )
    plan = FlashPlan(
        tree.expanduser().absolute(),
        config or CONFIGS.get(target.module, CONFIGS[family]),
        target.module,
        external_device="" if where == EMMC else where,
        external_layout=layout,
        external_size=size,
        root_device="internal" if where == EMMC else "",
        ab=ab,
    )
    plan.check()
    return plan


def flash_board(
    target: FlashTarget, plan: FlashPlan, *, log: Path, sysfs: Path = SYSFS, progress: StepView
) -> FlashReport:
    """Put the module into recovery and flash it. Errors as of ``hil.boards.jetson.flash.recovery`` and ``flash``."""
    into_recovery(target, sysfs=sysfs, progress=progress)
    port = UsbPort(target.usb_path, sysfs)
    progress.begin(f"flash {target.name}")
    as_root = () if os.geteuid() == 0 else ("sudo", "-n", "-E")
    report = write(plan, [port], log=log, progress=progress.say, prefix=as_root)
    progress.end("written", report.seconds)
    return report


def into_recovery(target: FlashTarget, *, sysfs: Path = SYSFS, progress: StepView) -> UsbDevice:
    """Put the module into force-recovery mode, unless it is in it; its USB device. Raises as ``enter_recovery``."""
    port = UsbPort(target.usb_path, sysfs)
    progress.begin(f"{target.name} into recovery")
    began = time.monotonic()
    there = port.device()
    is_ready = there is not None and there.in_recovery
    if is_ready:
        port.check(target.module)  # a wrong module is not even reset
    port.alone_in_recovery()
    if target.enter is not None and (target.by_pin or not is_ready):
        target.enter()
    device = port.check(target.module)
    progress.end(f"on USB port {target.usb_path}", time.monotonic() - began)
    return device


def target_on_bench(one: Board, sysfs: Path = SYSFS) -> FlashTarget:
    """Return the module of a board; ConfigurationError without a module or without a known USB port."""
    if not isinstance(one, Recoverable) or one.fidelity is not Fidelity.HARDWARE:
        raise _no_module(one.name)
    usb_path, enter = _usb_path(one.name, one.usb_path), partial(one.enter_recovery, sysfs=sysfs)
    return FlashTarget(one.name, one.module, usb_path, enter, by_pin=one.has_recovery_pin)


def target_in_lab(name: str, lab: Lab, sysfs: Path = SYSFS) -> FlashTarget:
    """Return the module from a lab file alone: it gets into recovery by a pin or by hand."""
    from hil.boards.power.build import supervisor_of

    boards = {b.name: b for b in lab.boards}
    if name not in boards:
        raise ConfigurationError(f"lab {lab.name} has no board {name}", remedy=f"boards: {', '.join(boards)}")
    spec = boards[name]
    section = spec.real
    if section is None:
        raise _no_module(name)
    usb_path = _usb_path(name, section.recovery.usb_path if section.recovery else "")
    supervisor = section.supervisor
    if supervisor is None or supervisor.recovery_pin is None:
        return FlashTarget(name, spec.module, usb_path, None)
    parts, port = supervisor_of(name, supervisor), UsbPort(usb_path, sysfs)
    enter = partial(enter_recovery, port, spec.module, parts.force_recovery)
    return FlashTarget(name, spec.module, usb_path, enter, by_pin=True)


def _no_module(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} is a container board: there is no module to flash, and no force-recovery mode",
        remedy="a container board gets its OS by an upload (`hil campaign run`); "
        "only boards with driver: jetson and without stand_in are flashed",
    )


def _usb_path(name: str, usb_path: str) -> str:
    if not usb_path:
        raise BenchError(
            f"board {name}: no USB port is known for it",
            remedy="cable its USB device port, put it into recovery, and give recovery.usb_path in the lab file: "
            "`hil lab discover` lists it",
        )
    return usb_path
