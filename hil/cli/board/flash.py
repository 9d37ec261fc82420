"""`hil board flash` and `recovery`: write a new system to a real module over its USB cable, or only get it ready."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.output import JSON_OPTION, OutputFile, Progress, RenamedOptions, lab_option, print_json, print_result
from hil.cli.select_bench import BENCH, FORCE, attach, board_argument, board_of, claim
from hil.errors import ConfigurationError
from hil.text import clean

if TYPE_CHECKING:
    from hil.boards.jetson.flash.initrd_flash import FlashPlan
    from hil.boards.jetson.flash.target import FlashTarget


LAB_OPTION = lab_option("For a board that no bench has up yet: its lab file.")
SYSFS_OPTION = click.option(
    "--sysfs", type=click.Path(path_type=Path, file_okay=False), default="/sys/bus/usb/devices", hidden=True
)


@click.command(cls=RenamedOptions, renamed={"--log": ("--output", "{}")})
@board_argument
@BENCH
@click.option(
    "--tree",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Linux_for_Tegra, after apply_binaries.sh.",
)
@click.option("--ab", is_flag=True, help="Make two root file systems, A and B; a bench needs both.")
@click.option("--size", default="", metavar="8GiB", help="Size of one root file system; needed for --ab on NVMe.")
@click.option(
    "--storage", metavar="nvme0n1p1|emmc", help="Target of the root file system; default: the module's boot storage."
)
@click.option("--config", metavar="NAME", help="<NAME>.conf in the tree; default: the module's developer kit.")
@click.option("--layout", default="", metavar="XML", help="Partition layout of the storage, below the tree.")
@LAB_OPTION
@FORCE
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
    bench_name: str | None,
    lab_path: Path | None,
    force: bool,
    log: Path | None,
    yes: bool,
    sysfs: Path,
    as_json: bool,
    **what: Any,
) -> int:
    """Write a new system to a real module with NVIDIA's flash tool; everything on it is lost.

    The module is put into force-recovery mode (by its pin where one is wired, else by its Linux, unless it is there
    already) and must be the one of the lab file, by its USB identity and by its EEPROM, before anything is written.
    It takes 2 to 30 minutes. Container boards are refused: they have nothing to flash.

    A board that was never flashed does not answer, so no bench comes up with it: name its lab file with --lab. The
    board is leased meanwhile.
    """
    from hil.boards.jetson.flash.target import flash_board, plan_of
    from hil.core import paths

    log = log or paths.home() / "flash" / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.log"
    with target_of("flash", name, bench_name, lab_path, sysfs, force=force) as target:
        plan = plan_of(target, **what)
        if not (yes or _agreed(target, plan)):
            click.echo(f"{name}: not flashed", err=True)
            return 130
        with Progress() as progress:
            report = flash_board(target, plan, log=log, sysfs=sysfs, progress=progress)
    if as_json:
        document = {"name": name, "module": target.module, "usb_path": target.usb_path, "log": str(log)}
        print_json(document | asdict(report) | {"seconds": round(report.seconds, 1)})
    else:
        click.echo(
            f"{name}: flashed in {report.seconds:.0f} s; its EEPROM says {report.eeprom_part}; log: {log}\n"
            "Its OS is new, and so is its host key: pin the new one in the lab file before a bench uses it."
        )
    return 0


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
def target_of(
    verb: str, name: str, bench_name: str | None, lab_path: Path | None, sysfs: Path, *, force: bool
) -> Iterator[FlashTarget]:
    """Find the board of a bench that is up, or of a lab file; then it is leased while the block runs."""
    from hil.bench.state import lease_keys
    from hil.boards.jetson.flash.target import target_in_lab, target_on_bench
    from hil.lab.model import load_lab
    from hil.leases.leases import Leases

    if lab_path is None:
        with attach(bench_name) as bench:
            board = board_of(bench, name)
            target = target_on_bench(board, sysfs)
            claim(bench, [name], f"{name}: {verb}", force=force, verb=verb, about=name)
            yield target
        return
    lab = load_lab(lab_path)
    target = target_in_lab(name, lab, sysfs)
    keys = dict(zip((b.name for b in lab.boards), lease_keys(lab, lab.name), strict=True))
    with Leases().take([keys[name]], purpose=f"{verb} {name}"):
        yield target


@click.command()
@board_argument
@BENCH
@LAB_OPTION
@FORCE
@SYSFS_OPTION
@JSON_OPTION
def recovery(name: str, lab_path: Path | None, sysfs: Path, bench_name: str | None, force: bool, as_json: bool) -> None:
    """Put a real module into force-recovery mode and prove it on USB; nothing is written to it.

    By its pin where one is wired, else by its Linux. The module on the port must be the one of the lab file. It stays
    in recovery until `hil board power NAME reset`. Use this to test the recovery cable and the pins of a new board.
    """
    from hil.boards.jetson.flash.recovery import meaning
    from hil.boards.jetson.flash.target import into_recovery

    aimed = target_of("recovery", name, bench_name, lab_path, sysfs, force=force)
    with aimed as target, Progress() as progress:
        device = into_recovery(target, sysfs=sysfs, progress=progress)
    document = {"name": name, "module": target.module, **asdict(device), "what": meaning(device.usb_id)}
    print_result(as_json, document, clean(f"{name}: USB port {device.port}: {device.describe()}"))
