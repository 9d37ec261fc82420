"""An SSH server on 127.0.0.1 that runs commands on this host, or answers each one as a test says."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import paramiko
from paramiko.common import AUTH_FAILED, AUTH_PARTIALLY_SUCCESSFUL, AUTH_SUCCESSFUL

from hil.boards.ssh.login import Target

Answer = tuple[bytes, bytes, int]
"""stdout, stderr, exit code."""


def fixed(stdout: str = "", stderr: str = "", code: int = 0) -> Callable[[str], Answer]:
    return lambda _command: (stdout.encode(), stderr.encode(), code)


@dataclass
class Behaviour:
    """What a server does; by default it takes the key and runs commands."""

    answer: Callable[[str], Answer] | None = None
    methods: str = "publickey"
    accepts: bool = True  # the key
    wants_more: bool = False  # than the key
    most_tries: int = 100  # then it ends the connection
    sessions: bool = True
    ciphers: Sequence[str] = ()
    rekeys: int = 0  # so many new keys, each after 4 MiB of output
    commands: list[str] = field(default_factory=list)


class _Server(paramiko.ServerInterface):
    def __init__(self, behaviour: Behaviour, transport: paramiko.Transport, own: paramiko.PKey) -> None:
        self.behaviour, self.transport, self.own, self.tries = behaviour, transport, own, 0

    def get_allowed_auths(self, username: str) -> str:
        return self.behaviour.methods

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.tries += 1
        if self.tries > self.behaviour.most_tries:
            self.transport.close()
        if key != self.own or not self.behaviour.accepts:
            return AUTH_FAILED
        more = AUTH_PARTIALLY_SUCCESSFUL
        return more if self.behaviour.wants_more else AUTH_SUCCESSFUL

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return 0 if self.behaviour.sessions else 1  # administratively prohibited

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        self.behaviour.commands.append(command.decode())
        threading.Thread(target=self._run, args=(channel, command.decode()), daemon=True).start()
        return True

    def _run(self, channel: paramiko.Channel, command: str) -> None:
        time.sleep(0.01)  # the request is answered first
        try:
            if self.behaviour.answer is None:
                out, err, code = _here(channel, command)
            else:
                out, err, code = self.behaviour.answer(command)
            channel.sendall(out)
            for _ in range(self.behaviour.rekeys):
                channel.sendall(bytes(4 << 20))
                self.transport.renegotiate_keys()
            channel.sendall_stderr(err)
            channel.send_exit_status(code)
        except (OSError, EOFError, paramiko.SSHException):
            pass  # the client went away
        finally:
            _until_answered(channel)
            channel.close()


def _until_answered(channel: paramiko.Channel, patience_s: float = 0.5) -> None:
    """Wait until the client knows that its command was taken: a close that overtakes this is another error to it."""
    end = time.monotonic() + patience_s
    while not (channel.eof_received or channel.recv_ready() or channel.closed) and time.monotonic() < end:
        time.sleep(0.005)


def _here(channel: paramiko.Channel, command: str) -> Answer:
    pipe = subprocess.PIPE
    # as sshd: a session, and so a process group, of its own
    child = subprocess.Popen(["sh", "-c", command], stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)

    def feed() -> None:
        assert child.stdin
        try:
            while data := channel.recv(1 << 16):
                child.stdin.write(data)
                child.stdin.flush()
        except OSError:
            pass  # it has ended, or the connection has
        with suppress(OSError):
            child.stdin.close()

    assert child.stdout and child.stderr
    said = [(child.stdout, channel.sendall), (child.stderr, channel.sendall_stderr)]
    passing = [threading.Thread(target=_pass_on, args=each, daemon=True) for each in said]
    for thread in (threading.Thread(target=feed, daemon=True), *passing):
        thread.start()
    for thread in passing:
        thread.join()
    code = child.wait()
    return b"", b"", code if code >= 0 else 128 - code


def _pass_on(pipe: IO[bytes], send: Callable[[bytes], object]) -> None:
    """Give on what comes as it comes, until the command has closed it."""
    with suppress(OSError, EOFError):  # the client went away
        while data := os.read(pipe.fileno(), 1 << 16):
            send(data)


@contextmanager
def ssh_server(folder: Path, behaviour: Behaviour | None = None, **more: Any) -> Iterator[Target]:
    """Serve as ``behaviour`` says, or with its fields as keywords; the target that logs in there with a key."""
    acts = behaviour or Behaviour(**more)
    host, own = (paramiko.ECDSAKey.generate() for _ in range(2))
    own.write_private_key_file(str(folder / "own"))
    transports: list[paramiko.Transport] = []

    def start(sock: socket.socket) -> None:
        transport = paramiko.Transport(sock)
        transport.set_log_channel("paramiko.hil")
        transports.append(transport)
        transport.add_server_key(host)
        if acts.ciphers:
            transport.get_security_options().ciphers = list(acts.ciphers)
        with suppress(paramiko.SSHException, OSError, EOFError):  # the client did not like it
            transport.start_server(server=_Server(acts, transport, own))

    try:
        with _accepting(start) as port:
            yield Target("b1", "", "127.0.0.1", folder / "own", f"{host.get_name()} {host.get_base64()}", port=port)
    finally:
        for transport in transports:
            transport.close()


@contextmanager
def tcp_server(act: Callable[[socket.socket], None]) -> Iterator[int]:
    """Serve ``act`` on each connection, which is closed after it; the port."""

    def serve(sock: socket.socket) -> None:
        with sock:
            act(sock)

    with _accepting(serve) as port:
        yield port


@contextmanager
def _accepting(begin: Callable[[socket.socket], None]) -> Iterator[int]:
    """Call ``begin`` with each connection while the block runs; the port."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            begin(sock)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
