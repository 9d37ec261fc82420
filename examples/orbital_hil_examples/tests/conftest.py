"""The machine of these tests, once for all of them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, strip

from hil.core import netns


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine without power, in a network namespace of its own."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    directory: Path = tmp_path_factory.mktemp("machine")
    for each in (directory, *directory.parents[:2]):
        each.chmod(0o755)  # sshd reads the key as the user who logs in
    namespace = f"hilt-example-{os.getpid()}"
    netns.create(namespace)
    made = Machine(namespace, directory)
    try:
        subprocess.run(["ip", "-n", namespace, "link", "set", "lo", "up"], check=True)
        yield made
    finally:
        made.cut()
        netns.delete(namespace)


@pytest.fixture(scope="session")
def acme(machine: Machine) -> Iterator[dict[str, Any]]:
    """The strip that feeds the machine."""
    with strip(machine) as notes:
        yield notes
