"""The suite that every board driver must pass, so that a test never needs to ask which driver it has.

Subclass it where pytest collects and offer a ``board`` fixture::

    class TestContainerBoard(BoardConformance):
        pass

The board may be on or off when a test begins; it is left on.  The suite reboots it and cuts its power, several times.
What a board says that it lacks (``hil.boards.capabilities.Partial``) is skipped, with its reason.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from hil.boards.capabilities import Feature, lacks, needs
from hil.boards.linux_board import wait_rebooted
from hil.boards.protocol import Board, Identity, PowerState, Slot, Via
from hil.boards.tegrastats import parse
from hil.errors import DeviceError, HilError


def running(board: Board, *, deadline_s: float = 60.0) -> Identity:
    """Bring the board up if it is off; return who answers."""
    if Feature.POWER not in lacks(board) and board.supervisor.state() is PowerState.OFF:
        board.supervisor.on()
    return board.wait_booted(deadline_s=deadline_s)


def reboot(board: Board, before: Identity, *, deadline_s: float = 60.0) -> Identity:
    """Reboot in order from the OS and wait for the next boot, proved by its boot id."""
    try:
        with board.shell() as shell:
            shell.run(["reboot"], check=False, timeout_s=10.0)
    except DeviceError:
        pass  # the connection may die before the answer
    return wait_rebooted(board, before.boot_id, deadline_s=deadline_s)


def raises(kind: type[HilError], action: Callable[[], object]) -> HilError:
    """Return the error of that kind that ``action`` raises; AssertionError when it raises none."""
    try:
        action()
    except kind as exc:
        return exc
    raise AssertionError(f"no {kind.__name__} was raised")


class BoardConformance:
    """What ``hil.boards.protocol`` promises, on a real or a container board."""

    data_dir: ClassVar[str] = "/data"
    boot_deadline_s: ClassVar[float] = 60.0
    stock_os: ClassVar[bool] = False
    """The board runs NVIDIA's own OS: it has Ubuntu's version (22.04) and cannot say which image it runs from."""
    board_power_mw: ClassVar[tuple[float, float]] = (1_000.0, 75_000.0)  # idle Orin to AGX Industrial's maximum

    # -- supervisor

    @needs(Feature.POWER)
    def test_on_and_off_are_what_the_supervisor_says(self, board: Board) -> None:
        running(board)
        assert board.supervisor.state() is PowerState.ON
        board.supervisor.off()  # without a deadline: a Jetson's OS takes as long as its lab file says
        assert board.supervisor.state() is PowerState.OFF
        board.supervisor.off()
        board.supervisor.cut()
        assert board.supervisor.state() is PowerState.OFF
        board.supervisor.on()
        board.supervisor.on()
        assert board.supervisor.state() is PowerState.ON
        board.wait_booted(deadline_s=self.boot_deadline_s)

    @needs(Feature.POWER)
    def test_a_board_without_power_answers_with_an_error_not_with_silence(self, board: Board) -> None:
        running(board)
        board.supervisor.cut()
        start = time.monotonic()
        raises(HilError, board.shell)
        error = raises(DeviceError, lambda: board.wait_booted(deadline_s=0.5))
        assert board.name in error.message
        assert time.monotonic() - start < 20.0
        running(board)

    @needs(Feature.POWER, Feature.RESTART)
    def test_every_boot_has_its_own_boot_id(self, board: Board) -> None:
        first = running(board)
        assert board.identity().boot_id == first.boot_id
        second = reboot(board, first, deadline_s=self.boot_deadline_s)
        board.supervisor.reset()
        third = board.wait_booted(deadline_s=self.boot_deadline_s)
        assert len({first.boot_id, second.boot_id, third.boot_id}) == 3

    @needs(Feature.POWER, Feature.POWER_LOSS)
    def test_a_power_cut_loses_what_was_not_synced_and_keeps_what_was(self, board: Board) -> None:
        running(board)
        kept, lost = f"{self.data_dir}/conformance-kept", f"{self.data_dir}/conformance-lost"
        content = os.urandom(300_000)
        for _ in range(3):  # container boards share a kernel: another board's `sync` may save this one's data
            with board.shell() as shell:
                shell.run(["rm", "-f", kept, lost])
                shell.write(kept, content)
                shell.run(["sync"])
                shell.write(lost, content)
                assert shell.read(lost) == content
                board.supervisor.cut()
            board.supervisor.on()
            board.wait_booted(deadline_s=self.boot_deadline_s)
            with board.shell() as shell:
                assert shell.read(kept) == content
                digest = shell.run(["sh", "-c", f"cat {lost} 2>/dev/null | sha256sum"]).stdout.split()[0]
                shell.run(["rm", "-f", kept, lost])
            survived = digest == hashlib.sha256(content).hexdigest()
            if not survived:
                break
        assert not survived

    # -- console

    @needs(Feature.POWER, Feature.CONSOLE, Feature.ORIN)
    def test_the_console_shows_the_boot_in_order(self, board: Board) -> None:
        running(board)
        since = board.console.size()
        board.supervisor.reset()
        for pattern in (
            r"I> MB1 \(version: ",
            r"I> MB2 \(version: ",
            r"UEFI firmware \(version|System firmware version",
            r"L4TLauncher: Attempting \w+ Boot",
            r"EFI stub: Booting Linux Kernel",
            r"Booting Linux on physical CPU",
            r"login: ",
        ):
            board.console.wait_for(pattern, deadline_s=self.boot_deadline_s, since=since)
        board.wait_booted(deadline_s=self.boot_deadline_s)

    @needs(Feature.CONSOLE)
    def test_a_person_can_log_in_on_the_console_with_pyserial(self, board: Board) -> None:
        import serial

        running(board)
        with serial.serial_for_url(board.console.url, baudrate=115200) as port:
            port.write(b"\n")
            _await(port, b"login: ")
            port.write(b"root\n")
            if self.stock_os:  # it lets nobody in without a password; that it asks proves that keys arrive
                _await(port, b"assword:")
                port.write(b"\n")
                _await(port, b"login: ")
                return
            _await(port, b"# ")
            port.write(b"echo con'form'ance-$((40 + 2))\n")
            _await(port, b"conformance-42")
            port.write(b"exit\n")
            _await(port, b"login: ")

    @needs(Feature.POWER, Feature.CONSOLE)
    def test_the_console_survives_a_power_cycle_with_a_reader_attached(self, board: Board) -> None:
        import serial

        running(board)
        with serial.serial_for_url(board.console.url, baudrate=115200) as port:
            port.reset_input_buffer()
            board.supervisor.reset()
            _await(port, b"login: ", deadline_s=self.boot_deadline_s)
        board.wait_booted(deadline_s=self.boot_deadline_s)

    @needs(Feature.CONSOLE)
    def test_waiting_for_what_never_comes_ends_with_the_last_lines(self, board: Board) -> None:
        running(board)
        error = raises(DeviceError, lambda: board.console.wait_for("no such words on any console", deadline_s=0.3))
        assert "no such words" in error.message
        last_words = board.console.tail(1).split()
        assert last_words and last_words[-1] in error.message

    @needs(Feature.CONSOLE)
    def test_a_test_can_type_on_the_console_and_expect_an_answer(self, board: Board) -> None:
        running(board)
        console = board.console
        console.sendline("")
        console.expect("login: ", deadline_s=15.0)
        console.sendline("root")
        if self.stock_os:  # it lets nobody in without a password; that it asks proves that keys arrive
            console.expect("assword:", deadline_s=15.0)
            console.sendline("")
        else:
            console.expect("# ", deadline_s=15.0)
            console.sendline("echo con'form'ance-$((40 + 2))")
            assert console.expect(r"conformance-\d+", deadline_s=15.0) == "conformance-42"
            error = raises(DeviceError, lambda: console.expect("conformance-43", deadline_s=0.3))
            assert "conformance-43" in error.message
            console.sendline("exit")
        console.expect("login: ", deadline_s=30.0)

    # -- shell and files

    def test_a_command_gives_back_its_outputs_and_exit_code(self, board: Board) -> None:
        running(board)
        with board.shell() as shell:
            done = shell.run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
            assert (done.returncode, done.stdout, done.stderr) == (3, "out\n", "err\n")
            error = raises(DeviceError, lambda: shell.run(["sh", "-c", "echo broken >&2; exit 4"]))
            assert "broken" in error.message
            assert "4" in error.message

    def test_arguments_arrive_as_they_were_given(self, board: Board) -> None:
        running(board)
        odd = ["two  words", "$HOME", "`id`", "a'b\"c", "*", "", "semi;colon", "new\nline", "ü"]
        with board.shell() as shell:
            done = shell.run(["printf", "[%s]", *odd])
        assert done.stdout == "".join(f"[{word}]" for word in odd)

    def test_stdin_reaches_the_command_byte_for_byte(self, board: Board) -> None:
        running(board)
        content = os.urandom(400_000)
        with board.shell() as shell:
            done = shell.run(["sha256sum"], stdin=content)
            assert done.stdout.split()[0] == hashlib.sha256(content).hexdigest()
            assert shell.run(["cat"], stdin=b"").stdout == ""

    def test_much_output_on_both_streams_does_not_block(self, board: Board) -> None:
        running(board)
        line = "0123456789" * 4
        script = f"i=0; while [ $i -lt 3000 ]; do echo {line}; echo e >&2; i=$((i+1)); done"
        with board.shell() as shell:
            done = shell.run(["sh", "-c", script], timeout_s=60.0)
        assert len(done.stdout) == 41 * 3000
        assert len(done.stderr) == 2 * 3000

    def test_a_command_that_takes_too_long_is_a_device_error_and_the_shell_lives_on(self, board: Board) -> None:
        running(board)
        with board.shell() as shell:
            error = raises(DeviceError, lambda: shell.run(["sleep", "30"], timeout_s=0.5))
            assert "0.5 s" in error.message
            assert shell.run(["echo", "still here"]).stdout == "still here\n"

    def test_files_travel_byte_for_byte_both_ways(self, board: Board, tmp_path: Path) -> None:
        running(board)
        local, back, remote = tmp_path / "there", tmp_path / "back", f"{self.data_dir}/conformance-file"
        local.write_bytes(os.urandom(1_300_001))
        with board.shell() as shell:
            shell.push(local, remote)
            assert shell.read(remote) == local.read_bytes()
            shell.pull(remote, back)
            assert back.read_bytes() == local.read_bytes()
            shell.write(remote, b"")
            assert shell.read(remote) == b""
            shell.run(["rm", remote])
            error = raises(DeviceError, lambda: shell.read(remote))
            assert remote in error.message

    def test_the_management_address_is_where_the_shell_goes(self, board: Board) -> None:
        running(board)
        _, address = board.address(Via.MANAGEMENT)
        with board.shell(Via.MANAGEMENT) as shell:
            assert address in shell.run(["ip", "-4", "address"]).stdout

    # -- slots

    @needs(Feature.SLOTS)
    def test_the_running_slot_is_the_same_from_inside_and_outside(self, board: Board) -> None:
        identity = running(board)
        state = board.boot.state()
        assert state.running == identity.slot
        assert {slot.slot for slot in state.slots} == {"A", "B"}
        current = next(slot for slot in state.slots if slot.slot == identity.slot)
        assert current.bootable
        with board.shell() as shell:
            number = shell.run(["nvbootctrl", "-t", "rootfs", "get-current-slot"], check=False).stdout.strip()
        assert number == ("0" if identity.slot == "A" else "1")

    @needs(Feature.SLOTS, Feature.RESTART)
    def test_a_reboot_keeps_the_boot_order(self, board: Board) -> None:
        before = running(board)
        after = reboot(board, before, deadline_s=self.boot_deadline_s)
        assert after.slot == before.slot
        assert board.boot.state().active == before.slot

    @needs(Feature.SLOTS, Feature.RESTART)
    def test_the_other_slot_boots_when_made_active_and_the_way_back_works(self, board: Board) -> None:
        first = running(board)
        target: Slot = "B" if first.slot == "A" else "A"
        board.boot.set_active(target)
        assert board.boot.state().active == target
        second = reboot(board, first, deadline_s=self.boot_deadline_s)
        assert second.slot == target
        board.boot.set_active(first.slot)
        third = reboot(board, second, deadline_s=self.boot_deadline_s)
        assert third.slot == first.slot

    @needs(Feature.SLOTS, Feature.POWER)
    def test_no_slot_runs_without_power(self, board: Board) -> None:
        running(board)
        board.supervisor.cut()
        assert board.boot.state().running is None
        running(board)

    # -- identity and sensors

    def test_a_board_says_who_it_is(self, board: Board) -> None:
        identity = running(board)
        assert identity.model.startswith("NVIDIA ") or Feature.ORIN in lacks(board)
        assert "\0" not in identity.model + identity.serial
        assert identity.serial
        assert re.fullmatch(r"[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", identity.boot_id)
        if self.stock_os:
            assert re.fullmatch(r"\d+.*" if Feature.ORIN in lacks(board) else r"\d+\.\d+.*", identity.os_version)
            assert identity.image_sha256 == ""
        else:
            assert re.fullmatch(r"\d+\.\d+\.\d+.*", identity.os_version)
            assert re.fullmatch(r"[0-9a-f]{64}", identity.image_sha256)

    @needs(Feature.SENSORS)
    def test_sensors_are_plausible_and_carry_their_units(self, board: Board) -> None:
        running(board)
        readings = board.sensors()
        assert -40.0 <= readings["tj_c"] <= 104.5
        assert readings["ram_used_mb"] < readings["ram_total_mb"]
        low, high = self.board_power_mw
        assert low <= readings["board_mw"] <= high
        assert all(re.search(r"_(c|mw|mb|mhz|percent)$", name) for name in readings)

    @needs(Feature.ORIN)
    def test_tegrastats_prints_lines_that_the_parser_reads(self, board: Board) -> None:
        running(board)
        script = "tegrastats --interval 200 & p=$!; sleep 1; kill $p"
        with board.shell() as shell:
            lines = shell.run(["sh", "-c", script], check=False).stdout.splitlines()
        assert len(lines) >= 2
        for line in lines:
            reading = parse(line)
            assert reading.cores
            assert "tj" in reading.zones_c

    @needs(Feature.ORIN, Feature.SLOTS)
    def test_nvbootctrl_prints_the_slots_in_the_real_format(self, board: Board) -> None:
        running(board)
        with board.shell() as shell:
            # The real tool may exit 1 over /dev/mem and still print valid data.
            text = shell.run(["nvbootctrl", "dump-slots-info"], check=False).stdout
        assert re.search(r"^Current bootloader slot: [AB]$", text, re.MULTILINE)
        assert re.search(r"^Active bootloader slot: [AB]$", text, re.MULTILINE)
        assert re.search(r"^num_slots: 2$", text, re.MULTILINE)
        assert len(re.findall(r"^slot: [01],\s+(?:retry_count: \d,\s+)?status: \w+$", text, re.MULTILINE)) == 2


def _await(port: Any, wanted: bytes, *, deadline_s: float = 15.0) -> None:
    """Read a pyserial port until ``wanted`` was seen. AssertionError with what came instead."""
    port.timeout = deadline_s
    seen = port.read_until(wanted)
    assert seen.endswith(wanted), f"{wanted!r} did not come; got {seen[-300:]!r}"
