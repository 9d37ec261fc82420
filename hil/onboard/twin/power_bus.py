"""The power of a spacecraft: solar panel, bus budget, battery through eclipse, and what is switched off for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SOLAR_W_M2 = 1361.0
"""Solar constant (IAU 2015 B3)."""


@dataclass(frozen=True)
class BusParameters:
    """Of one spacecraft; where each figure comes from stands in the lab file."""

    panel_m2: float = 1.2
    panel_efficiency: float = 0.28
    battery_wh: float = 230.0
    charge_efficiency: float = 0.95
    converter_efficiency: float = 0.9
    """From the bus to the boards."""
    platform_w: float = 25.0
    """What the rest of the spacecraft draws."""
    budget_w: float = 250.0
    """What the bus gives to the boards at most."""
    shed_below: float = 0.3
    """Charge of the battery (0 to 1) below which boards are switched off, one by one."""
    restore_above: float = 0.5
    shed_order: tuple[str, ...] = ()
    """Boards in the order in which they are switched off; those left out come after them, the last one first."""


@dataclass
class Battery:
    """The battery's state; energies in Wh."""

    charge_wh: float
    lowest_wh: float
    drawn_wh: float = 0.0
    """All that the spacecraft drew since the start, from the panel or the battery."""
    made_wh: float = 0.0
    """All that the panel could have given."""


def panel_w(bus: BusParameters, sunlit: float) -> float:
    """Return what the panel gives when it sees this share of the Sun, W; it points at the Sun (assumed)."""
    return bus.panel_m2 * bus.panel_efficiency * SOLAR_W_M2 * sunlit


def drawn_w(bus: BusParameters, boards_w: float) -> float:
    """Return what panel and battery have to give, W."""
    return bus.platform_w + boards_w / bus.converter_efficiency


def charge(bus: BusParameters, battery: Battery, boards_w: float, sunlit: float, seconds: float) -> float:
    """Carry the battery on; return its charge, 0 to 1."""
    made, drawn = panel_w(bus, sunlit), drawn_w(bus, boards_w)
    surplus = made - drawn
    if surplus > 0:
        surplus *= bus.charge_efficiency
    battery.charge_wh = min(bus.battery_wh, max(0.0, battery.charge_wh + surplus * seconds / 3600))
    battery.lowest_wh = min(battery.lowest_wh, battery.charge_wh)
    battery.drawn_wh += drawn * seconds / 3600
    battery.made_wh += made * seconds / 3600
    return battery.charge_wh / bus.battery_wh


def shed_first(bus: BusParameters, boards: Sequence[str]) -> list[str]:
    """Return the boards in the order in which they are switched off."""
    named = [name for name in bus.shed_order if name in boards]
    return [*named, *(name for name in reversed(boards) if name not in named)]


def to_shed(bus: BusParameters, power_w: Mapping[str, float], level: float) -> list[str]:
    """Return what must go off now: enough for the budget, and one more board while the battery is too low.

    ``power_w``: of the boards that are on, in their order in the lab file; ``level``: charge, 0 to 1.
    """
    order = shed_first(bus, list(power_w))
    total = sum(power_w.values())
    chosen: list[str] = []
    while total > bus.budget_w and len(chosen) < len(order):
        chosen.append(order[len(chosen)])
        total -= power_w[chosen[-1]]
    if not chosen and order and level < bus.shed_below:
        chosen.append(order[0])
    return chosen


def to_restore(bus: BusParameters, shed: Sequence[str], power_w: float, needs_w: float, level: float) -> str:
    """Return the board that may come back now: the one that went last; empty when none may.

    ``needs_w``: what it may draw, which must fit into the budget.
    """
    if not shed or level <= bus.restore_above or power_w + needs_w > bus.budget_w:
        return ""
    return shed[-1]
