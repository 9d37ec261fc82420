"""The board objects of a bench, the same in the keeper and in any process that uses the bench."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hil.bench.plumbing import Plumbing
from hil.bench.state import disk_dir
from hil.boards.console.pump import ConsoleLine
from hil.boards.container.board import LABEL, BoardFacts, ContainerBoard, ContainerSpec
from hil.evidence.sink import Sink
from hil.lab.model import BoardSpec
from hil.lab.real_board import BudgetSpec

if TYPE_CHECKING:
    from docker import DockerClient

    from hil.boards.console.serial_console import SerialConsole
    from hil.boards.jetson.board import JetsonBoard, JetsonFacts
    from hil.boards.protocol import Board
    from hil.images.pki import Pki

STAND_IN_BUDGETS = BudgetSpec(boot_s=60.0, shutdown_s=15.0, fall_back_s=90.0, answer_s=5.0)
STRIP_TIMEOUT_S = 30.0
"""The strip of stand-ins answers when the container has started, and a busy machine starts them slowly."""


def outlets(boards: Iterable[BoardSpec]) -> dict[str, int]:
    """Which outlet of the stand-ins' strip each of them hangs on."""
    return {b.name: number for number, b in enumerate(b for b in boards if b.jetson and b.jetson.stand_in)}


def boards_of(
    plumbing: Plumbing,
    client: DockerClient,
    image_id: str,
    consoles: Mapping[str, ConsoleLine],
    pki: Pki,
    sink: Sink,
) -> dict[str, Board]:
    """Drivers of all boards of a lab by name, in lab file order; nothing is started."""
    names = [b.name for b in plumbing.lab.boards if b.driver == "container"]
    found: dict[str, Board] = {
        **containers(plumbing, client, image_id, consoles, pki, sink, names),
        **jetsons(plumbing, consoles, pki, sink),
    }
    return {b.name: found[b.name] for b in plumbing.lab.boards}


def containers(
    plumbing: Plumbing,
    client: DockerClient,
    image_id: str,
    consoles: Mapping[str, ConsoleLine],
    pki: Pki,
    sink: Sink,
    names: Iterable[str],
) -> dict[str, ContainerBoard]:
    """Drivers of container boards; in the keeper also of those that are the hardware of stand-ins."""
    boards: dict[str, ContainerBoard] = {}
    for name in names:
        spec = ContainerSpec(
            bench=plumbing.bench,
            facts=BoardFacts(**plumbing.board_facts(name)),
            nv_dir=disk_dir(plumbing.bench) / name,
            image_id=image_id,
            console=consoles[name],
            addresses=plumbing.board_address(name),
            ssh_key=pki.ssh_key,
            host_key=pki.host_key(name).public_line,
        )

        def plug(pid: int, name: str = name) -> None:
            plumbing.plug(name, pid)

        boards[name] = ContainerBoard(spec, client, plug, sink)
    return boards


def jetsons(
    plumbing: Plumbing,
    consoles: Mapping[str, ConsoleLine],
    pki: Pki,
    sink: Sink,
    ports: Mapping[str, SerialConsole] | None = None,
) -> dict[str, JetsonBoard]:
    """Drivers of the boards with ``driver: jetson``; ``ports``: consoles that this process itself has open."""
    specs = [b for b in plumbing.lab.boards if b.driver == "jetson"]
    if not specs:
        return {}
    from hil.boards.jetson.board import JetsonBoard

    return {
        spec.name: JetsonBoard(
            jetson_facts(plumbing, spec, consoles[spec.name], pki),
            console=(ports or {}).get(spec.name),
            sink=sink,
        )
        for spec in specs
    }


def jetson_facts(plumbing: Plumbing, spec: BoardSpec, console: ConsoleLine, pki: Pki) -> JetsonFacts:
    """What the lab file says of a real board; for a stand-in, what the bench put there in its place."""
    from hil.bench.stand_in_strip import ADDRESS
    from hil.boards.jetson.board import JetsonFacts
    from hil.boards.protocol import Fidelity
    from hil.boards.ssh.shell import Jump
    from hil.lab.power import ShellyGen2Spec, SupervisorSpec

    section = spec.jetson
    assert section is not None  # the lab file's own rule for driver: jetson
    craft = plumbing.lab.spacecraft_of(spec.name).name
    addresses = plumbing.board_address(spec.name)
    if section.stand_in:
        power = ShellyGen2Spec(
            kind="shelly-gen2",
            address=ADDRESS,
            outlet=outlets(plumbing.lab.boards)[spec.name],
            request_timeout_s=STRIP_TIMEOUT_S,
        )
        return JetsonFacts(
            name=spec.name,
            spacecraft=craft,
            module=spec.module,
            serial=plumbing.board_facts(spec.name)["serial"],
            addresses=addresses,
            host_key=pki.host_key(spec.name).public_line,
            console=console,
            supervisor=SupervisorSpec(power=power, min_off_s=0.0, confirm_within_s=STRIP_TIMEOUT_S),
            fidelity=Fidelity(spec.fidelity),
            ssh_key=pki.ssh_key,
            supervisor_namespace=plumbing.management,
            budgets=section.budgets or STAND_IN_BUDGETS,
        )
    ssh, supervisor = section.ssh, section.supervisor
    assert ssh is not None and supervisor is not None  # the lab file's own rule for a real board
    jump = Jump(ssh.jump.address, ssh.jump.user, ssh.jump.host_key, ssh.jump.port) if ssh.jump else None
    return JetsonFacts(
        name=spec.name,
        spacecraft=craft,
        module=spec.module,
        serial=spec.serial,
        addresses=addresses,
        host_key=ssh.host_key,
        console=console,
        supervisor=supervisor,
        fidelity=Fidelity(spec.fidelity),
        ssh_key=Path(ssh.key_file).expanduser() if ssh.key_file else None,
        ssh_port=ssh.port,
        ssh_user=ssh.user,
        jump=jump,
        usb_path=section.recovery.usb_path if section.recovery else "",
        budgets=section.budgets or BudgetSpec(),
    )


def firmware_pids(client: DockerClient, bench: str) -> dict[str, int]:
    """Host PID of the firmware of every board of a bench that runs in a container now, whatever drives it."""
    found = client.containers.list(filters={"label": f"{LABEL}={bench}"})
    return {c.labels["hil.board"]: int(c.attrs["State"]["Pid"]) for c in found if c.attrs["State"]["Pid"]}
