"""A lab with one Orin that is none, for whoever walks the technician's pages: everything around it is as on a bench.

The board is a container. Its management port is a port of this machine's loopback, its power a strip there, its console
a pseudo-terminal, its flight port a NIC of this machine, its recovery pin a microcontroller's; what is plugged into the
controller is a tree of files. Nothing of the harness knows.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hil.boards.container.board import ContainerBoard
from hil.boards.jetson.flash.recovery import L4T_GADGET
from hil.boards.jetson.modules import sku_of
from tests.kits.bench_cables import FlightCable, Forward
from tests.kits.container_boards import boards, engine_client
from tests.kits.host_tree import HostTree
from tests.kits.power_agents import PtyMicrocontroller
from tests.kits.power_strips import ShellyGen2Strip
from tests.kits.usb_bus import UsbBus

MODULE = "p3767-0005"
MODEL = "NVIDIA Jetson Orin Nano Developer Kit"
USB_PORT = "1-4.2"
MAC = "48:b0:2d:11:22:33"
CABLE = FlightCable(f"hilt-orin-{os.getpid()}", f"hilto{os.getpid()}")
ADAPTER = "pci-0000:00:14.0-usb-0:3:1.0-port0"


@dataclass(frozen=True)
class FirstOrin:
    """The board on the table, and what a technician sees of it."""

    hardware: ContainerBoard
    strip: ShellyGen2Strip
    pins: PtyMicrocontroller
    bus: UsbBus
    controller: Path  # stands for the controller's "/"
    ssh_port: int

    def has_left_recovery(self) -> None:
        """What the flash tool does at its end: the module starts the system that was written."""
        self.bus.plug(USB_PORT, L4T_GADGET, "L4T (Linux for Tegra) running on Tegra")
        self.hardware.supervisor.on()


@contextlib.contextmanager
def first_orin(directory: Path, flight_address: str = "198.18.1.11") -> Iterator[FirstOrin]:
    """Everything cabled, the outlet off; all of it is gone afterwards."""
    host = HostTree(directory / "controller")
    bus = UsbBus(host.root / "sys/bus/usb/devices")
    host.tty("ttyUSB0", host.usb("1-3", "0403:6001", "FT232R USB UART", "A50285BI"))
    host.nic("enp3s0")
    host.neighbour("127.0.0.1", MAC, "enp3s0")
    with (
        CABLE.laid(),
        engine_client() as client,
        boards(client, 1, module=MODULE, model=MODEL, names=["b1"]) as ((hardware,), _),
        PtyMicrocontroller() as pins,
    ):
        namespace, address = hardware.address()

        def switched(outlet: int, on: bool) -> None:
            if not on:
                hardware.supervisor.cut()
                bus.unplug(USB_PORT)
            elif pins.recovery:
                bus.plug(USB_PORT, sku_of(MODULE).recovery_usb, "APX")
            else:
                bus.plug(USB_PORT, L4T_GADGET, "L4T (Linux for Tegra) running on Tegra")
                hardware.supervisor.on()
                CABLE.plug(hardware, flight_address)

        with ShellyGen2Strip(on_change=switched) as strip, Forward(namespace, address) as forward:
            threading.Thread(target=forward.serve_forever, args=(0.05,), daemon=True).start()
            try:
                yield FirstOrin(hardware, strip, pins, bus, host.root, forward.server_address[1])
            finally:
                forward.shutdown()
