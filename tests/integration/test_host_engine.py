"""Our own Docker Engine and `hil clean`, for real, in directories of their own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.bench.clean import clean
from hil.bench.leftovers import loop_devices, namespaces
from hil.core import netns
from hil.core.mounts import mounts_under
from hil.core.processes import processes
from hil.core.wait import wait_until
from hil.host.engine import dockerd, engine
from hil.host.engine.dockerd import EngineFiles, answers, own_processes, started

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

BENCH = "hilthost"


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A short directory: paths of unix sockets are at most 107 characters long."""
    directory = Path(tempfile.mkdtemp(prefix="hilt-host-"))
    yield directory
    shutil.rmtree(directory, ignore_errors=True)
    assert not directory.exists()


@pytest.fixture
def files(place: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineFiles]:
    monkeypatch.setenv("HIL_HOME", str(place / "home"))
    monkeypatch.setenv("HIL_RUN", str(place / "run"))
    monkeypatch.setenv("DOCKER_HOST", f"unix://{place}/no-user-engine.sock")
    found = EngineFiles.default()
    yield found
    for leftover in (clean(), clean()):
        assert not leftover.failed
    assert_nothing_left(found)


def assert_nothing_left(files: EngineFiles) -> None:
    assert own_processes(files) == []
    assert mounts_under(files.data, files.run) == []
    assert not files.socket.exists() and not files.exec_root.exists()
    assert [p for p in processes() if str(files.run) in " ".join(p.argv) and p.id.pid != os.getpid()] == []


@pytest.fixture(scope="module")
def program(place: Path) -> Path:
    """A static program that does nothing: all that a container needs here."""
    source = place / "idle.c"
    source.write_text("#include <unistd.h>\nint main(void) { for (;;) pause(); }\n")
    subprocess.run(["gcc", "-static", "-o", str(place / "idle"), str(source)], check=True)
    return place / "idle"


def containers(client: Any, program: Path, *, pause: bool = False) -> list[str]:
    """One running (or paused) and one created container with the label of a bench that is dead."""
    subprocess.run(["tar", "-C", str(program.parent), "-cf", f"{program}.tar", program.name], check=True)
    client.api.import_image_from_file(f"{program}.tar", repository="hilt-host", tag="1")
    names = [f"hil.{BENCH}.a1", f"hil.{BENCH}.a2"]
    made = [
        client.containers.create("hilt-host:1", ["/idle"], name=name, labels={"hil.bench": BENCH}, network_mode="none")
        for name in names
    ]
    made[0].start()
    if pause:
        made[0].pause()
    return names


def idle_processes() -> list[int]:
    return [p.id.pid for p in processes() if p.argv == ("/idle",)]


def host_network() -> dict[str, str]:
    """Addresses, routes, forwarding and firewall rules of the host."""
    commands = {
        "addresses": ["ip", "-json", "address"],
        "links": ["ip", "-brief", "link"],
        "routes": ["ip", "route", "show", "table", "all"],
        "rules": ["iptables-save"],
        "nft": ["nft", "list", "ruleset"],
    }
    found = {"forward": Path("/proc/sys/net/ipv4/ip_forward").read_text()}
    for name, argv in commands.items():
        if shutil.which(argv[0]):
            done = subprocess.run(argv, capture_output=True, text=True)
            lines = [line for line in done.stdout.splitlines() if not line.startswith("#")]
            found[name] = "\n".join(lines)
    return found


def test_our_engine_starts_leaves_the_hosts_network_alone_and_goes_with_its_last_user(files: EngineFiles) -> None:
    before = host_network()
    with engine.engine() as client:
        assert client.ping()
        info = engine.find()
        assert info and info.ours and info.url == files.url
        assert [n["Name"] for n in client.api.networks() if n["Driver"] == "bridge"] == []
        with engine.engine() as second:
            assert second.ping()
        assert client.ping(), "the engine ended with its first user instead of its last"
        during = host_network()
    assert started(files) is None and not answers(files.socket)
    assert before == during == host_network()
    assert_nothing_left(files)


def test_two_processes_that_start_the_engine_at_once_share_one(files: EngineFiles) -> None:
    code = textwrap.dedent("""
        import sys
        from hil.host.engine import engine
        from hil.host.engine.dockerd import EngineFiles, started
        with engine.engine() as client:
            print(started(EngineFiles.default()), flush=True)
            sys.stdin.readline()
    """)
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        seen = {child.stdout.readline() for child in children if child.stdout}
        assert len(seen) == 1 and not seen & {"", "None\n"}
        assert len([name for _, name in own_processes(files) if name == "dockerd"]) == 1
        # The first leaves by SIGKILL, so that it cannot say good-bye; the second is the last one all the same.
        children[0].kill()
        children[0].wait(timeout=30)
        assert answers(files.socket)
        children[1].communicate("\n", timeout=60)
        assert children[1].returncode == 0
    finally:
        for child in children:
            child.kill()
            child.communicate()
    assert_nothing_left(files)


@pytest.mark.parametrize("pause", [False, True])
def test_clean_removes_the_containers_and_the_engine_of_a_killed_run(
    files: EngineFiles, program: Path, pause: bool
) -> None:
    client = engine.connect()
    names = containers(client, program, pause=pause)
    client.close()
    assert idle_processes()
    seen = clean(dry_run=True)
    assert {x.name for x in seen.removed if x.kind == "container"} == set(names)
    assert idle_processes(), "a dry run removed something"
    done = clean()
    assert {x.name for x in done.removed if x.kind == "container"} == set(names) and not done.failed
    assert "dockerd" in {x.name for x in done.removed if x.kind == "container engine"}
    assert idle_processes() == []
    assert_nothing_left(files)
    assert clean().removed == ()


@pytest.mark.parametrize("victims", [("dockerd",), ("dockerd", "containerd", "containerd-shim-runc-v2")])
def test_containers_of_an_engine_that_was_killed_are_found_and_removed(
    files: EngineFiles, program: Path, victims: tuple[str, ...]
) -> None:
    client = engine.connect()
    names = containers(client, program)
    client.close()
    daemon = started(files)
    for who, name in own_processes(files):
        if name in victims:
            os.kill(who.pid, signal.SIGKILL)
    assert daemon
    wait_until(lambda: not daemon.alive(), what="dockerd to be gone", deadline_s=10)
    assert idle_processes(), "the container should outlive its engine here"
    done = clean()
    assert {x.name for x in done.removed if x.kind == "container"} == set(names) and not done.failed
    assert idle_processes() == []
    assert_nothing_left(files)


def test_an_engine_starts_again_after_it_was_killed_with_a_container_running(files: EngineFiles, program: Path) -> None:
    client = engine.connect()
    containers(client, program)
    client.close()
    daemon = started(files)
    assert daemon
    os.kill(daemon.pid, signal.SIGKILL)
    wait_until(lambda: not daemon.alive(), what="dockerd to be gone", deadline_s=10)
    with engine.engine() as again:
        assert again.ping()
        assert {c["State"] for c in again.api.containers(all=True)} == {"exited", "created"}


def test_an_engine_with_a_container_running_is_not_stopped(files: EngineFiles, program: Path) -> None:
    with engine.engine() as client:
        containers(client, program)
    assert answers(files.socket)
    assert engine.stop_if_ours() is False


def test_containers_are_left_alone_while_a_test_or_a_set_up_uses_the_engine(files: EngineFiles, program: Path) -> None:
    client = engine.connect()
    containers(client, program)
    client.close()
    code = "from hil.host.engine.engine import engine\nwith engine(): print('on', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as user:
        assert user.stdout and user.stdout.readline() == "on\n"
        done = clean()
        assert not [x for x in done.removed if x.kind == "container"]
        assert any(str(user.pid) in text for text in done.live)
        user.communicate("\n", timeout=60)


def test_a_leftover_namespace_of_a_dead_bench_is_removed_with_its_nics(files: EngineFiles) -> None:
    name = f"hil.{BENCH}.mgmt"
    netns.create(name)
    try:
        subprocess.run(["ip", "-n", name, "link", "add", "m-a1", "type", "veth", "peer", "name", "x"], check=True)
        # Only this bench: namespaces of others may be in use on this machine.
        (found,) = [x for x in namespaces(set()) if x.bench == BENCH]
        assert found.name == name
        found.remove()
        assert not netns.path_of(name).exists()
        found.remove()  # gone already: no error
    finally:
        netns.delete(name)


def test_a_loop_device_on_a_file_of_a_dead_bench_is_detached(files: EngineFiles) -> None:
    disk = files.data.parent / "bench" / BENCH / "a1" / "data.img"
    disk.parent.mkdir(parents=True)
    with disk.open("wb") as file:
        file.truncate(1 << 20)
    device = subprocess.run(
        ["losetup", "--find", "--show", str(disk)], check=True, capture_output=True, text=True
    ).stdout.strip()
    found = list(loop_devices(set()))
    assert [(x.name, x.bench) for x in found] == [(Path(device).name, BENCH)]
    assert list(loop_devices({BENCH})) == []
    found[0].remove()
    wait_until(lambda: not list(loop_devices(set())), what="the loop device to be free", deadline_s=5)


def test_dockerd_is_what_the_pid_file_says(files: EngineFiles) -> None:
    with engine.engine():
        daemon = started(files)
        assert daemon and int(files.pidfile.read_text()) == daemon.pid
        assert dockerd.argv(files)[0] == "dockerd"
