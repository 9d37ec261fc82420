"""The driver ``jetson``: a real Orin, or with ``stand_in: container`` a container board behind the same equipment.

A stand-in's serial line, power strip and log-in are made by the bench, which fills in the rest of the section itself.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Literal, Self

from pydantic import Field, model_validator

from hil.boards.console.log_console import ConsoleLine
from hil.boards.console.serial_console import SerialConsole
from hil.boards.container.kind import container, install
from hil.boards.container.storage import DATA_SIZE_BYTES
from hil.boards.jetson.board import JetsonBoard, JetsonFacts
from hil.boards.jetson.identity import check_identity
from hil.boards.jetson.inspection import inspect
from hil.boards.kinds import BoardKind, Equipment, Rack, Site
from hil.boards.power.shelly import ShellyGen2Spec
from hil.boards.protocol import Fidelity, Shell, Via
from hil.boards.ssh.login import PORT, Target
from hil.errors import HilError
from hil.evidence.sink import NullSink
from hil.lab.model import BoardSpec
from hil.lab.power import SupervisorSpec
from hil.lab.real_board import BudgetSpec, RealBoard
from hil.lab.yamlfile import with_example

STAND_IN_BUDGETS = BudgetSpec(boot_s=60.0, shutdown_s=15.0, fall_back_s=90.0, answer_s=5.0)
STRIP_TIMEOUT_S = 30.0
"""The strip of stand-ins answers when the container has started, and a busy machine starts them slowly."""
_HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4R5vKfJ0iFIEXjzV0jW9sZsV0s8Zt8xj3W0kz2Xh1J"


class JetsonSpec(RealBoard):
    """One Jetson: three ways to it (``ssh``, ``console``, ``supervisor``, all required), or ``stand_in`` alone."""

    model_config = with_example(f"""\
ssh: {{address: 192.0.2.11, user: nvidia, agent: true, host_key: {_HOST_KEY}}}
console: {{url: "rfc2217://192.0.2.30:4001"}}
supervisor:
  power: {{kind: tasmota, address: 192.0.2.21, outlet: 2}}
flight: {{nic: enp3s0.101}}
recovery: {{usb_path: 1-4.2}}
budgets: {{boot_s: 240}}
""")
    stand_in: Literal["container"] | None = Field(
        default=None, description="no Orin at all: a container board with a power strip and a serial line"
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        present = [
            name for name in ("ssh", "console", "supervisor", "flight", "recovery") if getattr(self, name) is not None
        ]
        if self.stand_in and present:
            raise ValueError(f"with stand_in the bench fills in {', '.join(present)} itself: leave it out")
        missing = [name for name in ("ssh", "console", "supervisor") if name not in present]
        if missing and not self.stand_in:
            raise ValueError(f"needs {', '.join(missing)}; or `stand_in: container` where there is no Orin")
        return self


class JetsonBoardSpec(BoardSpec):
    """A real Orin module with its carrier, or what stands in for one."""

    model_config = with_example(f"""\
name: b1
driver: jetson
module: p3767-0005
serial: "1421623012345"    # in quotes: it is text
jetson:
  ssh: {{address: 192.0.2.11, key_file: ~/.ssh/lab, host_key: {_HOST_KEY}}}
  console: {{url: "/dev/serial/by-path/pci-0000:00:14.0-usb-0:3:1.0-port0"}}
  supervisor:
    power: {{kind: shelly-gen2, address: 192.0.2.20, outlet: 0}}
""")
    orin = True
    driver: Literal["jetson"] = Field(description="a real Jetson, or its stand-in")
    jetson: JetsonSpec = Field(description="ssh, console and supervisor of a real one, or stand_in: container")

    @property
    def real(self) -> RealBoard | None:
        return None if self.jetson.stand_in else self.jetson

    @property
    def stand_in(self) -> str | None:
        return self.jetson.stand_in


def _facts(spec: JetsonBoardSpec, site: Site, console: ConsoleLine) -> JetsonFacts:
    """Return what the lab file says of a real board; for a stand-in, what the bench put there in its place."""
    section = spec.jetson
    facts = partial(JetsonFacts, spec.name, site.spacecraft, spec.module, console=console)
    ways = site.addresses.items()
    if section.stand_in:
        address, outlet = site.strip
        host_key = site.pki.host_key(spec.name).public_line
        power = ShellyGen2Spec(kind="shelly-gen2", address=address, outlet=outlet, request_timeout_s=STRIP_TIMEOUT_S)
        return facts(
            serial=site.facts["serial"],
            targets={via: Target(spec.name, *way, site.pki.ssh_key, host_key) for via, way in ways},
            supervisor=SupervisorSpec(power=power, min_off_s=0.0, confirm_within_s=STRIP_TIMEOUT_S),
            fidelity=Fidelity.VIRTUAL,
            supervisor_namespace=site.management,
            budgets=section.budgets or STAND_IN_BUDGETS,
        )
    ssh, supervisor = section.ssh, section.supervisor
    assert ssh is not None and supervisor is not None  # the section's own rule
    management = Target.of(spec.name, ssh)
    inside = replace(management, port=PORT, jump=None)  # jump host and port are of the way in from the lab
    log_ins = {via: management if via is Via.MANAGEMENT else inside for via in site.addresses}
    return facts(
        serial=spec.serial,
        targets={
            via: replace(log_ins[via], namespace=namespace, address=address) for via, (namespace, address) in ways
        },
        supervisor=supervisor,
        usb_path=section.recovery.usb_path if section.recovery else "",
        budgets=section.budgets or BudgetSpec(),
    )


def _board(spec: JetsonBoardSpec, site: Site, console: ConsoleLine) -> JetsonBoard:
    return JetsonBoard(_facts(spec, site, console), sink=site.sink)


def _equip(spec: JetsonBoardSpec, site: Site, rack: Rack) -> Equipment:
    section = spec.jetson
    tty, url, baudrate, hardware = "", "", 115_200, None
    if section.stand_in:
        # The other end of its serial line is opened by the Jetson driver's console, which has the log.
        line = rack.pump("rack").add(spec.name)
        hardware = container(spec.name, site, line, NullSink())
        rack.loads[site.strip[1]] = hardware.supervisor
        tty, url = line.board_tty, line.url
    elif section.console:
        url, baudrate = section.console.url, section.console.baudrate
    port = rack.stack.enter_context(SerialConsole(spec.name, url, rack.directory / "consoles", baudrate=baudrate))
    console = ConsoleLine(tty, port.url, port.log)
    board = JetsonBoard(_facts(spec, site, console), console=port)

    def power_on() -> None:
        if hardware:
            install(hardware, site, rack)
        board.supervisor.on()

    def switch_off() -> None:
        try:
            board.supervisor.off()
        except HilError as exc:
            raise exc.with_context(f"{exc.message}; it may still have power") from exc

    return Equipment(board, console, power_on, hardware.remove if hardware else switch_off)


def _identify(spec: JetsonBoardSpec, shell: Shell) -> str:
    budgets = spec.jetson.budgets or BudgetSpec()
    report = inspect(shell, board=spec.name, timeout_s=budgets.answer_s)
    check_identity(report.who, board=spec.name, module=spec.module, serial=spec.serial)
    unpinned = "" if spec.serial else "; pin it: a swapped board would go unnoticed"
    return f"{report.who.model}, serial {report.who.serial}{unpinned}, slot {report.proof.slot}"


JETSON = BoardKind(
    JetsonBoardSpec, _board, _equip, _identify, data_bytes=lambda spec: DATA_SIZE_BYTES if spec.contained else None
)
