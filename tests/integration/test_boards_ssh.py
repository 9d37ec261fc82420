"""The ways into a board over SSH against a real sshd: jump host, agent, sudo; and transfers that are interrupted."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.container.board import ContainerBoard
from hil.boards.protocol import Via
from hil.boards.ssh import transfer
from hil.boards.ssh.shell import SshShell, Target, WrongHostKeyError
from hil.cli.board.terminal import ssh_argv
from hil.core import netns
from hil.core.files import sha256_of
from hil.errors import BenchError, ConfigurationError, DeviceError
from hil.images.pki import ensure_pki
from tests.kits.container_boards import boards, engine_client

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]

SIZE = 24 << 20


@pytest.fixture(scope="module")
def board() -> Iterator[ContainerBoard]:
    with engine_client() as client, boards(client, 1) as (made, _):
        made[0].supervisor.on()
        made[0].wait_booted()
        yield made[0]


@pytest.fixture
def target(board: ContainerBoard) -> Target:
    return board.target(Via.MANAGEMENT)


@pytest.fixture
def through(target: Target) -> Target:
    """The board as its own jump host: in by its management address, on to its loopback."""
    return replace(
        target, address="127.0.0.1", jump=replace(target, name=f"b: jump host {target.address}", under_test=False)
    )


# -- jump host


def test_a_board_is_reached_through_a_jump_host(through: Target, tmp_path: Path) -> None:
    with SshShell(through) as shell:
        assert shell.run(["echo", "through"]).stdout == "through\n"
        shell.write("/tmp/through", b"bytes")
        assert shell.read("/tmp/through") == b"bytes"


def test_both_host_keys_are_pinned(through: Target) -> None:
    other = ensure_pki().host_key("somebody-else").public_line
    assert through.jump
    with pytest.raises(WrongHostKeyError, match="another host key"):
        SshShell(replace(through, host_key=other))
    with pytest.raises(BenchError, match=f"jump host {through.jump.address}.*another host key"):
        SshShell(replace(through, jump=replace(through.jump, host_key=other)))


def test_a_jump_host_that_is_not_there_is_the_benchs_fault(through: Target) -> None:
    assert through.jump
    nobody = replace(through, jump=replace(through.jump, port=9))
    with pytest.raises(BenchError, match="jump host"):
        SshShell(nobody)


def test_nobody_behind_the_jump_host_is_the_boards_fault(through: Target) -> None:
    with pytest.raises(DeviceError, match="no answer from sshd"):
        SshShell(replace(through, port=9))


@pytest.mark.parametrize("way", ["target", "through"])
def test_openssh_gets_in_the_same_way(way: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    argv = [*ssh_argv(request.getfixturevalue(way), tmp_path), "echo", "hello"]
    namespace = request.getfixturevalue("target").namespace
    done = subprocess.run(
        netns.argv_inside(namespace, argv), capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )
    assert done.stdout.strip() == "hello", done.stderr


# -- keys


def test_an_agent_lets_in_where_the_lab_file_says_so(
    target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    socket = tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        asked = replace(target, key=None)
        wait_for(socket)
        with pytest.raises(ConfigurationError, match="offers no key"):
            SshShell(asked)
        subprocess.run(["ssh-add", "-q", str(target.key)], check=True, capture_output=True)
        with SshShell(asked) as shell:
            assert shell.run(["id", "-u"]).stdout == "0\n"
    finally:
        agent.terminate()
        agent.wait(timeout=10)


def wait_for(path: Path) -> None:
    from hil.core.wait import wait_until

    wait_until(path.exists, what=str(path), deadline_s=10.0)


def test_a_key_file_that_is_none_is_named(target: Target, tmp_path: Path) -> None:
    junk = tmp_path / "junk"
    junk.write_text("not a key")
    for path in (junk, tmp_path / "missing"):
        with pytest.raises(ConfigurationError, match=path.name):
            SshShell(replace(target, key=path))


# -- somebody else than root

SUDO = '#!/bin/sh\n[ "$1 $2" = \'-n --\' ] || exit 99\nshift 2\nexec "$@"\n'


def test_another_user_works_through_sudo_and_is_told_when_it_wants_a_password(target: Target) -> None:
    with SshShell(target) as root:
        root.run(["sh", "-c", "grep -q ^operator: /etc/passwd || echo operator:x:0:0::/root:/bin/sh >>/etc/passwd"])
        root.run(["sh", "-c", "grep -q ^operator: /etc/shadow || echo 'operator:*:19000:0:99999:7:::' >>/etc/shadow"])
        operator = replace(target, user="operator")
        with SshShell(operator) as shell, pytest.raises(ConfigurationError, match=r"is not there: env: .*sudo"):
            shell.run(["true"])
        root.write("/usr/bin/sudo", SUDO.encode())
        root.run(["chmod", "755", "/usr/bin/sudo"])
        with SshShell(operator) as shell:
            assert shell.run(["printf", "[%s]", "a b", "$HOME"]).stdout == "[a b][$HOME]"
        root.write("/usr/bin/sudo", b"#!/bin/sh\necho 'sudo: a password is required' >&2\nexit 1\n")
        with SshShell(operator) as shell, pytest.raises(ConfigurationError, match="wants a password"):
            shell.run(["true"], check=False)


# -- an sshd that is set up otherwise


@pytest.fixture
def other_sshd(target: Target) -> Iterator[Callable[..., Target]]:
    """Start one more sshd on the board, with options of its own; the target that leads to it."""
    with SshShell(target) as root:

        def start(*options: str) -> Target:
            words = [word for option in options for word in ("-o", option)]
            root.run(["/usr/sbin/sshd", "-p", "2222", "-o", "PidFile=/run/sshd-other.pid", *words])
            root.run(["sh", "-c", "until [ -s /run/sshd-other.pid ]; do sleep 0.05; done"])  # it listens before that
            return replace(target, port=2222)

        yield start
        end = "kill $(cat /run/sshd-other.pid); while [ -e /run/sshd-other.pid ]; do sleep 0.05; done"
        root.run(["sh", "-c", end], check=False)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("MaxSessions=0", "opens no session.*MaxSessions"),
        ("ForceCommand=echo Welcome to board 7", "something prints at login.*Welcome to board 7"),
        ("ForceCommand=internal-sftp", "runs no command.*sftp connections only"),
        ("PubkeyAuthentication=no", "is refused"),
        ("PasswordAuthentication=yes AuthenticationMethods=publickey,password", "wants password as well"),
        ("Ciphers=chacha20-poly1305@openssh.com", "no algorithm in common.*ciphers"),
        ("KexAlgorithms=diffie-hellman-group18-sha512", "no algorithm in common.*kex"),
        ("DenyUsers=root", "the login as root"),
        ("MaxAuthTries=0", "the login as root"),
    ],
)
def test_each_way_in_that_is_closed_is_told_within_seconds(
    options: str, words: str, other_sshd: Callable[..., Target]
) -> None:
    there = other_sshd(*([options] if options.startswith("ForceCommand") else options.split()))
    begun = time.monotonic()
    with pytest.raises(DeviceError) as caught, SshShell(there) as shell:
        shell.read("/etc/hostname")
    assert re.search(words, str(caught.value), re.DOTALL), caught.value
    assert caught.value.remedy
    assert time.monotonic() - begun < 8.0


def test_long_keys_only_and_one_session_are_enough(other_sshd: Callable[..., Target]) -> None:
    there = other_sshd("Ciphers=aes256-ctr", "MaxSessions=1")
    with SshShell(there) as shell:
        shell.write("/tmp/x", b"bytes")
        assert shell.read("/tmp/x") == b"bytes"


def test_more_keys_in_the_agent_than_sshd_takes_are_told(
    other_sshd: Callable[..., Target], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    there, socket = other_sshd("MaxAuthTries=3"), tmp_path / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        wait_for(socket)
        for number in range(4):
            key = tmp_path / f"key{number}"
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
            subprocess.run(["ssh-add", "-q", key], check=True, capture_output=True)
        with pytest.raises(ConfigurationError, match=r"ends the login after 3 of the 4 keys"):
            SshShell(replace(there, key=None))
    finally:
        agent.terminate()
        agent.wait(timeout=10)


# -- a board that takes no more


def test_a_disk_that_is_full_or_read_only_ends_a_transfer_at_once(target: Target, tmp_path: Path) -> None:
    small, large = tmp_path / "small", tmp_path / "large"
    small.write_bytes(os.urandom(200_000))
    large.write_bytes(os.urandom(3 << 20))
    mount = "mkdir -p /tmp/disk && mount -t tmpfs -o size=1m none /tmp/disk"
    with SshShell(target) as root:
        root.run(["sh", "-c", mount])
        try:
            begun = time.monotonic()
            with pytest.raises(DeviceError, match="No space left"):
                transfer.push(lambda: SshShell(target), large, "/tmp/disk/file", deadline_s=60.0)
            for path in (small, large):
                with pytest.raises(DeviceError, match="No space left"):
                    root.push(path, "/tmp/disk/more")
            root.run(["mount", "-o", "remount,ro", "/tmp/disk"])
            with pytest.raises(DeviceError, match="Read-only file system"):
                transfer.push(lambda: SshShell(target), small, "/tmp/disk/new", deadline_s=60.0)
            assert time.monotonic() - begun < 20.0
        finally:
            root.run(["umount", "/tmp/disk"])


# -- transfers


@pytest.fixture
def blob(tmp_path: Path) -> Path:
    path = tmp_path / "blob"
    path.write_bytes(os.urandom(SIZE))
    return path


class Breaking:
    """Opens shells; the first one's connection dies when half of the file is there."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.opened: list[SshShell] = []

    def __call__(self) -> SshShell:
        self.opened.append(SshShell(self._target))
        return self.opened[-1]

    def progress(self, there: int, size: int) -> None:
        if len(self.opened) == 1 and there > size // 2:
            self.opened[0].close()


def test_a_push_that_breaks_goes_on_where_it_was(target: Target, blob: Path) -> None:
    opener = Breaking(target)
    done = transfer.push(opener, blob, "/data/blob", progress=opener.progress, deadline_s=60.0)
    assert done.connections == 2
    assert done.size_bytes == SIZE
    assert done.sent_bytes < SIZE * 1.5
    with SshShell(target) as shell:
        assert shell.run(["sha256sum", "/data/blob"]).stdout.split()[0] == sha256_of(blob)
        assert shell.file_size("/data/blob.part") == -1
        shell.run(["rm", "/data/blob"])


def test_a_part_of_something_else_is_not_continued(target: Target, blob: Path) -> None:
    with SshShell(target) as shell:
        shell.write("/data/blob.part", b"something else")
    done = transfer.push(lambda: SshShell(target), blob, "/data/blob", deadline_s=60.0)
    assert (done.connections, done.sent_bytes) == (1, SIZE)
    with SshShell(target) as shell:
        assert shell.run(["sha256sum", "/data/blob"]).stdout.split()[0] == sha256_of(blob)


def test_a_pull_that_breaks_goes_on_where_it_was(target: Target, blob: Path, tmp_path: Path) -> None:
    transfer.push(lambda: SshShell(target), blob, "/data/blob", deadline_s=60.0)
    opener, back = Breaking(target), tmp_path / "back"
    done = transfer.pull(opener, "/data/blob", back, progress=opener.progress, deadline_s=60.0)
    assert done.connections == 2
    assert done.sent_bytes < SIZE * 1.5
    assert back.read_bytes() == blob.read_bytes()


def test_what_is_not_there_is_not_looked_for_twice(target: Target, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="/data/nothing"):
        transfer.pull(lambda: SshShell(target), "/data/nothing", tmp_path / "x", deadline_s=60.0)
