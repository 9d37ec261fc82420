"""Force-recovery and flashing: a tree of sysfs files that changes as a bus does, a tool that prints a record."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.jetson.flash import initrd_flash
from hil.boards.jetson.flash.initrd_flash import (
    NVME_AB_LAYOUTS,
    NVME_LAYOUTS,
    QSPI_LAYOUTS,
    TOOL,
    FlashOutput,
    FlashPlan,
    flash,
)
from hil.boards.jetson.flash.recovery import RCM_IDS, UsbPort, by_linux, devices, enter_recovery, meaning
from hil.boards.jetson.modules import SKUS
from hil.boards.protocol import Completed
from hil.core.processes import started
from hil.errors import BenchError, ConfigurationError, DeviceError, HilError
from tests.kits import checkout
from tests.kits.power_strips import wait_for
from tests.kits.usb_bus import NANO, PORT, RECORD, UsbBus


@pytest.fixture
def bus(tmp_path: Path) -> UsbBus:
    return UsbBus(tmp_path / "devices")


@pytest.fixture
def port(bus: UsbBus) -> UsbPort:
    return UsbPort(PORT, bus.root)


def test_every_module_has_its_rcm_identity_and_the_ambiguous_ones_are_known() -> None:
    assert set(RCM_IDS) == {"0955:7023", "0955:7223", "0955:7323", "0955:7423", "0955:7523", "0955:7623"}
    assert {"p3701-0000", "p3701-0005", "p3701-0008"} < set(RCM_IDS["0955:7023"])
    assert {part for parts in RCM_IDS.values() for part in parts} == set(SKUS)


def test_a_port_tells_what_is_plugged_into_it(bus: UsbBus, port: UsbPort) -> None:
    assert port.device() is None
    bus.plug(PORT, "0955:7020", "L4T (Linux for Tegra) running on Tegra", serial="1423020012345")
    found = port.device()
    assert found is not None
    assert (found.usb_id, found.serial, found.in_recovery) == ("0955:7020", "1423020012345", False)
    assert [device.port for device in devices(bus.root)] == ["1-4", PORT]


@pytest.mark.parametrize("path", ["", "usb1", "../1-4", "1-4:1.0", "1-4/..", "4"])
def test_what_is_no_port_path_is_refused(path: str) -> None:
    with pytest.raises(ConfigurationError, match="no USB port path"):
        UsbPort(path)


def test_recovery_is_waited_for_through_leaving_and_coming_back(bus: UsbBus, port: UsbPort) -> None:
    bus.plug(PORT, "0955:7020", "L4T")
    before = port.device()
    with bus.later(lambda: bus.unplug(PORT), lambda: bus.plug(PORT, "0955:7523", "APX")):
        found = port.wait_recovery(NANO, since=before, deadline_s=10)
    assert (found.usb_id, found.product) == ("0955:7523", "APX")
    assert before is not None
    assert found.devnum != before.devnum


def test_a_module_that_was_in_recovery_before_does_not_count_until_it_enumerates_again(
    bus: UsbBus, port: UsbPort
) -> None:
    bus.plug(PORT, "0955:7523", "APX")
    before = port.device()
    with pytest.raises(BenchError, match="has not enumerated again") as error:
        port.wait_recovery(NANO, since=before, deadline_s=0.1)
    assert "reset pin" in error.value.remedy
    with bus.later(lambda: bus.plug(PORT, "0955:7523", "APX")):
        assert port.wait_recovery(NANO, since=before, deadline_s=10) != before


@pytest.mark.parametrize(
    ("usb_id", "said", "remedy"),
    [
        ("", "nothing is there", "cable"),
        ("0955:7020", "whose Linux runs", "forced-recovery"),
        ("0955:7045", "debug controller", "USB-C port"),
        ("0955:7035", "flash tool's RAM disk", "power-cycle"),
        ("046d:c31c", "no NVIDIA device", "correct the port"),
    ],
)
def test_what_is_on_the_port_instead_is_named_at_the_deadline(
    bus: UsbBus, port: UsbPort, usb_id: str, said: str, remedy: str
) -> None:
    if usb_id:
        bus.plug(PORT, usb_id)
    with pytest.raises(BenchError, match=f"USB port {PORT}: waited 0.1 s.*{said}") as error:
        port.wait_recovery(NANO, since=port.device(), deadline_s=0.1)
    assert remedy in error.value.remedy
    with pytest.raises(BenchError, match=said):
        port.check(NANO)


def test_another_module_in_recovery_on_the_port_is_named_at_once(bus: UsbBus, port: UsbPort) -> None:
    with (
        bus.later(lambda: bus.plug(PORT, "0955:7323", "APX")),
        pytest.raises(ConfigurationError, match=r"lab file says p3767-0005.*p3767-0000, Jetson Orin NX 16 GB"),
    ):
        port.wait_recovery(NANO, since=None, deadline_s=60)


def test_a_wrong_module_in_recovery_is_not_even_reset(bus: UsbBus, port: UsbPort) -> None:
    bus.plug(PORT, "0955:7023", "APX")
    entered: list[str] = []
    with pytest.raises(ConfigurationError):
        enter_recovery(port, NANO, lambda: entered.append("reset"), deadline_s=1)
    assert not entered


class Linux:
    """A root shell that breaks under the reboot, as SSH does."""

    def __init__(self, bus: UsbBus) -> None:
        self.bus = bus
        self.ran: list[tuple[str, ...]] = []

    def run(self, argv: list[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        self.ran.append(tuple(argv))
        self.bus.plug(PORT, "0955:7523", "APX")
        raise DeviceError("the connection is gone")

    def read(self, remote: str) -> bytes:
        raise DeviceError(remote)


def test_recovery_from_linux_is_proven_by_usb_and_not_by_the_command(bus: UsbBus, port: UsbPort) -> None:
    bus.plug(PORT, "0955:7020", "L4T")
    shell = Linux(bus)
    found = enter_recovery(port, NANO, lambda: by_linux(shell), deadline_s=10)  # type: ignore[arg-type]  # a list here
    assert shell.ran == [("reboot", "--force", "forced-recovery")]
    assert found.in_recovery


def test_every_identity_has_a_meaning() -> None:
    assert "p3767-0003" in meaning("0955:7523")
    assert "p3767-0005" in meaning("0955:7523")
    assert meaning("0955:ffff") == "an NVIDIA device, no Orin in recovery"


def tree(root: Path, script: str) -> Path:
    """A Linux_for_Tegra folder whose flash tool is ``script``."""
    for name in (NVME_LAYOUTS[0], NVME_AB_LAYOUTS[0], QSPI_LAYOUTS[0], "jetson-orin-nano-devkit.conf"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    (root / TOOL).write_text(script)
    (root / TOOL).chmod(0o755)
    return root


def plan_for(root: Path, script: str) -> FlashPlan:
    return FlashPlan(tree(root / "Linux_for_Tegra", script), "jetson-orin-nano-devkit", NANO)


@pytest.fixture
def ready(bus: UsbBus, port: UsbPort) -> UsbPort:
    bus.plug(PORT, "0955:7523", "APX")
    return port


def test_a_flash_is_followed_to_its_end_with_progress_and_a_whole_log(tmp_path: Path, ready: UsbPort) -> None:
    plan = replace(
        plan_for(tmp_path, f'#!/bin/sh\necho "$ROOTFS_AB $*" >argv\ncat {RECORD}\n'), ab=True, external_size="8GiB"
    )
    told: list[str] = []
    report = flash(plan, [ready], log=tmp_path / "logs/flash.log", progress=told.append)
    assert report.eeprom_part == NANO
    # Lines that look fatal and are not: they are kept, and do not fail a flash that succeeded.
    assert [line for line in report.complaints if "USB write" in line]
    assert (tmp_path / "logs/flash.log").read_bytes() == RECORD.read_bytes()
    assert told[0] == "step 1: Generate flash packages"
    assert f"the EEPROM says {NANO}, version 300, revision T.1" in told
    assert told.count("Waiting for target to boot-up...") == 1
    assert (plan.tree / "argv").read_text().strip() == (
        f"1 --external-device nvme0n1p1 -c {NVME_AB_LAYOUTS[0]} -S 8GiB -p -c {QSPI_LAYOUTS[0]} --showlogs "
        f"--network usb0 --usb-instance {PORT} jetson-orin-nano-devkit external"
    )


def test_another_module_by_its_eeprom_ends_the_tool_before_anything_is_written(tmp_path: Path, ready: UsbPort) -> None:
    script = (
        "#!/bin/sh\nsleep 60 & echo $! >child\necho 'Board ID(3767) version(300) sku(0003) revision(T.1)'\n"
        "sleep 5\necho written >written\n"
    )
    plan = plan_for(tmp_path, script)
    with pytest.raises(ConfigurationError, match=r"EEPROM says p3767-0003 .*nothing was written"):
        flash(plan, [ready], log=tmp_path / "log")
    assert not (plan.tree / "written").exists()
    child = int((plan.tree / "child").read_text())
    wait_for(lambda: (now := started(child)) is None or now[1], deadline_s=20)


@pytest.mark.parametrize("may_kill", [True, False])
def test_a_tool_that_is_roots_is_ended_as_it_was_started(
    tmp_path: Path, ready: UsbPort, monkeypatch: pytest.MonkeyPatch, *, may_kill: bool
) -> None:
    def refuse(_group: int, _number: int) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    kill = os.killpg
    monkeypatch.setattr(os, "killpg", refuse)
    monkeypatch.setattr(initrd_flash, "END_S", 0.5)
    as_root = tmp_path / "as_root"
    killed = f'if [ "$1" = kill ]; then echo "$*" >>{tmp_path}/kills; {"" if may_kill else "exit 1;"} fi'
    as_root.write_text(f'#!/bin/sh\n{killed}\nexec "$@"\n')
    as_root.chmod(0o755)
    plan = plan_for(
        tmp_path, "#!/bin/sh\necho $$ >pid\necho 'Board ID(3767) version(300) sku(0003) revision(T.1)'\nsleep 60\n"
    )
    wrong: type[HilError] = ConfigurationError if may_kill else BenchError
    with pytest.raises(wrong, match="nothing was written" if may_kill else "could not be ended: it goes on"):
        flash(plan, [ready], log=tmp_path / "log", prefix=[str(as_root)])
    group = int((plan.tree / "pid").read_text())
    assert (tmp_path / "kills").read_text().splitlines()[0] == f"kill -15 -- -{group}"
    if not may_kill:
        kill(group, signal.SIGKILL)


def test_a_tool_that_never_tells_the_eeprom_is_ended_before_it_boots_the_module(tmp_path: Path, ready: UsbPort) -> None:
    script = "#!/bin/sh\necho '*  Step 4: Boot the device with flash initrd image *'\nsleep 30\n"
    with pytest.raises(BenchError, match="not proven; nothing was written"):
        flash(plan_for(tmp_path, script), [ready], log=tmp_path / "log")


FAILURES = {
    "Sending bct_br\n[ 0.2 ] ERROR: might be timeout in USB write.\nReading board information failed.": "autosuspend",
    "No devices to flash": "enter recovery",
    "Error: Timeout\nDevice failed to boot to the initrd flash kernel. Please retrive the serial log": "serial console",
    "Error: Flash failure: cannot mount the NFS server": "nfs-kernel-server",
    "[ 0.0025 ] BootRom is not running": "left recovery",
    "something that nobody knows": "see the whole log",
}


@pytest.mark.parametrize("said", FAILURES)
def test_known_error_lines_come_with_their_remedy(tmp_path: Path, ready: UsbPort, said: str) -> None:
    (tmp_path / "said").write_text(said + "\n")
    plan = plan_for(tmp_path, f"#!/bin/sh\ncat {tmp_path}/said\nexit 1\n")
    with pytest.raises(BenchError, match="exited 1; nothing was written") as error:
        flash(plan, [ready], log=tmp_path / "log")
    assert FAILURES[said] in error.value.remedy
    assert str(tmp_path / "log") in error.value.remedy


def test_a_failure_while_writing_says_that_the_module_may_be_half_written(tmp_path: Path, ready: UsbPort) -> None:
    lines = RECORD.read_text().split("Flash is successful")[0]
    (tmp_path / "said").write_text(lines + "mtd_debug: error!: open()\nError flashing qspi\n")
    plan = plan_for(tmp_path, f"#!/bin/sh\ncat {tmp_path}/said\nexit 3\n")
    with pytest.raises(BenchError, match=r"exited 3 in step 5: .*half written") as error:
        flash(plan, [ready], log=tmp_path / "log")
    assert "write-protected" in error.value.remedy


def test_a_tool_that_ends_without_success_has_failed_whatever_its_exit_code(tmp_path: Path, ready: UsbPort) -> None:
    with pytest.raises(BenchError, match="without saying that the flash was successful"):
        flash(plan_for(tmp_path, "#!/bin/sh\necho hello\n"), [ready], log=tmp_path / "log")


@pytest.mark.parametrize(
    ("limits", "said"),
    [({"silence_s": 0.3}, "said nothing for 0.3 s"), ({"deadline_s": 0.3}, "did not end within its time")],
)
def test_a_tool_that_stalls_is_ended(tmp_path: Path, ready: UsbPort, limits: dict[str, float], said: str) -> None:
    began = time.monotonic()
    with pytest.raises(BenchError, match=said):
        flash(plan_for(tmp_path, "#!/bin/sh\nexec sleep 60\n"), [ready], log=tmp_path / "log", **limits)  # type: ignore[arg-type]  # one of two floats
    assert time.monotonic() - began < 20


def test_nothing_is_started_when_the_wrong_module_is_there_or_two_are(
    tmp_path: Path, bus: UsbBus, ready: UsbPort
) -> None:
    plan = plan_for(tmp_path, "#!/bin/sh\ntouch started\n")
    with pytest.raises(ConfigurationError, match="EEPROM says p3767-0000"):
        flash(plan, [ready], log=tmp_path / "log", eeprom_part="p3767-0000")
    with pytest.raises(ConfigurationError, match="reads no EEPROM"):
        flash(replace(plan, step="flash"), [ready], log=tmp_path / "log")
    bus.plug("1-3", "0955:7023", "APX")
    with pytest.raises(BenchError, match=r"another module is in recovery \(port 1-3"):
        flash(plan, [ready], log=tmp_path / "log")
    with pytest.raises(ConfigurationError, match="but there is 0955:7023"):
        flash(plan, [UsbPort("1-3", bus.root)], log=tmp_path / "log")
    assert not (plan.tree / "started").exists()


def test_prepared_images_are_flashed_to_many_modules_of_one_kind(tmp_path: Path, bus: UsbBus, ready: UsbPort) -> None:
    bus.plug("1-3", "0955:7523", "APX")
    plan = replace(plan_for(tmp_path, '#!/bin/sh\necho "$*" >argv\n'), step="flash", massflash=2)
    flash(plan, [ready, UsbPort("1-3", bus.root)], log=tmp_path / "log", eeprom_part=NANO)
    assert "--flash-only --massflash 2 jetson-orin-nano-devkit" in (plan.tree / "argv").read_text()
    with pytest.raises(ConfigurationError, match="2 modules are to be flashed, on 1 USB ports"):
        flash(plan, [ready], log=tmp_path / "log", eeprom_part=NANO)


def test_images_are_generated_without_a_module(tmp_path: Path) -> None:
    plan = replace(
        plan_for(tmp_path, '#!/bin/sh\necho "$BOARDSKU $*" >argv\n'), step="generate", environment={"BOARDSKU": "0005"}
    )
    flash(plan, [], log=tmp_path / "log")
    assert (plan.tree / "argv").read_text().startswith("0005 ")
    assert "--no-flash" in (plan.tree / "argv").read_text()


def test_a_tree_that_lacks_a_layout_lists_what_it_has(tmp_path: Path) -> None:
    plan = replace(plan_for(tmp_path, ""), external_layout="tools/kernel_flash/mine.xml")
    with pytest.raises(ConfigurationError, match=r"lacks tools/kernel_flash/mine\.xml") as error:
        plan.check()
    assert "flash_l4t_t234_nvme.xml" in error.value.remedy


def test_output_cut_anywhere_and_mangled_never_raises() -> None:
    text = RECORD.read_text()
    for cut in range(0, len(text), 7):
        output = FlashOutput()
        for line in (text[cut:] + "\x00\xff" + text[:cut]).splitlines():
            output.line(line)


# -- what others met ---------------------------------------------------------------------------------------------

CASES = checkout.DATA / "cases"


@pytest.mark.parametrize(
    ("text", "words", "remedy"),
    [
        (
            (CASES / "19-flash-ping-failed.log").read_text(),
            "exited 1 in step 5: Start the flashing process; nothing was written; it said: 'Device ping failed",
            "serial console",
        ),
        ((CASES / "64-flash-no-board.log").read_text(), "nothing was written", "enter recovery anew"),
        (
            "Step 5: Start the flashing process\nDevice should have booted into initrd kernel now. However, the host "
            "cannot connect to its ssh server",
            "nothing was written",
            "firewall",
        ),
        ("Step 5: Start the flashing process\nSSH ready\nReboot failed.", "half written", "everything was written"),
        (
            "Step 5: Start the flashing process\nSSH ready\nError: the /dev/nvme0n1 size 64 set in partition layout "
            "xml is greater than the /dev/nvme0n1 actual size 32. Please make correction",
            "half written",
            "smaller --size",
        ),
        ("ERROR abootimg not found! To install - please run: x", "abootimg", "l4t_flash_prerequisites.sh"),
        ("Error: Invalid target board - x.", "Invalid target board", "--config"),
        ("ERROR: might be timeout in USB write.\ntar: x: No space left on device", "No space left", "make room"),
        ("Step 5: Start the flashing process\nFailed to write to APP", "'Failed to write to APP'", "see the whole log"),
        ("ERROR: might be timeout in USB write.\nStep 2: Generate rcm boot commandline\nodd", "\n    odd", "see the"),
    ],
)
def test_what_ended_a_flash_is_told_with_its_own_words_and_no_remedy_of_another_step(
    tmp_path: Path, ready: UsbPort, text: str, words: str, remedy: str
) -> None:
    (tmp_path / "said").write_text(f"Board ID(3767) version(300) sku(0005) revision(T.1)\n{text}\n")
    text_of_this_module = (tmp_path / "said").read_text().replace("sku(0000)", "sku(0005)")
    (tmp_path / "said").write_text(text_of_this_module)
    with pytest.raises(BenchError) as error:
        flash(plan_for(tmp_path, f"#!/bin/sh\ncat {tmp_path}/said\nexit 1\n"), [ready], log=tmp_path / "log")
    assert words in error.value.message
    assert remedy in error.value.remedy
    assert "autosuspend" not in error.value.remedy or "board information" in error.value.message


@pytest.mark.parametrize(
    ("name", "external", "internal"),
    [
        ("21-tree-jp6-ab.json", "flash_l4t_t234_nvme_rootfs_ab.xml", "bootloader/generic/cfg/flash_t234_qspi.xml"),
        ("21-tree-jp5-ab.json", "flash_l4t_nvme_rootfs_ab.xml", "bootloader/t186ref/cfg/flash_t234_qspi.xml"),
    ],
)
def test_the_layouts_are_those_that_the_tree_has(tmp_path: Path, name: str, external: str, internal: str) -> None:
    case = json.loads((CASES / name).read_text())
    for file in case["files"]:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    plan = FlashPlan(tmp_path, case["config"], case["module"], ab=True, external_size="8GiB")
    plan.check()
    assert plan.layouts == (f"tools/kernel_flash/{external}", internal)
    assert replace(plan, ab=False).layouts[0].endswith("flash_l4t_t234_nvme.xml")
    usb = replace(plan, ab=False, external_device="sda1")
    assert usb.layouts[0].endswith("flash_l4t_external.xml")
