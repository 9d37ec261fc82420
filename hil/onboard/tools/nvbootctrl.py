"""``nvbootctrl`` of L4T 36 on the board's firmware variables, in the real tool's output format.

On this board, as on an Orin, boot chain and root file system slots always go together.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from hil.onboard.boot_control import SLOTS, STATUS_NORMAL, BootControl, Variables
from hil.onboard.tools.bootctl import CONFIRMED, EFIVARS, answered

VERSION = "36.4.7"
USAGE = (
    "Usage: nvbootctrl [-t bootloader|rootfs] COMMAND\n"
    "  get-number-slots | get-current-slot | get-active-boot-slot | set-active-boot-slot SLOT | verify\n"
    "  dump-slots-info | is-rootfs-ab-enabled | mark-boot-successful"
)


def dump(control: BootControl, target: str) -> str:
    """``dump-slots-info``, byte for byte in the real layout."""
    pad = " " * 13
    records = [control.slot(slot) for slot in SLOTS]
    status = ["normal" if r.status == STATUS_NORMAL else "unbootable" for r in records]
    if target == "rootfs":
        head = [f"Current rootfs slot: {control.current}", f"Active rootfs slot: {control.active}"]
        rows = [
            f"slot: {i},{pad}retry_count: {r.retries},{pad}status: {s}"
            for i, (r, s) in enumerate(zip(records, status, strict=True))
        ]
    else:
        head = [
            f"Current version: {VERSION}",
            f"Capsule update status: {control.variables.number('BootChainFwStatus')}",
            f"Current bootloader slot: {control.current}",
            f"Active bootloader slot: {control.active}",
        ]
        rows = [f"slot: {i},{pad}status: {s}" for i, s in enumerate(status)]
    return "\n".join([*head, "num_slots: 2", *rows])


def run(argv: Sequence[str], control: BootControl) -> str:
    """Carry out one command; return what to print. ValueError with the usage text when it is unknown."""
    words = list(argv)
    target = "bootloader"
    if words[:1] == ["-t"]:
        if len(words) < 2 or words[1] not in ("bootloader", "rootfs"):
            raise ValueError(USAGE)
        target, words = words[1], words[2:]
    match words:
        case ["dump-slots-info"]:
            return dump(control, target)
        case ["get-number-slots"]:
            return "2"
        case ["get-current-slot"]:
            return str(SLOTS.index(control.current))
        case ["get-active-boot-slot"]:
            return str(SLOTS.index(control.active))
        case ["set-active-boot-slot", "0" | "1" as number]:
            control.set_active(SLOTS[int(number)])
            return ""
        case ["verify" | "mark-boot-successful"]:
            control.mark_good(control.current)
            CONFIRMED.write_text("1\n")
            return ""
        case ["is-rootfs-ab-enabled"]:
            sys.exit(1 + SLOTS.index(control.current))  # its exit status tells, and it prints nothing
        case _:
            raise ValueError(USAGE)


if __name__ == "__main__":
    sys.exit(answered(lambda: run(sys.argv[1:], BootControl(Variables(EFIVARS)))))
