"""What the GPU's own sensors say during a run: power, energy, temperature, clocks, utilisation (NVML)."""

from __future__ import annotations

import statistics
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

PERIOD_S = 0.2
REASONS = {
    0x4: "power cap (software)",
    0x8: "slow-down (hardware)",
    0x20: "thermal (software)",
    0x40: "thermal (hardware)",
    0x80: "power brake",
}
"""Bits of NVML's clocks event reasons that mean held back; idle and application clocks do not."""


@dataclass(frozen=True)
class Reading:
    """What was read while a block ran; utilisation is the share of time in which any kernel ran."""

    samples: int
    seconds: float
    energy_j: float | None  # the card's own energy counter; None where it has none
    power_w_mean: float
    power_w_max: float
    temperature_c_first: int
    temperature_c_max: int
    utilisation_pct_mean: float
    utilisation_pct_min: int
    sm_clock_mhz_mean: float
    sm_clock_mhz_min: int
    memory_mib: int
    held_back_by: tuple[str, ...]


@dataclass
class Sensors:
    """``with Sensors() as s: ...; s.reading()``; ``s.problem`` says why there is none."""

    problem: str = ""
    _rows: list[tuple[float, int, int, int]] = field(default_factory=list)
    _reasons: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Sensors:
        try:
            import pynvml

            pynvml.nvmlInit()
            self._nvml: Any = pynvml
            self._card = pynvml.nvmlDeviceGetHandleByIndex(0)
            self._read()
        except ImportError:
            self.problem = "power and temperature not measured: the package nvidia-ml-py is missing"
            return self
        except Exception as exc:  # NVMLError exists only where the package does
            self.problem = f"power and temperature not measured: {exc}"
            return self
        self._begin, self._energy_begin = time.monotonic(), self._energy_j()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.problem:
            return
        self._stop.set()
        self._thread.join(timeout=10)
        self._end, self._energy_end = time.monotonic(), self._energy_j()
        self._memory_mib = int(self._nvml.nvmlDeviceGetMemoryInfo(self._card).used) >> 20
        self._nvml.nvmlShutdown()

    def reading(self) -> Reading | None:
        """The summary, after the block; None when there was nothing to read."""
        if self.problem:
            return None
        power, temperature, utilisation, clock = zip(*self._rows, strict=True)
        energy = None
        if self._energy_begin is not None and self._energy_end is not None:
            energy = round(self._energy_end - self._energy_begin, 1)
        return Reading(
            samples=len(self._rows),
            seconds=round(self._end - self._begin, 3),
            energy_j=energy,
            power_w_mean=round(statistics.mean(power), 1),
            power_w_max=round(max(power), 1),
            temperature_c_first=temperature[0],
            temperature_c_max=max(temperature),
            utilisation_pct_mean=round(statistics.mean(utilisation[2:] or utilisation), 1),
            utilisation_pct_min=min(utilisation[10:-1] or utilisation),  # NVML averages over up to a second
            sm_clock_mhz_mean=round(statistics.mean(clock), 0),
            sm_clock_mhz_min=min(clock),
            memory_mib=self._memory_mib,
            held_back_by=tuple(name for bit, name in REASONS.items() if self._reasons & bit),
        )

    def _watch(self) -> None:
        while not self._stop.wait(PERIOD_S):
            self._read()

    def _read(self) -> None:
        nvml, card = self._nvml, self._card
        self._reasons |= int(nvml.nvmlDeviceGetCurrentClocksThrottleReasons(card))
        self._rows.append(
            (
                nvml.nvmlDeviceGetPowerUsage(card) / 1000,
                int(nvml.nvmlDeviceGetTemperature(card, nvml.NVML_TEMPERATURE_GPU)),
                int(nvml.nvmlDeviceGetUtilizationRates(card).gpu),
                int(nvml.nvmlDeviceGetClockInfo(card, nvml.NVML_CLOCK_SM)),
            )
        )

    def _energy_j(self) -> float | None:
        try:
            return float(self._nvml.nvmlDeviceGetTotalEnergyConsumption(self._card)) / 1000
        except self._nvml.NVMLError:
            return None
