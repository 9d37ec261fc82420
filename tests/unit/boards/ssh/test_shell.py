"""Commands and files over SSH: what a board's set-up does to them, each told by its own cause."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from hil.boards.ssh.shell import SshShell
from hil.core.files import on_this_machine
from hil.errors import BenchError, ConfigurationError, DeviceError, HilError
from tests.kits.ssh_server import Answer, Behaviour, fixed, ssh_server


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[SshShell]:
    with ssh_server(tmp_path) as target, SshShell(target) as opened:
        yield opened


def moved(shell: SshShell) -> list[Callable[[], object]]:
    """Every verb of a shell."""
    return [
        lambda: shell.run(["true"]),
        lambda: shell.read("/etc/hostname"),
        lambda: shell.write("/data/never", bytes(3_000_000)),
        lambda: shell.file_size("/etc/hostname"),
    ]


# -- files


@pytest.mark.parametrize("size", [0, 1, 5 << 20])
def test_files_come_and_go_byte_for_byte(size: int, shell: SshShell, tmp_path: Path) -> None:
    content, remote = os.urandom(size), str(tmp_path / "a name with 'quotes' and $HOME")
    shell.write(remote, content)
    assert shell.read(remote) == content
    assert shell.file_size(remote) == size
    shell.pull(remote, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content


def test_a_file_is_continued_where_it_was(shell: SshShell, tmp_path: Path) -> None:
    (tmp_path / "whole").write_bytes(b"0123456789" * 300_000)
    (tmp_path / "part").write_bytes(b"0123456789" * 100_000)
    *_, there = shell.send_from(tmp_path / "whole", str(tmp_path / "part"), 1_000_000)
    assert there == 3_000_000
    assert (tmp_path / "part").read_bytes() == (tmp_path / "whole").read_bytes()
    (tmp_path / "back").write_bytes(b"0123456789 and too much")
    *_, here = shell.receive_from(str(tmp_path / "whole"), tmp_path / "back", 10)
    assert here == 3_000_000
    assert (tmp_path / "back").read_bytes() == (tmp_path / "whole").read_bytes()


def test_no_more_of_a_file_is_fetched_than_was_asked_for(shell: SshShell, tmp_path: Path) -> None:
    for offset, limit in ((0, 100_001), (100_001, 3_000_000), (3_000_000, 3_000_000)):
        *_, here = shell.receive_from("/dev/zero", tmp_path / "back", offset, limit)
        assert here == limit == (tmp_path / "back").stat().st_size


@pytest.mark.parametrize("size", [1, 3_000_000])
def test_a_full_disk_is_told_for_the_smallest_file_too(size: int, shell: SshShell) -> None:
    with pytest.raises(DeviceError, match=r"cannot write /dev/full.*No space left"):
        shell.write("/dev/full", bytes(size))


def test_what_the_board_does_not_do_is_told_in_its_own_words(shell: SshShell, tmp_path: Path) -> None:
    for remote in (tmp_path / "missing" / "file", tmp_path):
        with pytest.raises(DeviceError, match=f"cannot write {remote}: sh"):
            shell.write(str(remote), b"x")
    with pytest.raises(DeviceError, match=r"cannot read .*No such file"):
        shell.read(str(tmp_path / "nothing"))
    with pytest.raises(DeviceError, match=r"cannot read .*Is a directory"):
        shell.read(str(tmp_path))
    assert shell.file_size(str(tmp_path / "nothing")) == -1


def test_a_file_without_end_is_not_read_into_memory(shell: SshShell) -> None:
    with pytest.raises(DeviceError, match="/dev/zero has more than 16 MiB"):
        shell.read("/dev/zero")
    assert shell.run(["echo", "here"]).stdout == "here\n"


def test_this_machines_files_are_not_the_boards_fault(shell: SshShell, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="on this machine: No such file"):
        shell.push(tmp_path / "nothing", str(tmp_path / "x"))
    with pytest.raises(ConfigurationError, match="on this machine: No such file"):
        shell.pull("/etc/hostname", tmp_path / "missing" / "x")
    with pytest.raises(BenchError, match="on this machine: No space left"), on_this_machine(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device")


# -- what stands in the way of every command


@pytest.mark.parametrize("noise", ["Welcome to board 7!\n", "W", "\x1b[2J" * 40_000])
def test_noise_at_login_is_told_where_it_would_be_taken_for_a_file(noise: str, tmp_path: Path) -> None:
    with ssh_server(tmp_path, answer=fixed(noise)) as target, SshShell(target) as shell:
        for verb in moved(shell)[1:]:
            with pytest.raises(DeviceError, match="something prints at login") as caught:
                verb()
            assert "bashrc" in caught.value.remedy
            assert len(caught.value.message) < 500


def test_a_command_that_ends_without_its_answer_has_not_written(tmp_path: Path) -> None:
    with ssh_server(tmp_path, answer=fixed()) as target, SshShell(target) as shell:
        write = moved(shell)[2]
        with pytest.raises(DeviceError, match="not all was done"):
            write()


SUDO = [
    "sudo: a password is required\n",
    "sudo: es requereix una contrasenya\n",
    "sudo: sorry, you must have a tty to run sudo\n",
    "Sorry, user nvidia is not allowed to execute '/usr/bin/true' as root on board.\n",
    "nvidia n'apparaît pas dans le fichier sudoers.\n",
    "env: 'sudo': No such file or directory\n",
]


@pytest.mark.parametrize("words", SUDO)
@pytest.mark.parametrize("verb", range(4))
def test_sudo_that_refuses_is_told_whatever_its_words_and_whatever_was_asked(
    verb: int, words: str, tmp_path: Path
) -> None:
    def answer(command: str) -> Answer:
        return (b"", words.encode(), 1) if "sudo" in command else (b"", b"", 0)

    with ssh_server(tmp_path, answer=answer) as target, SshShell(replace(target, user="nvidia")) as shell:
        with pytest.raises(ConfigurationError, match="nvidia is not root and sudo wants a password") as caught:
            moved(shell)[verb]()
        assert words.strip() in caught.value.message
        assert "NOPASSWD" in caught.value.remedy


@pytest.mark.parametrize("user", ["root", "nvidia"])
@pytest.mark.parametrize(
    "words",
    [
        "WARNING: Your password has expired.\nPassword change required but no TTY available.\n",
        "This account is currently not available.\n",
        "This service allows sftp connections only.\n",
    ],
)
def test_a_login_that_runs_nothing_is_told(words: str, user: str, tmp_path: Path) -> None:
    with ssh_server(tmp_path, answer=fixed(words, "", 1)) as target, SshShell(replace(target, user=user)) as shell:
        for verb in moved(shell):
            with pytest.raises(DeviceError, match=f"login as {user} runs no command") as caught:
                verb()
            assert words.splitlines()[0] in caught.value.message


def test_a_command_that_fails_is_not_taken_for_a_login_that_does(tmp_path: Path) -> None:
    def answer(command: str) -> Answer:
        return (b"", b"sudo: unable to resolve host b1\n", 0 if command.endswith(" true") else 1)

    acts = Behaviour(answer=answer)
    with ssh_server(tmp_path, acts) as target, SshShell(replace(target, user="nvidia")) as shell:
        assert shell.run(["false"], check=False).returncode == 1
        with pytest.raises(DeviceError, match="`false` ended with 1"):
            shell.run(["false"])
        assert [command.endswith(" true") for command in acts.commands] == [False, True, False]


def test_commands_speak_english(tmp_path: Path) -> None:
    acts = Behaviour(answer=fixed())
    with ssh_server(tmp_path, acts) as target:
        with SshShell(target) as shell:
            shell.run(["rauc", "status"])
        with SshShell(replace(target, user="op")) as shell:
            shell.run(["rauc", "status"])
    assert acts.commands == ["env LC_ALL=C rauc status", "env LC_ALL=C sudo -n -- rauc status"]


def test_a_server_without_sessions_is_told(tmp_path: Path) -> None:
    with ssh_server(tmp_path, sessions=False) as target, SshShell(target) as shell:
        for verb in moved(shell):
            with pytest.raises(DeviceError, match="opens no session") as caught:
                verb()
            assert "MaxSessions" in caught.value.remedy


def test_a_connection_that_ends_in_mid_command_is_told(tmp_path: Path) -> None:
    opened: list[SshShell] = []

    def dies(_command: str) -> Answer:
        opened[0].close()
        return b"", b"", 0

    with ssh_server(tmp_path, answer=dies) as target:
        opened.append(SshShell(target))
        for verb in moved(opened[0]):
            with pytest.raises(HilError, match="connection broke"):
                verb()


def test_a_command_may_leave_its_input_unread(shell: SshShell) -> None:
    assert shell.run(["true"], stdin=bytes(20_000_000)).returncode == 0


@pytest.mark.parametrize("where", ["1", "2"])
def test_a_command_that_floods_is_given_up_and_the_next_one_runs(where: str, shell: SshShell) -> None:
    with pytest.raises(DeviceError, match="said more than 16 MiB and was given up; it began 'y"):
        shell.run(["sh", "-c", f"yes >&{where}"], timeout_s=60)
    assert shell.run(["echo", "here"]).stdout == "here\n"


def test_a_flood_does_not_hide_the_end_of_a_commands_time(shell: SshShell) -> None:
    begun = time.monotonic()
    assert shell.stream(["yes"], out=len, err=len, timeout_s=0.5) is None
    assert time.monotonic() - begun < 10
