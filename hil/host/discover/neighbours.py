"""Hosts in the networks of this one that look like Jetsons, found without a packet.

Read are the kernel's table of neighbours and the lease files of DHCP servers that run here: so a host is only seen that
this one has talked with, or that got its address here.  mDNS is left out: what was heard is in a daemon's memory, and
asking the daemon for it makes it send a query.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from hil.boards.jetson.flash.recovery import FLASH_GADGET, L4T_GADGET, UsbDevice
from hil.core.sysfs import names_in, text_of, usb_place
from hil.errors import ConfigurationError
from hil.text import one_line

NVIDIA_MACS = ("48:b0:2d", "3c:6d:66", "00:04:4b")
"""Prefixes that NVIDIA gives to the network ports of its modules (IEEE's list of assignments)."""

_JETSON_NAME = re.compile(r"jetson|tegra|orin", re.IGNORECASE)
_ARP_COMPLETE = 0x2  # ATF_COM of linux/if_arp.h: the kernel has heard this neighbour's MAC


@dataclass(frozen=True)
class Neighbour:
    """A host in a network of this one that looks like a Jetson."""

    address: str  # IPv4
    mac: str
    interface: str  # empty when only a lease file knows it
    name: str  # as it called itself to the DHCP server
    why: str  # it looks like one


def find_neighbours(root: Path, network: str | None, usb: list[UsbDevice]) -> tuple[tuple[Neighbour, ...], int]:
    """Return those that look like a Jetson, and how many there are besides."""
    interfaces = names_in(root / "sys/class/net")
    if network is not None and network not in interfaces:
        raise ConfigurationError(
            f"this host has no network interface {network}", remedy=f"interfaces: {', '.join(interfaces) or 'none'}"
        )
    ours = {device.port for device in usb if device.usb_id in (L4T_GADGET, FLASH_GADGET)}
    cables = {name for name in interfaces if usb_place(root / "sys/class/net" / name / "device")[0] in ours}
    seen = {address: (mac, interface) for address, mac, interface in _arp(root)}
    names: dict[str, str] = {}
    routes = _on_link(root, network) if network else []
    for address, mac, name in _leases(root):
        names[address] = one_line(name)
        if network is None or any(_int(address) & mask == net for net, mask in routes):
            seen.setdefault(address, (mac, ""))
    found = []
    for address in sorted(seen, key=_int):
        mac, interface = seen[address]
        if network and interface not in ("", network):
            continue
        name = names.get(address, "")
        if mac.startswith(NVIDIA_MACS):
            why = "MAC of NVIDIA"
        elif interface in cables:
            why = "at the other end of a Jetson's USB cable"
        elif _JETSON_NAME.search(name):
            why = "calls itself so"
        else:
            why = ""
        found.append(Neighbour(address, mac, interface, name, why))
    alike = tuple(neighbour for neighbour in found if neighbour.why)
    return alike, len(found) - len(alike)


def _arp(root: Path) -> Iterator[tuple[str, str, str]]:
    """(address, MAC, interface) of neighbours whose MAC the kernel has heard."""
    for line in text_of(root / "proc/net/arp").splitlines()[1:]:
        fields = line.split()
        if len(fields) == 6 and _int(fields[0]) and int(fields[2], 16) & _ARP_COMPLETE:
            yield fields[0], fields[3].lower(), fields[5]


def _on_link(root: Path, interface: str) -> list[tuple[int, int]]:
    """(network, mask) of the networks that an interface is in, by the kernel's routes without a gateway."""
    found = []
    for line in text_of(root / "proc/net/route").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[0] == interface and fields[2] == "00000000":
            network, mask = (int.from_bytes(bytes.fromhex(fields[n]), "little") for n in (1, 7))
            found += [(network, mask)] if mask else []
    return found


def _leases(root: Path) -> Iterator[tuple[str, str, str]]:
    """(address, MAC, name) that DHCP servers of this host gave out: dnsmasq, ISC dhcpd, Kea; as their files are."""
    files = [root / "var/lib/misc/dnsmasq.leases"]
    files += sorted((root / "var/lib/NetworkManager").glob("dnsmasq-*.leases"))
    for file in files:
        for line in text_of(file).splitlines():
            fields = line.split()  # expiry, MAC, address, name or *, client
            if len(fields) >= 4 and _int(fields[2]):
                yield fields[2], fields[1].lower(), fields[3].strip("*")
    for block in re.finditer(r"^lease (\S+) \{(.*?)^\}", text_of(root / "var/lib/dhcp/dhcpd.leases"), re.M | re.S):
        mac = re.search(r"hardware ethernet ([0-9a-fA-F:]+);", block[2])
        name = re.search(r'client-hostname "([^"]*)"', block[2])
        if mac and _int(block[1]):
            yield block[1], mac[1].lower(), name[1] if name else ""
    for row in csv.DictReader(text_of(root / "var/lib/kea/kea-leases4.csv").splitlines()):
        if _int(row.get("address") or "") and row.get("hwaddr"):
            yield row["address"], row["hwaddr"].lower(), row.get("hostname") or ""


def _int(address: str) -> int:
    """Return an IPv4 address as a number; 0 for anything else."""
    try:
        return int(IPv4Address(address))
    except AddressValueError:
        return 0
