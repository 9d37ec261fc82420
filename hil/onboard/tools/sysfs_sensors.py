"""What a Jetson's sysfs says of temperatures, rails and clocks, as far as the board's tools need it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys")
DEVFREQ = "class/devfreq/17000000.gpu"
INA3221 = "bus/i2c/drivers/ina3221/1-0040/hwmon"
GPU_LOAD = "devices/platform/bus@0/17000000.gpu/load"


@dataclass(frozen=True)
class Sensors:
    """One look."""

    zones_c: dict[str, float]
    rails_mw: dict[str, int]
    gpu_load: int
    """Permille."""
    gpu_mhz: float
    clock: float
    """Share of the GPU's highest clock."""
    throttled: bool


def here(sysfs: Path = SYSFS) -> bool:
    """Return whether this board shows such sensors."""
    return (sysfs / DEVFREQ / "max_freq").exists()


def read(sysfs: Path = SYSFS) -> Sensors:
    """Look now; what cannot be read is left out, or 0."""
    zones = {}
    for zone in sorted((sysfs / "class/thermal").glob("thermal_zone*")):
        zones[_text(zone / "type").removesuffix("-thermal")] = _number(zone / "temp") / 1000
    rails = {}
    for hwmon in sorted((sysfs / INA3221).glob("hwmon*")):
        for n in (1, 2, 3):
            if label := _text(hwmon / f"in{n}_label"):
                rails[label] = round(_number(hwmon / f"in{n}_input") * _number(hwmon / f"curr{n}_input") / 1000)
    clock, top = (_number(sysfs / DEVFREQ / name) for name in ("cur_freq", "available_frequencies"))
    states = [_number(path) for path in (sysfs / "class/thermal").glob("cooling_device[01]/cur_state")]
    return Sensors(
        zones, rails, _number(sysfs / GPU_LOAD), clock / 1e6, clock / top if top else 1.0, any(s > 0 for s in states)
    )


def set_gpu_cap(hertz: int, sysfs: Path = SYSFS) -> bool:
    """Cap the GPU's clock, as ``nvpmodel`` does; return whether this board can."""
    if not here(sysfs):
        return False
    (sysfs / DEVFREQ / "max_freq").write_text(f"{hertz}\n")
    return True


def _text(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int:
    text = _text(path).split("\n", 1)[0]
    return int(text) if text.lstrip("-").isdigit() else 0
