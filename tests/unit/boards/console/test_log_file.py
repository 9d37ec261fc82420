"""A console's log: every byte, and an end to a flood."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.boards.console import log_file
from hil.boards.console.log_file import FULL, LogFile


def test_a_flood_ends_at_the_limit_and_the_log_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "LONGEST_LOG", 1000)
    for _ in range(2):  # the second time as after a restart of the console's owner
        log = LogFile(tmp_path, "a1")
        for number in range(50):
            log.append(bytes([number + 32]) * 30)
        log.close()
        content = log.path.read_bytes()
        assert content == b"".join(bytes([n + 32]) * 30 for n in range(50))[:1000] + FULL
