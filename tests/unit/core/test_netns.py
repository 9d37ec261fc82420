"""Sockets in namespaces, as far as a plain user may: names, refusals, and the machine's own network."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.core import netns
from hil.errors import BenchError


@pytest.fixture
def namespaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of named namespaces that are plain files."""
    directory = tmp_path / "netns"
    directory.mkdir()
    monkeypatch.setattr(netns, "NETNS_DIR", directory)
    return directory


@pytest.fixture
def ip_calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with one line per call of ``ip``, which refuses to add the namespace ``taken``."""
    calls = tmp_path / "calls"
    calls.touch()
    command = tmp_path / "bin/ip"
    command.parent.mkdir()
    command.write_text(
        f'#!/bin/sh\necho "$*" >> {calls}\ncase "$*" in *taken*) echo "File exists" >&2; exit 1;; esac\n'
    )
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    return calls


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_namespace_is_a_name_or_already_a_path() -> None:
    assert netns.path_of("hil.six.mgmt") == Path("/run/netns/hil.six.mgmt")
    assert netns.path_of("/proc/123/ns/net") == Path("/proc/123/ns/net")


def test_namespaces_are_listed_by_prefix_and_sorted(namespaces: Path) -> None:
    for name in ("hil.b", "hil.a", "other"):
        (namespaces / name).touch()
    assert netns.names("hil.") == ["hil.a", "hil.b"]


def test_a_host_that_never_had_a_namespace_has_none(namespaces: Path) -> None:
    namespaces.rmdir()
    assert netns.names("") == []


def test_a_new_namespace_gets_its_loopback(ip_calls: Path) -> None:
    netns.create("hil.x")
    assert ip_calls.read_text().splitlines() == ["netns add hil.x", "-n hil.x link set lo up"]


def test_a_namespace_that_exists_already_is_an_error_in_the_words_of_ip(ip_calls: Path) -> None:
    with pytest.raises(BenchError, match=r"`ip netns add taken` failed: File exists"):
        netns.create("taken")
    assert ip_calls.read_text().splitlines() == ["netns add taken"]


def test_only_a_namespace_that_is_there_is_deleted(namespaces: Path, ip_calls: Path) -> None:
    (namespaces / "hil.x").touch()
    netns.delete("hil.x")
    netns.delete("hil.gone")
    assert ip_calls.read_text().splitlines() == ["netns delete hil.x"]


def test_a_namespace_that_is_gone_is_an_error_that_asks_for_the_bench(namespaces: Path) -> None:
    with (
        pytest.raises(BenchError, match=r"network namespace hil\.gone: No such file") as caught,
        netns.inside("hil.gone"),
    ):
        pytest.fail("entered")
    assert "hil bench status" in caught.value.remedy


def test_what_cannot_be_entered_is_an_error_and_leaves_no_open_file(namespaces: Path) -> None:
    (namespaces / "hil.x").touch()  # a plain file: setns(2) refuses it, as it refuses a namespace to a plain user
    before = open_files()
    with pytest.raises(BenchError, match=r"cannot enter network namespace hil\.x"), netns.inside("hil.x"):
        pytest.fail("entered")
    assert open_files() == before


def test_a_connection_has_no_delay_and_notices_a_dead_peer(listener: socket.socket) -> None:
    with netns.connect(netns.HOST, listener.getsockname(), timeout_s=5) as sock:
        assert sock.getpeername() == listener.getsockname()
        assert sock.gettimeout() == 5
        for level, option, value in netns.SOCKET_OPTIONS:
            assert sock.getsockopt(level, option) == value


def test_a_refused_connection_is_an_oserror_and_leaves_no_open_file(listener: socket.socket) -> None:
    address = listener.getsockname()
    listener.close()
    before = open_files()
    with pytest.raises(ConnectionRefusedError):
        netns.connect(netns.HOST, address, timeout_s=5)
    assert open_files() == before


def test_a_udp_socket_keeps_to_its_nic_and_address() -> None:
    with netns.udp(netns.HOST, "127.0.0.1", device="lo") as sock:
        address, port = sock.getsockname()
        assert address == "127.0.0.1" and port > 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16).rstrip(b"\0") == b"lo"


@pytest.mark.parametrize(("address", "device"), [("127.0.0.1", "no-such-nic"), ("192.0.2.1", "lo")])
def test_a_udp_socket_without_its_nic_or_address_is_an_error_and_leaves_no_open_file(address: str, device: str) -> None:
    before = open_files()
    with pytest.raises(BenchError, match=f"no UDP socket on {address} \\({device} in"):
        netns.udp(netns.HOST, address, device=device)
    assert open_files() == before


def test_a_command_runs_in_a_namespace_through_nsenter_and_on_the_host_as_it_is() -> None:
    assert netns.argv_inside(netns.HOST, ["ping", "x"]) == ["ping", "x"]
    assert netns.argv_inside("hil.x", ["ping", "x"]) == ["nsenter", "--net=/run/netns/hil.x", "--", "ping", "x"]
