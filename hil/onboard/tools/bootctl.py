"""RAUC's custom boot-control backend (``/usr/lib/rauc/bootctl``) on the board's firmware variables.

RAUC asks whether a slot can boot (``get-state``: ``good`` while the firmware would try it).  Whether a slot was
*confirmed* after a health check is a second question; ``set-state SLOT good`` answers it with yes, and
``/run/slot-confirmed`` shows it for the running slot.

``set-state SLOT bad`` is what RAUC says before it writes to a slot.  RAUC 1.8 goes on calling that slot's old image
complete until it has written the new one, also after a power cut in between, so its note is taken out here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from hil.onboard.boot_control import SLOTS, BootControl, Slot, Variables
from hil.onboard.files import write_durably

EFIVARS = Path("/sys/firmware/efi/efivars")
CONFIRMED = Path("/run/slot-confirmed")
NOTES = Path("/data/rauc.status")
"""RAUC's ``statusfile``: a key file with one group for each slot."""
GROUPS: dict[Slot, str] = {"A": "[slot.rootfs.0]", "B": "[slot.rootfs.1]"}
USAGE = "bootctl: usage: bootctl get-primary | set-primary S | get-state S | set-state S good|bad | get-current"


def _slot(text: str) -> Slot:
    if text not in SLOTS:
        raise ValueError(f"bootctl: no slot {text!r}: A or B")
    return SLOTS[SLOTS.index(text)]


def run(argv: Sequence[str], control: BootControl, confirmed: Path = CONFIRMED, notes: Path | None = None) -> str:
    """Carry out one verb; return what to print. ValueError when the verb or slot is unknown."""
    answer = ""
    match list(argv):
        case ["get-primary"]:
            answer = control.active
        case ["get-current"]:
            answer = control.current
        case ["set-primary", name]:
            control.set_active(_slot(name))
        case ["get-state", name]:
            answer = "good" if control.slot(_slot(name)).bootable else "bad"
        case ["set-state", name, "good"]:
            control.mark_good(_slot(name))
        case ["set-state", name, "bad"]:
            control.mark_bad(_slot(name))
            if notes is not None:
                forget(notes, _slot(name))
        case _:
            raise ValueError(USAGE)
    if not answer:
        confirmed.write_text("1\n" if control.slot(control.current).confirmed else "0\n")
    return answer


def forget(notes: Path, slot: Slot) -> None:
    """Take a slot's group out of RAUC's notes, durably. Nothing when there are none."""
    try:
        lines = notes.read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return
    kept, inside = [], False
    for line in lines:
        if line.startswith("["):
            inside = line.strip() == GROUPS[slot]
        if not inside:
            kept.append(line)
    write_durably(notes, "".join(kept).encode())


def answered(work: Callable[[], str]) -> int:
    """Print what a tool answers, or what is wrong; return its exit code."""
    try:
        answer = work()
    except (ValueError, OSError) as exc:
        print(exc, file=sys.stderr)
        return 1
    if answer:
        print(answer)
    return 0


if __name__ == "__main__":
    sys.exit(answered(lambda: run(sys.argv[1:], BootControl(Variables(EFIVARS)), notes=NOTES)))
