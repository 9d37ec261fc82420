"""`hil board recovery`: put a real module into force-recovery mode."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from hil.cli.board.flash import LAB_OPTION, SYSFS_OPTION, target_of
from hil.cli.output import JSON_OPTION, Progress, print_result
from hil.cli.select_bench import bench_option, board_argument


@click.command()
@board_argument
@bench_option
@LAB_OPTION
@SYSFS_OPTION
@JSON_OPTION
def recovery(name: str, lab_path: Path | None, sysfs: Path, bench_name: str | None, as_json: bool) -> None:
    """Put a real module into force-recovery mode and prove it on USB; nothing is written to it.

    By its pin where one is wired, else by its Linux. The module on the port must be the one of the lab file. It stays
    in recovery until `hil board power NAME reset`. Use this to test the recovery cable and the pins of a new board.
    """
    from hil.boards.jetson.flash.recovery import meaning
    from hil.boards.jetson.flash.target import into_recovery

    with target_of(name, bench_name, lab_path, sysfs) as target, Progress() as progress:
        device = into_recovery(target, sysfs=sysfs, progress=progress)
    document = {"name": name, "module": target.module, **asdict(device), "what": meaning(device.usb_id)}
    print_result(as_json, document, f"{name}: USB port {device.port}: {device.describe()}")
