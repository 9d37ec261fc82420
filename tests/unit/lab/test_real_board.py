"""The jetson section of a lab file: what is accepted, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.core import paths
from hil.errors import ConfigurationError
from hil.evidence.environment import lab_facts
from hil.lab.model import load_lab
from tests.kits.real_board_lab import HOST_KEY, REAL, lab_of


def refused(tmp_path: Path, old: str, new: str) -> str:
    assert old in REAL
    with pytest.raises(ConfigurationError) as caught:
        lab_of(tmp_path, REAL.replace(old, new))
    return caught.value.message


def test_the_mixed_lab_has_three_boards_of_each_driver_and_all_are_virtual() -> None:
    lab = load_lab(paths.ROOT / "lab/mixed.yaml")
    assert [b.driver for b in lab.boards] == ["container"] * 3 + ["jetson"] * 3
    assert {b.fidelity for b in lab.boards} == {"virtual"}
    assert all(b.contained for b in lab.boards)


def test_a_real_board_is_of_class_hardware_and_the_lab_is_worth_its_lowest_class(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, REAL)
    facts = lab_facts(lab, tmp_path / "lab.yaml")
    assert {name: b["fidelity"] for name, b in facts["boards"].items() if name.startswith("b")} == {
        "b1": "hardware",
        "b2": "virtual",
        "b3": "virtual",
    }
    assert facts["boards"]["b2"]["stand_in"] == "container"
    assert facts["fidelity"] == "virtual"


def test_budgets_of_a_real_board_are_minutes_unless_said_otherwise(tmp_path: Path) -> None:
    from hil.lab.real_board import BudgetSpec

    section = lab_of(tmp_path, REAL).boards[3].real
    assert section and section.budgets is None
    assert (BudgetSpec().boot_s, BudgetSpec().shutdown_s) == (180.0, 60.0)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (HOST_KEY, "AAAA", "public host key"),
        (HOST_KEY, "ssh-ed25519 not/base64!", "not base64"),
        (HOST_KEY, HOST_KEY.replace("ssh-ed25519", "ecdsa-sha2-nistp256"), "of another type"),
        (HOST_KEY, "ssh-rsa AAAA", "ssh-ed25519"),
        ("192.0.2.11", "orin-1.lab", "IPv4 address"),
        ("192.0.2.11", "192.0.2.11:22", "port has a key of its own"),
        (", key_file: ~/.ssh/lab", "", "either key_file or agent"),
        (", key_file: ~/.ssh/lab", ", key_file: ~/.ssh/lab, agent: true", "either key_file or agent"),
        ("~/.ssh/lab", "lab", "pattern"),
        ("user: nvidia", "user: nvidia, password: jetson", "unknown key"),
        ("url: /dev/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0", "url: ttyUSB0", "pattern"),
        ("kind: shelly-gen2", "kind: shelly", "shelly-gen2"),
        ("outlet: 0", "outlet: 0, password: geheim", "env:NAME"),
        ("          console: {url: /dev/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0}\n", "", "needs console"),
        ("        jetson:\n", "        jetson:\n          stand_in: container\n", "fills in ssh, console, supervisor"),
    ],
)
def test_a_wrong_section_is_told_what_is_wrong_with_its_line(tmp_path: Path, old: str, new: str, words: str) -> None:
    message = refused(tmp_path, old, new)
    assert words in message
    assert "lab.yaml:" in message
    assert "geheim" not in message


@pytest.mark.parametrize(
    ("board", "words"),
    [
        (" {name: b1, driver: jetson}", "is required with driver: jetson"),
        (" {name: b1, driver: container, jetson: {stand_in: container}}", "only for driver: jetson"),
    ],
)
def test_driver_and_section_belong_together(tmp_path: Path, board: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        lab_of(tmp_path, board)
    assert words in caught.value.message


def test_a_twin_in_the_loop_of_a_real_board_keeps_its_time(tmp_path: Path) -> None:
    lab_of(tmp_path, REAL)
    file = tmp_path / "lab.yaml"
    plain = file.read_text()
    file.write_text(plain + "\ntwin: {time_factor: 30}\n")
    with pytest.raises(ConfigurationError, match=r"twin.time_factor: must be 1 with real boards \(b1\), or set loop"):
        load_lab(file)
    for section in ("{time_factor: 30, loop: false}", "{}"):
        file.write_text(f"{plain}\ntwin: {section}\n")
        assert load_lab(file).twin is not None


CABLES = f"""{REAL}          flight: {{nic: enp3s0.101}}
          recovery: {{usb_path: 1-4.2}}
"""
OWN = {
    "supervisor.power": ("outlet: 0", "outlet: 1"),
    "console.url": ("0:3:1.0", "0:4:1.0"),
    "flight.nic": ("s0.101", "s0.102"),
    "recovery.usb_path": ("1-4.2", "1-4.3"),
}


@pytest.mark.parametrize("shared", ["", *OWN])
def test_what_leads_to_one_board_leads_to_no_other(tmp_path: Path, shared: str) -> None:
    second = CABLES.replace("name: b1", "name: b4").replace("outlet: 0", "outlet: 0, request_timeout_s: 9")
    for old, new in (changed for key, changed in OWN.items() if key != shared):
        assert old in second
        second = second.replace(old, new)
    both = f"{CABLES}      -{second}"
    if not shared:
        assert len(lab_of(tmp_path, both).boards) == 7
        return
    with pytest.raises(ConfigurationError, match=f"lab.yaml:[0-9]+: b4.{shared}: is that of b1, too"):
        lab_of(tmp_path, both)
