"""Consoles that are no local port: a raw socket, RFC 2217 and pyserial's loop, all on this machine."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import serial
import serial.rfc2217

from hil.boards.console.boot_stages import Stage
from hil.boards.console.serial_console import SerialConsole
from hil.boards.console.serial_port import SerialPort
from hil.core.wait import wait_until
from hil.errors import BenchError, ConfigurationError


@pytest.mark.parametrize("url", ["nonsense://x", "socket://no-port", "socket://127.0.0.1:1"])
def test_a_url_that_leads_nowhere_is_named(url: str) -> None:
    with pytest.raises((ConfigurationError, BenchError), match=re.escape(url)):
        SerialPort(url, baudrate=115_200)


@contextmanager
def listener() -> Iterator[tuple[socket.socket, int]]:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        server.settimeout(20.0)
        yield server, server.getsockname()[1]


def test_a_console_servers_raw_socket_is_a_console_and_is_opened_again(tmp_path: Path) -> None:
    with listener() as (server, port), SerialConsole("a1", f"socket://127.0.0.1:{port}", tmp_path) as console:
        for word in (b"first", b"second"):
            line, _ = server.accept()
            with line:
                line.sendall(word + b" login: ")
                console.wait_for(f"{word.decode()} login: ", deadline_s=10.0)
                wait_until(lambda: console.listening, what="the prompt", deadline_s=10.0)
                console.write(b"root\n")
                line.settimeout(10.0)
                assert line.recv(100) == b"root\n"


def test_an_rfc2217_port_is_a_console(tmp_path: Path) -> None:
    with listener() as (server, port):
        stop = threading.Event()
        served = threading.Thread(target=serve_rfc2217, args=(server, stop), daemon=True)
        served.start()
        try:
            with SerialConsole("a1", f"rfc2217://127.0.0.1:{port}", tmp_path) as console:
                console.wait_for_stage(Stage.LOGIN, deadline_s=20.0)
                console.write(b"root\n")
                console.wait_for("echo root", deadline_s=20.0)
        finally:
            stop.set()
            served.join(timeout=10.0)


def serve_rfc2217(server: socket.socket, stop: threading.Event) -> None:
    """A console server with pyserial's own server side: a boot to begin with, then an echo."""
    line, _ = server.accept()

    class Connection:
        def write(self, data: bytes) -> None:
            line.sendall(data)

    with line, serial.serial_for_url("loop://", timeout=0) as device:
        manager = serial.rfc2217.PortManager(device, Connection())
        line.settimeout(0.1)
        told = False
        while not stop.is_set():
            try:
                data = line.recv(4096)
            except TimeoutError:
                if not told:
                    line.sendall(b"".join(manager.escape(b"\xff tegra login: ")))
                    told = True
                continue
            except OSError:
                return
            if not data:
                return
            if typed := b"".join(manager.filter(data)):
                line.sendall(b"".join(manager.escape(b"echo " + typed)))


def test_pyserials_loop_is_a_console(tmp_path: Path) -> None:
    with SerialConsole("a1", "loop://", tmp_path) as console:
        console.write(b"tegra login: ", force=True)
        console.wait_for_stage(Stage.LOGIN, deadline_s=10.0)
        console.write(b"echoed\n")
        console.wait_for("^tegra login: echoed$", deadline_s=10.0)
