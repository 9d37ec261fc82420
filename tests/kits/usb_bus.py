"""The USB bus of a made-up host, as sysfs shows it, and a recording of a flash tool."""

from __future__ import annotations

import contextlib
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.kits import checkout

PORT = "1-4.2"
NANO = "p3767-0005"
RECORD = checkout.DATA / "flash/orin_nano_ok.log"


class UsbBus:
    """``/sys/bus/usb/devices`` of a host."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._devnum = 5
        (root / "usb1").mkdir(parents=True)
        (root / "1-4").mkdir()
        (root / "1-4:1.0").mkdir()
        self.plug("1-4", "05e3:0610", "USB2.1 Hub")

    def plug(self, port: str, usb_id: str, product: str = "", serial: str = "") -> None:
        self.unplug(port)
        self._devnum += 1
        place = self.root / f".{port}"
        place.mkdir()
        vendor, product_id = usb_id.split(":")
        facts = {"idVendor": vendor, "idProduct": product_id, "devnum": str(self._devnum), "product": product}
        for name, value in (facts | ({"serial": serial} if serial else {})).items():
            if value:
                (place / name).write_text(value + "\n")
        place.rename(self.root / port)

    def unplug(self, port: str) -> None:
        shutil.rmtree(self.root / port, ignore_errors=True)

    @contextlib.contextmanager
    def later(self, *steps: Callable[[], None], every_s: float = 0.05) -> Iterator[None]:
        """What happens on the bus meanwhile."""

        def play() -> None:
            for step in steps:
                time.sleep(every_s)
                step()

        thread = threading.Thread(target=play)
        thread.start()
        try:
            yield
        finally:
            thread.join()
