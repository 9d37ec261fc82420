"""A stranger walks "Add your first Orin" of docs/jetson.md: every command of the page, as it stands there, in order.

What a person sees, and does by hand between two commands, is in the methods of :class:`Technician`.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.bench.leftovers import keepers
from hil.boards.jetson.flash.initrd_flash import NVME_AB_LAYOUTS, QSPI_LAYOUTS, TOOL
from hil.boards.protocol import PowerState
from hil.core import paths
from tests.kits.container_boards import ip
from tests.kits.first_orin import CABLE, MODULE, FirstOrin, first_orin
from tests.kits.hil_command import Hil, Terminal

pytestmark = [
    pytest.mark.integration,
    pytest.mark.side_by_side,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

PAGE = paths.ROOT / "docs/jetson.md"
BENCH = "hiltorin"
RECORD = paths.ROOT / "tests/data/flash/orin_nano_ok.log"
NOT_TYPED = ("ssh-keygen ", "ssh-copy-id ", "ssh -t ")
"""The counterpart lets the harness's key in already, and its root needs no sudo."""


def commands() -> list[str]:
    """Every line that the section tells to type."""
    section = re.search(r"^## Add your first Orin\n(.*?)^## ", PAGE.read_text("utf-8"), re.M | re.S)
    assert section
    blocks = re.findall(r"^```sh\n(.*?)^```", section[1], re.M | re.S)
    return [line for block in blocks for line in block.splitlines()]


class Technician:
    """Types what the page says, at a keyboard beside the counterpart."""

    def __init__(self, orin: FirstOrin, directory: Path) -> None:
        self.orin = orin
        self.lab = directory / "mine.yaml"
        self.tree = directory / "Linux_for_Tegra"
        self.pages = directory / "qualifications"
        self.usb = str(orin.controller / "sys/bus/usb/devices")
        self.host_key = ""
        self.filled_in = False
        self.hil = Hil(BENCH)

    def type(self, line: str) -> None:
        words = [{"lab/mine.yaml": str(self.lab)}.get(word, word) for word in shlex.split(line)]
        name = "_".join(words[:3] if words[0] == "hil" else words[:1]).replace("-", "_")
        method = getattr(self, name, None)
        assert method, f"the page tells to type {line!r}, and this test does not know what to look for"
        method(words[1:])

    # Step 3 and 4: the way in

    def ssh_keyscan(self, words: list[str]) -> None:
        said = _said(["ssh-keyscan", "-p", str(self.orin.ssh_port), *words[:-1], "127.0.0.1"])
        self.host_key = said.partition(" ")[2].strip()
        assert self.host_key == self.orin.hardware.target().host_key

    def ssh(self, words: list[str]) -> None:
        command = [word for word in words[words.index("nvidia@192.0.2.11") + 1 :] if word != "sudo"]
        options = f"-p {self.orin.ssh_port} -i {self.orin.hardware.target().key} -o BatchMode=yes"
        known = "-o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR"
        said = _said(["ssh", *options.split(), *known.split(), "root@127.0.0.1", *command])
        assert "num_slots: 2" in said or (MODULE in said and self.orin.hardware.spec.facts.serial in said)

    # Step 5 and 6: the lab file

    def hil_lab_discover(self, words: list[str]) -> None:
        said = self.hil.good(*words, "--root", str(self.orin.controller))
        for seen in ("FTDI FT232R", "a Jetson whose Linux runs", "MAC of NVIDIA"):
            assert seen in said

    def hil_lab_validate(self, words: list[str]) -> None:
        done = self.hil(*words)
        if self.filled_in:
            assert done.returncode == 0 and "1 real" in done.stdout, done.stderr
            return
        assert done.returncode == 2
        empty = re.findall(rf"{self.lab}:\d+: \S+\.(\w+): is empty", done.stderr)
        assert sorted(empty) == ["host_key", "key_file", "kind", "module"]
        self.fill_in()

    def fill_in(self) -> None:
        """The lab file in an editor."""
        hardware, strip = self.orin.hardware, self.orin.strip
        power = (
            f'power: {{kind: shelly-gen2, address: "{strip.address}", outlet: 0, request_timeout_s: 30.0}}\n'
            f"            recovery_pin: {{kind: microcontroller, port: {self.orin.pins.port}}}\n"
            "            min_off_s: 0.0\n            confirm_within_s: 30.0"
        )
        text = self.lab.read_text()
        for pattern, value in {
            'module: ""': f"module: {MODULE}",
            '# serial: ""': f'serial: "{hardware.spec.facts.serial}"',
            'key_file: ""': f"key_file: {hardware.target().key}",
            'host_key: ""': f"host_key: {self.host_key}",
            "user: root": f"port: {self.orin.ssh_port}\n            user: root",
            r'console: \{url: ".*"\}': f"console: {{url: {hardware.console.url}}}",
            r'power: \{kind: ""\}': power,
            r'# flight: \{nic: ""\}': f"flight: {{nic: {CABLE.nic}}}",
        }.items():
            text, count = re.subn(f"(?m)^( *){pattern}", rf"\g<1>{value}", text)
            assert count == 1, f"the file from `hil lab discover` has no line for {pattern}"
        self.lab.write_text(text)
        self.filled_in = True

    def hil_doctor___lab(self, words: list[str]) -> None:
        checks = {check["id"]: check for check in self.hil.data(*words)["checks"]}
        mine = {name: check["status"] for name, check in checks.items() if name.startswith("b1 ")}
        # What is plugged into this very machine's USB is not what the counterpart says.
        assert mine.pop("b1 recovery USB") == "warn"
        assert set(mine.values()) == {"ok"}, checks
        assert set(mine) == {f"b1 {name}" for name in ("power", "management", "console", "supervisor", "flight")}
        assert self.orin.hardware.spec.facts.serial in checks["b1 management"]["found"]

    # Step 7 to 9: on the bench

    def hil_lab_show(self, words: list[str]) -> None:
        assert "198.18.1.11" in self.hil.good(*words)

    def hil_bench_up(self, words: list[str]) -> None:
        self.hil.good(*words, "--name", BENCH)

    def hil_board_list(self, words: list[str]) -> None:
        assert re.search(r"^b1 +sc-a +hardware +on +A ", self.hil.good(*words), re.M)

    def hil_board_show(self, words: list[str]) -> None:
        said = self.hil.good(*words)
        for fact in (self.orin.hardware.spec.facts.serial, "of class hardware", f"NIC {CABLE.nic}", "port 1-4.2"):
            assert fact in said

    def hil_board_console(self, words: list[str]) -> None:
        with Terminal(*words, "--bench", BENCH) as one, Terminal(*words, "--bench", BENCH) as other:
            for terminal in (one, other):
                terminal.wait_for(rb"Ctrl-\] ends it")
            one.type(b"\n")
            for terminal in (one, other):
                terminal.wait_for(rb"login: ")
            one.type(b"root\n")
            for terminal in (one, other):
                terminal.wait_for(rb"# ")
            one.type(b"exit\n")
            for terminal in (one, other):
                terminal.wait_for(rb"login: ")
                terminal.type(b"\x1d")
                assert terminal.exit_code() == 0

    def hil_board_shell(self, words: list[str]) -> None:
        self.hil.good(*words)

    def hil_board_recovery(self, words: list[str]) -> None:
        assert f"{MODULE}" in self.hil.good(*words, "--sysfs", self.usb)

    def hil_board_power(self, words: list[str]) -> None:
        assert "b1: runs 1.0.0 from slot A" in self.hil.good(*words)

    # Step 10

    def hil_board_qualify(self, words: list[str]) -> None:
        self.hil.good(*words, "--output", str(self.pages))
        (document,) = self.pages.glob("b1-*.json")
        found = json.loads(document.read_text())
        assert (found["outcome"], found["fidelity"], found["by"]) == ("PASS", "hardware", "A. Technician")
        assert found["identity"]["serial"] == self.orin.hardware.spec.facts.serial
        page = document.with_suffix(".html").read_text()
        assert "date, signature" in page and "How it is wired" in page and found["firmware"]["MB1"] in page

    def hil_bench_down(self, words: list[str]) -> None:
        self.hil.good(*words, BENCH)
        assert self.orin.hardware.supervisor.state() is PowerState.OFF
        assert "reboot: Power down" in self.orin.hardware.console.text()
        ip("link", "show", CABLE.nic)  # it is back

    def hil_board_flash(self, words: list[str]) -> None:
        """The tree is unpacked, and its flash tool prints a recorded flash."""
        for name in (NVME_AB_LAYOUTS[0], QSPI_LAYOUTS[0], "jetson-orin-nano-devkit.conf"):
            (self.tree / name).parent.mkdir(parents=True, exist_ok=True)
            (self.tree / name).write_text("")
        (self.tree / TOOL).write_text(f"#!/bin/sh\ncat {RECORD}\n")
        (self.tree / TOOL).chmod(0o755)
        words = [{"~/Linux_for_Tegra": str(self.tree)}.get(word, word) for word in words]
        log = str(self.tree / "log")
        said = self.hil.good(*words, "--sysfs", self.usb, "--output", log, "--yes")
        assert f"its EEPROM says {MODULE}" in said


def _said(argv: list[str]) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def technician(tmp_path: Path) -> Iterator[Technician]:
    with first_orin(tmp_path) as orin:
        orin.strip.outlets.switch(0, True)  # step 1, by hand
        orin.hardware.wait_booted()
        yield Technician(orin, tmp_path)
        if BENCH in keepers():
            Hil().good("bench", "down", BENCH)


def test_a_stranger_gets_from_a_board_on_the_table_to_the_signed_page(technician: Technician) -> None:
    typed = [line for line in commands() if not line.startswith(NOT_TYPED)]
    for line in typed:
        technician.type(line)
    assert len(typed) >= 18
    assert list(technician.pages.glob("b1-*.html"))
