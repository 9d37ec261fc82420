"""What is plugged into this host that could belong to a bench: serial adapters, Jetsons on USB, neighbours, GPIO chips.

Everything is read from files; no packet is sent and no device is opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from hil.boards.jetson.flash.recovery import DEBUG_CONTROLLER, L4T_GADGET, NVIDIA, UsbDevice, devices
from hil.core.command import Runner, run
from hil.core.sysfs import names_in, text_of, usb_place
from hil.errors import BenchError
from hil.host.discover.neighbours import Neighbour, find_neighbours
from hil.text import one_line

ADAPTERS: Mapping[str, str] = {
    DEBUG_CONTROLLER: "debug controller of an AGX carrier",
    L4T_GADGET: "the USB gadget of a Jetson that runs: a login, but no boot log",
    "0403:6001": "FTDI FT232R",
    "0403:6010": "FTDI FT2232",
    "0403:6011": "FTDI FT4232",
    "0403:6014": "FTDI FT232H",
    "0403:6015": "FTDI FT-X",
    "067b:2303": "Prolific PL2303",
    "10c4:ea60": "Silicon Labs CP210x",
    "10c4:ea70": "Silicon Labs CP2105",
    "1a86:55d3": "WCH CH343",
    "1a86:7523": "WCH CH340",
}
"""Serial adapters by USB identity."""

_HUB = re.compile(r"^Current status for hub ([^\s,]+)(?: \[(.*)\])?")
_HUB_PORT = re.compile(r"^\s+Port (\d+): ")


@dataclass(frozen=True)
class SerialAdapter:
    """One serial port that this host has."""

    device: str  # "/dev/ttyUSB0": another after the next plug
    by_path: str  # "/dev/serial/by-path/...": the socket it is plugged into; empty where udev does not run
    by_id: str  # "/dev/serial/by-id/...": the adapter itself, wherever it is plugged
    usb_id: str = ""  # "0403:6011"; empty when it is not on USB
    usb_port: str = ""  # "1-3"
    interface: int | None = None  # of the USB device: which of an adapter's ports
    product: str = ""
    serial: str = ""
    console: bool = True  # may show a board's boot log

    @property
    def url(self) -> str:
        """What a lab file should say: the most stable name there is."""
        return self.by_path or self.by_id or self.device

    @property
    def what(self) -> str:
        known = ADAPTERS.get(self.usb_id) or self.product or "serial port"
        if self.usb_id == DEBUG_CONTROLLER:
            known += ": the console" if self.console else ": not the console"
        return known


@dataclass(frozen=True)
class GpioChip:
    """Lines that could pull a board's recovery and reset pins."""

    name: str  # "gpiochip0"
    label: str
    lines: int | None


@dataclass(frozen=True)
class Hub:
    """A USB hub that can switch the power of its ports."""

    place: str
    what: str
    ports: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """Everything, and what could not be looked at."""

    serial: tuple[SerialAdapter, ...] = ()
    usb: tuple[UsbDevice, ...] = ()  # of NVIDIA
    neighbours: tuple[Neighbour, ...] = ()
    other_neighbours: int = 0
    gpio: tuple[GpioChip, ...] = ()
    hubs: tuple[Hub, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def modules(self) -> tuple[UsbDevice, ...]:
        """USB devices that are a module, in whatever state; a debug controller is none."""
        return tuple(device for device in self.usb if device.is_module)

    @property
    def consoles(self) -> tuple[SerialAdapter, ...]:
        return tuple(adapter for adapter in self.serial if adapter.console)

    @property
    def any_board(self) -> bool:
        """Whether there is a trace of a board at all; GPIO chips and hubs are none."""
        return bool(self.consoles or self.modules or self.neighbours)


def discover(root: Path = Path("/"), *, network: str | None = None, hubs: bool = False, runner: Runner = run) -> Found:
    """Look at this host; ``root`` is what stands for its ``/``.

    ``network``: only neighbours on that interface; ConfigurationError when there is none of that name.  ``hubs``: ask
    ``uhubctl`` too, which talks to every hub.
    """
    usb = devices(root / "sys/bus/usb/devices")
    problems = []
    serial = _serial(root, {device.port: device for device in usb})
    if serial and not (root / "dev/serial").is_dir():
        problems.append(
            "/dev/serial is not there, so udev does not run here: names such as ttyUSB0 change at every plug"
        )
    neighbours, others = find_neighbours(root, network, usb)
    switched: tuple[Hub, ...] = ()
    if hubs:
        try:
            switched = _hubs(runner)
        except BenchError as exc:
            problems.append(f"{exc.message}; {exc.remedy}")
    return Found(
        serial=serial,
        usb=tuple(device for device in usb if device.usb_id.startswith(NVIDIA)),
        neighbours=neighbours,
        other_neighbours=others,
        gpio=_gpio(root),
        hubs=switched,
        problems=tuple(problems),
    )


def _serial(root: Path, usb: Mapping[str, UsbDevice]) -> tuple[SerialAdapter, ...]:
    by_path, by_id = (_links(root, f"dev/serial/{kind}") for kind in ("by-path", "by-id"))
    found = []
    for name in sorted({*names_in(root / "sys/class/tty"), *by_path, *by_id}, key=_natural):
        port, interface = usb_place(root / "sys/class/tty" / name / "device")
        if not port and name not in by_path:
            continue  # the host's own terminals and its built-in ports
        device = usb.get(port)
        found.append(
            SerialAdapter(
                f"/dev/{name}",
                by_path.get(name, ""),
                by_id.get(name, ""),
                usb_id=device.usb_id if device else "",
                usb_port=port,
                interface=interface,
                product=one_line(device.product) if device else "",
                serial=one_line(device.serial) if device else "",
                console=device is None or device.usb_id != L4T_GADGET,
            )
        )
    first = {port: min(a.interface or 0 for a in found if a.usb_port == port) for port in {a.usb_port for a in found}}
    return tuple(
        # The first of a debug controller's ports is the module's console, the others are of other processors.
        replace(a, console=(a.interface or 0) == first[a.usb_port]) if a.usb_id == DEBUG_CONTROLLER else a
        for a in found
    )


def _links(root: Path, folder: str) -> dict[str, str]:
    """Terminal name to the link that leads to it; the shortest where udev made several."""
    found: dict[str, str] = {}
    for name in sorted(names_in(root / folder), key=len):
        try:
            target = (root / folder / name).readlink()
        except OSError:
            continue
        found.setdefault(target.name, f"/{folder}/{name}")
    return found


def _natural(name: str) -> tuple[str, int]:
    digits = re.search(r"\d*$", name)
    assert digits  # it matches the empty string too
    return name[: digits.start()], int(digits[0] or 0)


def _gpio(root: Path) -> tuple[GpioChip, ...]:
    found = []
    places = root / "sys/bus/gpio/devices"
    for name in sorted(names_in(places), key=_natural):
        if re.fullmatch(r"gpiochip\d+", name):
            # The numbers are told by the older interface, where the kernel still has it.
            (old, *_) = [*sorted((places / name).glob("gpio/gpiochip*")), places / name / "none"]
            lines = text_of(old / "ngpio")
            found.append(GpioChip(name, one_line(text_of(old / "label")), int(lines) if lines.isdigit() else None))
    return tuple(found)


def _hubs(runner: Runner) -> tuple[Hub, ...]:
    """BenchError when uhubctl cannot tell."""
    done = runner(["uhubctl"], timeout_s=15.0)
    if done.returncode == 127:
        raise BenchError("uhubctl is not installed", remedy="install it: apt-get install uhubctl")
    if not done.ok and "No compatible devices" not in done.stdout + done.stderr:
        raise BenchError(f"uhubctl failed: {one_line(done.tail(2))}", remedy="run it as root, by hand")
    found: list[Hub] = []
    for line in done.stdout.splitlines():
        if hub := _HUB.match(line):
            found.append(Hub(hub[1], one_line(hub[2] or ""), ()))
        elif found and (port := _HUB_PORT.match(line)):
            found[-1] = replace(found[-1], ports=(*found[-1].ports, int(port[1])))
    return tuple(found)
