"""A supervisor from its section of the lab file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hil.boards.power.kinds import OutletKind, Surroundings
from hil.boards.power.supervisor import PoweredSupervisor, ShutDown
from hil.boards.power.switch import ConfirmedSwitch, Outlet
from hil.core import kinds, netns
from hil.core.command import Runner, run
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.evidence.sink import Sink
from hil.lab.power import OutletSpec, SupervisorSpec


def supervisor_of(
    board: str,
    spec: SupervisorSpec,
    *,
    namespace: str = netns.HOST,
    shut_down: ShutDown | None = None,
    shutdown_s: float = 10.0,
    before_restart: Callable[[], None] | None = None,
    sink: Sink | None = None,
    clock: Clock = SYSTEM_CLOCK,
    runner: Runner = run,
) -> PoweredSupervisor:
    """Return the supervisor of ``board``; touches nothing yet.

    ``namespace`` is where strips with an address are reached from.  ConfigurationError when a password cannot be read.
    """
    here = Surroundings(namespace, runner, clock)
    recovery = spec.recovery_pin and kind_of(spec.recovery_pin).recovery
    reset = spec.reset_pin and kind_of(spec.reset_pin).reset
    return PoweredSupervisor(
        board,
        ConfirmedSwitch(outlet_of(spec.power, here), deadline_s=spec.confirm_within_s, sink=sink, clock=clock),
        recovery=recovery(spec.recovery_pin, here) if recovery else None,
        reset=reset(spec.reset_pin, here) if reset else None,
        min_off_s=spec.min_off_s,
        shut_down=shut_down,
        shutdown_s=shutdown_s,
        before_restart=before_restart,
        sink=sink,
        clock=clock,
    )


def kind_of(spec: OutletSpec) -> OutletKind[Any]:
    """Return the installed kind that a section of the lab file names."""
    kind: OutletKind[Any] = kinds.load(kinds.OUTLETS, spec.kind)
    return kind


def outlet_of(spec: OutletSpec, here: Surroundings | None = None) -> Outlet:
    """Return the driver of one outlet. ConfigurationError when a password cannot be read."""
    factory = kind_of(spec).outlet
    assert factory is not None  # the lab file takes no kind here that has none
    return factory(spec, here or Surroundings())
