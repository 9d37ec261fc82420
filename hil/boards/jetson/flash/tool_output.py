"""What NVIDIA's flash tool prints, understood line by line.

Sources: the texts of ``l4t_initrd_flash.sh`` and ``l4t_initrd_flash_internal.sh`` (L4T 36), and logs of AGX Orin and
Orin NX flashes.  Complaints are remembered, not acted upon: the tool prints ``ERROR: might be timeout in USB write``
and ``failed to read rcm_state`` in flashes that succeed.  They explain a failure once the tool has failed.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import yaml

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


@cache
def _known() -> list[tuple[re.Pattern[str], str]]:
    rows = yaml.safe_load(Path(__file__).with_name("complaints.yaml").read_text("utf-8"))
    return [(re.compile(row["line"]), row["remedy"]) for row in rows]


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
        for pattern, remedy in _known():
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
