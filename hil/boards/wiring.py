"""By which cables a real board is reached, as its lab file says: for pages, and for whoever stands at the rack."""

from __future__ import annotations

import base64
import hashlib

from hil.lab.model import BoardSpec
from hil.lab.power import GpioSpec, SupervisorSpec
from hil.lab.real_board import SshSpec


def wiring_of(board: BoardSpec) -> dict[str, str]:
    """What is plugged in where; empty for a container board and a stand-in, which the bench wires itself."""
    section = board.jetson
    if section is None or board.contained or section.ssh is None:
        return {}
    found = {"management": way_in(section.ssh), "host key": fingerprint(section.ssh.host_key)}
    if section.console:
        found["console"] = f"{section.console.url}, {section.console.baudrate} baud"
    if section.supervisor:
        found |= _supervisor(section.supervisor)
    if section.flight:
        found["flight port"] = f"NIC {section.flight.nic} of this machine"
    if section.recovery:
        found["recovery USB"] = f"port {section.recovery.usb_path}"
    return found


def way_in(ssh: SshSpec) -> str:
    """``nvidia@192.0.2.11 through lab@192.0.2.1``."""
    way = f"{ssh.user}@{ssh.address}" + (f":{ssh.port}" if ssh.port != 22 else "")
    return way + (f" through {ssh.jump.user}@{ssh.jump.address}" if ssh.jump else "")


def fingerprint(host_key: str) -> str:
    """As ``ssh-keygen -l`` prints it."""
    blob = base64.b64decode(host_key.split(" ")[1])
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def _supervisor(spec: SupervisorSpec) -> dict[str, str]:
    power = spec.power
    where = " ".join(
        f"{word} {value}"
        for word, key in (("at", "address"), ("hub", "hub"), ("port", "port"), ("outlet", "outlet"))
        if (value := getattr(power, key, None)) not in (None, "")
    )
    found = {"power": f"{power.kind} {where}".strip()}
    for title, pin in (("FC_REC", spec.recovery_pin), ("SYS_RESET", spec.reset_pin)):
        if isinstance(pin, GpioSpec):
            found[title] = f"{pin.chip} line {pin.line}"
        elif pin is not None:
            found[title] = f"{pin.kind} port {pin.port}"
    return found
