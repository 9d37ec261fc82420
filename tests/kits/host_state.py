"""What the tests compare about this host: its network, and what a bench may have left on it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from difflib import unified_diff
from pathlib import Path

from hil.core import netns, paths

_OF_TESTS = re.compile(r"^.*\bhilt.*\n?", re.MULTILINE)


def network_of_this_host() -> dict[str, str]:
    """Addresses, routes, rules, links and firewall of the host's own namespace, and the sysctls a bench touches.

    Without NICs that other tests, which run side by side, lay there for a moment: their names begin with hilt.
    """
    commands = {
        "addresses": ["ip", "-o", "addr"],
        "links": ["ip", "-o", "link"],
        "routes": ["ip", "route", "show", "table", "all"],
        "rules": ["ip", "rule"],
        "nft": ["nft", "list", "ruleset"],
        "iptables": ["iptables-save"],
    }
    found = {
        name: subprocess.run(argv, capture_output=True, text=True).stdout
        for name, argv in commands.items()
        if shutil.which(argv[0])
    }
    for key in ("net/ipv4/ip_forward", "net/core/rmem_default", "net/core/wmem_default"):
        found[key] = Path("/proc/sys", key).read_text()
    return {name: _without_lifetimes(_OF_TESTS.sub("", text)) for name, text in found.items()}


def leftovers() -> list[str]:
    """Namespaces, loop devices, processes and mounts of benches that are there now, one line each."""
    found = [f"namespace {name}" for name in netns.names("hil.")]
    loops = subprocess.run(["losetup", "-a"], capture_output=True, text=True).stdout
    # Board disks show under their path inside the container, /nv.
    found += [f"loop {line}" for line in loops.splitlines() if str(paths.home()) in line or "(/nv/" in line]
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it ended while we looked
        if "hil.bench.keeper" in line or ("linux.uml" in line and str(paths.run_dir()) in line):
            found.append(f"process {process.parent.name} {line}")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    found += [f"mount {line}" for line in mounts if str(paths.home() / "bench") in line]
    disks = paths.home() / "bench"
    found += [f"directory {path}" for path in disks.glob("*")] if disks.is_dir() else []
    return found


@contextmanager
def as_it_was(why: str = "this host's network is not as it was", *, bench: str = "") -> Iterator[Callable[[], None]]:
    """After the block this host's network is as before it and nothing of the bench is left; no name: of no bench.

    Yields a check of the network alone, for the time when the bench is up.
    """
    before = network_of_this_host()

    def unchanged() -> None:
        now = network_of_this_host()
        lines = [
            f"{name}: {line}"
            for name in before
            for line in unified_diff(before[name].splitlines(), now[name].splitlines(), n=0, lineterm="")
        ]
        assert not lines, "\n".join([why, *lines])

    yield unchanged
    unchanged()
    left = [found for found in leftovers() if bench in found]
    assert not left, "\n".join(["something is left", *left])


def _without_lifetimes(text: str) -> str:
    """DHCP and IPv6 lifetimes count down by themselves."""
    return "\n".join(line.split(" valid_lft")[0] for line in text.splitlines())
