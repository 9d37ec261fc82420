"""`hil doctor --lab` on real boards: what it finds in a made-up host, what it says to do, and that it only looks."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
import yaml

from hil.boards.jetson.flash.recovery import DEBUG_CONTROLLER, L4T_GADGET
from hil.cli.app import run
from hil.core.check import Check
from hil.host.doctor.real_boards import diagnose
from hil.host.doctor.this_host import exit_code, verdict
from hil.lab.model import load_lab
from tests.kits.host_tree import HOST_KEY, HostTree

CONSOLE = "/dev/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0-port0"


def closed_port() -> int:
    """A port of the loopback where nobody answers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def strip(state: str) -> dict[str, Any]:
    """A power switch made of commands, that would leave a trace if it were switched."""
    switch = {"turn_on": ["touch", "/switched"], "turn_off": ["touch", "/switched"]}
    return {"kind": "command", **switch, "state": ["echo", state], "state_on": "on", "state_off": "off"}


class Rack:
    """One real board in a lab file, and the host that it is plugged into."""

    def __init__(self, directory: Path) -> None:
        self.host = HostTree(directory / "host")
        self.host.file("proc/1/comm", "init\n")
        self.host.tty("ttyUSB0", self.host.usb("1-3", "0403:6001"))
        self.host.file("dev/ttyUSB0", "")
        self.host.nic("enp3s0.101")
        self.file = directory / "mine.yaml"
        self.key = directory / "key"
        self.key.write_text("")
        ssh = {"address": "127.0.0.1", "port": closed_port(), "key_file": str(self.key), "host_key": HOST_KEY}
        self.section: dict[str, Any] = {
            "ssh": ssh,
            "console": {"url": CONSOLE},
            "supervisor": {"power": strip("off")},
            "flight": {"nic": "enp3s0.101"},
            "recovery": {"usb_path": "1-4"},
        }

    def held_by(self, pid: int, name: str, cmdline: str = "") -> None:
        """A process that has the console's adapter open."""
        self.host.file(f"proc/{pid}/comm", f"{name}\n")
        self.host.file(f"proc/{pid}/cmdline", cmdline)
        (self.host.root / f"proc/{pid}/fd").mkdir()
        (self.host.root / f"proc/{pid}/fd/3").symlink_to(self.host.root / "dev/ttyUSB0")

    def write(self) -> None:
        board = {"name": "b1", "driver": "jetson", "module": "p3767-0005", "jetson": self.section}
        link = {"name": "ground", "kind": "ground", "between": ["gs-1", "sc-a"]}
        document = {
            "schema": 1,
            "name": "mine",
            "ground_station": {"name": "gs-1"},
            "gateway": "b1",
            "spacecraft": [{"name": "sc-a", "boards": [board]}],
            "links": [link | {"one_way_delay_us": 4000, "rate_bps": 100_000_000}],
        }
        self.file.write_text(yaml.safe_dump(document))

    def look(self) -> dict[str, Check]:
        self.write()
        return {check.id: check for check in diagnose(load_lab(self.file), self.host.root)}


@pytest.fixture
def rack(tmp_path: Path) -> Rack:
    return Rack(tmp_path)


def test_a_virtual_lab_has_nothing_to_look_at() -> None:
    assert diagnose(load_lab(Path("lab/mixed.yaml"))) == []


def test_a_board_without_power_is_not_asked_and_nothing_is_switched(rack: Rack) -> None:
    found = rack.look()
    assert found["b1 power"].status == "ok" and found["b1 power"].found == "command: off"
    assert found["b1 management"].status == "warn" and "has no power" in found["b1 management"].found
    assert found["b1 console"].found == f"{CONSOLE}: there, and free"
    assert exit_code(list(found.values())) == 0
    assert not Path("/switched").exists()


def test_a_strip_that_does_not_tell_and_a_board_that_does_not_answer_fail_with_their_own_words(rack: Rack) -> None:
    rack.section["supervisor"]["power"] = strip("smoke")
    found = rack.look()
    assert found["b1 power"].status == "fail" and "smoke" in found["b1 power"].found
    assert found["b1 management"].status == "fail" and "no answer from sshd" in found["b1 management"].found
    assert exit_code(list(found.values())) == 1
    assert verdict(list(found.values())).startswith("the bench of this lab file cannot come up")


def test_a_key_that_is_not_there_is_named_before_anybody_is_asked(rack: Rack) -> None:
    rack.key.unlink()
    check = rack.look()["b1 management"]
    assert check.status == "fail" and str(rack.key) in check.found and "key_file" in check.remedy


def test_an_adapter_that_is_not_there_is_told_with_those_that_are(rack: Rack) -> None:
    rack.section["console"] = {"url": "/dev/serial/by-path/pci-9"}
    check = rack.look()["b1 console"]
    assert check.status == "fail" and CONSOLE.rpartition("/")[2] in check.remedy


def test_a_program_that_has_the_console_open_is_named(rack: Rack) -> None:
    rack.held_by(812, "minicom")
    check = rack.look()["b1 console"]
    assert check.status == "fail" and check.found.endswith("in use by minicom (812)")


def test_a_bench_that_is_up_may_have_console_and_flight_nic(rack: Rack) -> None:
    rack.held_by(99, "python3", "python3\0-m\0hil.bench.keeper\0")
    rack.section["flight"] = {"nic": "gone0"}
    found = rack.look()
    assert found["b1 console"].status == found["b1 flight"].status == "ok"


def test_a_name_that_changes_at_the_next_plug_is_not_left_unsaid(rack: Rack) -> None:
    rack.section["console"] = {"url": "/dev/ttyUSB0"}
    check = rack.look()["b1 console"]
    assert check.status == "warn" and "by-path" in check.remedy


@pytest.mark.parametrize(
    ("carrier", "status", "says"), [("1", "ok", "a signal"), ("0", "warn", "no signal"), ("", "ok", "down")]
)
def test_the_flight_nic_tells_whether_its_cable_is_plugged_in(rack: Rack, carrier: str, status: str, says: str) -> None:
    rack.host.file("sys/class/net/enp3s0.101/carrier", f"{carrier}\n")
    check = rack.look()["b1 flight"]
    assert check.status == status and says in check.found


def test_a_flight_nic_that_is_not_there_or_not_named_is_told(rack: Rack) -> None:
    rack.section["flight"] = {"nic": "gone0"}
    assert rack.look()["b1 flight"].status == "fail"
    del rack.section["flight"]
    assert rack.look()["b1 flight"].status == "warn"


@pytest.mark.parametrize(
    ("usb_id", "status"),
    [(L4T_GADGET, "ok"), ("0955:7523", "ok"), ("0955:7023", "fail"), (DEBUG_CONTROLLER, "warn"), ("", "warn")],
)
def test_what_is_on_the_recovery_port_is_judged(rack: Rack, usb_id: str, status: str) -> None:
    if usb_id:
        rack.host.usb("1-4", usb_id)
    check = rack.look()["b1 recovery USB"]
    assert check.status == status and "1-4" in check.found


def test_what_on_this_host_would_disturb_real_boards_is_told(rack: Rack) -> None:
    rack.host.file("proc/700/comm", "ModemManager\n")
    rack.host.file("sys/module/usbcore/parameters/autosuspend", "2\n")
    found = rack.look()
    assert found["ModemManager"].status == found["usb-autosuspend"].status == "warn"
    rack.host.file("sys/module/usbcore/parameters/autosuspend", "-1\n")
    assert "usb-autosuspend" not in rack.look()


def test_the_command_adds_these_checks_to_the_hosts(rack: Rack, capsys: pytest.CaptureFixture[str]) -> None:
    rack.key.unlink()
    rack.write()
    run(["doctor", "--lab", str(rack.file), "--root", str(rack.host.root), "--json"])
    checks = {check["id"]: check["status"] for check in json.loads(capsys.readouterr().out)["checks"]}
    assert "python" in checks and checks["b1 management"] == "fail"
