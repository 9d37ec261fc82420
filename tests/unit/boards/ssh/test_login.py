"""Every way in which a login fails is told by its own cause, within seconds."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import paramiko
import pytest

from hil.boards.ssh.login import Target, WrongHostKeyError
from hil.boards.ssh.shell import SshShell
from hil.errors import BenchError, ConfigurationError, DeviceError, HilError
from tests.kits.ssh_server import fixed, ssh_server, tcp_server


def refusal(target: Target, kind: type[HilError] = DeviceError) -> HilError:
    with pytest.raises(kind) as caught:
        SshShell(target, connect_timeout_s=1.0).close()
    assert caught.value.remedy
    return caught.value


@pytest.fixture
def somebody(tmp_path: Path) -> Target:
    paramiko.ECDSAKey.generate().write_private_key_file(str(tmp_path / "own"))
    host = paramiko.ECDSAKey.generate()
    return Target("b1", "", "127.0.0.1", tmp_path / "own", f"{host.get_name()} {host.get_base64()}")


def say(*lines: bytes) -> Callable[[socket.socket], None]:
    def act(sock: socket.socket) -> None:
        for line in lines:
            sock.sendall(line)
        if not lines:
            time.sleep(1.5)

    return act


@pytest.mark.parametrize(
    ("act", "words"),
    [
        (say(), "no SSH banner within 1 s"),
        (say(b""), "closes the connection without an SSH banner"),
        (say(b"HTTP/1.1 400 Bad Request\r\n"), "closes the connection without an SSH banner"),
        (say(b"Exceeded MaxStartups\r\n"), "closes the connection without an SSH banner"),
        (say(b"SSH-1.5-old\r\n"), "1.5 instead of 2.0"),
        (say(b"SSH-2.0-x\r\n"), "no key exchange"),
    ],
    ids=["silent", "closed", "http", "too many", "version 1", "no keys"],
)
def test_what_is_no_sshd_is_told(act: Callable[[socket.socket], None], words: str, somebody: Target) -> None:
    with tcp_server(act) as port:
        begun = time.monotonic()
        assert words in refusal(replace(somebody, port=port)).message
        assert time.monotonic() - begun < 4.0
        of_the_bench = replace(somebody, port=port, under_test=False)
        assert words in refusal(of_the_bench, BenchError).message


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({"ciphers": ["3des-cbc"]}, "no algorithm in common.*ciphers"),
        (
            {"methods": "password,keyboard-interactive", "accepts": False},
            "takes password, keyboard-interactive and no keys",
        ),
        ({"accepts": False}, "is refused"),
        ({"wants_more": True, "methods": "keyboard-interactive"}, "wants keyboard-interactive as well"),
        ({"most_tries": 0}, "ends the connection"),
    ],
)
def test_each_refusal_has_its_cause(server: dict[str, Any], words: str, tmp_path: Path) -> None:
    with ssh_server(tmp_path, **server) as target, pytest.raises(DeviceError, match=words):
        SshShell(target)


def test_a_hardened_board_that_allows_long_keys_only_is_reached(tmp_path: Path) -> None:
    with ssh_server(tmp_path, ciphers=["aes256-ctr"]) as target, SshShell(target) as shell:
        assert shell.run(["echo", "in"]).stdout == "in\n"


def test_another_host_key_is_told_and_nothing_is_sent(tmp_path: Path, somebody: Target) -> None:
    with ssh_server(tmp_path) as target:
        assert "another host key" in refusal(replace(target, host_key=somebody.host_key), WrongHostKeyError).message
        other_kind = replace(target, host_key="ssh-ed25519 " + target.host_key.split()[1])
        assert "no host key of the pinned type" in refusal(other_kind, WrongHostKeyError).message


class Agent:
    keys: list[paramiko.PKey]

    def get_keys(self) -> list[paramiko.PKey]:
        return self.keys

    def close(self) -> None: ...


@pytest.mark.parametrize("most_tries", [3, 100])
def test_an_agent_with_more_keys_than_sshd_takes_is_told(
    most_tries: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Agent.keys = [paramiko.ECDSAKey.generate() for _ in range(5)]
    monkeypatch.setattr(paramiko, "Agent", Agent)
    with ssh_server(tmp_path, most_tries=most_tries) as target:
        asked = replace(target, key=None)
        if most_tries == 3:
            error = refusal(asked, ConfigurationError)
            assert "ends the login after 4 of the 5 keys" in error.message
            assert "key_file" in error.remedy
        else:
            assert "none of the 5 keys" in refusal(asked).message
            Agent.keys.append(paramiko.PKey.from_path(tmp_path / "own"))
            SshShell(asked).close()


def test_new_keys_in_the_middle_of_a_command_lose_nothing(tmp_path: Path) -> None:
    with ssh_server(tmp_path, answer=fixed(), rekeys=3) as target, SshShell(target) as shell:
        assert len(shell.run(["true"]).stdout) == 3 * (4 << 20)
