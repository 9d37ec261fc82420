"""Small text files of sysfs and its kin; what cannot be read is empty."""

from __future__ import annotations

import re
from pathlib import Path


def text_of(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def names_in(folder: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in folder.iterdir())
    except OSError:
        return []


def usb_place(place: Path) -> tuple[str, int | None]:
    """(port path of the USB device that ``place`` is part of, number of the interface); ("", None) for none."""
    interface = None
    here = place.resolve()
    for folder in (here, *here.parents):
        if number := text_of(folder / "bInterfaceNumber"):
            interface = int(number, 16) if re.fullmatch(r"[0-9a-fA-F]{1,2}", number) else None
        if (folder / "idVendor").is_file():
            return folder.name, interface
    return "", None
