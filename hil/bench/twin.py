"""The twin of a bench: one thread of the keeper that carries heat and power on and makes boards feel it.

Once a second it looks at what every board did, computes the spacecraft, writes the sensors, slows boards down, and
switches off those that reached the shutdown trip or that the bus can no longer feed.  It says what it does in the
bench's journal before it does it.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from hil.bench.state import disk_dir
from hil.bench.twin_boards import ContainerTwin, RealTwin, TwinBoard
from hil.bench.twin_journal import Journal
from hil.boards.linux_board import LinuxBoard
from hil.errors import HilError
from hil.evidence.events import RestartOrdered
from hil.evidence.twin import BoardHeat, TwinChange, TwinSample, TwinStarted
from hil.lab.model import Lab
from hil.onboard.twin.jetson_files import DIRECTORY, Shown
from hil.onboard.twin.modules import MODULES, SHUTDOWN_C, THROTTLE_C, clock_of
from hil.onboard.twin.power_bus import drawn_w, panel_w
from hil.onboard.twin.spacecraft import BoardState, Demand, Orders, Sky, Spacecraft
from hil.twin.parameters import CraftSky, sky_of, spacecraft_of, twin_of

if TYPE_CHECKING:
    from hil.boards.protocol import Board

_log = logging.getLogger(__name__)

TICK_S = 1.0
SAMPLE_S = 5.0
"""How often a sample goes into the journal."""
STEPS_PER_TICK = 10
"""At most; with a time factor above it the governor's seconds are taken several at once."""
LATE_S = 5.0
"""A tick that comes later than this is a bench that stood still: the mission does not catch up with it."""
OFF_S = 3.0
"""A board that is shed has so long to shut down by itself."""
CORES_SHARE = 0.9
LONGEST_SKY_S = 10 * 86_400.0


def board_cores(lab: Lab) -> float:
    """Return the cores of this host that a container board gets at full clock."""
    spec, boards = twin_of(lab), sum(board.contained for board in lab.boards)
    return spec.board_cores or min(1.0, CORES_SHARE * (os.cpu_count() or 1) / max(1, boards))


@dataclass
class _Last:
    """What was said of a board last, so that a change is said once."""

    throttled: bool = False
    cap: float = 1.0
    over_current: int = 0


class TwinRunner:
    """Runs until :meth:`close`; ``on_problem`` is told what it could not do."""

    def __init__(
        self,
        lab: Lab,
        journal: Journal,
        twins: Mapping[str, TwinBoard],
        boards: Mapping[str, Board],
        on_problem: Callable[[str], None],
        *,
        epoch: str | None = None,
        cores: float = 0.0,
    ) -> None:
        self._lab, self._journal, self._twins, self._boards = lab, journal, twins, boards
        self._on_problem = on_problem
        self._spec = twin_of(lab)
        self.crafts: dict[str, Spacecraft] = spacecraft_of(lab)
        span_s = min(LONGEST_SKY_S, 43_200 * max(1.0, self._spec.time_factor))
        self._sky: CraftSky = sky_of(lab, span_s=span_s, epoch=epoch)
        self._last = {name: _Last() for name in twins}
        self._stop = threading.Event()
        self._orders = ThreadPoolExecutor(2, thread_name_prefix="twin-order")
        self._thread = threading.Thread(target=self._run, name="twin", daemon=True)
        self._mission_s, self._sampled_s = 0.0, -SAMPLE_S
        journal.emit(
            TwinStarted(self._spec.time_factor, cores, self._spec.assumed, THROTTLE_C, SHUTDOWN_C, self._sky.period_s())
        )

    @classmethod
    def of(
        cls,
        bench: str,
        lab: Lab,
        boards: Mapping[str, Board],
        firmware_pid: Callable[[str], int | None],
        on_problem: Callable[[str], None],
        epoch: str | None = None,
    ) -> TwinRunner:
        """Return the twin of a bench whose boards have booted; ``firmware_pid`` says the PID of a board that is on."""
        cores = board_cores(lab)
        twins: dict[str, TwinBoard] = {}
        for spec in lab.boards:
            if spec.contained:
                files = disk_dir(bench) / spec.name / DIRECTORY
                pid = partial(firmware_pid, spec.name)
                owner = lab.tenant_of(spec.name)
                most = min(cores, (owner.quotas.cpu_cores if owner else None) or cores)
                twins[spec.name] = ContainerTwin(MODULES[spec.module], files, most, pid)
            elif isinstance(board := boards[spec.name], LinuxBoard):
                twins[spec.name] = RealTwin(board, MODULES[spec.module])
        return cls(lab, Journal(bench), twins, boards, on_problem, epoch=epoch, cores=cores)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait for what was ordered."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()
        self._orders.shutdown()
        for twin in self._twins.values():
            twin.close()

    def _run(self) -> None:
        last_s = time.monotonic()
        while not self._stop.wait(TICK_S):
            now_s = time.monotonic()
            self.tick(min(LATE_S, now_s - last_s))
            last_s = now_s

    def tick(self, seconds: float) -> None:
        """Carry everything on by so many seconds of the bench."""
        demands = {name: twin.look(seconds) for name, twin in self._twins.items()}
        span_s = seconds * self._spec.time_factor
        steps = max(1, min(STEPS_PER_TICK, round(span_s)))
        for number in range(steps):
            at_s = self._mission_s + (number + 0.5) * span_s / steps
            for name, craft in self.crafts.items():
                orders = craft.advance(demands, self._sky_at(name, at_s), span_s / steps)
                self._carry_out(craft, orders)
        self._mission_s += span_s
        for craft in self.crafts.values():
            self._show(craft, demands)
        samples = [self._sample(name) for name in self.crafts]
        self._journal.show(samples)
        if self._mission_s / self._spec.time_factor - self._sampled_s >= SAMPLE_S:
            self._sampled_s = self._mission_s / self._spec.time_factor
            for sample in samples:
                self._journal.emit(sample)

    def _sky_at(self, craft: str, second: float) -> Sky:
        light, period_s = self._sky.sunlight, self._sky.period_s()
        if second > (end_s := float(light.seconds[-1])):  # past what was computed the last turn repeats
            second = end_s - period_s + (second - end_s) % period_s
        row = self._sky.rows[craft]
        at = int(min(len(light.seconds) - 1, second / (light.seconds[1] - light.seconds[0])))
        return Sky(float(light.sunlit[row, at]), float(light.lit_earth[row, at]))

    def _carry_out(self, craft: Spacecraft, orders: Orders) -> None:
        for name in orders.trip:
            celsius = craft.junction_c(name)
            why = f"the junction reached {celsius:.1f} C, the shutdown trip is {SHUTDOWN_C:g} C"
            self._order(name, "tripped", why, celsius, lambda board: board.supervisor.cut())
        for name in orders.shed:
            why = f"the bus gives {craft.bus.budget_w:g} W, the battery holds {craft.level:.0%}"
            self._order(name, "shed", why, craft.junction_c(name), lambda board: board.supervisor.off(deadline_s=OFF_S))
        for name in orders.restore:
            why = f"the battery holds {craft.level:.0%}"
            self._order(name, "restored", why, craft.junction_c(name), lambda board: board.supervisor.on())

    def _order(self, name: str, what: str, why: str, celsius: float, act: Callable[[Board], None]) -> None:
        if isinstance(self._twins[name], RealTwin):
            return  # its own firmware and bus decide; the twin only predicts
        _log.info("twin: board %s %s: %s", name, what, why)
        self._journal.emit(RestartOrdered(name, f"{what}: {why}"))
        self._journal.emit(TwinChange(name, what, why, round(celsius, 2)))

        def switch() -> None:
            try:
                act(self._boards[name])
            except HilError as exc:
                self._on_problem(f"the twin could not switch board {name}, which is {what}: {exc.message}")

        self._orders.submit(switch)

    def _show(self, craft: Spacecraft, demands: Mapping[str, Demand]) -> None:
        """Write the sensors of a spacecraft's boards, slow them down, and say what has changed."""
        boards_c = craft.boards_c()
        for name, junction in craft.junctions_c().items():
            board, last = craft.boards[name], self._last[name]
            clock = min(demands[name].cap, clock_of(board.state))
            alarm = any(
                mw * 1000 / mv > board.module.limit_ma
                for mw, mv in zip(board.module.rails_mw(board.power_w), board.module.rails_mv, strict=True)
            )
            last.over_current = last.over_current + int(alarm) if board.on else 0
            shown = Shown(junction, boards_c[name], board.power_w, board.busy, clock, board.state, last.over_current)
            self._twins[name].act(shown)
            throttled = board.state > 0
            if measured := self._twins[name].measured:
                throttled, clock, junction = measured.binding == "heat", measured.clock, measured.junction_c
            if throttled != last.throttled:
                what = "throttled" if throttled else "full speed"
                self._journal.emit(TwinChange(name, what, f"clock {clock:.0%}", round(junction, 2)))
            if abs(board.cap - last.cap) > 0.005 and board.on:
                self._journal.emit(TwinChange(name, "capped", f"clock {board.cap:.0%} by its OS", round(junction, 2)))
                last.cap = board.cap
            last.throttled = throttled

    def _heat(self, name: str, state: BoardState, junction_c: float) -> BoardHeat:
        if measured := self._twins[name].measured:
            return replace(measured, predicted_c=round(junction_c, 2))
        return BoardHeat(
            junction_c=round(junction_c, 2),
            power_w=round(state.power_w, 2),
            busy=round(state.busy, 3),
            clock=round(state.clock, 3),
            binding=state.binding,
            on=state.on,
            peak_c=round(state.peak_c, 2),
            throttled_s=round(state.throttled_s, 1),
            energy_wh=round(state.energy_j / 3600, 3),
        )

    def _sample(self, name: str) -> TwinSample:
        craft = self.crafts[name]
        junctions = craft.junctions_c()
        boards = {board: self._heat(board, state, junctions[board]) for board, state in craft.boards.items()}
        return TwinSample(
            spacecraft=name,
            mission_s=round(self._mission_s, 1),
            sunlit=round(craft.sky.sunlit, 3),
            radiator_c=round(craft.radiator_c, 2),
            charge=round(craft.level, 4),
            lowest_charge=round(craft.battery.lowest_wh / craft.bus.battery_wh, 4),
            panel_w=round(panel_w(craft.bus, craft.sky.sunlit), 1),
            drawn_w=round(drawn_w(craft.bus, craft.boards_w), 1),
            boards=boards,
        )
