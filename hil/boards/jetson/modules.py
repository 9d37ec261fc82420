"""The Orin modules: what each is called, which rails it measures, what it may draw.

Sources: part numbers and USB identities: NVIDIA's board configurations as jetson_stats and the flashing guide list
them.  Rails: kernel device trees ``tegra234-p3701`` and ``tegra234-p3767`` (INA3221 at 0x40, 0x41).  Power: module
data sheets, maximum of the ordinary modes; ``super`` is what JetPack 6.2's MAXN_SUPER allows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from hil.errors import ConfigurationError

AGX_RAILS = ("vdd_gpu_soc", "vdd_cpu_cv", "vin_sys_5v0")
NANO_RAILS = ("vdd_in",)


@dataclass(frozen=True)
class Sku:
    """One module."""

    part: str
    name: str
    board_rails: tuple[str, ...]  # their sum is what the module draws; other rails are parts of these
    max_w: float
    max_super_w: float | None
    recovery_usb: str  # USB identity in force-recovery mode

    def board_mw(self, rails_mw: Mapping[str, float]) -> float | None:
        """Power of the module, mW; None when one of the rails it takes was not read.

        An AGX has no total rail: GPU+SoC, CPU+CV and the 5 V system input add up; VDDQ_VDD2_1V8AO is fed from the
        latter and must not be added.  NX and Nano measure their total as VDD_IN.
        """
        if any(rail not in rails_mw for rail in self.board_rails):
            return None
        return sum(rails_mw[rail] for rail in self.board_rails)


def _agx(part: str, name: str, max_w: float, usb: str) -> Sku:
    return Sku(part, name, AGX_RAILS, max_w, None, usb)


def _nano(part: str, name: str, max_w: float, super_w: float, usb: str) -> Sku:
    return Sku(part, name, NANO_RAILS, max_w, super_w, usb)


SKUS: Mapping[str, Sku] = {
    sku.part: sku
    for sku in (
        _agx("p3701-0000", "Jetson AGX Orin developer kit", 60.0, "0955:7023"),
        _agx("p3701-0004", "Jetson AGX Orin 32 GB", 40.0, "0955:7223"),
        _agx("p3701-0005", "Jetson AGX Orin 64 GB", 60.0, "0955:7023"),
        _nano("p3767-0000", "Jetson Orin NX 16 GB", 25.0, 40.0, "0955:7323"),
        _nano("p3767-0001", "Jetson Orin NX 8 GB", 25.0, 40.0, "0955:7423"),
        _nano("p3767-0003", "Jetson Orin Nano 8 GB", 15.0, 25.0, "0955:7523"),
        _nano("p3767-0004", "Jetson Orin Nano 4 GB", 15.0, 25.0, "0955:7623"),
        _nano("p3767-0005", "Jetson Orin Nano developer kit", 15.0, 25.0, "0955:7523"),
    )
}


def sku_of(part: str) -> Sku:
    """Return the module of that part number, e.g. ``p3701-0005``. ConfigurationError names the known ones."""
    try:
        return SKUS[part]
    except KeyError:
        raise ConfigurationError(
            f"no Orin module is called {part}", remedy=f"modules: {', '.join(sorted(SKUS))}"
        ) from None
