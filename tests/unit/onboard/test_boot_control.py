"""Firmware variables and A/B boot control."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hil.onboard.boot_control import (
    JETSON_GUID,
    RETRY_COUNT_MAX,
    SLOTS,
    STATUS_UNBOOTABLE,
    BootControl,
    Slot,
    Variables,
    other,
)


@pytest.fixture
def control(tmp_path: Path) -> BootControl:
    control = BootControl(Variables(tmp_path))
    control.initialise()
    return control


def test_a_variable_looks_like_a_file_of_efivarfs(tmp_path: Path) -> None:
    Variables(tmp_path).set_number("RootfsStatusSlotA", 0xFF)
    path = tmp_path / f"RootfsStatusSlotA-{JETSON_GUID}"
    assert path.read_bytes() == bytes.fromhex("07000000 ff000000")


def test_a_write_leaves_no_scratch_file_behind(tmp_path: Path) -> None:
    variables = Variables(tmp_path)
    variables.set_text("ResetReason", "BCCPLEXWDT")
    assert variables.text("ResetReason") == "BCCPLEXWDT"
    assert [path.name for path in tmp_path.iterdir()] == variables.names()


@pytest.mark.parametrize("content", [b"", b"\x07", b"\x07\0\0\0"])
def test_a_torn_variable_reads_as_its_default(tmp_path: Path, content: bytes) -> None:
    variables = Variables(tmp_path)
    variables.path("WatchdogTimeoutMs").write_bytes(content)
    assert variables.number("WatchdogTimeoutMs") == 15_000


def test_a_factory_board_boots_a_and_both_slots_are_confirmed(control: BootControl) -> None:
    assert control.active == "A"
    assert all(control.slot(slot).confirmed and control.slot(slot).bootable for slot in SLOTS)
    assert control.choose() == "A"
    assert control.current == "A"


def test_a_try_is_stored_before_the_boot(control: BootControl) -> None:
    control.choose()
    assert control.slot("A").retries == RETRY_COUNT_MAX - 1


def test_an_exhausted_slot_becomes_unbootable_and_the_other_active(control: BootControl) -> None:
    control.mark_bad("B")
    control.set_active("B")
    assert [control.choose() for _ in range(RETRY_COUNT_MAX + 1)] == ["B", "B", "B", "A"]
    assert control.active == "A"
    assert control.slot("B").status == STATUS_UNBOOTABLE
    assert not control.slot("B").bootable


def test_with_both_slots_exhausted_there_is_nothing_to_boot(control: BootControl) -> None:
    chosen = [control.choose() for _ in range(2 * RETRY_COUNT_MAX + 1)]
    assert chosen == ["A"] * 3 + ["B"] * 3 + [None]
    assert control.choose() is None


def test_making_a_fresh_slot_active_arms_it_but_does_not_confirm_it(control: BootControl) -> None:
    control.mark_bad("B")
    control.set_active("B")
    record = control.slot("B")
    assert (record.bootable, record.retries, record.confirmed) == (True, RETRY_COUNT_MAX, False)


def test_making_the_old_slot_active_again_keeps_it_confirmed(control: BootControl) -> None:
    control.set_active("B")
    control.set_active("A")
    assert control.slot("A").confirmed


def test_only_a_confirmed_slot_gets_its_tries_back_by_booting_well(control: BootControl) -> None:
    control.choose()
    control.refresh("A")
    assert control.slot("A").retries == RETRY_COUNT_MAX
    control.mark_bad("B")
    control.set_active("B")
    control.choose()
    control.refresh("B")
    assert control.slot("B").retries == RETRY_COUNT_MAX - 1
    control.mark_good("B")
    assert control.slot("B").confirmed


STEPS = st.lists(
    st.tuples(st.sampled_from(["activate", "good", "bad", "boot", "refresh"]), st.sampled_from(SLOTS)), max_size=40
)


@given(steps=STEPS)
def test_no_history_lets_the_firmware_boot_a_bad_slot_or_boot_one_for_ever(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, Slot]]
) -> None:
    control = BootControl(Variables(tmp_path_factory.mktemp("vars"), durable=False))
    control.initialise()
    for verb, slot in steps:
        match verb:
            case "activate":
                control.set_active(slot)
            case "good":
                control.mark_good(slot)
            case "bad":
                control.mark_bad(slot)
            case "refresh":
                control.refresh(slot)
            case _:
                before = {s: control.slot(s) for s in SLOTS}
                chosen = control.choose()
                if chosen is None:
                    assert not any(record.bootable for record in before.values())
                else:
                    assert before[chosen].bootable
                    assert control.slot(chosen).retries == before[chosen].retries - 1
                    assert control.active == chosen
        for s in SLOTS:
            record = control.slot(s)
            assert 0 <= record.retries <= RETRY_COUNT_MAX
            assert not (record.confirmed and record.status == STATUS_UNBOOTABLE)
    boots = 0
    while control.choose() is not None:  # nobody confirms or refreshes any more
        boots += 1
        assert boots <= 2 * RETRY_COUNT_MAX


def test_other_is_its_own_inverse() -> None:
    assert [other(slot) for slot in SLOTS] == ["B", "A"]
