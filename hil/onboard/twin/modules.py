"""The Orin modules: what each draws at which clock, how its rails share it, where it slows down and shuts down.

Only the Orin NX 16 GB has a published table of sustained power (ARK-Electronics/ark_jetson_kernel, docs/power.md,
2026-08: VDD_IN with all processors and the GPU busy): 4.6 W idle, 16.9 W with the GPU at 408 MHz, 29.4 W at
1,173 MHz; mode "40W" drew 27.6 W, which lies on that line at 1,063 MHz (assumed).  For the others the top is the
module's maximum (data sheet) and the modes draw what they are named after (assumed); idle is that of real tegrastats
lines.  Trip points are those read on a real Orin with JetPack 6.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

THROTTLE_C = 99.0
SHUTDOWN_C = 104.5
HOT_SURFACE_C = 70.0
HYSTERESIS_C = 2.0
"""A cooling state is taken back this far below the trip point (assumed)."""
THROTTLE_STATES = 10
LEAST_CLOCK = 0.25
"""Share of the clock that is left in the deepest cooling state (assumed)."""


@dataclass(frozen=True)
class Module:
    """Power over clock: (GPU clock in MHz, W when fully busy), rising; between the points it is linear."""

    idle_w: float
    busy_w: tuple[tuple[float, float], ...]
    rails: tuple[str, str, str]
    """Labels of the INA3221's channels."""
    rails_idle_mw: tuple[int, int, int]
    rails_dynamic: tuple[float, float, float]
    """Shares of what is drawn beyond idle; NX and Nano: the first rail is the whole board, so 1."""
    rails_mv: tuple[int, int, int]
    cpu_mhz: int
    cores: int
    ram_mb: int
    limit_ma: int = 7784
    """``curr1_crit``: what the hardware guards, as read on an Orin NX."""

    @property
    def top_mhz(self) -> float:
        return self.busy_w[-1][0]

    @property
    def most_w(self) -> float:
        return self.busy_w[-1][1]

    def power_w(self, busy: float, clock: float) -> float:
        """Return what it draws when busy for a share of the time at a share of its highest clock, W."""
        return self.idle_w + min(1.0, max(0.0, busy)) * self.dynamic_w(clock * self.top_mhz)

    def dynamic_w(self, mhz: float) -> float:
        """Return what a busy module draws beyond idle at a clock, W; below the first point in proportion."""
        (low, watt), *more = ((at, w - self.idle_w) for at, w in self.busy_w)
        if mhz <= low:
            return watt * max(0.0, mhz) / low
        for high, top in more:
            if mhz <= high:
                return watt + (top - watt) * (mhz - low) / (high - low)
            low, watt = high, top
        return watt

    def rails_mw(self, power_w: float) -> tuple[int, int, int]:
        """Return the power of each rail, mW."""
        beyond = (power_w - self.idle_w) * 1000
        first, second, third = (
            max(0, round(idle + share * beyond))
            for idle, share in zip(self.rails_idle_mw, self.rails_dynamic, strict=True)
        )
        return first, second, third


_NANO_RAILS = ("VDD_IN", "VDD_CPU_GPU_CV", "VDD_SOC")
_AGX_RAILS = ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")
NX = Module(
    idle_w=4.6,
    busy_w=((408.0, 16.9), (1063.0, 27.6), (1173.0, 29.4)),
    rails=_NANO_RAILS,
    rails_idle_mw=(4600, 520, 1475),
    rails_dynamic=(1.0, 0.64, 0.19),
    rails_mv=(5000, 5000, 5000),
    cpu_mhz=1984,
    cores=8,
    ram_mb=15598,
)
NANO = Module(
    idle_w=4.8,
    busy_w=((408.0, 7.0), (625.0, 15.0), (1020.0, 25.0)),
    rails=_NANO_RAILS,
    rails_idle_mw=(4824, 518, 1475),
    rails_dynamic=(1.0, 0.64, 0.19),
    rails_mv=(5000, 5000, 5000),
    cpu_mhz=1728,
    cores=6,
    ram_mb=7620,
)
AGX = Module(
    idle_w=4.52,
    busy_w=((420.0, 15.0), (624.0, 30.0), (828.0, 50.0), (1300.5, 60.0)),
    rails=_AGX_RAILS,
    rails_idle_mw=(1995, 0, 2525),
    rails_dynamic=(0.69, 0.2, 0.11),
    rails_mv=(20000, 20000, 5000),
    cpu_mhz=2201,
    cores=12,
    ram_mb=62817,
)
MODULES: Mapping[str, Module] = {
    **{f"p3701-000{n}": AGX for n in (0, 1, 2, 4, 5, 8)},
    **{f"p3767-000{n}": NX for n in (0, 1, 2)},
    **{f"p3767-000{n}": NANO for n in (3, 4, 5)},
}
"""By part number."""


def next_state(state: int, junction_c: float) -> int:
    """Return the cooling state one second later, as the kernel's ``step_wise`` governor steps it at the passive trip.

    0 is full speed, ``THROTTLE_STATES`` the slowest.
    """
    if junction_c >= THROTTLE_C:
        return min(THROTTLE_STATES, state + 1)
    return max(0, state - 1) if junction_c < THROTTLE_C - HYSTERESIS_C else state


def clock_of(state: int) -> float:
    """Return the share of the highest clock that a cooling state leaves."""
    return 1.0 - (1.0 - LEAST_CLOCK) * state / THROTTLE_STATES
