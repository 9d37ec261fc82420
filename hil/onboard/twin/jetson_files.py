"""The sensors of a board as files, in the places of a Jetson's sysfs: what the twin writes and the board reads.

The twin lays them out beside the board's disks; the firmware shows them to the OS below ``/sys`` (``class``, ``bus``)
and lets it write one of them: the GPU's ``max_freq``, with which ``nvpmodel`` caps the power.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hil.onboard.twin.modules import HOT_SURFACE_C, SHUTDOWN_C, THROTTLE_C, Module

DIRECTORY = "twin"
"""Beside the board's disks."""
THERMAL, HWMON = "class/thermal", "class/hwmon/hwmon0"
DEVFREQ = "class/devfreq/17000000.gpu"
INA3221 = "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1"
GPU = "gpu"
"""Shown as the platform device ``17000000.gpu``."""
ZONES = ("cpu", "gpu", "cv0", "cv1", "cv2", "soc0", "soc1", "soc2", "tj")
COOLING = ("cpufreq-cpu0", "devfreq-17000000.gpu", "cpu-throttle-alert", "gpu-throttle-alert", "hot-surface-alert")
SLOWS = 2
"""So many of ``COOLING``, the first ones, have as many states as the governor; the others are on or off."""
_TRIPS = (("passive", HOT_SURFACE_C), ("passive", THROTTLE_C), ("critical", SHUTDOWN_C))


@dataclass(frozen=True)
class Shown:
    """What the files say; an ``over_current`` count rises with each event since the board got power."""

    junction_c: float
    board_c: float
    power_w: float
    busy: float
    clock: float
    state: int
    over_current: int = 0


def contents(module: Module, shown: Shown) -> Iterator[tuple[str, str]]:
    """Yield (path, content) of every file that changes."""
    zones = zones_c(shown)
    for number, name in enumerate(ZONES):
        yield f"{THERMAL}/thermal_zone{number}/temp", f"{round(zones[name] * 1000)}"
    hot = int(shown.junction_c >= HOT_SURFACE_C)
    states = (shown.state, shown.state, int(shown.state > 0), int(shown.state > 0), hot)
    for number, state in enumerate(states):
        yield f"{THERMAL}/cooling_device{number}/cur_state", f"{state}"
    milliamperes = []
    for number, (milliwatt, millivolt) in enumerate(zip(module.rails_mw(shown.power_w), module.rails_mv, strict=True)):
        milliamperes.append(round(milliwatt * 1000 / millivolt))
        yield f"{INA3221}/curr{number + 1}_input", f"{milliamperes[-1]}"
        yield f"{INA3221}/curr{number + 1}_crit_alarm", f"{int(milliamperes[-1] > module.limit_ma)}"
    yield f"{HWMON}/oc3_event_cnt", f"{shown.over_current}"
    yield f"{DEVFREQ}/cur_freq", f"{round(module.top_mhz * shown.clock * 1e6)}"
    yield f"{GPU}/load", f"{round(1000 * shown.busy)}"


def zones_c(shown: Shown) -> dict[str, float]:
    """Return every thermal zone, C; ``tj`` is the hottest. How the others lie below it is assumed."""
    above = shown.junction_c - shown.board_c
    shares = {"cpu": 0.9, "gpu": 1.0, "cv0": 0.8, "cv1": 0.8, "cv2": 0.8, "soc0": 0.75, "soc1": 0.7, "soc2": 0.72}
    return {name: shown.board_c + share * above for name, share in shares.items()} | {"tj": shown.junction_c}


def lay_out(root: Path, module: Module) -> None:
    """Write all files of a board at rest; those that never change, too."""
    files = dict(contents(module, Shown(20.0, 20.0, 0.0, 0.0, 1.0, 0)))
    for number, name in enumerate(ZONES):
        zone = f"{THERMAL}/thermal_zone{number}"
        files[f"{zone}/type"] = f"{name}-thermal"
        for trip, (kind, celsius) in enumerate(_TRIPS):
            files[f"{zone}/trip_point_{trip}_type"] = kind
            files[f"{zone}/trip_point_{trip}_temp"] = f"{round(celsius * 1000)}"
    for number, name in enumerate(COOLING):
        device = f"{THERMAL}/cooling_device{number}"
        files[f"{device}/type"] = name
        files[f"{device}/max_state"] = "10" if number < SLOWS else "1"
    for number, (label, millivolt) in enumerate(zip(module.rails, module.rails_mv, strict=True)):
        files[f"{INA3221}/in{number + 1}_label"] = label
        files[f"{INA3221}/in{number + 1}_input"] = f"{millivolt}"
        for limit in ("crit", "max"):
            files[f"{INA3221}/curr{number + 1}_{limit}"] = f"{module.limit_ma}"
        files[f"{INA3221}/curr{number + 1}_max_alarm"] = "0"
    for number in (1, 2, 3):
        files.setdefault(f"{HWMON}/oc{number}_event_cnt", "0")
        files[f"{HWMON}/oc{number}_throt_en"] = "1"
    files[f"{HWMON}/name"] = "soctherm_oc"
    files[f"{INA3221}/name"] = "ina3221"
    files[f"{DEVFREQ}/governor"] = "nvhost_podgov"
    files[f"{DEVFREQ}/min_freq"] = "306000000"
    top = f"{round(module.top_mhz * 1e6)}"
    files[f"{DEVFREQ}/available_frequencies"] = files[f"{DEVFREQ}/max_freq"] = top
    for path, content in files.items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content + "\n")


class SensorFiles:
    """The files of one board, kept open: what its OS does to their names cannot lead the twin anywhere else."""

    def __init__(self, root: Path, module: Module) -> None:
        """Open what :func:`lay_out` wrote. OSError when it is not there."""
        self._module = module
        self._said: dict[str, str] = {}
        self._open: dict[str, int] = {}
        for path, _ in contents(module, Shown(20.0, 20.0, 0.0, 0.0, 1.0, 0)):
            self._open[path] = os.open(root / path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._cap = root / DEVFREQ / "max_freq"

    def show(self, shown: Shown) -> None:
        """Write what has changed. A reader sees the old or the new number, perhaps with an empty line behind it."""
        for path, content in contents(self._module, shown):
            before = self._said.get(path)
            if content != before:
                os.pwrite(self._open[path], content.encode() + b"\n", 0)
                if before is None or len(before) > len(content):
                    os.ftruncate(self._open[path], len(content) + 1)
                self._said[path] = content

    def cap(self) -> float:
        """Return the share of the highest clock that the board's OS allows; 1 for what is no clock.

        The file is the board's: it may be missing, a pipe, a link or full of anything.
        """
        try:
            descriptor = os.open(self._cap, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return 1.0
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                return 1.0
            text = os.read(descriptor, 32).decode("ascii", "replace").strip()
        except OSError:
            return 1.0
        finally:
            os.close(descriptor)
        hertz = int(text) if text.isascii() and text.isdigit() else 0
        return min(1.0, hertz / 1e6 / self._module.top_mhz) if hertz else 1.0

    def close(self) -> None:
        for descriptor in self._open.values():
            os.close(descriptor)
        self._open.clear()
