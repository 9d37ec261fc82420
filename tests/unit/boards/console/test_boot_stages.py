"""Boot stages on clean, cut, interleaved and mangled consoles."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hil.boards.console.boot_stages import Sighting, Stage, StageReader
from tests.kits import checkout

DATA = checkout.DATA / "jetson"
BOOT = (DATA / "console_agx_orin_boot.log").read_bytes().rstrip(b"\n").replace(b"\n", b"\r\n")
BAD = (DATA / "console_bad_lines.log").read_bytes()


def sightings(*chunks: bytes) -> list[Sighting]:
    reader = StageReader()
    return [seen for number, chunk in enumerate(chunks) for seen in reader.feed(chunk, float(number))]


def stages(*chunks: bytes) -> list[Stage]:
    return [seen.stage for seen in sightings(*chunks)]


def bare(seen: list[Sighting]) -> list[tuple[Stage, tuple[str, ...], bool]]:
    return [(s.stage, s.groups, s.mended) for s in seen]


GOOD_BOOT = [
    (Stage.MB1, ("1.4.0.4-t234-54845784-e89ea9bc",)),
    (Stage.BOOT_MODE, ("Coldboot",)),
    (Stage.LAST_BOOT_ERROR, ("0x0",)),
    (Stage.RESET_SOURCE, ("0x0", "0x0")),
    (Stage.MB2, ("0.0.0.0-t234-54845784-22833a33",)),
    (Stage.BOOT_MODE, ("Coldboot",)),
    (Stage.BOOT_CHAIN, ("1",)),
    (Stage.MB2_DONE, ()),
    (Stage.ATF, ()),
    (Stage.OPTEE, ("4.2",)),
    (Stage.NORMAL_WORLD, ()),
    (Stage.UEFI, ("36.4.3-gcid-38968081", "2025-01-08T01:18:20+00:00")),
    (Stage.UEFI_PROMPT, ()),
    (Stage.LAUNCHER, ("Direct",)),
    (Stage.EFI_STUB, ()),
    (Stage.EXIT_BOOT_SERVICES, ()),
    (Stage.KERNEL, ()),
    (Stage.LOGIN, ("tegra-ubuntu",)),
]


def test_a_good_boot_shows_its_stages_in_order_and_none_is_bad() -> None:
    seen = sightings(BOOT)
    assert [(s.stage, s.groups) for s in seen] == GOOD_BOOT
    assert not any(s.bad or s.mended for s in seen)


def test_every_bad_line_is_told_apart_and_a_panic_counts_once() -> None:
    assert [(s.stage, s.groups) for s in sightings(BAD) if s.bad] == [
        (Stage.ASSERT, ()),
        (Stage.CAPSULE_FAILED, ("Jetson", "6164")),
        (Stage.NO_BOOT_IMAGE, ()),
        (Stage.NO_KERNEL, ()),
        (Stage.BAD_SIGNATURE, ()),
        (Stage.LAUNCHER, ("Recovery",)),
        (Stage.UEFI_RESET, ("5",)),
        (Stage.SHUTDOWN_REQUEST, ()),
        (Stage.UEFI_REBOOT, ()),
        (Stage.PANIC, ()),
    ]
    ordinary = [(s.stage, s.groups) for s in sightings(BAD) if not s.bad]
    assert (Stage.BOOT_MODE, ("RCM",)) in ordinary
    assert (Stage.UEFI, ("36.4.4-gcid-41062509", "2025-06-08T04:43:56+00:00")) in ordinary
    assert [g for s, g in ordinary if s is Stage.LAUNCHER] == [("Kernel",)]
    assert ordinary[-1] == (Stage.RESTART, ("Restarting system",))


def test_the_time_is_that_of_the_chunk_that_completed_the_stage() -> None:
    reader = StageReader()
    assert reader.feed(b"tegra log", 1.0) == []
    assert reader.feed(b"in: ", 2.5) == [Sighting(Stage.LOGIN, 2.5, ("tegra",))]
    assert reader.feed(b"root\r\n", 3.0) == []


@pytest.mark.parametrize(
    "text",
    [
        b"Last login: Mon Nov 23 05:00:00 UTC 2026 on ttyTCU0\n",
        b"FAILED login: root\n",
        b"pam_unix(login:session): session opened\n",
        b"[0000.062] I> MB1 (version: \n",
        b"I> Current Boot-Chain Slot: 7\n",
        b"FmpDxe(Jetson): SetTheImage() LastAttemptStatus: 0\n",
        b"Shutdown state requested 12\n",
        b"Kernel panik - not syncing\n",
    ],
)
def test_what_only_looks_like_a_stage_is_none(text: bytes) -> None:
    assert stages(text) == []


def test_a_stage_behind_another_cores_text_on_the_same_line_is_seen() -> None:
    line = b"I/TC: Reserved shared memory is ena[0000.062] I> MB1 (version: 1.4.0.4-t234)\r\n"
    assert stages(line) == [Stage.MB1]


@pytest.mark.parametrize("cut", range(1, 35))
def test_a_line_with_another_laid_into_it_is_mended(cut: int) -> None:
    line, other = b"L4TLauncher: Attempting Direct Boot", b"[    1.500000] tegra-hsp: mailbox full\r\n"
    seen = sightings(line[:cut] + other + line[cut:] + b"\r\n")
    assert bare(seen) == [(Stage.LAUNCHER, ("Direct",), True)]


def test_both_lines_are_seen_when_one_stage_is_laid_into_another() -> None:
    text = b"NOTICE:  BL31[0002.401] I> MB2 finished\r\n: v2.8(release)\r\n"
    assert bare(sightings(text)) == [(Stage.MB2_DONE, (), False), (Stage.ATF, (), True)]


def test_a_prompt_is_never_put_together_from_pieces() -> None:
    assert stages(b"tegra[    1.500000] tegra-hsp: full\r\n login: \r\n") == []


def test_escape_sequences_and_bytes_that_are_no_text_dissolve() -> None:
    text = b"\x1b[2J\x1b[=3h\x1b[01;32mL4TLaun\x1b[0mcher: Attempt\xff\xe1ing \x1b[3;1HDirect\x00 Boot\xc3"
    assert stages(text) == [Stage.LAUNCHER]


def test_an_escape_sequence_that_never_ends_swallows_nothing() -> None:
    assert stages(b"\x1b[" + b"1;" * 5000 + b"\nKernel panic - not syncing\n") == [Stage.PANIC]


def test_a_flood_without_line_ends_is_searched_too_and_costs_no_memory() -> None:
    reader = StageReader()
    for _ in range(20):
        assert reader.feed(b"x" * 10_007, 0.0) == []
    found = [s.stage for s in reader.feed(b" Kernel panic - not syncing", 1.0)]
    found += [s.stage for s in reader.feed(b"y" * 10_000, 1.0)]
    assert found == [Stage.PANIC]
    assert len(reader._line) < 5000


NOISE = st.one_of(
    st.binary(max_size=60),
    st.sampled_from(
        [b"\x1b[2J", b"\x1b[", b"\x1b", b"\r\n", b"\n", b"\xff", "ü".encode(), b"login", b"[    0.1", b"I> "]
    ),
    st.sampled_from(BOOT.splitlines() + BAD.splitlines()),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(NOISE, max_size=30), st.data())
def test_the_result_does_not_depend_on_how_the_stream_was_cut(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=40)))
    chunks = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    whole = bare(sightings(stream))
    assert bare(sightings(*chunks)) == whole
    assert bare(sightings(*(bytes([b]) for b in stream))) == whole


@settings(max_examples=150, deadline=None)
@given(st.integers(0, len(BOOT)), st.binary(min_size=1, max_size=80))
def test_garbage_may_hide_a_stage_but_never_makes_one_or_changes_the_order(at: int, garbage: bytes) -> None:
    seen = [(s.stage, s.groups) for s in sightings(BOOT[:at] + garbage + BOOT[at:])]
    # The groups may differ: a letter more in a version is another version.
    true = iter([stage for stage, _ in GOOD_BOOT])
    assert all(stage in true for stage, _ in seen)
    assert len(seen) >= len(GOOD_BOOT) - 2


@settings(max_examples=150, deadline=None)
@given(st.lists(st.integers(0, len(BOOT) - 1), min_size=1, max_size=400, unique=True))
def test_lost_bytes_may_hide_stages_but_never_make_one(lost: list[int]) -> None:
    gone = set(lost)
    stream = bytes(b for i, b in enumerate(BOOT) if i not in gone)
    true = iter([stage for stage, _ in GOOD_BOOT])
    assert all(stage in true for stage in stages(stream))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=4000))
def test_random_bytes_are_never_a_stage(stream: bytes) -> None:
    assert stages(stream) == []


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 2**32))
def test_two_cores_mixed_in_mid_line_give_no_stage_that_neither_said(seed: int) -> None:
    """Pieces of any length: far worse than what a TCU does."""
    random = Random(seed)
    left, right, mixed = BOOT, BAD, b""
    while left or right:
        n, m = random.randint(0, 150), random.randint(0, 150)
        mixed += left[:n] + right[:m]
        left, right = left[n:], right[m:]
    said = {s.stage for s in sightings(BOOT)} | {s.stage for s in sightings(BAD)}
    seen = stages(mixed)
    assert set(seen) <= said
    assert seen.count(Stage.PANIC) <= 2  # its closing line, torn behind "end ", counts again
    assert seen.count(Stage.LOGIN) <= 1


# -- what others saw, and what NVIDIA's UEFI prints --------------------------------------------------------------


def shown(text: bytes) -> list[str]:
    return [" ".join(("bad " * s.bad + s.stage, *s.groups)) for s in sightings(text.replace(b"\n", b"\r\n"))]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("22-console-switch-bootchain.log", ["bad boot-chain-switch", "bad uefi-reset 2"]),
        ("24-console-recovery-shell.log", ["bad launcher Recovery", "bad boot-failed", "bad uefi-shell"]),
        ("43-console-assert.log", ["bad assert", "bad uefi-reset 5", "bad shutdown-request", "bad uefi-reboot"]),
        ("45-console-capsule-status.log", ["bad capsule-failed NVIDIA System Firmware 6164"]),
        ("46-console-direct-then-kernel.log", ["launcher Direct", "launcher Kernel", "efi-stub"]),
        ("48-console-login.log", ["login unconfigured-sensor", "login 1250130001361"]),
    ],
)
def test_consoles_of_others_show_every_way_a_boot_goes(name: str, expected: list[str]) -> None:
    assert shown((checkout.DATA / "cases" / name).read_bytes())[-len(expected) :] == expected


LINES = [
    ("Press ESCAPE for boot options ", ["uefi-prompt"]),
    ("Rebooting to new boot chain", ["boot-chain-reboot new"]),
    ("Rebooting to restore boot chain", ["bad boot-chain-reboot restore"]),
    ("L4TLauncher: Attempting GRUB Boot", ["launcher GRUB"]),
    ("L4TLauncher: Attempting RCM Boot", ["launcher RCM"]),
    ("Falling back to alternative boot path", ["bad alternative-partition"]),
    ("ExtLinuxBoot: Unable to start image: Aborted", ["bad no-kernel"]),
    ("ExtLinuxBoot: Unable to decrypt image: \\boot\\Image Not Found", ["bad no-decryption"]),
    ("Failed to verify kernel image signature", ["bad bad-signature"]),
    ("DTB signature missing with 4KB alignment", ["bad bad-signature"]),
    ("ProcessExtLinuxConfig:sds Failed to Authenticate boot\\x (Security Violation)", ["bad bad-signature"]),
    ("ProcessExtLinuxConfig:sds Failed to Authenticate boot\\x (Not Found)", []),  # it goes on without it
    ("Header not seen at either offset 0 or offset 0x800", ["bad no-boot-image"]),
    ("Failed to boot image: Unsupported", ["bad boot-failed"]),
    ("Failed to boot kernel:1 partition", ["bad boot-failed"]),
    ("Unable to boot, system will halt", ["bad uefi-halt"]),
    ("L4TLauncher: Iso boot loop detected, halting", ["bad uefi-halt"]),
    ("Synchronous Exception at 0x0000000FA1B2C3D4", ["bad exception"]),
    ("[0002.456] C> Task 0x43 failed (err: 0x1f1e050d)", ["bad bootloader-failed 0x43 0x1f1e050d"]),
    ("[0002.470] I> Busy Spin", ["bad bootloader-halt"]),
    ("PANIC at PC : 0x0000000050004c3c", ["bad firmware-panic"]),
    ("Unhandled Exception in EL3.", ["bad firmware-panic"]),
    ("E/TC:0 0 Panic at core/kernel/tee_misc.c:1 <f>", ["bad firmware-panic"]),
    ("[   31.1] reboot: System halted", ["restart System halted"]),
    ("You are in emergency mode. After logging in, type ...", ["bad emergency-shell"]),
    ("(initramfs) ", ["bad emergency-shell"]),
]


@pytest.mark.parametrize(("line", "expected"), LINES)
def test_what_firmware_and_an_os_in_need_print_is_a_stage(line: str, expected: list[str]) -> None:
    assert shown(line.encode() + b"\n") == expected


def test_these_stages_do_not_depend_on_how_the_stream_was_cut() -> None:
    text = "\r\n".join([line for line, _ in LINES] * 2).encode() + b"\r\n"
    whole, random = bare(sightings(text)), Random(2)
    for _ in range(50):
        cuts = sorted(random.sample(range(1, len(text)), 40))
        assert bare(sightings(*(text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)))) == whole
