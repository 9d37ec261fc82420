"""What ``tegrastats`` shows on a bench without a twin: heat and power of one module, as functions of numbers.

The node is one lump: ``C dT/dt = P - eps sigma A (T^4 - T_sink^4)`` with

- ``C`` heat capacity of module and radiator panel: 1 kg of aluminium, 896 J/(kg K);
- ``A = 0.05 m2`` of one-sided radiator with ``eps = 0.85``: together a time constant of about 42 min at 60 C
  (``m c / (4 eps sigma A T^3)``), and 594 W/m2 rejected at 60 C towards deep space;
- ``T_sink`` the effective sink temperature, 200 K for a radiator that also sees some Earth and sun (assumed);
- the die runs above the plate by ``R_die * P``.  0.25 K/W (assumed; the step seen between `tj` and the plate).

Power follows load linearly between idle and a busy AGX Orin in its 30 W mode.  Idle rails are those of a real idle
AGX (tegrastats sample JP6-AGX-user: 1 995 + 0 + 2 524 mW); the busy ones scale the loaded sample JP6-AGX-sudo.
Clocks are throttled from 99 C and the module shuts down at 104.5 C, as read on a real Orin (JetPack 6).
"""

from __future__ import annotations

from dataclasses import dataclass

STEFAN_BOLTZMANN = 5.670374419e-8  # W/(m2 K4), CODATA 2018
ZERO_C = 273.15
THROTTLE_C = 99.0


@dataclass(frozen=True)
class ThermalModel:
    """Parameters in SI units."""

    heat_capacity_j_per_k: float = 896.0
    radiator_m2: float = 0.05
    emissivity: float = 0.85
    sink_k: float = 200.0
    die_k_per_w: float = 0.25

    def radiated_w(self, plate_k: float) -> float:
        """Return net heat the radiator rejects, W (Stefan-Boltzmann)."""
        return self.emissivity * STEFAN_BOLTZMANN * self.radiator_m2 * (plate_k**4 - self.sink_k**4)

    def equilibrium_k(self, power_w: float) -> float:
        """Plate temperature at which ``power_w`` is radiated away, K."""
        return float((power_w / (self.emissivity * STEFAN_BOLTZMANN * self.radiator_m2) + self.sink_k**4) ** 0.25)

    def time_constant_s(self, plate_k: float) -> float:
        """``C / (4 eps sigma A T^3)``, s."""
        return self.heat_capacity_j_per_k / (4 * self.emissivity * STEFAN_BOLTZMANN * self.radiator_m2 * plate_k**3)

    def step(self, plate_k: float, power_w: float, seconds: float, *, max_step_s: float = 5.0) -> float:
        """Plate temperature after ``seconds`` at constant power, K.

        Explicit midpoint steps of at most ``max_step_s``; the error is far below a millikelvin because the time
        constant is minutes.  A gap of a year costs no more than one of a day: past 20 time constants the
        equilibrium is returned.
        """
        if seconds <= 0:
            return plate_k
        if seconds > 20 * self.time_constant_s(min(plate_k, self.equilibrium_k(power_w))):
            return self.equilibrium_k(power_w)
        count = max(1, int(seconds / max_step_s + 0.999999))
        dt = seconds / count
        for _ in range(count):
            half = plate_k + dt / 2 * (power_w - self.radiated_w(plate_k)) / self.heat_capacity_j_per_k
            plate_k += dt * (power_w - self.radiated_w(half)) / self.heat_capacity_j_per_k
        return plate_k


@dataclass(frozen=True)
class Rails:
    """Electrical power per rail of an AGX Orin, mW. It has no total rail: the sum of the three is the board."""

    vdd_gpu_soc_mw: int
    vdd_cpu_cv_mw: int
    vin_sys_5v0_mw: int

    @property
    def total_w(self) -> float:
        return (self.vdd_gpu_soc_mw + self.vdd_cpu_cv_mw + self.vin_sys_5v0_mw) / 1000


def rails(cpu_load: float, gpu_load: float) -> Rails:
    """Rail power for CPU and GPU load, each 0 to 1 (clamped)."""
    cpu = min(1.0, max(0.0, cpu_load))
    gpu = min(1.0, max(0.0, gpu_load))
    return Rails(
        vdd_gpu_soc_mw=round(1995 + 16000 * gpu + 1200 * cpu),
        vdd_cpu_cv_mw=round(7000 * cpu + 800 * gpu),
        vin_sys_5v0_mw=round(2524 + 2200 * max(cpu, gpu)),
    )


@dataclass(frozen=True)
class Readings:
    """Zone temperatures, C."""

    cpu_c: float
    gpu_c: float
    soc0_c: float
    soc1_c: float
    soc2_c: float
    tj_c: float


def zones(plate_k: float, power: Rails, model: ThermalModel) -> Readings:
    """Zone temperatures from the plate's; ``tj`` is the hottest zone, as on the module."""
    plate = plate_k - ZERO_C
    cpu = plate + model.die_k_per_w * (power.vdd_cpu_cv_mw / 1000 + 0.5 * power.vdd_gpu_soc_mw / 1000)
    gpu = plate + model.die_k_per_w * (power.vdd_gpu_soc_mw / 1000 + 0.3 * power.vdd_cpu_cv_mw / 1000)
    soc = plate + model.die_k_per_w * 0.4 * power.total_w
    return Readings(cpu, gpu, soc + 0.3, soc - 0.2, soc, max(cpu, gpu, soc + 0.3))
