"""The container board's firmware when things go wrong below the OS."""

from __future__ import annotations

import dataclasses
import subprocess
import time
from collections.abc import Iterator

import pytest

from hil.boards.conformance import reboot, running
from hil.boards.container.board import ContainerBoard
from hil.boards.container.gpu import gpu_of
from hil.boards.protocol import PowerState, Via
from hil.core.wait import wait_until
from hil.errors import DeviceError
from hil.onboard.boot_control import SLOTS, BootControl, Variables
from tests.kits.container_boards import boards, engine_client, freeze_os
from tests.kits.gpu_descriptions import LIBRARIES, gpu_host

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[ContainerBoard]]:
    """Two boards with a GPU whose device nodes lead to /dev/null."""
    gpu = gpu_of("0", gpu_host(tmp_path_factory.mktemp("gpu"), nodes=True))
    with engine_client() as client, boards(client, 2, gpu=gpu) as (made, _):
        yield made


@pytest.fixture
def board(pair: list[ContainerBoard]) -> Iterator[ContainerBoard]:
    board = pair[0]
    yield board
    board.supervisor.cut()
    control = firmware(board)
    for slot in SLOTS:
        control.mark_good(slot)
    control.set_active("A")
    for name in ("WatchdogTimeoutMs", "EscPromptMs"):
        control.variables.path(name).unlink(missing_ok=True)


def firmware(board: ContainerBoard) -> BootControl:
    return BootControl(Variables(board.spec.nv_dir / "vars"))


def type_text(board: ContainerBoard, text: str) -> None:
    import serial

    with serial.serial_for_url(board.console.url, timeout=0.2) as port:
        port.write(text.encode())
        port.flush()
        time.sleep(0.2)  # the pump looks for a new listener every 50 ms


def test_with_both_slots_exhausted_the_console_offers_a_recovery_shell_that_can_mend_it(board: ContainerBoard) -> None:
    control = firmware(board)
    for slot in SLOTS:
        control.mark_bad(slot)
    since = board.console.size()
    board.supervisor.on()
    board.console.wait_for(r"L4TLauncher: Attempting Recovery Boot[\s\S]*recovery# ", deadline_s=20.0, since=since)
    assert board.boot.state().running is None
    mend = "import pathlib, hil.onboard.boot_control as v; nv = v.Variables(pathlib.Path('/nv/vars')); "
    mend += "v.BootControl(nv).mark_good('B')"
    type_text(board, f'python3 -S -c "{mend}"; exit\n')
    assert board.wait_booted().slot == "B"


def test_the_power_button_works_in_the_recovery_shell(board: ContainerBoard) -> None:
    control = firmware(board)
    for slot in SLOTS:
        control.mark_bad(slot)
    since = board.console.size()
    board.supervisor.on()
    board.console.wait_for("recovery# ", deadline_s=20.0, since=since)
    board.supervisor.off(deadline_s=10.0)
    assert board.supervisor.state() is PowerState.OFF
    assert "Power down" in board.console.text(since)


def test_escape_at_the_prompt_opens_the_uefi_shell_and_exit_boots_on(board: ContainerBoard) -> None:
    firmware(board).variables.set_number("EscPromptMs", 5000)
    since = board.console.size()
    board.supervisor.on()
    board.console.wait_for("Enter to continue boot", deadline_s=20.0, since=since)
    type_text(board, "\x1b")
    board.console.wait_for("Shell> ", deadline_s=10.0, since=since)
    type_text(board, "dmpstore\rsetvar ConfirmDeadlineS 77\rnonsense\rexit\r")
    board.console.wait_for("RootfsStatusSlotA-781e084c-a330-417c-b678-38e696380cb9", deadline_s=10.0, since=since)
    board.console.wait_for("'nonsense' is not recognized", deadline_s=10.0, since=since)
    board.wait_booted()
    assert firmware(board).variables.number("ConfirmDeadlineS") == 77


def test_an_os_that_stops_feeding_the_watchdog_is_reset_and_the_reason_is_kept(board: ContainerBoard) -> None:
    firmware(board).variables.set_number("WatchdogTimeoutMs", 2500)
    before = running(board)
    since = board.console.size()
    freeze_os(int(board.container().attrs["State"]["Pid"]), frozen=True)
    board.console.wait_for("CPU watchdog expired", deadline_s=20.0, since=since)
    after = board.wait_booted()
    assert after.boot_id != before.boot_id
    with board.shell() as shell:
        assert shell.read("/sys/devices/platform/bus@0/c360000.pmc/reset_reason") == b"BCCPLEXWDT\n"
    reboot(board, after)
    with board.shell() as shell:
        assert shell.read("/sys/devices/platform/bus@0/c360000.pmc/reset_reason") == b"MAINSWRST\n"


def test_a_slot_whose_superblock_is_damaged_falls_back_to_the_other(board: ContainerBoard) -> None:
    image = board.spec.nv_dir / "slot_a.img"
    with image.open("r+b") as file:
        original = file.read(4096)
        file.seek(0)
        file.write(bytes(4096))
    try:
        board.supervisor.on()
        assert board.wait_booted().slot == "B"
        state = board.boot.state()
        assert (state.active, state.slots[0].bootable) == ("B", False)
    finally:
        board.supervisor.cut()
        with image.open("r+b") as file:
            file.write(original)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"hosts": 3, "name": null}'])
def test_an_odd_board_file_does_not_stop_a_boot(board: ContainerBoard, content: str) -> None:
    facts = board.spec.nv_dir / "board.json"
    original = facts.read_text()
    facts.write_text(content)
    try:
        board.supervisor.on()
        assert board.wait_booted().slot == "A"
    finally:
        facts.write_text(original)


def test_facts_and_hosts_reach_the_os(board: ContainerBoard) -> None:
    running(board)
    with board.shell() as shell:
        assert b'"name": "twin-1"' in shell.read("/run/board.json")
        assert b"127.0.1.1 twin-1" in shell.read("/etc/hosts")
        assert b"rauc.slot=A" in shell.read("/proc/cmdline")
        assert shell.run(["hostname"]).stdout == "twin-1\n"
        compatible = shell.read("/sys/firmware/devicetree/base/compatible")
    assert b"nvidia,tegra234" in compatible.split(b"\0")


def test_the_os_has_the_gpu_of_the_host(board: ContainerBoard) -> None:
    """Devices that can be used, the driver at its places and under its links, read-only, and the variables."""
    board.supervisor.on()
    board.wait_booted()
    library = f"/{LIBRARIES}/libcuda.so"
    with board.shell() as shell:
        for name in ("nvidia0", "nvidiactl", "nvidia-uvm"):
            shell.run(["sh", "-c", f"test -c /dev/{name} && echo x >/dev/{name}"])
        assert shell.run(["sh", "-c", "ls /dev/nvidia1"], check=False).returncode != 0
        assert shell.run(["cat", f"{library}.1"]).stdout == shell.run(["cat", library]).stdout == "the driver\n"
        assert shell.run(["sh", "-c", f"echo x >{library}.1"], check=False).returncode != 0
        node = shell.run(["sh", "-c", "tr '\\0' '\\n' </proc/$(cat /run/service/node.pid)/environ"]).stdout
    assert {"NVIDIA_VISIBLE_DEVICES=void", f"LD_LIBRARY_PATH=/{LIBRARIES}"} <= {*node.splitlines()}


def test_another_boards_host_key_is_refused(pair: list[ContainerBoard]) -> None:
    first, second = pair
    running(first)
    target = dataclasses.replace(first.target(), host_key=second.target().host_key)
    spec = dataclasses.replace(first.spec, targets={Via.MANAGEMENT: target})
    impostor = ContainerBoard(spec, first._client, lambda _pid: None)
    with pytest.raises(DeviceError, match="another host key"):
        impostor.shell()


def test_boards_do_not_share_boot_ids_or_console(pair: list[ContainerBoard]) -> None:
    first, second = (running(board) for board in pair)
    assert first.boot_id != second.boot_id
    assert first.serial != second.serial
    assert "twin-1" not in pair[1].console.text()


def test_the_os_cannot_reach_beyond_its_own_nics(pair: list[ContainerBoard]) -> None:
    running(pair[0])
    with pair[0].shell() as shell:
        routes = shell.run(["ip", "route"]).stdout
    assert "default" not in routes


def test_a_removed_board_leaves_no_loop_device_and_no_nic() -> None:
    with engine_client() as client, boards(client, 1) as (made, _):
        board = made[0]
        running(board)
        inodes = {(board.spec.nv_dir / name).stat().st_ino for name in ("slot_a.img", "slot_b.img", "data.img")}
        assert loops_on(inodes) == 3
        board.supervisor.reset()
        board.wait_booted()
        client.api.pause(board.spec.container)  # as a harness killed in the middle of a power cut leaves it
        board.remove()
        board.remove()
        inodes |= {path.stat().st_ino for path in board.spec.nv_dir.glob("*.img*")}
        wait_until(lambda: loops_on(inodes) == 0, what="the loop devices to clear themselves", deadline_s=5.0)
        namespace, _address = board.address()
        wait_until(lambda: "m1" not in nics_in(namespace), what="the NIC to go with the board", deadline_s=5.0)


def nics_in(namespace: str) -> str:
    argv = ["ip", "-brief", "-n", namespace, "link"]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout


def loops_on(inodes: set[int]) -> int:
    """How many loop devices of this host are backed by these files (paths differ between mount namespaces)."""
    argv = ["losetup", "--list", "--noheadings", "--raw", "--output", "BACK-INO"]
    listing = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return sum(int(line) in inodes for line in listing.split())
