"""Force-recovery mode (RCM) of a Jetson Orin, seen from the USB host beside it.

A module is known by the port it is plugged into (``1-4.2``: bus 1, port 4 of the root hub, port 2 of the hub there):
device numbers change with every re-enumeration, and a module re-enumerates twice while it is flashed.  What is on a
port is read from ``/sys/bus/usb/devices/<port>``; being in recovery is a *fresh* enumeration with the USB identity of
the expected module's boot ROM.  RCM identities: NVIDIA's ``l4t_initrd_flash.sh`` (L4T 36), ``fill_devpaths``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hil.boards.jetson.modules import SKUS, sku_of
from hil.boards.protocol import Shell
from hil.core.wait import SYSTEM_CLOCK, Clock, poll_until
from hil.errors import BenchError, ConfigurationError, HilError

SYSFS = Path("/sys/bus/usb/devices")
NVIDIA = "0955"
L4T_GADGET = "0955:7020"  # its Linux runs, and offers network and storage over this cable
FLASH_GADGET = "0955:7035"  # the initial RAM disk of the flash tool
DEBUG_CONTROLLER = "0955:7045"  # the debug controller of an AGX carrier: another connector

RCM_IDS: Mapping[str, tuple[str, ...]] = {
    usb: tuple(sku.part for sku in SKUS.values() if sku.recovery_usb == usb)
    for usb in sorted({sku.recovery_usb for sku in SKUS.values()})
}
"""USB identity in recovery to the modules that have it. The boot ROM does not tell 3701-0000 from -0005, nor
3767-0003 from -0005: only the EEPROM does."""

_PORT = re.compile(r"\d{1,3}-\d{1,2}(\.\d{1,2}){0,6}")


@dataclass(frozen=True)
class UsbDevice:
    """What is plugged into a port now."""

    port: str
    usb_id: str  # "0955:7023"
    devnum: int  # new with every enumeration
    product: str  # "APX" in recovery; empty when it does not say
    serial: str
    made: int  # inode of its directory: a device that left and came back has another

    @property
    def in_recovery(self) -> bool:
        return self.usb_id in RCM_IDS

    @property
    def is_module(self) -> bool:
        """A module in whatever state; a debug controller is none."""
        return self.in_recovery or self.usb_id in (L4T_GADGET, FLASH_GADGET)

    def is_fresh(self, before: UsbDevice | None) -> bool:
        """Tell whether it enumerated since ``before`` was read."""
        return before is None or (self.devnum, self.made) != (before.devnum, before.made)

    def describe(self) -> str:
        """Return identity and what it means, for messages."""
        return f"{self.usb_id}{f' {self.product!r}' if self.product else ''} ({meaning(self.usb_id)})"


_OTHERS = {
    L4T_GADGET: (
        "a Jetson whose Linux runs",
        "its Linux still runs: `reboot --force forced-recovery` on it, or hold FC_REC and reset",
    ),
    FLASH_GADGET: (
        "a Jetson in the flash tool's RAM disk",
        "a flash is under way or was broken off: power-cycle the board with FC_REC held",
    ),
    DEBUG_CONTROLLER: (
        "the debug controller of an AGX carrier, not the module",
        "the cable is in the debug connector: plug it into the USB-C port that flashes the module",
    ),
}
"""USB identity to (what it is, what to do when it is there instead of a module in recovery)."""


def meaning(usb_id: str) -> str:
    """Return what a USB identity stands for, in a few words."""
    if usb_id in RCM_IDS:
        return "in recovery: " + " or ".join(f"{part}, {SKUS[part].name}" for part in RCM_IDS[usb_id])
    if usb_id in _OTHERS:
        return _OTHERS[usb_id][0]
    return "an NVIDIA device, no Orin in recovery" if usb_id.startswith(NVIDIA) else "no NVIDIA device"


def devices(sysfs: Path = SYSFS) -> list[UsbDevice]:
    """List everything that is plugged in, by port. Hubs of the host itself (``usb1``) are left out."""
    try:
        names = sorted(entry.name for entry in sysfs.iterdir() if _PORT.fullmatch(entry.name))
    except OSError:
        return []
    return [device for name in names if (device := UsbPort(name, sysfs).device())]


class UsbPort:
    """One USB port of this host."""

    def __init__(self, port: str, sysfs: Path = SYSFS) -> None:
        """Raise ConfigurationError unless ``port`` is a port path such as ``1-4.2``."""
        if not _PORT.fullmatch(port):
            raise ConfigurationError(
                f"{port!r} is no USB port path",
                remedy="bus, then ports down to the device, as /sys/bus/usb/devices names them: 1-4 or 1-4.2",
            )
        self.path = port
        self._sysfs = sysfs
        self._place = sysfs / port

    def device(self) -> UsbDevice | None:
        """Return what is there now; None when nothing is, or when it is just coming or going."""

        def text(name: str) -> str:
            try:
                return (self._place / name).read_text("utf-8", "replace").strip()
            except OSError:
                return ""

        try:
            inode = self._place.stat().st_ino
            devnum = int(text("devnum"))
        except (OSError, ValueError):
            return None
        vendor, product_id = text("idVendor").lower(), text("idProduct").lower()
        device = UsbDevice(self.path, f"{vendor}:{product_id}", devnum, text("product"), text("serial"), inode)
        # It may have gone, and another come, between two of these reads.
        if not vendor or not product_id or text("devnum") != str(devnum):
            return None
        return device

    def check(self, part: str) -> UsbDevice:
        """Check that the module ``part`` is in recovery on this port, now.

        BenchError when it is not in recovery, ConfigurationError when another module is.
        """
        device = self.device()
        if device is None:
            raise BenchError(f"USB port {self.path}: nothing is there", remedy=_NOTHING)
        self._judge(device, part)
        return device

    def alone_in_recovery(self) -> None:
        """Raise BenchError when a module on another port is in recovery: the flash tool would read either's EEPROM."""
        if others := [d for d in devices(self._sysfs) if d.in_recovery and d.port != self.path]:
            listed = "; ".join(f"port {device.port}: {device.describe()}" for device in others)
            raise BenchError(
                f"USB port {self.path} is to be flashed, and another module is in recovery ({listed})",
                remedy="power those off: the flash tool reads the EEPROM of whichever it finds first",
            )

    def wait_recovery(
        self,
        part: str,
        *,
        since: UsbDevice | None,
        deadline_s: float = 30.0,
        every_s: float = 0.05,
        clock: Clock = SYSTEM_CLOCK,
    ) -> UsbDevice:
        """Wait until the module ``part`` has enumerated in recovery on this port, anew since ``since`` was read.

        ConfigurationError as soon as another module is in recovery there: nothing may be written to it.  BenchError
        at the deadline says what is on the port instead.
        """
        gone = False
        for _ in poll_until(deadline_s, every_s=every_s, clock=clock):
            device = self.device()
            if device is None:
                gone = True
            elif device.in_recovery and (gone or device.is_fresh(since)):
                self._judge(device, part)
                return device
        waited = f"USB port {self.path}: waited {deadline_s:g} s for {part} in recovery"
        if device is None:
            raise BenchError(f"{waited}; nothing is there", remedy=_NOTHING)
        if device.in_recovery:
            raise BenchError(
                f"{waited}; {device.describe()} is there, but from before: it has not enumerated again",
                remedy="it was not reset: check the wiring of the reset pin, or power-cycle it with FC_REC held",
            )
        raise BenchError(f"{waited}; there is {device.describe()}", remedy=_remedy(device))

    def _judge(self, device: UsbDevice, part: str) -> None:
        if not device.in_recovery:
            raise BenchError(
                f"USB port {self.path}: {part} is not in recovery; there is {device.describe()}", remedy=_remedy(device)
            )
        if device.usb_id != sku_of(part).recovery_usb:
            raise ConfigurationError(
                f"USB port {self.path}: the lab file says {part} ({sku_of(part).name}), but there is "
                f"{device.describe()}",
                remedy="correct the lab file's module or USB port, or look which board is plugged there",
            )


_NOTHING = "is the cable in the module's USB device port and the board powered? `lsusb -t` shows the ports"


def _remedy(device: UsbDevice) -> str:
    wrong_port = "another device is on this port: correct the port in the lab file (`lsusb -t`), or the cable"
    return _OTHERS[device.usb_id][1] if device.usb_id in _OTHERS else wrong_port


def enter_recovery(
    port: UsbPort, part: str, enter: Callable[[], None], *, deadline_s: float = 30.0, clock: Clock = SYSTEM_CLOCK
) -> UsbDevice:
    """Put the module into recovery by ``enter`` and wait until USB proves it.

    ``enter`` is :func:`by_linux` or the supervisor's ``force_recovery``; either may come back before the module is
    there.  Raises what ``enter`` raises, and as :meth:`UsbPort.wait_recovery`.
    """
    before = port.device()
    if before and before.in_recovery:
        port.check(part)  # a wrong module is not even reset
    enter()
    return port.wait_recovery(part, since=before, deadline_s=deadline_s, clock=clock)


def by_linux(shell: Shell) -> None:
    """Ask the running Linux: ``reboot --force forced-recovery`` (NVIDIA's Jetson Linux guide).

    The connection breaks under the command, so its outcome says nothing; USB does.
    """
    with suppress(HilError, OSError, EOFError):
        shell.run(["reboot", "--force", "forced-recovery"], timeout_s=5.0, check=False)
