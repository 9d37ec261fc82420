"""`hil board flash`: the right module or none, asked before, told after; with a made-up bus and a tool that prints."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hil.boards.console.log_console import ConsoleLine
from hil.boards.jetson.board import JetsonBoard, JetsonFacts
from hil.boards.jetson.flash.initrd_flash import NVME_AB_LAYOUTS, NVME_LAYOUTS, QSPI_LAYOUTS, TOOL
from hil.boards.jetson.flash.recovery import UsbDevice
from hil.boards.jetson.flash.target import FlashTarget, flash_board, plan_of, target_in_lab, target_on_bench
from hil.boards.power.command import CommandSpec
from hil.boards.protocol import Fidelity
from hil.cli.app import run
from hil.cli.output import Progress
from hil.errors import BenchError, ConfigurationError
from hil.lab.model import load_lab
from hil.lab.power import SupervisorSpec
from hil.leases.leases import Leases
from tests.kits.real_board_lab import HOST_KEY
from tests.kits.usb_bus import NANO, PORT, RECORD, UsbBus

POWER = {
    "kind": "command",
    "turn_on": ["true"],
    "turn_off": ["true"],
    "state": ["echo", "on"],
    "state_on": "on",
    "state_off": "off",
}


@pytest.fixture
def bus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> UsbBus:
    monkeypatch.setattr("os.geteuid", lambda: 0)  # the tool of these tests needs no root
    monkeypatch.setenv("HIL_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HIL_RUN", str(tmp_path / "run"))
    monkeypatch.setenv("HIL_LEASES", str(tmp_path / "leases.db"))
    monkeypatch.delenv("HIL_BENCH", raising=False)
    return UsbBus(tmp_path / "devices")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A Linux_for_Tegra folder whose flash tool notes its arguments and prints a recorded flash."""
    root = tmp_path / "Linux_for_Tegra"
    names = (
        NVME_LAYOUTS[0],
        NVME_AB_LAYOUTS[0],
        QSPI_LAYOUTS[0],
        "jetson-orin-nano-devkit.conf",
        "jetson-agx-orin-devkit.conf",
    )
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / TOOL).write_text(f'#!/bin/sh\necho "ab=$ROOTFS_AB $*" >argv\ncat {RECORD}\n')
    (root / TOOL).chmod(0o755)
    return root


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A lab file with one real board and one stand-in."""
    section = {
        "ssh": {"address": "192.0.2.11", "key_file": "~/.ssh/lab", "host_key": HOST_KEY},
        "console": {"url": "/dev/serial/by-path/x"},
        "supervisor": {"power": POWER},
        "recovery": {"usb_path": PORT},
    }
    document = {
        "schema": 1,
        "name": "mine",
        "ground_station": {"name": "gs-1"},
        "gateway": "b1",
        "spacecraft": [
            {
                "name": "sc-a",
                "boards": [
                    {"name": "b1", "driver": "jetson", "module": NANO, "jetson": section},
                    {"name": "b2", "driver": "jetson", "jetson": {"stand_in": "container"}},
                    {"name": "b3"},
                ],
            }
        ],
        "links": [
            {
                "name": "ground",
                "kind": "ground",
                "between": ["gs-1", "sc-a"],
                "one_way_delay_us": 4000,
                "rate_bps": 100_000_000,
            }
        ],
    }
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(document))
    return file


def argv_of(bus: UsbBus, tree: Path, lab: Path, *more: str, name: str = "b1") -> list[str]:
    return ["board", "flash", name, "--lab", str(lab), "--tree", str(tree), "--sysfs", str(bus.root), *more]


def test_a_board_in_recovery_is_flashed_from_its_lab_file_and_the_report_is_whole(
    bus: UsbBus, tree: Path, lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.plug(PORT, "0955:7523", "APX")
    log = tmp_path / "flash.log"
    assert run(argv_of(bus, tree, lab, "--ab", "--size", "8GiB", "--yes", "--log", str(log), "--json")) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert (document["module"], document["eeprom_part"], document["usb_path"]) == (NANO, NANO, PORT)
    assert document["log"] == str(log) and log.read_bytes() == RECORD.read_bytes()
    assert "Generate flash packages" in said.err
    line = (tree / "argv").read_text()
    assert line.startswith("ab=1 ") and f"--usb-instance {PORT} jetson-orin-nano-devkit external" in line
    assert Leases().list() == ()  # given back


def test_the_page_says_where_the_log_is_and_that_the_host_key_is_new(
    bus: UsbBus, tree: Path, lab: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.plug(PORT, "0955:7523", "APX")
    assert run(argv_of(bus, tree, lab, "--yes")) == 0
    page = capsys.readouterr().out
    (log,) = (tmp_path / "home/flash").glob("b1-*.log")
    assert str(log) in page and "host key" in page and f"EEPROM says {NANO}" in page


@pytest.mark.parametrize("name", ["b2", "b3"])
def test_a_container_board_is_refused_whatever_drives_it(
    bus: UsbBus, tree: Path, lab: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv_of(bus, tree, lab, "--yes", name=name)) == 2
    said = capsys.readouterr().err
    assert f"{name} is a container board: there is no module to flash" in said and "upload" in said


@pytest.mark.parametrize(
    ("usb_id", "code", "words"),
    [("", 3, "nothing is there"), ("0955:7020", 3, "forced-recovery"), ("0955:7323", 2, "lab file says p3767-0005")],
)
def test_what_is_not_the_module_in_recovery_is_named_and_nothing_is_started(
    bus: UsbBus, tree: Path, lab: Path, usb_id: str, code: int, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if usb_id:
        bus.plug(PORT, usb_id)
    assert run(argv_of(bus, tree, lab, "--yes")) == code
    assert words in capsys.readouterr().err
    assert not (tree / "argv").exists()


def test_another_module_by_its_eeprom_is_refused_before_anything_is_written(
    bus: UsbBus, tree: Path, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bus.plug(PORT, "0955:7523", "APX")
    (tree / TOOL).write_text("#!/bin/sh\necho 'Board ID(3767) version(300) sku(0003) revision(T.1)'\nsleep 30\n")
    assert run(argv_of(bus, tree, lab, "--yes")) == 2
    said = capsys.readouterr().err
    assert "EEPROM says p3767-0003" in said and "nothing was written" in said


def test_nothing_is_flashed_without_a_yes(
    bus: UsbBus, tree: Path, lab: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bus.plug(PORT, "0955:7523", "APX")
    monkeypatch.setattr("sys.stdin.isatty", lambda: False, raising=False)
    assert run(argv_of(bus, tree, lab)) == 2
    assert "--yes" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    assert run(argv_of(bus, tree, lab)) == 130
    said = capsys.readouterr().err
    assert "Everything on its nvme0n1p1" in said and "b1: not flashed" in said
    assert not (tree / "argv").exists()


def test_a_board_that_somebody_has_leased_is_left_alone(
    bus: UsbBus, tree: Path, lab: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from hil.bench.state import lease_keys
    from hil.lab.model import load_lab

    bus.plug(PORT, "0955:7523", "APX")
    key = lease_keys(load_lab(lab), "any")[0]
    with Leases().take([key], holder="anna", purpose="thermal run"):
        assert run(argv_of(bus, tree, lab, "--yes")) == 3
    assert re.search(r"anna.*thermal run", capsys.readouterr().err)
    assert not (tree / "argv").exists()


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--ab"], "--size"),
        (["--storage", "emmc"], "has no eMMC"),
        (["--layout", "mine.xml"], "lacks mine.xml"),
        (["--config", "other"], "lacks other.conf"),
    ],
)
def test_options_that_do_not_fit_are_refused_before_the_board_is_touched(
    bus: UsbBus, tree: Path, lab: Path, more: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(argv_of(bus, tree, lab, "--yes", *more)) == 2
    assert words in capsys.readouterr().err


def test_an_agx_goes_to_its_emmc_unless_told_otherwise(tree: Path) -> None:
    agx = FlashTarget("b1", "p3701-0005", PORT, None)
    inside = plan_of(agx, tree, ab=True)
    assert "--external-device" not in inside.argv() and inside.env()["ROOTFS_AB"] == "1"
    assert inside.argv()[-2:] == ["jetson-agx-orin-devkit", "internal"]
    outside = plan_of(agx, tree, ab=True, storage="nvme0n1p1", size="20GiB")
    assert outside.argv()[-1] == "external" and outside.layouts[0] == NVME_AB_LAYOUTS[0]


def test_a_module_with_a_recovery_pin_is_reset_even_when_it_is_in_recovery_already(bus: UsbBus, tree: Path) -> None:
    bus.plug(PORT, "0955:7523", "APX")
    entered: list[str] = []
    by_hand = FlashTarget("b1", NANO, PORT, lambda: entered.append("linux"))
    by_pin = replace(by_hand, enter=lambda: entered.append("pin"), by_pin=True)
    for target in (by_hand, by_pin):
        with Progress() as progress:
            flash_board(target, plan_of(target, tree, ab=False), log=tree / "log", sysfs=bus.root, progress=progress)
    assert entered == ["pin"]


def test_a_module_whose_linux_runs_is_brought_into_recovery_first(bus: UsbBus, tree: Path) -> None:
    bus.plug(PORT, "0955:7020", "L4T")
    target = FlashTarget("b1", NANO, PORT, lambda: bus.plug(PORT, "0955:7523", "APX"))
    with Progress() as progress:
        report = flash_board(
            target, plan_of(target, tree, ab=False), log=tree / "log", sysfs=bus.root, progress=progress
        )
    assert report.eeprom_part == NANO


def test_no_module_is_reset_while_another_board_is_in_recovery(bus: UsbBus, tree: Path) -> None:
    bus.plug("1-3", "0955:7523", "APX")
    entered: list[str] = []
    target = FlashTarget("b1", NANO, PORT, lambda: entered.append("reset"))
    with Progress() as progress, pytest.raises(BenchError, match="another module is in recovery"):
        flash_board(target, plan_of(target, tree, ab=False), log=tree / "log", sysfs=bus.root, progress=progress)
    assert not entered


def jetson(tmp_path: Path, **changes: object) -> JetsonBoard:
    facts = JetsonFacts(
        name="b1",
        spacecraft="sc-a",
        module=NANO,
        serial="",
        targets={},
        console=ConsoleLine("b1", "/dev/null", tmp_path / "b1.console.log"),
        supervisor=SupervisorSpec(power=CommandSpec.model_validate(POWER)),
        usb_path=PORT,
    )
    return JetsonBoard(replace(facts, **changes))  # type: ignore[arg-type]  # one field of its type


def test_on_a_bench_the_board_itself_knows_the_way_into_recovery(
    bus: UsbBus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[Path] = []

    def enter(self: JetsonBoard, *, sysfs: Path) -> UsbDevice | None:
        used.append(sysfs)
        return None

    monkeypatch.setattr(JetsonBoard, "enter_recovery", enter)
    target = target_on_bench(jetson(tmp_path), bus.root)
    assert (target.module, target.usb_path, target.by_pin) == (NANO, PORT, False)
    assert target.enter is not None
    target.enter()
    assert used == [bus.root]


def test_a_stand_in_or_a_board_without_a_usb_port_is_refused(tmp_path: Path, lab: Path) -> None:
    with pytest.raises(ConfigurationError, match="container board"):
        target_on_bench(jetson(tmp_path, fidelity=Fidelity.VIRTUAL))
    with pytest.raises(BenchError, match="no USB port is known") as error:
        target_on_bench(jetson(tmp_path, usb_path=""))
    assert "hil lab discover" in error.value.remedy
    with pytest.raises(ConfigurationError, match="has no board zz") as unknown:
        target_in_lab("zz", load_lab(lab))
    assert "b1, b2, b3" in unknown.value.remedy
