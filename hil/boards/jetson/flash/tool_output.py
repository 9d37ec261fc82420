"""What NVIDIA's flash tool prints, understood line by line.

Sources: the texts of ``l4t_initrd_flash.sh`` and ``l4t_initrd_flash_internal.sh`` (L4T 36), and logs of AGX Orin and
Orin NX flashes.  Complaints are remembered, not acted upon: the tool prints ``ERROR: might be timeout in USB write``
and ``failed to read rcm_state`` in flashes that succeed.  They explain a failure once the tool has failed.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass

_STEP = re.compile(r"Step (\d+): (.+?)\s*\*?\s*$")
_BOARD = re.compile(r"Board ID\((\d*)\) version\(([^)]*)\) sku\((\d*)\) revision\(([^)]*)\)")
_WRITING = "Start the flashing process"
_BOOTING = "Boot the device with flash initrd image"
_NOTABLE = (
    "Waiting for target to boot-up",
    "SSH ready",
    "Starting to flash",
    "Formatting ",
    "Successfully flash",
)


@dataclass(frozen=True)
class Complaint:
    """A line that is known, and what to do about it."""

    line: str
    remedy: str
    step: str = ""


_KNOWN = tuple(
    (re.compile(pattern), remedy)
    for pattern, remedy in (
        (
            r"might be timeout in USB write",
            "disable USB autosuspend (echo -1 > /sys/module/usbcore/parameters/autosuspend), use a USB 2 port or a "
            "hub, enter recovery anew; a package made for another module's memory looks the same",
        ),
        (
            r"BootRom is not running|ECID read failed",
            "the module has left recovery: enter it anew, then flash again",
        ),
        (
            r"Reading board information failed|Parsing board information failed|probing the target board failed",
            "the EEPROM could not be read: enter recovery anew; try another cable, without a hub",
        ),
        (
            r"^No devices to flash",
            "no module was in recovery when the tool looked: enter recovery, then flash at once",
        ),
        (r"[Tt]oo many devices in RCM mode", "power off the other modules that are in recovery"),
        (
            r"Device failed to boot to the initrd flash kernel",
            "follow the serial console: the board configuration may be another carrier's; in a virtual machine the USB "
            "device must be handed over again when it comes back as 0955:7035",
        ),
        (
            r"cannot connect to its ssh server|Network interface disappears after discovery|SSH is not ready",
            "a firewall, a VPN or NetworkManager takes the USB network of the module: leave its usb0 or enx... alone",
        ),
        (r"IPv6 is disabled", "enable IPv6 on this host (sysctl net.ipv6.conf.all.disable_ipv6=0)"),
        (
            r"cannot mount the NFS server|nfs-server|rpc\.nfsd|exportfs: ",
            "start nfs-kernel-server, and let its ports through the firewall on the module's USB network",
        ),
        (
            r"Error flashing qspi|mtd_debug: error",
            "the QSPI flash is write-protected or bad: boot Linux once, try again",
        ),
        (r"No space left on device", "make room on this host: the images take some 30 GB beside the tree"),
        (
            r"[Pp]lease run .*(sudo|as root)|must be run (with|as) root|Permission denied",
            "flashing needs root",
        ),
        (r"Flash complete \(WITH FAILURES\)", "each module's own log is in Linux_for_Tegra/initrdlog"),
    )
)


class FlashOutput:
    """Takes the tool's lines and knows how far it is."""

    def __init__(self) -> None:
        self.step = ""  # e.g. "step 4: Boot the device with flash initrd image"
        self.eeprom_part = ""  # the module in recovery, by its own EEPROM: "p3701-0005"
        self.booting = False  # the module is being booted from RAM; what is written comes after this
        self.writing = False
        self.succeeded = False
        self.complaints: list[Complaint] = []
        self.tail: deque[str] = deque(maxlen=12)
        self._noted: set[str] = set()

    def line(self, text: str) -> str | None:
        """Take one line; what is worth telling a person about it, if anything."""
        text = text.strip()
        if not text or set(text) <= {"*", " "}:
            return None
        self.tail.append(text)
        for pattern, remedy in _KNOWN:
            if pattern.search(text):
                self.complaints.append(Complaint(text, remedy, self.step))
                return None
        if match := _STEP.search(text):
            self.step = f"step {match[1]}: {match[2]}"
            self.booting |= match[2].startswith(_BOOTING)
            self.writing |= match[2].startswith(_WRITING)
            return self.step
        if match := _BOARD.search(text):
            self.eeprom_part = f"p{match[1]}-{match[3]}"
            return f"the EEPROM says {self.eeprom_part}, version {match[2]}, revision {match[4]}"
        if text == "Success" or "Flash is successful" in text:
            self.succeeded = True
            return None
        for word in _NOTABLE:
            if text.startswith(word) and word not in self._noted:
                self._noted.add(word)
                return text
        return None

    @property
    def complaint(self) -> Complaint | None:
        """What most likely broke it: the first known line of the step it is in, else the last of all."""
        here = [complaint for complaint in self.complaints if complaint.step == self.step]
        return here[0] if here else self.complaints[-1] if self.complaints else None
