"""A supervisor from its section of the lab file."""

from __future__ import annotations

from hil.boards.power.command import CommandOutlet, Commands
from hil.boards.power.config import resolve_secret
from hil.boards.power.http import Credentials, HttpStrip
from hil.boards.power.micro import Microcontroller, MicroOutlet, MicroRecovery, MicroReset
from hil.boards.power.pins import GpioLine, GpioPin
from hil.boards.power.shelly import ShellyGen1, ShellyGen2
from hil.boards.power.snmp import MODELS, OutletObjects, SnmpLogin, SnmpOutlet
from hil.boards.power.supervisor import PoweredSupervisor, ShutDown
from hil.boards.power.switch import ConfirmedSwitch, Outlet
from hil.boards.power.tasmota import Tasmota
from hil.boards.power.uhubctl import HubPort
from hil.core import netns
from hil.core.command import Runner, run
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.evidence.sink import Sink
from hil.lab.power import (
    CommandSpec,
    GpioSpec,
    MicrocontrollerSpec,
    ShellyGen1Spec,
    ShellyGen2Spec,
    SnmpSpec,
    SupervisorSpec,
    TasmotaSpec,
    UhubctlSpec,
    split_address,
)

_HttpSpec = ShellyGen1Spec | ShellyGen2Spec | TasmotaSpec
_OutletSpec = _HttpSpec | SnmpSpec | UhubctlSpec | CommandSpec | MicrocontrollerSpec


def supervisor_of(
    board: str,
    spec: SupervisorSpec,
    *,
    namespace: str = netns.HOST,
    shut_down: ShutDown | None = None,
    sink: Sink | None = None,
    clock: Clock = SYSTEM_CLOCK,
    runner: Runner = run,
) -> PoweredSupervisor:
    """The supervisor of ``board``; touches nothing yet.

    ``namespace`` is where strips with an address are reached from.  ConfigurationError when a password cannot be read.
    """
    micros: dict[str, Microcontroller] = {}

    def micro(part: MicrocontrollerSpec) -> Microcontroller:
        # One object per port: its lock keeps power and pins from talking at once.
        if part.port not in micros:
            micros[part.port] = Microcontroller(part.port, baud=part.baud, timeout_s=part.request_timeout_s)
        return micros[part.port]

    def pin(part: GpioSpec) -> GpioPin:
        line = GpioLine(part.chip, part.line, part.active == "low", part.drive)
        return GpioPin(line, runner=runner, clock=clock)

    power, recovery, reset = spec.power, spec.recovery_pin, spec.reset_pin
    outlet: Outlet
    if isinstance(power, MicrocontrollerSpec):
        outlet = MicroOutlet(micro(power))
    else:
        outlet = outlet_of(power, namespace=namespace, runner=runner)
    return PoweredSupervisor(
        board,
        ConfirmedSwitch(outlet, deadline_s=spec.confirm_within_s, sink=sink, clock=clock),
        recovery=MicroRecovery(micro(recovery))
        if isinstance(recovery, MicrocontrollerSpec)
        else (pin(recovery) if recovery else None),
        reset=MicroReset(micro(reset))
        if isinstance(reset, MicrocontrollerSpec)
        else (pin(reset) if reset else None),
        min_off_s=spec.min_off_s,
        shut_down=shut_down,
        sink=sink,
        clock=clock,
    )


def outlet_of(spec: _OutletSpec, *, namespace: str = netns.HOST, runner: Runner = run) -> Outlet:
    """The driver of one outlet. ConfigurationError when a password cannot be read."""
    match spec:
        case ShellyGen1Spec():
            return ShellyGen1(_http("Shelly", spec, namespace), spec.outlet)
        case ShellyGen2Spec():
            return ShellyGen2(_http("Shelly", spec, namespace), spec.outlet)
        case TasmotaSpec():
            return Tasmota(_http("Tasmota", spec, namespace), spec.outlet)
        case SnmpSpec():
            return _snmp(spec, namespace)
        case UhubctlSpec():
            return HubPort(spec.hub, spec.outlet, timeout_s=spec.request_timeout_s, runner=runner)
        case CommandSpec():
            commands = Commands(spec.turn_on, spec.turn_off, spec.state, spec.state_on, spec.state_off)
            return CommandOutlet(commands, timeout_s=spec.request_timeout_s, runner=runner)
        case MicrocontrollerSpec():
            return MicroOutlet(Microcontroller(spec.port, baud=spec.baud, timeout_s=spec.request_timeout_s))


def _http(maker: str, spec: _HttpSpec, namespace: str) -> HttpStrip:
    credentials = None
    if spec.password is not None:
        secret = resolve_secret(spec.password)
        match spec:
            case ShellyGen1Spec():
                credentials = Credentials(spec.user, secret, "basic")
            case ShellyGen2Spec():
                credentials = Credentials("admin", secret, "digest")
            case TasmotaSpec():
                credentials = Credentials(spec.user, secret, "query")
    return HttpStrip(
        f"{maker} {spec.address}",
        split_address(spec.address, 80),
        namespace,
        timeout_s=spec.request_timeout_s,
        credentials=credentials,
    )


def _snmp(spec: SnmpSpec, namespace: str) -> SnmpOutlet:
    objects = (
        MODELS[spec.model]
        if spec.model
        else OutletObjects(**spec.objects.model_dump())
        if spec.objects
        else None
    )
    assert objects is not None  # the model's validator wants one of the two

    def secret(reference: str | None) -> str:
        return resolve_secret(reference) if reference else ""

    login = SnmpLogin(
        spec.version,
        community=secret(spec.community),
        user=spec.user,
        auth_key=secret(spec.auth_key),
        auth_protocol=spec.auth_protocol,
        privacy_key=secret(spec.privacy_key),
        privacy_protocol=spec.privacy_protocol,
    )
    return SnmpOutlet(
        split_address(spec.address, 161),
        spec.outlet,
        objects,
        login,
        namespace=namespace,
        timeout_s=spec.request_timeout_s,
    )
