"""The Orin modules: what each is called, which rails it measures, which device trees it runs.

Sources: part numbers, USB identities and device trees: NVIDIA's ``p3701.conf.common``, ``p3767.conf.common``, the
configurations of its developer kits and ``l4t_initrd_flash.sh``; the kernel's ``tegra.yaml``.  Rails: kernel device
trees ``tegra234-p3701`` and ``tegra234-p3767`` (INA3221 at 0x40, 0x41).
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
    recovery_usb: str  # USB identity in force-recovery mode
    shared_trees: tuple[str, ...] = ()  # modules whose device tree NVIDIA's configurations flash on this one, too

    def board_mw(self, rails_mw: Mapping[str, float]) -> float | None:
        """Power of the module, mW; None when one of the rails it takes was not read.

        An AGX has no total rail: GPU+SoC, CPU+CV and the 5 V system input add up; VDDQ_VDD2_1V8AO is fed from the
        latter and must not be added.  NX and Nano measure their total as VDD_IN.
        """
        if any(rail not in rails_mw for rail in self.board_rails):
            return None
        return sum(rails_mw[rail] for rail in self.board_rails)


SKUS: Mapping[str, Sku] = {
    part: Sku(part, name, AGX_RAILS if part.startswith("p3701") else NANO_RAILS, f"0955:{usb}", tuple(trees))
    for part, name, usb, *trees in (
        ("p3701-0000", "Jetson AGX Orin developer kit", "7023"),
        ("p3701-0001", "Jetson AGX Orin, early kit", "7023", "p3701-0000"),
        ("p3701-0002", "IGX Orin developer kit", "7023"),
        ("p3701-0004", "Jetson AGX Orin 32 GB", "7223", "p3701-0000"),
        ("p3701-0005", "Jetson AGX Orin 64 GB", "7023", "p3701-0000"),
        ("p3701-0008", "Jetson AGX Orin Industrial 64 GB", "7023", "p3701-0000"),
        ("p3767-0000", "Jetson Orin NX 16 GB", "7323"),
        ("p3767-0001", "Jetson Orin NX 8 GB", "7423"),
        ("p3767-0002", "Jetson Orin NX 16 GB with SD card", "7323", "p3767-0000"),
        ("p3767-0003", "Jetson Orin Nano 8 GB", "7523", "p3767-0005"),
        ("p3767-0004", "Jetson Orin Nano 4 GB", "7623"),
        ("p3767-0005", "Jetson Orin Nano developer kit", "7523", "p3767-0003"),
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
