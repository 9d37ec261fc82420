"""Sensors of a Jetson from sysfs: GPU, power rails, temperatures, throttling, over-current, reset reason.

sysfs is the first source for pass and fail (``tegrastats`` is the second, :mod:`hil.boards.tegrastats`): it needs no
root, gives every signal its own file, and tells a sensor that is off from one that reads zero.

Sources of the paths: kernel drivers ``ina3221``, ``tegra-soctherm``/``tegra-bpmp-thermal``, ``nvgpu`` and ``pmc`` of
JetPack 5 and 6; device trees ``tegra234-p3701`` and ``tegra234-p3767``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hil.boards.jetson.modules import Sku
from hil.boards.jetson.remote_files import BoardFiles
from hil.boards.jetson.slots import BOOT_ID, RESET_DIRS
from hil.boards.tegrastats import flat
from hil.errors import DeviceError

GPU_LOADS = (  # permille
    "/sys/devices/platform/bus@0/17000000.gpu/load",  # JetPack 6, 7
    "/sys/devices/platform/17000000.ga10b/load",  # JetPack 5
    "/sys/devices/gpu.0/load",
)
GPU_CLOCKS = (  # Hz
    "/sys/class/devfreq/17000000.gpu/cur_freq",
    "/sys/class/devfreq/17000000.ga10b/cur_freq",
)
INA3221 = "/sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*"
THERMAL = "/sys/class/thermal"
HWMON = "/sys/class/hwmon/hwmon*"
MEMORY = "/proc/meminfo"
CHANNELS = (1, 2, 3)  # an INA3221's; in4 to in7 are shunt voltages and their sum, curr4 the sum channel

NOT_THROTTLING = ("hot-surface-alert", "pwm-fan")
"""Cooling devices that act without slowing anything down."""
GATED_MC = -256_000
"""What JetPack 5 reads from a zone whose rail is off, milli-degrees."""

_READ = (
    *GPU_LOADS,
    *GPU_CLOCKS,
    *(f"{INA3221}/in{n}_{what}" for n in CHANNELS for what in ("label", "input")),
    *(f"{INA3221}/curr{n}_{what}" for n in CHANNELS for what in ("input", "crit_alarm", "max_alarm")),
    f"{THERMAL}/thermal_zone*/type",
    f"{THERMAL}/thermal_zone*/temp",
    f"{THERMAL}/cooling_device*/type",
    f"{THERMAL}/cooling_device*/cur_state",
    f"{HWMON}/oc[0-9]_event_cnt",
    *(f"{d}/reset_{what}" for d in RESET_DIRS for what in ("reason", "level")),
    BOOT_ID,
    MEMORY,
)
_PROVISION = (
    f"{THERMAL}/thermal_zone*/type",
    f"{THERMAL}/thermal_zone*/trip_point_*_type",
    f"{THERMAL}/thermal_zone*/trip_point_*_temp",
    f"{THERMAL}/cooling_device*/type",
    f"{THERMAL}/cooling_device*/max_state",
    *(f"{INA3221}/{name}" for n in CHANNELS for name in (f"in{n}_label", f"curr{n}_crit", f"curr{n}_max")),
    f"{HWMON}/oc[0-9]_throt_en",
)

Texts = Mapping[str, str | None]


@dataclass(frozen=True)
class Trip:
    """One trip point of a thermal zone."""

    zone: str
    kind: str  # "passive", "hot", "critical", "active"
    temp_c: float


@dataclass(frozen=True)
class Provision:
    """What does not change while the board runs: read once, when a board is brought in; later limits refer to it."""

    zones: tuple[str, ...]
    trips: tuple[Trip, ...]
    cooling: Mapping[str, int]  # type -> max_state
    rails: tuple[str, ...]
    limits_ma: Mapping[str, int]  # "<rail>_crit", "<rail>_max" -> mA
    over_current_throttles: Mapping[str, bool]  # "oc1" -> whether it slows the module down

    def critical_c(self, zone: str = "tj") -> float:
        """Return where the kernel shuts the board down, degrees C. DeviceError when the zone has no such trip point."""
        limits_c = [trip.temp_c for trip in self.trips if trip.zone == zone and trip.kind == "critical"]
        if not limits_c:
            raise DeviceError(f"thermal zone {zone} has no critical trip point; zones: {', '.join(self.zones)}")
        return min(limits_c)

    def passive_c(self, zone: str = "tj") -> tuple[float, ...]:
        """Return passive trip points, rising, degrees C. On an Orin the first only warns of a hot surface."""
        return tuple(sorted(t.temp_c for t in self.trips if t.zone == zone and t.kind == "passive"))


@dataclass(frozen=True)
class Reading:
    """One look at a board. Absent is absent: nothing here stands for a sensor that did not answer."""

    boot_id: str
    gpu_load_percent: float | None
    gpu_mhz: float | None
    zones_c: Mapping[str, float]  # by lower-case name without "-thermal"
    gated: tuple[str, ...]  # zones that are there and gave no temperature: their rail is off
    rails_mw: Mapping[str, float]  # lower-case labels
    board_mw: float | None  # None when a rail that counts was not read
    alarms: tuple[str, ...]  # "vdd_in_crit"
    cooling: Mapping[str, int]  # cooling device -> state, the highest of its type
    over_current_counts: Mapping[str, int]  # "oc1" -> events since boot
    reset_reason: str  # of the last reset only
    reset_level: str
    ram_used_mb: float | None
    ram_total_mb: float | None

    @property
    def throttled_by(self) -> tuple[str, ...]:
        """Cooling devices that slow the module down now."""
        return tuple(sorted(n for n, state in self.cooling.items() if state > 0 and n not in NOT_THROTTLING))

    def over_current_since(self, earlier: Reading) -> dict[str, int]:
        """Return events since ``earlier``, ``{"oc1": count}``; since the boot where the board rebooted in between."""
        before = earlier.over_current_counts if self.boot_id == earlier.boot_id else {}
        return {name: max(0, count - before.get(name, 0)) for name, count in self.over_current_counts.items()}

    def sensors(self) -> dict[str, float]:
        """Return flat readings with the unit in the name, as ``Board.sensors``; only what was read."""
        states = [self.cooling[name] for name in self.throttled_by]
        return flat(self) | ({"throttle_state": float(max(states, default=0))} if self.cooling else {})


class SysfsSensors:
    """Reads a board's sensors; one command per reading."""

    def __init__(self, files: BoardFiles, sku: Sku, *, board: str = "board") -> None:
        self._files = files
        self._sku = sku
        self._board = board

    def provision(self) -> Provision:
        """Return what belongs on the board's record. DeviceError when it has no thermal zone with trip points."""
        texts = self._files.read_all(_PROVISION)
        zones = {directory: _zone(name) for directory, name in _types(texts, "thermal_zone")}
        trips = []
        for path, text in texts.items():
            if (match := re.search(r"(.*)/trip_point_(\d+)_temp$", path)) and match[1] in zones:
                kind, value = texts.get(f"{match[1]}/trip_point_{match[2]}_type"), _integer(text)
                if kind and value is not None:
                    trips.append(Trip(zones[match[1]], kind.strip(), value / 1000))
        if not trips:
            raise DeviceError(
                f"{self._board}: no thermal zone shows a trip point",
                remedy=f"is {THERMAL} mounted, and does its kernel have CONFIG_THERMAL?",
            )
        cooling: dict[str, int] = {}
        for directory, name in _types(texts, "cooling_device"):
            cooling[name] = max(cooling.get(name, 0), _integer(texts.get(f"{directory}/max_state")) or 0)
        labels = dict(_rails(texts))
        limits = {
            f"{rail}_{what}": value
            for (directory, n), rail in labels.items()
            for what in ("crit", "max")
            if (value := _integer(texts.get(f"{directory}/curr{n}_{what}"))) is not None
        }
        enabled = {m: text.strip() == "1" for m, text in _over_current(texts, "throt_en")}
        return Provision(
            zones=tuple(sorted(zones.values())),
            trips=tuple(sorted(trips, key=lambda trip: (trip.zone, trip.temp_c))),
            cooling=cooling,
            rails=tuple(sorted(labels.values())),
            limits_ma=limits,
            over_current_throttles=enabled,
        )

    def read(self) -> Reading:
        """Look now. DeviceError when the board shows neither a boot id nor a single sensor."""
        texts = self._files.read_all(_READ)
        boot_id = (texts.get(BOOT_ID) or "").strip()
        zones, gated = _temperatures(texts)
        if not boot_id or not (zones or gated):
            raise DeviceError(
                f"{self._board}: sysfs shows no {'thermal zone' if boot_id else 'boot id'}",
                remedy="is this a Jetson with /sys and /proc mounted?",
            )
        rails, alarms = _power(texts)
        load = _integer(_first(texts, GPU_LOADS))
        clock = _integer(_first(texts, GPU_CLOCKS))
        cooling: dict[str, int] = {}
        for directory, name in _types(texts, "cooling_device"):
            if (state := _integer(texts.get(f"{directory}/cur_state"))) is not None:
                cooling[name] = max(cooling.get(name, 0), state)
        counts = {
            name: value for name, text in _over_current(texts, "event_cnt") if (value := _integer(text)) is not None
        }
        total, used = _memory_mb(texts.get(MEMORY) or "")
        return Reading(
            boot_id=boot_id,
            gpu_load_percent=load / 10 if load is not None and 0 <= load <= 1000 else None,
            gpu_mhz=clock / 1e6 if clock is not None else None,
            zones_c=zones,
            gated=gated,
            rails_mw=rails,
            board_mw=self._sku.board_mw(rails),
            alarms=alarms,
            cooling=cooling,
            over_current_counts=counts,
            reset_reason=(_first(texts, [f"{d}/reset_reason" for d in RESET_DIRS]) or "").strip(),
            reset_level=(_first(texts, [f"{d}/reset_level" for d in RESET_DIRS]) or "").strip(),
            ram_used_mb=used,
            ram_total_mb=total,
        )


def _integer(text: str | None) -> int | None:
    """Return a number; None for what is none of a plausible length."""
    return int(text) if text and re.fullmatch(r"-?[0-9]{1,18}", text := text.strip()) else None


def _first(texts: Texts, paths: tuple[str, ...] | list[str]) -> str | None:
    return next((text for path in paths if (text := texts.get(path))), None)


def _zone(kind: str) -> str:
    """Return the short name: ``CPU-therm`` (JetPack 5) and ``cpu-thermal`` (6, 7) are ``cpu``."""
    return re.sub(r"[-_]therm(al)?$", "", kind.strip().lower()).replace("-", "_")


def _types(texts: Texts, what: str) -> Iterator[tuple[str, str]]:
    """Return (directory, type) of every thermal zone or cooling device."""
    for path, text in texts.items():
        directory, _, name = path.rpartition("/")
        if name == "type" and text and directory.rpartition("/")[2].startswith(what):
            yield directory, text.strip()


def _temperatures(texts: Texts) -> tuple[dict[str, float], tuple[str, ...]]:
    zones: dict[str, float] = {}
    gated = []
    for directory, kind in _types(texts, "thermal_zone"):
        value = _integer(texts.get(f"{directory}/temp"))
        if value is None or value <= GATED_MC:
            gated.append(_zone(kind))
        else:
            zones[_zone(kind)] = value / 1000
    return zones, tuple(sorted(gated))


def _rails(texts: Texts) -> Iterator[tuple[tuple[str, int], str]]:
    """Return ((hwmon directory, channel), rail) of every channel that is connected."""
    for path, text in texts.items():
        match = re.search(r"(.*)/in([123])_label$", path)
        if match and text and text.strip().upper() != "NC":
            yield (match[1], int(match[2])), text.strip().lower()


def _power(texts: Texts) -> tuple[dict[str, float], tuple[str, ...]]:
    """Return milliwatts by rail (mV times mA), and the alarms that are up."""
    rails: dict[str, float] = {}
    alarms = []
    for (directory, n), rail in _rails(texts):
        millivolt, milliampere = (_integer(texts.get(f"{directory}/{q}{n}_input")) for q in ("in", "curr"))
        if millivolt is not None and milliampere is not None:
            rails[rail] = millivolt * milliampere / 1000
        alarms += [
            f"{rail}_{what}"
            for what in ("crit", "max")
            if _integer(texts.get(f"{directory}/curr{n}_{what}_alarm")) == 1
        ]
    return rails, tuple(sorted(alarms))


def _over_current(texts: Texts, what: str) -> Iterator[tuple[str, str]]:
    """Return ("oc1", content) of every file ``oc1_<what>``; hwmon ``soctherm_oc`` is the only one that has them."""
    for path, text in texts.items():
        if text and (match := re.search(rf"/(oc[0-9])_{what}$", path)):
            yield match[1], text


def _memory_mb(meminfo: str) -> tuple[float | None, float | None]:
    """Return (total, used) in MiB, as ``free`` counts: used is what is not available."""
    kib = {m[1]: int(m[2]) for m in re.finditer(r"^(\w+):\s+([0-9]{1,15}) kB$", meminfo, re.MULTILINE)}
    if "MemTotal" not in kib or "MemAvailable" not in kib:
        return None, None
    return kib["MemTotal"] / 1024, (kib["MemTotal"] - kib["MemAvailable"]) / 1024
