"""Throttling, trips, shedding and the battery of one spacecraft."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hil.onboard.twin.modules import AGX, MODULES, NANO, NX, THROTTLE_C, Module, clock_of, next_state
from hil.onboard.twin.power_bus import BusParameters, shed_first, to_shed
from hil.onboard.twin.spacecraft import Demand, HeatParameters, Orders, Sky, Spacecraft

BUSY = {name: Demand(busy=1.0) for name in ("a1", "a2", "a3")}
BOARDS = dict.fromkeys(BUSY, NX)


def flown(craft: Spacecraft, seconds: int, demands: dict[str, Demand] = BUSY, sky: Sky | None = None) -> list[Orders]:
    """Carry on in steps of a second as the runner does: what was ordered off is off from the next step on."""
    demands, orders = dict(demands), []
    for _ in range(seconds):
        given = craft.advance(demands, sky or Sky(), 1.0)
        for name in (*given.trip, *given.shed):
            demands[name] = Demand(on=False)
        for name in given.restore:
            demands[name] = Demand(busy=1.0)
        if given != Orders():
            orders.append(given)
    return orders


@pytest.mark.parametrize(("mhz", "watt"), [(408, 16.9), (1063, 27.6), (1173, 29.4)])
def test_an_orin_nx_draws_what_was_measured(mhz: float, watt: float) -> None:
    assert NX.power_w(1.0, mhz / NX.top_mhz) == pytest.approx(watt, rel=0.05)
    assert NX.power_w(0.0, 1.0) == 4.6


@pytest.mark.parametrize("module", [NX, NANO, AGX])
def test_more_clock_is_more_power_and_the_rails_add_up(module: Module) -> None:
    powers = [module.power_w(1.0, k / 50) for k in range(51)]
    assert powers == sorted(powers)
    rails = module.rails_mw(module.most_w)
    total = rails[0] if module is not AGX else sum(rails)
    assert total == pytest.approx(1000 * module.most_w, abs=30)


def test_a_radiator_that_is_large_enough_never_throttles() -> None:
    craft = Spacecraft.of(HeatParameters(), BusParameters(), BOARDS)
    assert flown(craft, 12_000) == []
    assert all(board.throttled_s == 0 and board.peak_c < THROTTLE_C for board in craft.boards.values())
    assert {board.binding for board in craft.boards.values()} == {"compute"}


def test_a_small_radiator_throttles_and_what_is_left_of_the_clock_holds_the_trip_point() -> None:
    craft = Spacecraft.of(HeatParameters(radiator_m2=0.06), BusParameters(), BOARDS)
    assert flown(craft, 12_000) == []
    for name, board in craft.boards.items():
        assert board.throttled_s > 600
        assert board.clock < 1.0
        assert board.binding == "heat"
        assert craft.junction_c(name) == pytest.approx(THROTTLE_C, abs=4)


def test_without_any_way_for_the_heat_boards_trip_and_stay_off() -> None:
    craft = Spacecraft.of(HeatParameters(radiator_m2=0.005, start_c=80.0), BusParameters(), BOARDS)
    orders = flown(craft, 8_000)
    assert {name for order in orders for name in order.trip} == set(BOARDS)
    assert all(board.tripped and board.power_w == 0 for board in craft.boards.values())


def test_the_governor_steps_as_the_kernels_does() -> None:
    assert [next_state(3, c) for c in (99.0, 98.0, 96.9)] == [4, 3, 2]
    assert next_state(10, 120.0) == 10
    assert next_state(0, 20.0) == 0
    assert clock_of(0) == 1.0
    assert clock_of(10) == 0.25


def test_a_bus_over_its_budget_sheds_in_the_configured_order_and_no_more_than_it_must() -> None:
    bus = BusParameters(budget_w=70.0, shed_order=("a2",))
    craft = Spacecraft.of(HeatParameters(), bus, BOARDS)
    orders = flown(craft, 600)
    assert [order.shed for order in orders] == [("a2",)]  # two boards at 29.4 W fit into 70 W, three do not
    assert craft.boards["a2"].binding == "power"
    assert shed_first(bus, [*BOARDS]) == ["a2", "a3", "a1"]


def test_a_battery_that_runs_low_sheds_and_a_charged_one_restores() -> None:
    bus = BusParameters(battery_wh=20.0)
    craft = Spacecraft.of(HeatParameters(), bus, BOARDS)
    night = flown(craft, 900, sky=Sky(sunlit=0.0))
    assert next(order.shed for order in night) == ("a3",)
    demands = {name: replace(BUSY[name], on=board.on and not board.shed) for name, board in craft.boards.items()}
    day = flown(craft, 1800, demands)
    restored = [name for order in day for name in order.restore]
    assert restored == ["a1", "a2", "a3"][-len(restored) :]
    assert restored
    assert craft.battery.lowest_wh < 0.3 * bus.battery_wh


def test_a_cap_of_the_os_lowers_power_and_counts_as_power() -> None:
    craft = Spacecraft.of(HeatParameters(), BusParameters(), {"a1": NX})
    craft.advance({"a1": Demand(busy=1.0, cap=408 / 1173)}, Sky(), 1.0)
    assert craft.boards["a1"].power_w == pytest.approx(16.9)
    assert craft.boards["a1"].binding == "power"


def test_what_is_off_is_not_shed() -> None:
    assert to_shed(BusParameters(), {}, 0.0) == []
    assert len(MODULES) == 12
