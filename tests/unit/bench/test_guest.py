"""A guest in a container: what it writes and says is hostile."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import pytest

from hil.bench.guest import LONGEST_OUTPUT, Guest, GuestSite
from hil.errors import DeviceError


class Engine:
    """A container engine whose programs say ``said`` and end with ``status``."""

    def __init__(self, folder: Path, said: bytes, status: int) -> None:
        self.folder, self.said, self.status = folder, said, status
        self.api = self
        self.commands: list[list[str]] = []

    def exec_create(self, container: str, command: list[str], workdir: str) -> dict[str, str]:
        self.commands.append(command)
        return {"Id": "1"}

    def exec_start(self, exec_id: str, detach: bool) -> None:
        (self.folder / Path(self.commands[-1][5]).name).write_bytes(self.said)

    def exec_inspect(self, exec_id: str) -> dict[str, Any]:
        return {"Running": False, "ExitCode": self.status}


def guest(tmp_path: Path, said: bytes = b"", status: int = 0) -> Guest:
    engine = cast(Any, Engine(tmp_path, said, status))
    return Guest(GuestSite("flight-2", "b", tmp_path, "g01a", "198.18.1.11:8470", engine, "image"))


def test_a_guest_asks_the_board_that_serves_it_and_its_mask_is_a_file_that_it_wrote(tmp_path: Path) -> None:
    asked = guest(tmp_path)
    program = asked.ask(b"scene", deadline_s=5)
    assert (tmp_path / "scene.npy").read_bytes() == b"scene"
    command = cast(Any, asked.site.client).commands[-1]
    assert command[command.index("--board") + 1] == "g01a" and "198.18.1.11:8470" in command
    (tmp_path / "mask.npy").write_bytes(b"mask")
    assert program.mask(1.0) == b"mask"


def test_a_link_in_its_folder_leads_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the host")
    folder = tmp_path / "folder"
    folder.mkdir()
    asked = guest(folder)
    program = asked.ask(b"scene", deadline_s=5)
    (folder / "mask.npy").symlink_to(secret)
    with pytest.raises(DeviceError, match="got no mask"):
        program.mask(1.0)
    (folder / "said-0").unlink()
    (folder / "said-0").symlink_to(secret)
    assert program.output() == ""
    (folder / "scene.npy").unlink()
    (folder / "scene.npy").symlink_to(secret)
    asked.ask(b"another", deadline_s=5)
    assert secret.read_text() == "of the host"


def test_what_it_says_is_bounded_and_cleaned_and_only_lines_of_json_are_events(tmp_path: Path) -> None:
    lines = [{"mono_s": 1.5, "what": "joined", "board": "g01a"}, {"mono_s": "x", "what": "y"}, {"what": "z"}]
    lines.append({"mono_s": 10**400, "what": "late"})
    said = "\n".join(map(json.dumps, lines)).encode() + b"\n\x1b[2Jno json\n[1]\n"
    program = guest(tmp_path, said).start(["x"])
    (event,) = program.events()
    assert (event.mono_s, event.what, event.facts) == (1.5, "joined", {"board": "g01a"})
    assert "\x1b" not in program.output()
    (tmp_path / "said-0").write_bytes(b"x" * (LONGEST_OUTPUT + 10))
    assert len(program.output()) == LONGEST_OUTPUT


def test_a_guest_that_gave_up_is_quoted(tmp_path: Path) -> None:
    program = guest(tmp_path, b'{"mono_s": 1, "what": "gave up", "why": "HTTP 403"}\n', 1).ask(b"s", deadline_s=5)
    with pytest.raises(DeviceError, match="HTTP 403"):
        program.mask(1.0)
    assert guest(tmp_path, b"out", 3).run(["true"]) == (3, "out")
