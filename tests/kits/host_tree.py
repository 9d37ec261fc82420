"""The root directory of a made-up host, with the serial adapters, USB devices and NICs a test plugs in."""

from __future__ import annotations

from pathlib import Path

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINVubKKyEc3BSNiI9KbHVR7jeQxQKC5vS5KmDUcKXhAJ"
ARP_HEAD = "IP address       HW type     Flags       HW address            Mask     Device\n"
ROUTE_HEAD = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"


class HostTree:
    """``/`` of a host, as far as it is looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._devnum = 2
        self._arp = ARP_HEAD
        for folder in ("sys/class/tty", "sys/class/net/lo", "sys/bus/usb/devices", "proc/net"):
            (root / folder).mkdir(parents=True)
        (root / "sys/class/tty/tty0").mkdir()
        (root / "sys/class/tty/ttyS0/device").mkdir(parents=True)

    def usb(self, port: str, usb_id: str, product: str = "", serial: str = "") -> Path:
        place = self.root / "sys/devices/pci0000:00/0000:00:14.0/usb1" / port
        place.mkdir(parents=True)
        vendor, product_id = usb_id.split(":")
        self._devnum += 1
        facts = {"idVendor": vendor, "idProduct": product_id, "devnum": str(self._devnum)}
        for name, value in (facts | {"product": product, "serial": serial}).items():
            if value:
                (place / name).write_text(value + "\n")
        (self.root / "sys/bus/usb/devices" / port).symlink_to(place)
        return place

    def tty(self, name: str, usb: Path, interface: int = 0, *, udev: bool = True) -> None:
        part = usb / f"{usb.name}:1.{interface}"
        (part / name).mkdir(parents=True)
        (part / "bInterfaceNumber").write_text(f"{interface:02x}\n")
        (self.root / f"sys/class/tty/{name}").mkdir()
        (self.root / f"sys/class/tty/{name}/device").symlink_to(part / name)
        if udev:
            for kind, link in (
                ("by-path", f"pci-0000:00:14.0-usb-0:{usb.name[2:]}:1.{interface}-port0"),
                ("by-path", f"pci-0000:00:14.0-usbv2-0:{usb.name[2:]}:1.{interface}-port0"),
                ("by-id", f"usb-Maker_{name}-if0{interface}-port0"),
            ):
                folder = self.root / "dev/serial" / kind
                folder.mkdir(parents=True, exist_ok=True)
                (folder / link).symlink_to(f"../../{name}")

    def nic(self, name: str, usb: Path | None = None) -> None:
        (self.root / "sys/class/net" / name).mkdir()
        if usb:
            (self.root / "sys/class/net" / name / "device").symlink_to(usb)

    def neighbour(self, address: str, mac: str, interface: str = "eth0", flags: str = "0x2") -> None:
        self._arp += f"{address:<16} 0x1         {flags:<11} {mac}     *        {interface}\n"
        (self.root / "proc/net/arp").write_text(self._arp)

    def file(self, path: str, text: str) -> None:
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_text(text)
