"""Boot stages in the byte stream of a Jetson Orin's serial console.

The stream is dirty: escape sequences of UEFI's screen, bytes of a floating line, and lines of several cores that the
TCU (the module's combined UART) lays into each other in mid-line.  :class:`StageReader` takes it in chunks of any
size and gives the same sightings for the same bytes however they were cut; it never raises.

Source of the patterns: lines captured from AGX Orin consoles, L4T 36.4.3 and 36.4.4 (tests/data/jetson/console_*.log);
what NVIDIA's UEFI prints from L4T 35.1 to 38.4 (edk2-nvidia: L4TLauncher, L4TRootfsValidation, BootChainDxe,
PlatformBm, DebugLib); the strings in L4T 35.3's MB2, of EDK II, ATF, OP-TEE, the kernel (``kernel/panic.c``,
``kernel/reboot.c``), systemd.

A log that somebody prints on the console (``dmesg``, ``cat``) looks like the boot it tells of.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise


class Stage(StrEnum):
    """What the console showed; in the order of a good boot, then what goes wrong."""

    MB1 = "mb1"  # groups: version
    BOOT_MODE = "boot-mode"  # groups: Coldboot, RCM ...
    RESET_SOURCE = "reset-source"  # groups: source, level
    LAST_BOOT_ERROR = "last-boot-error"  # groups: code, 0x0 is none
    MB2 = "mb2"  # groups: version
    BOOT_CHAIN = "boot-chain"  # groups: slot, 0 or 1
    MB2_DONE = "mb2-done"
    ATF = "atf"
    OPTEE = "optee"  # groups: version
    NORMAL_WORLD = "normal-world"
    UEFI = "uefi"  # groups: version, build date
    UEFI_PROMPT = "uefi-prompt"  # a key pressed now opens the setup menu
    BOOT_CHAIN_REBOOT = "boot-chain-reboot"  # groups: new (as ordered), or restore (bad: the new one failed)
    LAUNCHER = "launcher"  # groups: Direct, Kernel, GRUB, RCM (a flash), or Recovery (bad: no slot boots)
    EFI_STUB = "efi-stub"
    EXIT_BOOT_SERVICES = "exit-boot-services"
    KERNEL = "kernel"
    LOGIN = "login"  # groups: host name
    RESTART = "restart"  # the kernel's last words. groups: Restarting system, Power down or System halted

    PANIC = "panic"
    ASSERT = "assert"  # a firmware assertion
    BOOTLOADER_FAILED = "bootloader-failed"  # MB1 or MB2. groups: task, error
    BOOTLOADER_HALT = "bootloader-halt"  # MB1 or MB2 stands still until a watchdog bites
    FIRMWARE_PANIC = "firmware-panic"  # ATF or OP-TEE
    EXCEPTION = "exception"  # of the CPU, in UEFI
    BOOT_CHAIN_SWITCH = "boot-chain-switch"  # a slot has used up its tries: over to the other one
    UEFI_RESET = "uefi-reset"  # groups: seconds until it resets
    SHUTDOWN_REQUEST = "shutdown-request"
    UEFI_REBOOT = "uefi-reboot"
    NO_KERNEL = "no-kernel"  # extlinux names an image that cannot be loaded
    BAD_SIGNATURE = "bad-signature"
    NO_BOOT_IMAGE = "no-boot-image"  # no Android header in the kernel partition
    NO_DECRYPTION = "no-decryption"  # an encrypted image that OP-TEE does not decrypt
    BOOT_FAILED = "boot-failed"  # the launcher gave up an image or a partition
    ALTERNATIVE_PARTITION = "alternative-partition"  # the slot's own partition is missing: the other slot's is taken
    UEFI_SHELL = "uefi-shell"  # nothing boots: it waits for a person
    UEFI_HALT = "uefi-halt"  # nothing boots: it stands still
    EMERGENCY_SHELL = "emergency-shell"  # the OS found no root file system, or cannot mount one: it waits for a person
    CAPSULE_FAILED = "capsule-failed"  # groups: image, last attempt status

    @property
    def bad(self) -> bool:
        """Something went wrong; every other stage is a step of an ordinary boot or shutdown."""
        return self in _BAD


_BAD = frozenset(list(Stage)[list(Stage).index(Stage.PANIC) :])
_BAD_GROUPS = {(Stage.LAUNCHER, "Recovery"), (Stage.BOOT_CHAIN_REBOOT, "restore")}


@dataclass(frozen=True)
class Sighting:
    """One stage, seen once."""

    stage: Stage
    at_s: float  # the ``at_s`` of the chunk that completed it
    groups: tuple[str, ...] = ()
    mended: bool = False  # put together from a line that another one had been laid into

    @property
    def bad(self) -> bool:
        return self.stage.bad or (self.stage, *self.groups) in _BAD_GROUPS


_VERSION = r"([\w.+-]{1,80})"
_HEX = r"(0x[0-9a-fA-F]{1,16})"

# Every expression ends in a fixed character, and what varies is bounded: whether it has matched never depends on what
# comes later, which makes the result independent of how the stream was cut.
_MENDABLE = (
    (Stage.MB1, rf"\[\d{{4}}\.\d{{3}}\] I> MB1 \(version: {_VERSION}\)"),
    (Stage.MB2, rf"I> MB2 \(version: {_VERSION}\)"),
    (Stage.MB2_DONE, r"I> MB2 finished"),
    (Stage.ATF, r"NOTICE:  BL31: v\d"),
    (Stage.NORMAL_WORLD, r"Primary CPU switching to normal world boot"),
    (Stage.UEFI, r"Jetson UEFI firmware \(version ([^\s()]{1,80}) built on ([^\s()]{1,40})\)"),
    (Stage.UEFI_PROMPT, r"ESC   to enter Setup\.|Press ESCAPE for boot options"),
    (Stage.BOOT_CHAIN_REBOOT, r"Rebooting to (new|restore) boot chain"),
    (Stage.LAUNCHER, r"L4TLauncher: Attempting (Direct|Kernel|Recovery|GRUB|RCM) Boot"),
    (Stage.EFI_STUB, r"EFI stub: Booting Linux Kernel\.\.\."),
    (Stage.EXIT_BOOT_SERVICES, r"EFI stub: Exiting boot services\.\.\."),
    (Stage.KERNEL, r"Booting Linux on physical CPU"),
    (Stage.RESTART, r"reboot: (Restarting system|Power down|System halted)"),
    # The panic's closing line, "---[ end Kernel panic - not syncing ...", is the same panic.
    (Stage.PANIC, r"(?<!end )Kernel panic - not syncing"),
    (Stage.ASSERT, r"ASSERT \["),
    (Stage.BOOTLOADER_FAILED, rf"C> Task {_HEX} failed \(err: {_HEX}\)"),
    (
        Stage.FIRMWARE_PANIC,
        r"PANIC at PC : 0x|PANIC in EL3\.|Unhandled Exception (?:in EL3|from lower EL)\.|"
        r"E/TC:\S{1,8} \S{1,8} Panic (?:'|at )",
    ),
    (Stage.EXCEPTION, r"(?:Synchronous|SError|IRQ|FIQ) Exception at 0x"),
    (Stage.BOOT_CHAIN_SWITCH, r"Switching the bootchain\."),
    (Stage.UEFI_RESET, r"Resetting the system in (\d{1,5}) seconds\."),
    (Stage.UEFI_REBOOT, r"Rebooting system ?\.\.\."),
    (Stage.NO_KERNEL, r"ExtLinuxBoot: Unable to (?:load|start) image"),
    (
        Stage.BAD_SIGNATURE,
        r"failed signature verification|Failed to (?:read|verify) kernel image signature|"
        r"DTB signature (?:invalid|missing)|"
        r"Failed to [Aa]uthenticate [^\n]{1,120}? \((?:Security Violation|Access Denied)\)",
    ),
    (Stage.NO_BOOT_IMAGE, r"(?:Android image h|H)eader not seen"),
    (Stage.NO_DECRYPTION, r"OpteeDecryptImage failed|ExtLinuxBoot: Unable to decrypt image"),
    (Stage.BOOT_FAILED, r"Failed to boot (?:image: |\w{1,16}:\d{1,3} partition)"),
    (Stage.ALTERNATIVE_PARTITION, r"Falling back to alternative boot path"),
    (Stage.UEFI_SHELL, r"UEFI Interactive Shell v\d"),
    (Stage.UEFI_HALT, r"Unable to boot, system will halt|Iso boot loop detected, halting"),
    (Stage.EMERGENCY_SHELL, r"You are in emergency mode\.|\(initramfs\) "),
)
# What ends in a bare word or number is not mended: a piece of another line would change it unnoticed.
_WHOLE = (
    (Stage.BOOT_MODE, r"I> Boot-mode : (\w{1,32})[^\w]"),
    (Stage.RESET_SOURCE, rf"I> rst_source: {_HEX}, rst_level: {_HEX}[^\w]"),
    (Stage.BOOTLOADER_HALT, r"I> Busy Spin[^\w]"),
    (Stage.LAST_BOOT_ERROR, rf"I> last_boot_error: {_HEX}[^\w]"),
    (Stage.BOOT_CHAIN, r"I> Current Boot-Chain Slot: ([01])[^\w]"),
    (Stage.OPTEE, r"I/TC: OP-TEE version: ([^\s]{1,80})\s"),
    (Stage.UEFI, r"Jetson System firmware version ([^\s]{1,80}) date ([\w.:+/-]{1,40})[^\w.:+/-]"),
    # "Last login: Mon ..." greets after a log-in and "failed login: ..." complains; neither is a prompt.
    (Stage.LOGIN, r"(?<![\w.-])(?!(?i:last|failed) )([A-Za-z0-9][\w.-]{0,63}) login: "),
    (Stage.SHUTDOWN_REQUEST, r"Shutdown state requested 1[^\d]"),
    (Stage.CAPSULE_FAILED, r"FmpDxe\(([^()\n]{0,80})\): SetTheImage\(\) LastAttemptStatus: ([1-9]\d{0,9})[^\d]"),
)
_RULES = [(stage, re.compile(pattern, re.ASCII)) for stage, pattern in (*_MENDABLE, *_WHOLE)]

# Where a line of one core begins, also in the middle of another's: MB1/MB2 and kernel stamps, ATF, OP-TEE, UEFI.
_BEGIN = re.compile(
    r"\[\d{4}\.\d{3}\] [IWEC]> |\[ {0,4}\d{1,6}\.\d{6}\] |(?:NOTICE|WARNING|INFO|ERROR):  |[IEWDF]/TC: |"
    r"EFI stub: |L4TLauncher: |Jetson (?:UEFI|System) firmware",
    re.ASCII,
)

# CSI and two-character escape sequences; bounded, so that a broken one cannot swallow the stream.
ESCAPE = re.compile(rb"\x1b(?:\[[0-?]{0,24}[ -/]{0,4}[@-~]|[@-Z\\-_])")
_ESCAPE_BEGUN = re.compile(rb"\x1b(?:\[[0-?]{0,24}[ -/]{0,4})?\Z")
_NOT_TEXT = bytes(b for b in range(256) if not (0x20 <= b < 0x7F or b in b"\n\t"))  # also CR, NUL, all of UTF-8
_LINE_MAX = 4096  # a flood without a line end is cut here
_OVERLAP = 256  # longer than any match
_HEADS = 4  # cut-off beginnings remembered


class EscapeStripper:
    """Takes escape sequences out of a stream, also those that two chunks share."""

    def __init__(self) -> None:
        self._held = b""  # a sequence that has only begun; never more than 30 bytes

    def strip(self, data: bytes) -> bytes:
        data = self._held + data
        begun = _ESCAPE_BEGUN.search(data, max(0, len(data) - 32))
        self._held = begun.group() if begun else b""
        return ESCAPE.sub(b"", data[: begun.start()] if begun else data)


class StageReader:
    """Feed it the stream; it says which stages it saw. Not thread-safe."""

    def __init__(self) -> None:
        self._escapes = EscapeStripper()
        self._line = ""
        self._seen: dict[int, int] = {}  # rule -> matches already reported on this line
        self._heads: deque[tuple[str, frozenset[int]]] = deque(maxlen=_HEADS)  # text, rules it has had

    def feed(self, data: bytes, at_s: float) -> list[Sighting]:
        """Return the stages that ``data`` completes, in the order in which they were complete.

        ``at_s`` is any clock's time at which the chunk arrived; it is only passed on.
        """
        text = self._escapes.strip(data).translate(None, _NOT_TEXT).decode("ascii")
        sightings: list[Sighting] = []
        for part in _pieces(self._line, text):
            self._line += part
            sightings += self._direct(at_s)
            if self._line.endswith("\n") or len(self._line) >= _LINE_MAX:
                sightings += self._end_line(at_s)
        return sightings

    def _direct(self, at_s: float) -> list[Sighting]:
        """Return matches within the current line that were not reported yet."""
        sightings: list[tuple[int, int, Sighting]] = []
        for number, (stage, pattern) in enumerate(_RULES):
            matches = list(pattern.finditer(self._line))
            for match in matches[self._seen.get(number, 0) :]:
                sightings.append((match.end(), number, Sighting(stage, at_s, match.groups())))
            self._seen[number] = len(matches)
        return [sighting for *_, sighting in sorted(sightings, key=lambda row: row[:2])]

    def _end_line(self, at_s: float) -> list[Sighting]:
        line, self._line = self._line, ""
        reported = frozenset(number for number, count in self._seen.items() if count)
        self._seen = {}
        begins = [match.start() for match in _BEGIN.finditer(line)]
        rest = line[: begins[0]] if begins else line
        sightings = self._mend(rest, at_s) if rest.strip() else []
        # What stands before the begin of another line may go on behind that other line.
        cuts = [0, *(begin for begin in begins if begin > 0)]
        if not line.endswith("\n"):
            cuts.append(len(line))
        for start, end in pairwise(cuts):
            if head := line[start:end][-_OVERLAP:].lstrip():
                self._heads.append((head, reported))
        return sightings

    def _mend(self, rest: str, at_s: float) -> list[Sighting]:
        """Join a head that was cut off with the first text after it that begins no line of its own."""
        tail = rest[:_OVERLAP]
        while self._heads:
            head, reported = self._heads.pop()
            joined = head + tail
            for number, (stage, pattern) in enumerate(_RULES[: len(_MENDABLE)]):
                for match in pattern.finditer(joined) if number not in reported else ():
                    if match.start() < len(head) < match.end():
                        return [Sighting(stage, at_s, match.groups(), mended=True)]
        return []


def _pieces(line: str, text: str) -> Iterator[str]:
    """Cut ``text`` behind every line end and where ``line`` would become longer than the limit."""
    room = _LINE_MAX - len(line)
    for part in text.splitlines(keepends=True) if text else ():
        while len(part) > room:
            yield part[:room]
            part, room = part[room:], _LINE_MAX
        if part:
            yield part
        room = _LINE_MAX if part.endswith("\n") else room - len(part)
        if room <= 0:
            room = _LINE_MAX
