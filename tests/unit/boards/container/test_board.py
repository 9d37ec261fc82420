"""The container driver against a fake container engine."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from docker.errors import APIError, NotFound

from hil.boards.console.log_console import ConsoleLine
from hil.boards.container import kind
from hil.boards.container.board import CAPABILITIES, MEMORY_LIMIT, BoardFacts, ContainerBoard, ContainerSpec, _identity
from hil.boards.container.os_processes import os_pid
from hil.boards.container.storage import DATA_SIZE_BYTES, prepare_nv_dir
from hil.boards.protocol import Board, Completed, Fidelity, PowerState, Via
from hil.boards.ssh import login as ssh_login
from hil.boards.ssh.login import Target
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.evidence.events import BoardPower, RestartOrdered
from hil.images.bundles import OsImage
from hil.images.pki import Pki
from hil.lab.tenant import QuotaSpec
from hil.onboard.boot_control import BootControl, Variables
from hil.testing.fakes import ListSink


class FakeEngine:
    """As much of the Docker SDK as the driver uses; remembers the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.created: dict[str, Any] = {}
        self.running = False
        self.fail: str = ""
        self.powers_itself_off_at = ""
        self.cannot_freeze = 0
        self.late = self.says_late = 0  # how many looks long it still says that an ended container runs
        self.containers = self
        self.api = self

    def get(self, name: str) -> FakeEngine:
        if not self.created:
            raise NotFound("no such container")
        return self

    @property
    def attrs(self) -> dict[str, Any]:
        return self.inspect_container("")

    def create(self, image: str, **options: Any) -> None:
        self.calls.append("create")
        self.created = {"image": image, **options}

    def inspect_container(self, name: str) -> dict[str, Any]:
        self.late, running = max(0, self.late - 1), self.running or self.late > 0
        pid = os.getpid() if running else 0
        return {"State": {"Running": running, "Paused": False, "Pid": pid}}

    def start(self, name: str) -> None:
        self._call("start")
        self.running = True

    def pause(self, name: str) -> None:
        self._call("pause")

    def kill(self, name: str, signal: str | None = None) -> None:
        self._call(f"kill {signal}" if signal else "kill")
        self.running = False

    def wait(self, name: str, timeout: float) -> None:
        self._call("wait")

    def remove_container(self, name: str, **_: Any) -> None:
        self._call("remove")

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name == self.powers_itself_off_at:
            self.running, self.late = False, self.says_late
            raise APIError("is not running")
        if name == "pause" and self.cannot_freeze > 0:
            self.cannot_freeze -= 1
            raise APIError("OCI runtime pause failed: unable to freeze: unknown")
        if name == self.fail:
            raise APIError("it is on fire")


class Kit:
    def __init__(self, directory: Path) -> None:
        self.engine = FakeEngine()
        self.sink = ListSink()
        self.plugged: list[int] = []
        self.spec = ContainerSpec(
            bench="b",
            facts=BoardFacts("a1", "A", "NVIDIA Jetson", "1", "198.18.1.11", "198.19.0.2", {"a1": "198.18.1.11"}),
            nv_dir=directory,
            image_id="sha256:0",
            console=ConsoleLine("/dev/pts/98", "/dev/pts/99", directory / "a1.console.log"),
            targets={Via.MANAGEMENT: Target("a1", "hil.b.mgmt", "198.19.0.2", directory / "key", "ssh-ed25519 AAAA")},
        )
        (directory / "vars").mkdir()
        BootControl(Variables(directory / "vars")).initialise()
        self.board = ContainerBoard(self.spec, cast(Any, self.engine), self.plugged.append, self.sink)


@pytest.fixture
def kit(tmp_path: Path) -> Kit:
    return Kit(tmp_path)


def test_the_driver_is_a_board(kit: Kit) -> None:
    board: Board = kit.board
    assert (board.name, board.spacecraft, board.fidelity) == ("a1", "A", Fidelity.VIRTUAL)


def test_a_container_gets_the_minimal_rights_and_no_network(kit: Kit) -> None:
    kit.board.create()
    made = kit.engine.created
    assert made["name"] == "hil.b.a1"
    assert made["labels"]["hil.bench"] == "b"
    assert made["network_mode"] == "none"
    assert made["cap_drop"] == ["ALL"]
    assert made["cap_add"] == CAPABILITIES
    assert not {"NET_ADMIN", "SYS_RESOURCE", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO"} & set(CAPABILITIES)
    assert made["device_cgroup_rules"] == ["b 7:* rw", "c 10:237 rw"]
    assert not made.get("privileged")
    assert made["volumes"]["/dev/pts/98"]["bind"] == "/dev/ttyTCU0"


@pytest.mark.parametrize(
    ("quotas", "memory", "nano_cpus"),
    [
        (QuotaSpec(), MEMORY_LIMIT, None),
        (QuotaSpec(cpu_cores=0.25, memory_bytes=256 << 20), 256 << 20, 250_000_000),
        (QuotaSpec(memory_bytes=16 << 30), MEMORY_LIMIT, None),
    ],
)
def test_a_container_has_no_more_than_its_tenants_quota(
    kit: Kit, quotas: QuotaSpec, memory: int, nano_cpus: int | None
) -> None:
    spec = replace(kit.spec, quotas=quotas)
    board = ContainerBoard(spec, cast(Any, kit.engine), kit.plugged.append, kit.sink)
    board.create()
    made = kit.engine.created
    assert (made["mem_limit"], made["memswap_limit"], made.get("nano_cpus")) == (memory, memory, nano_cpus)


def test_creating_twice_makes_one_container(kit: Kit) -> None:
    kit.board.create()
    kit.board.create()
    assert kit.engine.calls == ["create"]


def test_power_on_plugs_the_nics_once_and_says_so(kit: Kit) -> None:
    assert kit.board.supervisor.state() is PowerState.OFF
    kit.board.supervisor.on()
    kit.board.supervisor.on()
    assert kit.plugged == [os.getpid()]
    assert kit.engine.calls == ["start"]
    assert kit.sink.events == [RestartOrdered("a1", "power on"), BoardPower("a1", "on")]


def test_a_power_cut_freezes_before_it_kills_and_waits_for_the_end(kit: Kit) -> None:
    kit.board.supervisor.on()
    kit.engine.calls.clear()
    kit.board.supervisor.cut()
    assert kit.engine.calls == ["pause", "kill", "wait"]
    kit.board.supervisor.cut()
    assert kit.engine.calls == ["pause", "kill", "wait"], "a board that is off has no power to cut"


def test_a_board_whose_disks_nobody_needs_is_killed_at_once(kit: Kit) -> None:
    kit.board.supervisor.on()
    kit.engine.calls.clear()
    kit.board.supervisor.discard()
    kit.board.supervisor.discard()
    assert kit.engine.calls == ["kill", "wait"]
    assert kit.sink.events[-1] == BoardPower("a1", "cut")


@pytest.mark.parametrize("says_late", [0, 2])
@pytest.mark.parametrize("moment", ["pause", "kill"])
def test_a_board_that_powers_itself_off_while_its_power_is_cut_is_off(kit: Kit, moment: str, says_late: int) -> None:
    kit.board.supervisor.on()
    kit.engine.powers_itself_off_at, kit.engine.says_late = moment, says_late
    kit.board.supervisor.cut()
    assert kit.board.supervisor.state() is PowerState.OFF
    assert kit.engine.calls[-1] == moment
    assert BoardPower("a1", "cut") not in kit.sink.events


def test_a_board_that_waits_for_a_disk_is_frozen_a_moment_later(kit: Kit) -> None:
    kit.board.supervisor.on()
    kit.engine.calls.clear()
    kit.engine.cannot_freeze = 2
    kit.board.supervisor.cut()
    assert kit.engine.calls == ["pause", "pause", "pause", "kill", "wait"]


def test_an_engine_that_cannot_freeze_a_board_that_runs_is_the_benchs_fault(kit: Kit) -> None:
    kit.board.supervisor.on()
    kit.engine.fail = "pause"
    with pytest.raises(BenchError, match="on fire"):
        kit.board.supervisor.cut()


def test_off_presses_the_power_button_first(kit: Kit) -> None:
    kit.board.supervisor.on()
    kit.board.supervisor.off(deadline_s=1.0)
    assert kit.engine.calls == ["start", "kill SIGTERM"]
    assert kit.sink.events[-1] == BoardPower("a1", "off")


@pytest.mark.parametrize(("call", "verb"), [("start", "on"), ("pause", "cut"), ("kill", "cut")])
def test_an_error_of_the_engine_is_a_bench_error(kit: Kit, call: str, verb: str) -> None:
    kit.engine.running = verb == "cut"
    kit.engine.fail = call
    action: Callable[[], None] = getattr(kit.board.supervisor, verb)
    with pytest.raises(BenchError, match="it is on fire"):
        action()


def test_boot_control_reads_the_firmwares_variables_while_the_board_is_off(kit: Kit) -> None:
    kit.board.create()
    kit.board.boot.set_active("B")
    state = kit.board.boot.state()
    assert (state.running, state.active) == (None, "B")
    assert [slot.good for slot in state.slots] == [True, True]


def test_a_way_that_the_bench_does_not_have_is_a_bench_error(kit: Kit) -> None:
    assert kit.board.address() == ("hil.b.mgmt", "198.19.0.2")
    with pytest.raises(BenchError, match="flight"):
        kit.board.address(Via.FLIGHT)


def test_a_process_without_a_machine_of_its_own_runs_no_os() -> None:
    assert os_pid(os.getpid()) is None


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ConnectionRefusedError("refused"), DeviceError),
        (TimeoutError("timed out"), DeviceError),
        (OSError(101, "Network is unreachable"), BenchError),
    ],
)
def test_who_is_to_blame_for_a_shell_that_does_not_open(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, error: OSError, kind: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(ssh_login, "connect", fail)
    with pytest.raises(kind, match="a1"):
        kit.board.shell()


@pytest.mark.parametrize("document", ["", "{}", "[]", "[" * 200_000])
def test_an_os_that_does_not_say_who_it_is_is_at_fault(document: str) -> None:
    answer = Completed((), 0, f"Orin\n1421\nboot-1\n2.0.0\n{document}", "")
    shell = SimpleNamespace(run=lambda _argv: answer, target=SimpleNamespace(name="a1"))
    with pytest.raises(DeviceError, match="a1: cannot read who it is"):
        _identity(cast(Any, shell))


def test_a_slot_too_small_for_the_image_is_a_configuration_error(kit: Kit, tmp_path: Path) -> None:
    image = tmp_path / "os.squashfs"
    image.write_bytes(bytes(5000))
    factory = OsImage(image, "1.0.0", "0" * 64, 5000)
    with pytest.raises(ConfigurationError, match="4096 bytes cannot hold"):
        prepare_nv_dir(tmp_path / "nv", kit.spec.facts, factory, Pki(tmp_path), slot_size_bytes=4096)


@pytest.mark.parametrize(
    ("quota", "size"), [(None, DATA_SIZE_BYTES), (100 << 20, 100 << 20), (1 << 40, DATA_SIZE_BYTES)]
)
def test_a_data_partition_has_no_more_than_its_tenants_quota(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, quota: int | None, size: int
) -> None:
    made: list[int] = []
    monkeypatch.setattr(kind, "prepare_nv_dir", lambda *_, data_size_bytes: made.append(data_size_bytes))
    site = SimpleNamespace(quotas=QuotaSpec(storage_bytes=quota), pki=None)
    rack = SimpleNamespace(images=SimpleNamespace(factory=None))
    kind.install(kit.board, cast(Any, site), cast(Any, rack))
    assert made == [size]


def test_a_data_partition_that_is_too_small_is_refused(kit: Kit, tmp_path: Path) -> None:
    (image := tmp_path / "os.img").write_bytes(b"x")
    factory = OsImage(image, "1.0.0", "0" * 64, 1)
    with pytest.raises(ConfigurationError, match="data partition of 1000 bytes is too small") as told:
        prepare_nv_dir(tmp_path / "nv", kit.spec.facts, factory, Pki(tmp_path), data_size_bytes=1000)
    assert "quotas.storage_bytes" in told.value.remedy
