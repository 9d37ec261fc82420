"""By which cables a real board is reached, as its lab file says: for pages, and for whoever stands at the rack."""

from __future__ import annotations

import base64
import hashlib

from hil.lab.model import BoardSpec
from hil.lab.power import OutletSpec
from hil.lab.real_board import SshSpec

_WORDS = {"at": "address", "hub": "hub", "port": "port", "outlet": "outlet", "": "chip", "line": "line"}


def wiring_of(board: BoardSpec) -> dict[str, str]:
    """Return what is plugged in where; empty for a board that the bench makes and wires itself."""
    section = board.real
    if section is None:
        return {}
    cables: dict[str, str] = {}
    if section.ssh:
        cables |= {"management": way_in(section.ssh), "host key": fingerprint(section.ssh.host_key)}
    if section.console:
        cables["console"] = f"{section.console.url}, {section.console.baudrate} baud"
    if parts := section.supervisor:
        named = (("power", parts.power), ("FC_REC", parts.recovery_pin), ("SYS_RESET", parts.reset_pin))
        cables |= {title: _place(part) for title, part in named if part is not None}
    if section.flight:
        cables["flight port"] = f"NIC {section.flight.nic} of this machine"
    if section.recovery:
        cables["recovery USB"] = f"port {section.recovery.usb_path}"
    return cables


def _place(part: OutletSpec) -> str:
    """Return e.g. ``shelly-gen2 at 192.0.2.20 outlet 0``: what of it is cabled, whatever its kind."""
    values = ((word, getattr(part, key, None)) for word, key in _WORDS.items())
    return " ".join([part.kind, *(f"{word} {value}".strip() for word, value in values if value not in (None, ""))])


def way_in(ssh: SshSpec) -> str:
    """Return e.g. ``nvidia@192.0.2.11 through lab@192.0.2.1``."""
    way = f"{ssh.user}@{ssh.address}" + (f":{ssh.port}" if ssh.port != 22 else "")
    return way + (f" through {ssh.jump.user}@{ssh.jump.address}" if ssh.jump else "")


def fingerprint(host_key: str) -> str:
    """Return the fingerprint of a key as ``ssh-keygen -l`` prints it."""
    blob = base64.b64decode(host_key.split(" ")[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
