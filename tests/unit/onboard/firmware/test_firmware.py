"""The firmware's parts that need no container."""

from __future__ import annotations

import hashlib
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.onboard.boot_control import BootControl, Variables
from hil.onboard.files import read_object
from hil.onboard.firmware.__main__ import measure
from hil.onboard.firmware.console import Console, announce, escape_pressed, uefi_shell
from hil.onboard.firmware.watchdog import Watchdog
from hil.onboard.squashfs import image_size
from hil.testing.fakes import FakeClock

BOOT_LINES = [
    r"^\[\d{4}\.\d{3}\] I> MB1 \(version: ([\w.-]+)\)",
    r"I> Boot-mode : (\w+)",
    r"I> rst_source: (0x\w+), rst_level: (0x\w+)",
    r"^\[\d{4}\.\d{3}\] I> MB2 \(version: ([\w.-]+)\)",
    r"I> Current Boot-Chain Slot: (\d)",
    r"I> MB2 finished",
    r"NOTICE:  BL31: v2\.8",
    r"I/TC: OP-TEE version: (\S+)",
    r"Primary CPU switching to normal world boot",
    r"Jetson UEFI firmware \(version (\S+) built on (\S+)\)",
    r"ESC   to enter Setup\.",
]


def squashfs(size: int, slot_size: int) -> bytes:
    superblock = struct.pack("<I", 0x73717368) + bytes(36) + struct.pack("<Q", size) + bytes(48)
    body = superblock + bytes(i % 251 for i in range(size - len(superblock)))
    return body.ljust(slot_size, b"\0")


@pytest.mark.parametrize(("used", "padded"), [(4096, 4096), (4097, 8192), (10_000, 12_288)])
def test_the_size_of_an_image_is_read_from_its_superblock(used: int, padded: int) -> None:
    assert image_size(squashfs(used, 16_384)[:96]) == padded


@pytest.mark.parametrize("superblock", [b"", bytes(96), b"hsqs"])
def test_what_is_no_squashfs_has_no_size(superblock: bytes) -> None:
    assert image_size(superblock) == 0


def test_a_measurement_covers_the_image_and_not_the_rest_of_the_slot(tmp_path: Path) -> None:
    slot, memory = tmp_path / "slot", tmp_path / "memory"
    content = squashfs(8192, 65_536)
    slot.write_bytes(content)
    expected = hashlib.sha256(content[:8192]).hexdigest()
    assert measure(slot, memory) == (expected, 8192)
    slot.write_bytes(content[:8192] + b"x" * 100)
    assert measure(slot, memory) == (expected, 8192)


def test_a_remembered_measurement_is_dropped_when_the_slot_was_written(tmp_path: Path) -> None:
    slot, memory = tmp_path / "slot", tmp_path / "memory"
    content = bytearray(squashfs(8192, 8192))
    slot.write_bytes(content)
    first = measure(slot, memory)
    content[5000] ^= 1
    slot.write_bytes(content)
    os.utime(slot, ns=(1, 1))
    second = measure(slot, memory)
    assert second[0] == hashlib.sha256(content).hexdigest()
    assert first != second


def test_a_truncated_or_missing_slot_has_no_measurement(tmp_path: Path) -> None:
    slot = tmp_path / "slot"
    slot.write_bytes(squashfs(8192, 8192)[:5000])
    assert measure(slot, tmp_path / "memory")[0] == ""
    assert measure(tmp_path / "none", tmp_path / "memory") == ("", 0)


@pytest.mark.parametrize("content", ["", "{", "[1]", "null"])
def test_an_odd_board_file_gives_an_anonymous_board(tmp_path: Path, content: str) -> None:
    path = tmp_path / "board.json"
    path.write_text(content)
    assert read_object(path) == {}


@pytest.fixture
def watchdog(tmp_path: Path) -> Iterator[tuple[Watchdog, FakeClock, int]]:
    clock = FakeClock()
    dog = Watchdog(tmp_path / "watchdog", clock.monotonic)
    feed = os.open(tmp_path / "watchdog", os.O_WRONLY)
    yield dog, clock, feed
    os.close(feed)
    os.close(dog.descriptor)


def test_a_watchdog_bites_unless_it_is_fed(watchdog: tuple[Watchdog, FakeClock, int]) -> None:
    dog, clock, feed = watchdog
    dog.arm(10.0)
    clock.sleep(9.0)
    os.write(feed, b".")
    dog.drain(5.0)
    clock.sleep(4.9)
    assert not dog.expired()
    clock.sleep(0.2)
    dog.drain(5.0)
    assert dog.expired()


def test_the_magic_close_disarms_and_old_feeds_do_not_count_for_a_new_boot(
    watchdog: tuple[Watchdog, FakeClock, int],
) -> None:
    dog, clock, feed = watchdog
    os.write(feed, b".V")
    dog.drain(5.0)
    clock.sleep(1e6)
    assert not dog.expired()
    os.write(feed, b"V")
    dog.arm(1.0)
    dog.drain(5.0)
    clock.sleep(1.1)
    assert dog.expired()


def test_an_os_that_never_stops_writing_does_not_hold_the_firmware(
    watchdog: tuple[Watchdog, FakeClock, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    dog, clock, feed = watchdog
    read, calls = os.read, 0

    def refilled(descriptor: int, size: int) -> bytes:
        nonlocal calls
        calls += 1
        assert calls < 5
        os.write(feed, bytes(5000) + b"V")
        return read(descriptor, size)

    monkeypatch.setattr(os, "read", refilled)
    dog.arm(1.0)
    dog.drain(5.0)
    clock.sleep(1e6)
    assert not dog.expired(), "the last byte disarms"


def test_time_in_which_the_host_stood_still_is_not_held_against_the_os(
    watchdog: tuple[Watchdog, FakeClock, int],
) -> None:
    dog, clock, _ = watchdog
    dog.arm(5.0)
    clock.sleep(30.0)
    dog.extend(29.0)
    assert not dog.expired()
    assert dog.left() == pytest.approx(4.0)


class Terminal:
    """A person's end of the firmware's console."""

    def __init__(self) -> None:
        self.master, self._slave = os.openpty()
        self.console = Console(self._slave, self._slave)
        self.console.set_cooked(False)

    def type(self, keys: bytes) -> None:
        os.write(self.master, keys)

    def said(self) -> str:
        """What the firmware said so far."""
        os.set_blocking(self.master, False)
        data = b""
        try:
            while block := os.read(self.master, 65536):
                data += block
        except BlockingIOError:
            pass
        return data.decode().replace("\r\n", "\n")

    def close(self) -> None:
        os.close(self.master)
        os.close(self._slave)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    terminal = Terminal()
    yield terminal
    terminal.close()


@pytest.fixture
def variables(tmp_path: Path) -> Variables:
    variables = Variables(tmp_path, durable=False)
    BootControl(variables).initialise()
    return variables


def test_the_boot_log_has_the_lines_of_a_jetson_in_their_order(terminal: Terminal, variables: Variables) -> None:
    announce(terminal.console, BootControl(variables), "BCCPLEXWDT", cold=False)
    text = terminal.said()
    position = 0
    for pattern in BOOT_LINES:
        match = re.compile(pattern, re.MULTILINE).search(text, position)
        assert match, f"{pattern} is missing after: {text[position:][:200]}"
        position = match.start()
    assert "rst_source: 0x1c" in text


def test_escape_stops_the_boot_and_other_keys_do_not(terminal: Terminal) -> None:
    terminal.type(b"x\x1b[24~")
    assert escape_pressed(terminal.console, 2.0)
    assert terminal.console.byte(0.0) is None, "the rest of the function key is swallowed"
    terminal.type(b"abc")
    assert not escape_pressed(terminal.console, 0.1)
    terminal.type(b"\r")
    assert not escape_pressed(terminal.console, 60.0)


def test_the_uefi_shell_shows_and_sets_variables(terminal: Terminal, variables: Variables) -> None:
    terminal.type(b"\rhelp\rsetvar BootCountX\x7f 41\rwhat\rdmpstore\rexit\r")
    assert uefi_shell(terminal.console, variables) == "boot"
    assert variables.number("BootCount") == 41
    said = terminal.said()
    assert "'what' is not recognized" in said
    assert "29 00 00 00" in said


def test_what_was_typed_while_the_power_was_off_is_forgotten(terminal: Terminal) -> None:
    terminal.type(b"\x1b")
    terminal.console.drop_input()
    assert not escape_pressed(terminal.console, 0.05)
