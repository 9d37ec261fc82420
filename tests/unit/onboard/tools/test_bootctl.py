"""The shell half of the boot-control backend says what the Python half says."""

from __future__ import annotations

import itertools
import os
import subprocess
from pathlib import Path

from hil.core import paths
from hil.onboard.boot_control import BootControl, Variables
from hil.onboard.tools import bootctl

SCRIPT = paths.ROOT / "hil/images/os/reference/rootfs/usr/lib/rauc/bootctl"


def shell(variables: Path, *argv: str) -> str:
    environment = {**os.environ, "EFIVARS": str(variables)}
    done = subprocess.run(["sh", str(SCRIPT), *argv], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_the_fast_answers_are_those_of_the_python_backend(tmp_path: Path) -> None:
    questions = (["get-primary"], ["get-state", "A"], ["get-state", "B"])
    states = itertools.product((None, 0, 1), (None, 0, 255), (None, 0, 1, 3))
    for number, (following, status, retries) in enumerate(states):
        directory = tmp_path / str(number)
        directory.mkdir()
        variables = Variables(directory, durable=False)
        for name, value in (
            ("BootChainFwNext", following),
            ("RootfsStatusSlotB", status),
            ("RetryCountB", retries),
            ("RetryCountA", retries),
        ):
            if value is not None:
                variables.set_number(name, value)
        control = BootControl(variables)
        for question in questions:
            expected = bootctl.run(question, control, tmp_path / "confirmed")
            assert shell(directory, *question) == expected, (question, following, status, retries)
