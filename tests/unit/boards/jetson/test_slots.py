"""nvbootctrl, EFI variables and the proof of a reboot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.boards.jetson.slots import (
    BootProof,
    NvBootControl,
    boot_state,
    failover_budget_s,
    parse_retry_count_max,
    parse_slots_info,
)
from hil.boards.protocol import BootState, SlotState
from hil.errors import DeviceError
from hil.onboard.boot_control import BootControl, Variables
from hil.onboard.tools.nvbootctrl import dump
from tests.kits import checkout
from tests.kits.jetson_files import ScriptedRemote, said

DATA = checkout.DATA / "jetson"
BOOTLOADER = (DATA / "nvbootctrl_bootloader.txt").read_text()
ROOTFS = (DATA / "nvbootctrl_rootfs.txt").read_text()
EXHAUSTED = (DATA / "nvbootctrl_rootfs_exhausted.txt").read_text()
ASK = "nvbootctrl -t rootfs dump-slots-info"
ASK_BOOTLOADER = "nvbootctrl dump-slots-info"
DEV_MEM = "Error: can not open /dev/mem\n"


def test_the_bootloaders_slots_are_read() -> None:
    info = parse_slots_info(BOOTLOADER)
    assert (info.target, info.current, info.active) == ("bootloader", "B", "B")
    assert [(row.slot, row.retry_count, row.status) for row in info.rows] == [
        ("A", None, "normal"),
        ("B", None, "normal"),
    ]


def test_an_exhausted_slot_is_not_bootable() -> None:
    info = parse_slots_info(EXHAUSTED)
    assert [(row.slot, row.retry_count, row.bootable) for row in info.rows] == [("A", 0, False), ("B", 3, True)]


def test_the_container_boards_tool_is_read_as_well(tmp_path: Path) -> None:
    control = BootControl(Variables(tmp_path, durable=False))
    control.initialise()
    control.mark_bad("A")
    control.set_active("B")
    for target in ("rootfs", "bootloader"):
        info = parse_slots_info(dump(control, target))
        assert (info.target, info.active, info.rows[0].bootable) == (target, "B", False)


def test_a_good_answer_is_taken_whatever_the_exit_code() -> None:
    remote = ScriptedRemote({ASK: said(ROOTFS, 1, DEV_MEM)})
    good = SlotState("A", True, 3, True), SlotState("B", True, 3, True)
    assert NvBootControl(remote).state() == BootState("A", "A", good)


def test_a_slot_that_has_used_tries_is_bootable_and_not_good() -> None:
    remote = ScriptedRemote(
        {ASK: said(ROOTFS.replace("slot: 1,             retry_count: 3", "slot: 1, retry_count: 1"))}
    )
    assert NvBootControl(remote).state().slots[1] == SlotState("B", True, 1, False)


@pytest.mark.parametrize("text", ["", DEV_MEM, "Current rootfs slot: A\n", "\n".join(ROOTFS.splitlines()[:-1])])
def test_an_answer_without_slots_is_an_error_that_quotes_it(text: str) -> None:
    remote = ScriptedRemote({ASK: said(text, 0, DEV_MEM)})
    with pytest.raises(DeviceError) as caught:
        NvBootControl(remote, board="a1").state()
    assert "a1: nvbootctrl did not name" in caught.value.message
    assert "/dev/mem" in caught.value.message
    assert "root" in caught.value.remedy


def test_the_answer_to_another_question_is_refused() -> None:
    with pytest.raises(DeviceError, match="asked for the rootfs slots"):
        NvBootControl(ScriptedRemote({ASK: said(BOOTLOADER)})).state()


def test_an_order_is_read_back_and_believed_over_its_exit_code() -> None:
    order = "nvbootctrl set-active-boot-slot 1"
    NvBootControl(ScriptedRemote({order: said("", 1, DEV_MEM), ASK_BOOTLOADER: said(BOOTLOADER)})).set_active("B")
    ignored = ScriptedRemote({"nvbootctrl set-active-boot-slot 0": said("", 0), ASK_BOOTLOADER: said(BOOTLOADER)})
    with pytest.raises(DeviceError, match="a1: slot A was made active, but B is"):
        NvBootControl(ignored, board="a1").set_active("A")


PROOF = BootProof("8f4ef6a4-5ea9-4ea7-a7ee-b4d1c3c9fa11", "A", "MAINSWRST", "L1")


def test_a_boots_reset_reason_reads_as_words() -> None:
    assert PROOF.why == "software: reboot or panic"
    assert replace(PROOF, reset_reason="BCCPLEXWDT").why == "watchdog of the CPU complex"
    assert replace(PROOF, reset_reason="").why == "unknown"


def test_the_budget_of_a_failover_is_minutes() -> None:
    assert failover_budget_s(60.0) == 600.0


@given(st.text(max_size=300) | st.lists(st.sampled_from(ROOTFS.splitlines() + BOOTLOADER.splitlines())).map("\n".join))
def test_mangled_answers_are_read_or_refused_never_a_crash(text: str) -> None:
    try:
        info = parse_slots_info(text)
    except DeviceError:
        return
    assert info.current in ("A", "B")
    assert [row.slot for row in info.rows] == ["A", "B"]


CASES = checkout.DATA / "cases"


def test_the_retry_maximum_is_the_boards_own() -> None:
    text = (CASES / "26-verify-retry-max-1.txt").read_text()
    one = SlotState("A", True, 1, True), SlotState("B", True, 1, True)
    assert NvBootControl(ScriptedRemote({ASK: said(text)}), retry_count_max=1).state().slots == one
    assert NvBootControl(ScriptedRemote({ASK: said(text)})).state().slots == one  # both slots have as many
    used = text.replace("slot: 0,             retry_count: 1", "slot: 0, retry_count: 2")
    assert [slot.good for slot in boot_state(parse_slots_info(used), 2).slots] == [True, False]
    assert [slot.good for slot in boot_state(parse_slots_info(used)).slots] == [False, False]  # of 3, for all it knows
    assert failover_budget_s(60.0, 1) == 240.0


@pytest.mark.parametrize(
    ("text", "most"), [("   1\n", 1), ("3", 3), ("0", None), ("255", None), ("", None), ("x", None)]
)
def test_only_a_number_of_tries_is_taken_from_the_firmwares_variable(text: str, most: int | None) -> None:
    assert parse_retry_count_max(text) == most


def test_a_board_with_one_root_file_system_is_told_how_to_get_two() -> None:
    with pytest.raises(DeviceError, match="RootFS A/B is not enabled") as caught:
        NvBootControl(ScriptedRemote({ASK: said((CASES / "27-slots-ab-off.txt").read_text())})).state()
    assert "`--ab`" in caught.value.remedy and "is-rootfs-ab-enabled; echo $?" in caught.value.remedy


def test_an_answer_with_an_error_before_it_and_a_capsule_status_is_read() -> None:
    info = parse_slots_info((CASES / "49-slots-bootloader-36.4.0.txt").read_text())
    assert [row.bootable for row in info.rows] == [True, False]
