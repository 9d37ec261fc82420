"""Parser for ``tegrastats`` lines of JetPack 5 to 7 on NX, Nano and AGX Orin.

Written from eight real lines (tests/data/tegrastats_samples.txt); the traps they set are noted where they are met.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from hil.boards.jetson.modules import AGX_RAILS
from hil.errors import DeviceError

# Digits are ASCII and their number is bounded: int() refuses 5000 of them with a ValueError.
_N = r"([0-9]{1,9})"
_DATE = re.compile(r"^\d\d-\d\d-\d{4} \d\d:\d\d:\d\d ")
_RAM = re.compile(rf"\bRAM {_N}/{_N}MB")
_CPU = re.compile(r"\bCPU \[([^\]\[]*)\]")
_CORE = re.compile(rf"{_N}%@{_N}")
# "0%", "0%@611", "0%@[713]", "0%@[305,305]" (per cluster), "@[1575]" (no load), "off"
_GPU = re.compile(rf"\bGR3D_FREQ (?:{_N}%)?(?:@?(?:\[([0-9]{{1,9}}(?:,[0-9]{{1,9}})*)\]|{_N}(?!%)))?")
_EMC = re.compile(rf"\bEMC_FREQ {_N}%(?:@{_N})?")
_ZONE = re.compile(
    r"(?<![\w%@])([A-Za-z][A-Za-z0-9]*)@(-?[0-9]{1,9}(?:\.[0-9]{1,9})?)C(?:/-?[0-9]{1,9}(?:\.[0-9]{1,9})?C)?"
)
_RAIL = re.compile(rf"\b(V[A-Z0-9_]+) {_N}(?:mW)?/{_N}(?:mW)?(?:/{_N}(?:mW)?)?")
GATED_C = -256.0


def flat(reading: Any, *more: str) -> dict[str, float]:
    """Return a line's or a sysfs reading's values by name with the unit in it; ``more``: further fields."""
    names = ("ram_used_mb", "ram_total_mb", "gpu_load_percent", "gpu_mhz", *more, "board_mw")
    values = {name: getattr(reading, name) for name in names}
    readings = {name: float(value) for name, value in values.items() if value is not None}
    readings |= {f"{name}_c": value for name, value in reading.zones_c.items()}
    return readings | {f"{name}_mw": float(value) for name, value in reading.rails_mw.items()}


@dataclass(frozen=True)
class Tegrastats:
    """One line. Absent is absent: a rail-gated zone is simply not there."""

    ram_used_mb: int
    ram_total_mb: int
    cores: tuple[tuple[int, int] | None, ...]  # (load %, MHz); None: the core is off
    gpu_load_percent: int | None
    gpu_mhz: int | None  # the fastest cluster's
    emc_load_percent: int | None
    zones_c: dict[str, float] = field(default_factory=dict)  # lower-case names
    rails_mw: dict[str, int] = field(default_factory=dict)  # lower-case names; the instantaneous value

    @property
    def cpu_load_percent(self) -> float | None:
        """Mean over the cores that are on."""
        on = [core[0] for core in self.cores if core]
        return sum(on) / len(on) if on else None

    @property
    def board_mw(self) -> int | None:
        """Power of the module: VDD_IN where there is such a rail, else the sum of AGX's three."""
        if "vdd_in" in self.rails_mw:
            return self.rails_mw["vdd_in"]
        if all(rail in self.rails_mw for rail in AGX_RAILS):
            return sum(self.rails_mw[rail] for rail in AGX_RAILS)
        return None

    def sensors(self) -> dict[str, float]:
        """Return flat readings with the unit in the name; only what the line has."""
        return flat(self, "cpu_load_percent", "emc_load_percent")


def parse(line: str) -> Tegrastats:
    """Parse one line. DeviceError when it is not a tegrastats line.

    The date is ignored on purpose: it is the board's local time with one-second resolution, and some builds have
    none.  Stamp readings with the harness's clock.
    """
    text = re.sub(r"\s+", " ", _DATE.sub("", line.strip()))  # engines are padded with runs of spaces
    ram = _RAM.search(text)
    cpu = _CPU.search(text)
    if not ram or not cpu:
        raise DeviceError(f"not a tegrastats line: {line.strip()[:120]!r}")
    gpu, emc = _GPU.search(text), _EMC.search(text)
    cores = tuple(_core(core.strip(), line) for core in cpu[1].split(","))
    gpu_load = gpu_mhz = None
    if gpu:
        gpu_load = int(gpu[1]) if gpu[1] else None
        clocks = gpu[2] or gpu[3]
        gpu_mhz = max(int(clock) for clock in clocks.split(",")) if clocks else None
    rest = text[cpu.end() :]
    zones = {m[1].lower(): float(m[2]) for m in _ZONE.finditer(rest)}
    return Tegrastats(
        ram_used_mb=int(ram[1]),
        ram_total_mb=int(ram[2]),
        cores=cores,
        gpu_load_percent=gpu_load,
        gpu_mhz=gpu_mhz,
        emc_load_percent=int(emc[1]) if emc else None,
        # JetPack 5 prints -256 for a zone whose rail is off; later ones leave it out.
        zones_c={name: value for name, value in zones.items() if value > GATED_C},
        rails_mw={m[1].lower(): int(m[2]) for m in _RAIL.finditer(rest)},
    )


def _core(text: str, line: str) -> tuple[int, int] | None:
    if text == "off":
        return None
    match = _CORE.fullmatch(text)
    if not match:
        raise DeviceError(f"not a tegrastats line: core {text[:40]!r} in {line.strip()[:120]!r}")
    return int(match[1]), int(match[2])
