"""The fault, on the machine's small disk."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from machine import Machine

from hil.boards.conformance import running
from hil.errors import ConfigurationError, DeviceError
from hil.faults.fault import injected
from hil.testing.fakes import ListSink


def test_the_disk_is_full_until_the_block_ends(machine: Machine, acme: dict[str, Any]) -> None:
    board = machine.board()
    running(board, deadline_s=20.0)
    bench = cast(Any, SimpleNamespace(name="example", boards={"h1": board}, lab=None, sink=ListSink()))
    content = bytes(5 << 20)
    with injected("disk-full", bench, "h1", left_mb=2), board.shell() as shell:
        with pytest.raises(DeviceError):
            shell.write("/var/tmp/upload", content)
        shell.run(["rm", "-f", "/var/tmp/upload"])
    with board.shell() as shell:
        shell.write("/var/tmp/upload", content)
        shell.run(["rm", "/var/tmp/upload"])
    with pytest.raises(ConfigurationError, match="no target"), injected("disk-full", bench, "h9"):
        pass
