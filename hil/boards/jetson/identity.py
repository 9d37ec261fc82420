"""Who a Jetson is: module, serial, L4T and JetPack version; and whether that is the board the lab file means."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from hil.boards.jetson.modules import SKUS
from hil.errors import ConfigurationError, DeviceError

# procfs has /proc/device-tree on every Jetson; it is a link to the second, which a container board has too.
DEVICE_TREES = ("/proc/device-tree", "/sys/firmware/devicetree/base")
RELEASE = "/etc/nv_tegra_release"
BOOT_CONTROL = "/etc/nv_boot_control.conf"
SOC = "nvidia,tegra234"

JETPACK: Mapping[str, str] = {
    "34.1": "5.0 DP",
    "34.1.1": "5.0.1 DP",
    "35.1": "5.0.2",
    "35.2.1": "5.1",
    "35.3.1": "5.1.1",
    "35.4.1": "5.1.2",
    "35.5.0": "5.1.3",
    "35.6.0": "5.1.4",
    "35.6.1": "5.1.5",
    "36.0": "6.0 EA",
    "36.2": "6.0 DP",
    "36.3": "6.0",
    "36.4.0": "6.1",
    "36.4.3": "6.2",
    "36.4.4": "6.2.1",
    "36.4.7": "6.2.1",
    "36.5.0": "6.2.2",
    "39.2": "7.2",
    "39.2.1": "7.2.1",
}
"""L4T release to JetPack, from NVIDIA's release pages, for what runs on an Orin."""

_RELEASE = re.compile(r"^# R(\d{1,3}) \(release\), REVISION: (\d{1,3}(?:\.\d{1,3}){0,2})\b", re.MULTILINE)
_PART = re.compile(r"(?<![0-9])p?(3701|3767)-(\d{4})(?!\d)")
_TNSPEC = re.compile(r"^TNSPEC[ =]+(\S+)", re.MULTILINE)
_SPEC = re.compile(r"^(3701|3767)-[^-]*-(\d{4})(?:-|$)")


@dataclass(frozen=True)
class JetsonIdentity:
    """Read from the board itself. An empty string: the board's OS does not say."""

    model: str  # device tree model, without its NUL
    serial: str
    compatible: tuple[str, ...]
    parts: tuple[str, ...]  # of modules, in the device tree that was flashed: some serve two modules
    tnspec: str  # written by the flash tool from the module's EEPROM
    tnspec_part: str
    l4t: str  # e.g. "36.4.7"
    jetpack: str  # e.g. "6.2.1"; "unknown" for an L4T that is in no table

    @property
    def part(self) -> str:
        """The module: by its EEPROM where the OS has its word, else the last one that its device tree names."""
        return self.tnspec_part or (self.parts[-1] if self.parts else "")

    @property
    def is_orin(self) -> bool:
        return SOC in self.compatible


def jetpack_of(l4t: str) -> str:
    """Return JetPack of an L4T release: "unknown" when it is not in :data:`JETPACK`, empty where there is no L4T."""
    padded = (l4t + ".0.0").split(".")[:3]
    for release, jetpack in JETPACK.items():
        if (release + ".0.0").split(".")[:3] == padded:
            return jetpack
    return "5.1.5 or 5.1.6" if l4t.startswith("35.6.") else "unknown" if l4t else ""


def parse_release(text: str) -> str:
    """Return the L4T version in ``/etc/nv_tegra_release``, e.g. ``36.4.7``; empty when there is none."""
    match = _RELEASE.search(text)
    return f"{match[1]}.{match[2]}" if match else ""


def parts_of(compatible: tuple[str, ...]) -> tuple[str, ...]:
    """Return the module part numbers in the device tree's ``compatible``, e.g. ``p3767-0003`` and ``p3767-0005``."""
    return tuple(dict.fromkeys(f"p{m[1]}-{m[2]}" for entry in compatible for m in _PART.finditer(entry)))


def parse_tnspec(text: str) -> tuple[str, str]:
    """Return (TNSPEC, module part) in ``/etc/nv_boot_control.conf``; empty strings when it does not say.

    ``3767-300-0005-K.2-1-0-jetson-orin-nano-devkit-`` is board 3767, fab 300, SKU 0005.
    """
    match = _TNSPEC.search(text)
    if not match:
        return "", ""
    spec = _SPEC.match(match[1])
    return match[1], f"p{spec[1]}-{spec[2]}" if spec else ""


def check_identity(identity: JetsonIdentity, *, board: str, module: str, serial: str = "") -> None:
    """Check that this is the board of the lab file. ConfigurationError names both; DeviceError for a wrong flash.

    ``module`` and ``serial`` are the lab file's; an empty ``serial`` is not compared.
    """
    remedy = f"correct the lab file, or look which board is wired to the place of {board}"
    if not identity.is_orin:
        raise ConfigurationError(
            f"{board}: the lab file says {_named(module)}, but what answers is no Orin: {identity.model!r} "
            f"({', '.join(identity.compatible) or 'no compatible'})",
            remedy=remedy,
        )
    # The EEPROM is the module's own word; the device tree is only what somebody flashed, and may name several.
    trees = set(identity.parts)
    actual = module if not identity.tnspec_part and module in trees else identity.part
    if actual and actual != module:
        raise ConfigurationError(
            f"{board}: the lab file says {_named(module)}, but {_named(actual)} answers "
            f"({identity.model!r}, serial {identity.serial or 'unknown'})",
            remedy=remedy if actual in SKUS else f"no Orin module is known as {actual}: modules are {', '.join(SKUS)}",
        )
    if serial and serial != identity.serial:
        raise ConfigurationError(
            f"{board}: the lab file says serial {serial}, but {identity.serial or 'a board without one'} answers",
            remedy=remedy,
        )
    if trees and trees.isdisjoint({actual, *(SKUS[actual].shared_trees if actual in SKUS else ())}):
        raise DeviceError(
            f"{board}: the module is {_named(actual)} but runs a device tree of {_named(identity.parts[-1])}",
            remedy="flash it with the configuration of its own module",
        )
    if not actual:
        raise DeviceError(
            f"{board}: cannot tell which module it is: neither {BOOT_CONTROL} nor the device tree names a part",
            remedy="give the OS one of the two; without it a wrong module would go unnoticed",
        )


def _named(part: str) -> str:
    return f"{part} ({SKUS[part].name})" if part in SKUS else part
