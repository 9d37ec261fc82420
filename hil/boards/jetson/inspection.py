"""What a Jetson's OS reports of its board: who it is, which boot this is, which slots it has.

One command asks all of it, whatever the OS.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

from hil.boards.jetson.identity import (
    BOOT_CONTROL,
    DEVICE_TREES,
    RELEASE,
    JetsonIdentity,
    jetpack_of,
    parse_release,
    parse_tnspec,
    parts_of,
)
from hil.boards.jetson.slots import (
    BOOT_ID,
    RESET_DIRS,
    RETRY_COUNT_MAX_VARIABLE,
    BootProof,
    boot_state,
    parse_retry_count_max,
    parse_slots_info,
)
from hil.boards.protocol import BootState, Identity, Shell
from hil.errors import DeviceError

_MARK = "@@hil:"
# What is not there prints nothing.  A device tree's strings end in NUL; its `compatible` is several of them.
_SCRIPT = rf"""
part() {{ printf '\n{_MARK}%s\n' "$1"; }}
for tree in {" ".join(DEVICE_TREES)}; do [ -r "$tree/model" ] && break; done
for name in model serial-number compatible; do part $name; tr '\000' '\n' <$tree/$name; done
part boot-id; cat {BOOT_ID}
part release; cat {RELEASE}
part boot-control; cat {BOOT_CONTROL}
part os; (. /etc/os-release && echo "$VERSION_ID")
part image; cat /run/boot.json
part confirmed; cat /run/slot-confirmed
for name in reason level; do part $name; for dir in {" ".join(RESET_DIRS)}; do cat $dir/reset_$name; done; done
part slots; nvbootctrl -t rootfs dump-slots-info
part retry-count-max; od -An -tu1 -j4 -N1 {RETRY_COUNT_MAX_VARIABLE}
exit 0
"""


@dataclass(frozen=True)
class BoardReport:
    """What the OS says of its board, at one moment."""

    who: JetsonIdentity
    proof: BootProof
    boot: BootState
    retry_count_max: int | None  # tries of a fresh slot; None where its firmware does not say
    os_version: str  # VERSION_ID of /etc/os-release: 22.04 on stock L4T 36
    image_sha256: str  # empty where the OS does not know what image it runs from

    @property
    def identity(self) -> Identity:
        return Identity(
            model=self.who.model,
            serial=self.who.serial,
            boot_id=self.proof.boot_id,
            slot=self.proof.slot,
            os_version=self.os_version,
            image_sha256=self.image_sha256,
        )


def inspect(remote: Shell, *, board: str, timeout_s: float = 20.0) -> BoardReport:
    """Ask the board's OS. DeviceError when it is no Jetson's, or does not name its boot or its slots."""
    done = remote.run(["sh", "-c", _SCRIPT], timeout_s=timeout_s, check=False)
    try:
        return parse_report(done.stdout)
    except DeviceError as exc:
        raise DeviceError(f"{board}: {exc.message}", remedy=exc.remedy) from exc


def parse_report(text: str) -> BoardReport:
    """Read what the script printed. DeviceError names what is missing."""
    parts: dict[str, str] = {}
    for piece in text.split(f"\n{_MARK}")[1:]:
        name, _, content = piece.partition("\n")
        parts[name] = content.strip("\n")
    if not parts.get("model"):
        raise DeviceError(
            f"the board has no {DEVICE_TREES[0]}/model", remedy="is this a Jetson? `uname -m` says aarch64 on one"
        )
    if not (boot_id := parts.get("boot-id", "").strip()):
        raise DeviceError(f"no {BOOT_ID}: nothing would prove a reboot")
    compatible = tuple(filter(None, parts.get("compatible", "").split("\n")))
    tnspec, tnspec_part = parse_tnspec(parts.get("boot-control", ""))
    l4t = parse_release(parts.get("release", ""))
    retry_count_max = parse_retry_count_max(parts.get("retry-count-max", ""))
    slots = boot_state(parse_slots_info(parts.get("slots", "")), retry_count_max)
    state = _confirmed(slots, parts.get("confirmed", ""))
    slot = state.running
    assert slot is not None  # nvbootctrl always names it, or parse_slots_info has raised
    return BoardReport(
        who=JetsonIdentity(
            model=parts["model"].split("\n")[0],
            serial=parts.get("serial-number", "").split("\n")[0],
            compatible=compatible,
            parts=parts_of(compatible),
            tnspec=tnspec,
            tnspec_part=tnspec_part,
            l4t=l4t,
            jetpack=jetpack_of(l4t),
        ),
        proof=BootProof(
            boot_id, slot, parts.get("reason", "").strip().split("\n")[0], parts.get("level", "").strip().split("\n")[0]
        ),
        boot=state,
        retry_count_max=retry_count_max,
        os_version=parts.get("os", "").strip(),
        image_sha256=_image(parts.get("image", "")),
    )


def _image(document: str) -> str:
    """Return the measured image, from an OS that knows it (``/run/boot.json``); stock L4T does not."""
    try:
        boot = json.loads(document)
        return str(boot["image_sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""


def _confirmed(state: BootState, said: str) -> BootState:
    """Take what the OS itself says of its slot; tries alone only suggest whether it was confirmed."""
    if said.strip() not in ("0", "1"):
        return state
    first, second = (
        replace(slot, good=said.strip() == "1") if slot.slot == state.running else slot for slot in state.slots
    )
    return replace(state, slots=(first, second))
