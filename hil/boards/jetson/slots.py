"""A/B slots of a Jetson: ``nvbootctrl``, and the proof that a reboot happened.

``nvbootctrl`` may end with 1 and ``Error: can not open /dev/mem`` over a perfectly good answer, and with 0 over an
order it did not carry out: what it prints is parsed, what it was told is read back, and its exit code is ignored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from hil.boards.protocol import BootState, Shell, Slot, SlotState
from hil.errors import DeviceError
from hil.onboard.boot_control import JETSON_GUID, RETRY_COUNT_MAX, SLOTS

Target = Literal["bootloader", "rootfs"]
RETRY_COUNT_MAX_VARIABLE = f"/sys/firmware/efi/efivars/RootfsRetryCountMax-{JETSON_GUID}"
"""Four bytes of attributes, then the number: 1, 2 or 3, as ``ROOTFS_RETRY_COUNT_MAX`` was when it was flashed."""
BOOT_ID = "/proc/sys/kernel/random/boot_id"
RESET_DIRS = (
    "/sys/devices/platform/bus@0/c360000.pmc",  # JetPack 6, 7
    "/sys/devices/platform/c360000.pmc",  # JetPack 5
)
WATCHDOG_S = 120.0
"""Time-out of the boot watchdog, s (tegra_wdt)."""

_HEAD = re.compile(r"^(Current|Active) (bootloader|rootfs) slot: ([AB])\s*$", re.MULTILINE)
_ROW = re.compile(r"^slot: ([01]),\s+(?:retry_count: (\d{1,3}),\s+)?status: (\w+)\s*$", re.MULTILINE)


@dataclass(frozen=True)
class SlotRow:
    """One slot as ``dump-slots-info`` shows it."""

    slot: Slot
    retry_count: int | None  # only with -t rootfs
    status: str  # "normal" or "unbootable"

    @property
    def bootable(self) -> bool:
        return self.status == "normal" and self.retry_count != 0


@dataclass(frozen=True)
class SlotsInfo:
    """``nvbootctrl dump-slots-info`` of one target."""

    target: Target
    current: Slot
    active: Slot
    rows: tuple[SlotRow, SlotRow]


def parse_slots_info(text: str) -> SlotsInfo:
    """Read ``dump-slots-info``, with or without ``-t rootfs``. DeviceError names what is missing."""
    heads = {(m[1], m[2]): m[3] for m in _HEAD.finditer(text)}
    rows = {int(m[1]): SlotRow(SLOTS[int(m[1])], int(m[2]) if m[2] else None, m[3]) for m in _ROW.finditer(text)}
    for target in ("rootfs", "bootloader"):
        current, active = heads.get(("Current", target)), heads.get(("Active", target))
        if current and active and rows.keys() == {0, 1}:
            return SlotsInfo(
                target="rootfs" if target == "rootfs" else "bootloader",
                current=_slot(current),
                active=_slot(active),
                rows=(rows[0], rows[1]),
            )
    missing = "current and active slot" if rows.keys() == {0, 1} else f"slots {sorted({0, 1} - rows.keys())}"
    raise DeviceError(
        f"nvbootctrl did not name its {missing}; it said: {text.strip()[-300:]!r}",
        remedy="it needs root, and a board with two root file systems, which is flashed with `--ab`; "
        "`nvbootctrl is-rootfs-ab-enabled; echo $?` prints 0 where there is one, 1 in slot A, 2 in slot B",
    )


def _slot(text: str) -> Slot:
    return "B" if text == "B" else "A"


def parse_retry_count_max(text: str) -> int | None:
    """Return the tries of a fresh slot, as the firmware's variable has them; None when it says nothing."""
    return int(text) if text.strip() in ("1", "2", "3") else None


def boot_state(info: SlotsInfo, retry_count_max: int | None = None) -> BootState:
    """Return running, active and both slots.

    ``good`` is an inference: NVIDIA keeps no "confirmed" flag, but every boot takes a try and only a health check
    (``nvbootctrl verify``) gives it back, so normal with all tries is good.  A slot that was made active and has not
    booted yet looks the same.  How many "all" are is the board's word; without it what both slots have, else 3.
    """
    counts = {row.retry_count for row in info.rows if row.status == "normal"}
    both = next(iter(counts)) if len(counts) == 1 and all(row.status == "normal" for row in info.rows) else None
    most = retry_count_max or both or RETRY_COUNT_MAX

    def row(slot: SlotRow) -> SlotState:
        tries = most if slot.retry_count is None else slot.retry_count
        return SlotState(slot.slot, slot.bootable, tries, slot.bootable and tries >= most)

    return BootState(info.current, info.active, (row(info.rows[0]), row(info.rows[1])))


class NvBootControl:
    """``hil.boards.protocol.BootControl`` over ``nvbootctrl``; works while the board's OS runs."""

    def __init__(
        self, remote: Shell, *, board: str = "board", timeout_s: float = 20.0, retry_count_max: int | None = None
    ) -> None:
        self._remote = remote
        self._retry_count_max = retry_count_max
        self._board = board
        self._timeout_s = timeout_s

    def info(self, target: Target = "rootfs") -> SlotsInfo:
        """Ask. DeviceError when the answer cannot be read; its exit code is not looked at."""
        words = ["nvbootctrl", *(["-t", "rootfs"] if target == "rootfs" else []), "dump-slots-info"]
        done = self._remote.run(words, timeout_s=self._timeout_s, check=False)
        try:
            info = parse_slots_info(done.stdout)
        except DeviceError as exc:
            said = done.stderr.strip()[-200:]
            raise DeviceError(
                f"{self._board}: {exc.message}" + (f", and on stderr {said!r}" if said else ""), remedy=exc.remedy
            ) from exc
        if info.target != target:
            raise DeviceError(f"{self._board}: asked for the {target} slots, nvbootctrl told of {info.target}")
        return info

    def state(self) -> BootState:
        """Return running, active and both slots; see :func:`boot_state`."""
        return boot_state(self.info("rootfs"), self._retry_count_max)

    def set_active(self, slot: Slot) -> None:
        """Try ``slot`` first at the next boot, and read that back. DeviceError when it did not take."""
        argv = ["nvbootctrl", "set-active-boot-slot", str(SLOTS.index(slot))]
        done = self._remote.run(argv, timeout_s=self._timeout_s, check=False)
        if (active := self.info("bootloader").active) != slot:
            raise DeviceError(
                f"{self._board}: slot {slot} was made active, but {active} is; nvbootctrl said "
                f"{(done.stdout + done.stderr).strip()[-200:]!r}",
                remedy=f"is slot {slot} marked unbootable? `nvbootctrl -t rootfs dump-slots-info`",
            )


def failover_budget_s(boot_s: float, retry_count_max: int | None = None) -> float:
    """Time until a board whose new slot hangs is back on the old one, s; with 3 tries where it does not say how many.

    Every try is a boot and a watchdog time-out; then one more boot from the other slot.  With 60 s boots this is
    10 min; source: the flow verified in NVIDIA forum thread 247290.
    """
    return (retry_count_max or RETRY_COUNT_MAX) * (boot_s + WATCHDOG_S) + boot_s


_RESET_REASONS: dict[str, str] = {
    "SYS_RESET_N": "power-on or reset button",
    "MAINSWRST": "software: reboot or panic",
    "BCCPLEXWDT": "watchdog of the CPU complex",
    "AOWDT": "watchdog of the always-on domain",
    "BPMPWDT": "watchdog of the boot and power processor",
    "SCEWDT": "watchdog of the safety cluster",
    "RCEWDT": "watchdog of the camera processor",
    "SENSOR": "over-temperature",
    "VREFRO_POWERBAD": "supply out of range",
    "VMON": "supply out of range",
    "CSITE_SW": "debugger",
}
"""``reset_reason`` in plain words; source: the kernel's ``drivers/soc/tegra/pmc.c``, which has more."""


def in_words(reset_reason: str) -> str:
    """Put a ``reset_reason`` into words; one that is not known stays as it is."""
    return _RESET_REASONS.get(reset_reason, reset_reason)


@dataclass(frozen=True)
class BootProof:
    """What one boot can be told by. The reset reason holds the last reset only: read it at every boot."""

    boot_id: str
    slot: Slot
    reset_reason: str  # empty when the kernel does not show it
    reset_level: str

    @property
    def why(self) -> str:
        return in_words(self.reset_reason) or "unknown"
