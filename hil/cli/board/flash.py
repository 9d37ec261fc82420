"""`hil board flash`: write a new system to a real module over its USB cable."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hil.cli.output import JSON_OPTION, OutputFile, Progress, RenamedOptions, print_json
from hil.cli.select_bench import attach_board, board_command
from hil.errors import BenchError, ConfigurationError

if TYPE_CHECKING:
    from hil.boards.jetson.flash.initrd_flash import FlashPlan, FlashReport
    from hil.boards.jetson.flash.recovery import UsbDevice
    from hil.boards.protocol import Board

SYSFS = Path("/sys/bus/usb/devices")
EMMC = "emmc"

CONFIGS = {"p3701": "jetson-agx-orin-devkit", "p3767": "jetson-orin-nano-devkit"}
"""Family of modules to the configuration of its developer kit, as NVIDIA's quick-start guide has them."""
STORAGE = {"p3701": EMMC, "p3767": "nvme0n1p1"}
"""Where the root file system goes: of these modules only an AGX has eMMC."""


LAB_OPTION = click.option(
    "--lab",
    "lab_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="For a board that no bench has up yet: its lab file.",
)
SYSFS_OPTION = click.option(
    "--sysfs", type=click.Path(path_type=Path, file_okay=False), default=SYSFS, hidden=True
)


@dataclass(frozen=True)
class FlashTarget:
    """The module to flash, and how it gets into force-recovery mode."""

    name: str
    module: str
    usb_path: str
    enter: Callable[[], object] | None  # returns once USB proves it; None: by hand only
    by_pin: bool = False  # then it can be reset even when it is in recovery already


@click.command(cls=RenamedOptions, renamed={"--log": ("--output", "{}")})
@board_command
@click.option(
    "--tree",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Linux_for_Tegra, after apply_binaries.sh.",
)
@click.option("--ab", is_flag=True, help="Make two root file systems, A and B; a bench needs both.")
@click.option(
    "--size", default="", metavar="8GiB", help="Size of one root file system; needed for --ab on NVMe."
)
@click.option(
    "--storage",
    metavar=f"nvme0n1p1|{EMMC}",
    help="Target of the root file system; default: the module's boot storage.",
)
@click.option(
    "--config", metavar="NAME", help="<NAME>.conf in the tree; default: the module's developer kit."
)
@click.option("--layout", default="", metavar="XML", help="Partition layout of the storage, below the tree.")
@LAB_OPTION
@click.option(
    "-o",
    "--output",
    "log",
    type=OutputFile(),
    help="File for all output of the flash tool; default: one below this program's home.",
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@SYSFS_OPTION
@JSON_OPTION
def flash(
    name: str,
    tree: Path,
    ab: bool,
    size: str,
    storage: str | None,
    config: str | None,
    layout: str,
    lab_path: Path | None,
    log: Path | None,
    yes: bool,
    sysfs: Path,
    bench_name: str | None,
    as_json: bool,
) -> int:
    """Write a new system to a real module with NVIDIA's flash tool; everything on it is lost.

    The module is put into force-recovery mode (by its pin where one is wired, else by its Linux, unless it is there
    already) and must be the one of the lab file, by its USB identity and by its EEPROM, before anything is written.
    It takes 2 to 30 minutes. Container boards are refused: they have nothing to flash.

    A board that was never flashed does not answer, so no bench comes up with it: name its lab file with --lab. The
    board is leased meanwhile.

    \b
    Examples:
      hil board flash b1 --tree ~/Linux_for_Tegra --ab --size 8GiB
      hil board flash b1 --lab lab/mine.yaml --tree ~/Linux_for_Tegra --ab --size 8GiB --yes
      hil board flash b2 --tree ~/Linux_for_Tegra --storage emmc --config jetson-agx-orin-devkit
    """
    from hil.core import paths

    log = log or paths.home() / "flash" / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
    with target_of(name, bench_name, lab_path, sysfs) as target:
        plan = plan_of(target, tree, ab=ab, size=size, storage=storage, config=config, layout=layout)
        if not (yes or _agreed(target, plan)):
            click.echo(f"{name}: not flashed", err=True)
            return 130
        with Progress() as progress:
            report = flash_board(target, plan, log=log, sysfs=sysfs, progress=progress)
    if as_json:
        document = {"name": name, "module": target.module, "usb_path": target.usb_path, "log": str(log)}
        measured = {"seconds": round(report.seconds, 1), "eeprom_part": report.eeprom_part}
        print_json(document | measured | {"complaints": list(report.complaints)})
    else:
        click.echo(
            f"{name}: flashed in {report.seconds:.0f} s; its EEPROM says {report.eeprom_part}; log: {log}"
        )
        click.echo(
            "Its OS is new, and so is its host key: pin the new one in the lab file before a bench uses it."
        )
    return 0


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
    from hil.boards.jetson.flash.initrd_flash import FlashPlan

    family = target.module.partition("-")[0]
    where = storage or STORAGE[family]
    if where == EMMC and family != "p3701":
        raise ConfigurationError(
            f"{target.name}: a {target.module} has no eMMC", remedy="--storage nvme0n1p1"
        )
    if ab and where != EMMC and not size:
        raise ConfigurationError(
            "two root file systems need to know how large one is",
            remedy="--size 8GiB; both, and what the layout adds, must fit on the storage",
        )
    plan = FlashPlan(
        tree.expanduser().absolute(),
        config or CONFIGS[family],
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
    target: FlashTarget,
    plan: FlashPlan,
    *,
    log: Path,
    sysfs: Path = SYSFS,
    progress: Progress,
) -> FlashReport:
    """Put the module into recovery and flash it. Errors as of ``hil.boards.jetson.flash.recovery`` and ``flash``."""
    from hil.boards.jetson.flash.initrd_flash import flash as write
    from hil.boards.jetson.flash.recovery import UsbPort

    into_recovery(target, sysfs=sysfs, progress=progress)
    port = UsbPort(target.usb_path, sysfs)
    progress.begin(f"flash {target.name}")
    report = write(plan, [port], log=log, progress=progress.say, prefix=_as_root())
    progress.end("written", report.seconds)
    return report


def into_recovery(target: FlashTarget, *, sysfs: Path = SYSFS, progress: Progress) -> UsbDevice:
    """Put the module into force-recovery mode, unless it is in it; its USB device. Raises as ``enter_recovery``."""
    import time

    from hil.boards.jetson.flash.recovery import UsbPort

    port = UsbPort(target.usb_path, sysfs)
    progress.begin(f"{target.name} into recovery")
    began = time.monotonic()
    there = port.device()
    if there is not None and there.in_recovery:
        port.check(target.module)  # a wrong module is not even reset
    port.alone_in_recovery()
    if target.enter is not None and not (there is not None and there.in_recovery and not target.by_pin):
        target.enter()
    found = port.check(target.module)
    progress.end(f"on USB port {target.usb_path}", time.monotonic() - began)
    return found


def _as_root() -> tuple[str, ...]:
    return () if os.geteuid() == 0 else ("sudo", "-n", "-E")


def _agreed(target: FlashTarget, plan: FlashPlan) -> bool:
    from hil.boards.jetson.modules import sku_of

    if not sys.stdin.isatty():
        raise ConfigurationError(
            f"{target.name} was not flashed: there is no terminal to ask at", remedy="--yes, if you are sure"
        )
    where = plan.external_device or "eMMC"
    click.echo(
        f"{target.name}: {target.module} ({sku_of(target.module).name}) on USB port {target.usb_path}, "
        f"{plan.config}{', slots A and B' if plan.ab else ''}.\n"
        f"Everything on its {where} and in its QSPI flash is lost.",
        err=True,
    )
    return click.confirm("Flash it?", err=True)


@contextmanager
def target_of(name: str, bench_name: str | None, lab_path: Path | None, sysfs: Path) -> Iterator[FlashTarget]:
    """Find the board of a bench that is up, or of a lab file; then it is leased while the block runs."""
    if lab_path is None:
        with attach_board(bench_name, name) as board:
            yield target_on_bench(board, sysfs)
        return
    from hil.bench.state import lease_keys
    from hil.lab.model import load_lab
    from hil.leases.leases import Leases

    lab = load_lab(lab_path)
    target = target_in_lab(name, lab_path, sysfs)
    keys = dict(zip((b.name for b in lab.boards), lease_keys(lab, lab.name), strict=True))
    with Leases().take([keys[name]], purpose=f"flash {name}"):
        yield target


def target_on_bench(one: Board, sysfs: Path = SYSFS) -> FlashTarget:
    """Return the module of a board; ConfigurationError without a module or without a known USB port."""
    from hil.boards.capabilities import Recoverable
    from hil.boards.protocol import Fidelity

    if not isinstance(one, Recoverable) or one.fidelity is not Fidelity.HARDWARE:
        raise _no_module(one.name)
    return FlashTarget(
        one.name,
        one.module,
        _usb_path(one.name, one.usb_path),
        lambda: one.enter_recovery(sysfs=sysfs),
        by_pin=one.has_recovery_pin,
    )


def target_in_lab(name: str, lab_path: Path, sysfs: Path = SYSFS) -> FlashTarget:
    """Return the module from a lab file alone: it gets into recovery by a pin or by hand."""
    from hil.boards.jetson.flash.recovery import UsbPort, enter_recovery
    from hil.boards.power.build import supervisor_of
    from hil.lab.model import load_lab

    boards = {b.name: b for b in load_lab(lab_path).boards}
    if name not in boards:
        raise ConfigurationError(f"{lab_path} has no board {name}", remedy=f"boards: {', '.join(boards)}")
    spec = boards[name]
    section = spec.real
    if section is None:
        raise _no_module(name)
    usb_path = _usb_path(name, section.recovery.usb_path if section.recovery else "")
    supervisor = section.supervisor
    if supervisor is None or supervisor.recovery_pin is None:
        return FlashTarget(name, spec.module, usb_path, None)
    parts = supervisor_of(name, supervisor)
    port = UsbPort(usb_path, sysfs)
    return FlashTarget(
        name,
        spec.module,
        usb_path,
        lambda: enter_recovery(port, spec.module, parts.force_recovery),
        by_pin=True,
    )


def _no_module(name: str) -> ConfigurationError:
    return ConfigurationError(
        f"{name} is a container board: there is no module to flash, and no force-recovery mode",
        remedy="a container board gets its OS by an upload (`hil campaign run`); "
        "only boards with driver: jetson and without stand_in are flashed",
    )


def _usb_path(name: str, found: str) -> str:
    if not found:
        raise BenchError(
            f"board {name}: no USB port is known for it",
            remedy="cable its USB device port, put it into recovery, and give recovery.usb_path in the lab file: "
            "`hil lab discover` tells it",
        )
    return found
