"""``hil doctor``: what this host has and lacks, why it matters, what to do, what works without it.

Exit codes: 0 the campaign can run; 1 the virtual lab cannot run here (now), but lab files, reports and the unit
tests work; 2 nothing works.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from hil.core.check import Check, Scope, Status
from hil.host.doctor.facts import CONTROLLERS, FILESYSTEMS, HostFacts, gather

if TYPE_CHECKING:
    from rich.console import Console

GIB = 1024**3
MIN_PYTHON = (3, 11)
DISK_NEEDED = 3 * GIB
"""Images, bundles and six board disks: 1.3 GiB measured with a bench up, more while bundles are uploaded."""
MEMORY_FAIL = 1 * GIB
MEMORY_WARN = 2 * GIB
"""Six idle boards and one User-Mode Linux took 0.4 GiB and page cache; inference adds its own on each."""
FAST_ONLY = "unit tests, `hil lab`, `hil runs` and reports work; `make campaign` and `hil bench` do not"


def examine(facts: HostFacts) -> list[Check]:
    """Return all checks; a pure function of the facts."""
    return [*_basics(facts), *_kernel(facts), *_docker(facts), *_resources(facts)]


def exit_code(checks: Sequence[Check]) -> int:
    """0: the campaign can run; 1: a bench cannot come up here, the rest works; 2: nothing works."""
    failed = [c for c in checks if c.status == "fail"]
    if any(c.scope == "all" for c in failed):
        return 2
    return 1 if failed else 0


def diagnose() -> list[Check]:
    """Look at this host and judge it."""
    return examine(gather())


def as_json(checks: Sequence[Check]) -> dict[str, Any]:
    """``{"exit_code", "verdict", "checks": [{id, status, found, why, remedy, without, scope}]}``."""
    return {
        "exit_code": exit_code(checks),
        "verdict": verdict(checks),
        "checks": [asdict(c) for c in checks],
    }


def verdict(checks: Sequence[Check]) -> str:
    """Return one sentence."""
    lacking = ", ".join(c.id for c in checks if c.status == "fail")
    match exit_code(checks):
        case 0:
            weak = ", ".join(c.id for c in checks if c.status == "warn")
            return "the campaign can run here" + (f" (look at: {weak})" if weak else "")
        case 1:
            if all(c.scope == "file" for c in checks if c.status == "fail"):
                return f"the bench of this lab file cannot come up as it is ({lacking}); others can"
            return f"the virtual lab cannot run here as it is ({lacking}); {FAST_ONLY}"
        case _:
            return f"nothing works here as it is: {lacking}"


def print_page(checks: Sequence[Check], console: Console) -> None:
    """The page for a person: one line per check; what failed is explained below it."""
    from rich.text import Text

    look = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}
    width = max(len(c.id) for c in checks)
    for check in checks:
        sign, style = look[check.status]
        line = Text.assemble((f" {sign} ", style), (f"{check.id:<{width}}  ", "bold"), check.found)
        console.print(line, soft_wrap=True)
        if check.status != "ok":
            for label, text in (("why", check.why), ("remedy", check.remedy), ("without", check.without)):
                if text:
                    console.print(
                        Text.assemble(" " * (width + 5), (f"{label}: ", "dim"), text), soft_wrap=True
                    )
    console.print()
    style = {0: "bold green", 1: "bold yellow", 2: "bold red"}[exit_code(checks)]
    console.print(Text(verdict(checks), style=style), soft_wrap=True)


def _check(
    ok: bool,
    name: str,
    found: str,
    why: str,
    *,
    remedy: str = "",
    without: str = FAST_ONLY,
    scope: Scope = "lab",
    bad: Status = "fail",
) -> Check:
    return Check(name, "ok" if ok else bad, found, why, remedy, without, scope)


def _basics(f: HostFacts) -> Iterator[Check]:
    yield _check(
        f.python >= MIN_PYTHON,
        "python",
        ".".join(map(str, f.python)),
        "this project is written for Python 3.11 and later",
        remedy="install Python 3.11 or later and make .venv anew: `make setup PYTHON=python3.11`",
        without="nothing",
        scope="all",
    )
    yield _check(
        not f.missing_distributions,
        "python-packages",
        "all there" if not f.missing_distributions else f"missing: {', '.join(f.missing_distributions)}",
        "they are imported",
        remedy="`make setup` (or `.venv/bin/pip install -e '.[dev]'`)",
        without="nothing",
        scope="all",
    )
    yield _check(
        f.root,
        "root",
        "root" if f.root else "not root",
        "boards need namespaces, NICs, mounts and loop devices",
        remedy="run as root (sudo)",
    )
    lacking = ", ".join(f.missing_packages)
    yield _check(
        not f.missing_packages,
        "host-packages",
        f"missing: {lacking}" if lacking else "all there",
        "images, boards and links are made with them",
        remedy="`hil setup` installs them"
        if f.root and f.apt
        else f"as root: apt-get install --no-install-recommends {' '.join(f.missing_packages)}"
        if f.apt
        else "install your distribution's packages that hold the same commands (docs/setup.md)",
    )
    yield _check(
        f.clock_unix > f.source_unix - 86400,
        "clock",
        time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(f.clock_unix)),
        "a clock that is behind makes every certificate 'not yet valid'",
        remedy="set the clock",
    )


def _kernel(f: HostFacts) -> Iterator[Check]:
    k = f.kernel
    known = [
        (k.network_namespace, "network namespaces"),
        (k.board_namespaces, "pid, mount, UTS and IPC namespaces"),
        (k.veth, "veth"),
        (k.bridge, "bridge"),
    ]
    lacking = [name for ok, name in known if not ok]
    if not f.root:
        found = "not tried: only root can"
    elif lacking:
        found = f"missing: {', '.join(lacking)}"
    else:
        found = "namespaces, veth and bridge work"
    yield _check(
        not lacking,
        "kernel-network",
        f"{f.kernel_release}: {found}",
        "every board and every link lives in namespaces of its own",
        remedy="use a kernel with these options (any distribution's has them)" if f.root else "run as root",
        bad="fail" if f.root else "warn",
    )
    works = [name for name, lacking in f.links_lack.items() if not lacking]
    because = "; ".join(lacking for lacking in f.links_lack.values() if lacking)
    yield _check(
        bool(works),
        "links",
        " ".join(
            [f"engine {works[0]}" if works else "no engine works", *([f"({because})"] if because else [])]
        ),
        "links are shaped with netem",
        remedy="`hil setup` installs user-mode-linux, or load sch_netem, cls_matchall and act_mirred",
    )
    absent = [name for name in FILESYSTEMS if name not in f.filesystems]
    yield _check(
        not absent and f.loop,
        "kernel-filesystems",
        f"missing: {', '.join([*absent, *([] if f.loop else ['loop devices'])])}"
        if absent or not f.loop
        else "squashfs, ext4, overlay, tmpfs, loop devices",
        "a board boots a squashfs image from a loop device",
        remedy="use a kernel that has them (any distribution's has)",
    )
    short = [c for c in CONTROLLERS if c not in f.controllers]
    yield _check(
        not short and f.cgroup_version > 0,
        "cgroups",
        f"version {f.cgroup_version}" + (f", missing: {', '.join(short)}" if short else ", all controllers")
        if f.cgroup_version
        else "none mounted",
        "Docker limits boards with them, and a power cut freezes a board first",
        remedy="mount the cgroup file systems (systemd does; `cgroupfs-mount` without it)",
    )


def _docker(f: HostFacts) -> Iterator[Check]:
    if f.engine_url:
        found, ok = f"{f.engine_version} at {f.engine_url}", True
    elif f.engine_problem:
        found, ok = f.engine_problem, False
    elif f.dockerd:
        found, ok = f"none answers; {'hil' if f.root else 'root'} can start one when a bench needs it", f.root
    else:
        found, ok = "not installed", False
    yield _check(
        ok,
        "docker",
        found,
        "container boards run in it",
        remedy="unset DOCKER_HOST"
        if f.engine_problem
        else "run as root"
        if f.dockerd
        else "`hil setup` as root",
    )
    if f.apparmor:
        yield Check(
            "apparmor",
            "ok",
            "enabled: boards ask Docker for `apparmor=unconfined`",
            "Docker's default profile forbids mount, which a board's firmware does",
        )


def _resources(f: HostFacts) -> Iterator[Check]:
    yield _check(
        f.free_disk_bytes >= DISK_NEEDED,
        "disk",
        f"{f.free_disk_bytes / GIB:.1f} GiB free under {f.home}",
        f"images, bundles and board disks need about {DISK_NEEDED / GIB:.0f} GiB",
        remedy="free some space, or set HIL_HOME to a larger disk",
        bad="fail" if f.free_disk_bytes < DISK_NEEDED / 2 else "warn",
    )
    yield _check(
        f.free_memory_bytes >= MEMORY_WARN,
        "memory",
        f"{f.free_memory_bytes / GIB:.1f} of {f.total_memory_bytes / GIB:.1f} GiB available",
        "six boards with their inference workload need about 1.5 GiB",
        remedy="end other programs, or use a larger machine",
        bad="fail" if f.free_memory_bytes < MEMORY_FAIL else "warn",
    )
    yield _check(
        f.cpus >= 2,
        "cpus",
        str(f.cpus),
        "with one core, links and boards steal time from each other; calibration will say so",
        remedy="use a machine with two cores or more",
        without="everything, but runs may end INCONCLUSIVE",
        bad="warn",
    )
