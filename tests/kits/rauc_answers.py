"""What RAUC on a board answers, as its own JSON."""

from __future__ import annotations

import json
from typing import Any


def rauc_slot(name: str, state: str, boot: str = "good", **status: Any) -> dict[str, Any]:
    return {
        "class": "rootfs",
        "device": "/dev/mmcblk0p1",
        "type": "raw",
        "bootname": name,
        "state": state,
        "parent": None,
        "mountpoint": None,
        "boot_status": boot,
        **({"slot_status": status} if status else {}),
    }


INSTALLED = {
    "bundle": {"compatible": "orbital-ref-orin", "version": "2.0.0"},
    "checksum": {"sha256": "cd" * 32, "size": 3_000_000},
    "installed": {"timestamp": "2026-11-22T10:59:40Z", "count": 1},
    "status": "ok",
}


def rauc_status(other: dict[str, Any] | None = None, primary: str = "rootfs.0") -> str:
    return json.dumps(
        {
            "compatible": "orbital-ref-orin",
            "variant": "",
            "booted": "A",
            "boot_primary": primary,
            "slots": [
                {"rootfs.1": rauc_slot("B", "inactive", "bad", **(INSTALLED if other is None else other))},
                {"rootfs.0": rauc_slot("A", "booted")},
            ],
        }
    )
