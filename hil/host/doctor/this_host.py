"""``hil doctor``: what this host has and lacks, why it matters, what to do, what works without it.

Exit codes: 0 the campaign can run; 1 the virtual lab cannot run here (now), but lab files, reports and the unit
tests work; 2 nothing works.
"""

from __future__ import annotations

import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.core.check import Check, Status
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
    return {"exit_code": exit_code(checks), "verdict": verdict(checks), "checks": [asdict(c) for c in checks]}


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
                    console.print(Text.assemble(" " * (width + 5), (f"{label}: ", "dim"), text), soft_wrap=True)
    console.print()
    style = {0: "bold green", 1: "bold yellow", 2: "bold red"}[exit_code(checks)]
    console.print(Text(verdict(checks), style=style), soft_wrap=True)


@cache
def _texts() -> dict[str, dict[str, Any]]:
    # TOML: a host without the YAML library is one of those that the doctor explains.
    return tomllib.loads(Path(__file__).with_name("advice.toml").read_text("utf-8"))


def _check(name: str, ok: bool, found: str, *, remedy: str = "", bad: Status = "fail") -> Check:
    """Return a check with its texts; ``remedy`` where it depends on what was found."""
    return Check(
        name,
        "ok" if ok else bad,
        found,
        **{"without": FAST_ONLY} | _texts()[name] | ({"remedy": remedy} if remedy else {}),
    )


def _basics(f: HostFacts) -> Iterator[Check]:
    yield _check("python", f.python >= MIN_PYTHON, ".".join(map(str, f.python)))
    yield _check("python-packages", not f.missing_distributions, _missing(f.missing_distributions, "all there"))
    yield _check("root", f.root, "root" if f.root else "not root")
    there = {"none": "there is none", "stranger": "this user is no member", "member": "root" if f.root else "member"}
    remedy = "`hil setup` as root makes it" if f.group == "none" else ""
    yield _check("group-hil", f.group == "member", there[f.group], remedy=remedy, bad="warn")
    if not f.apt:
        remedy = "install your distribution's packages that hold the same commands (docs/setup.md)"
    elif f.root:
        remedy = "`hil setup` installs them"
    else:
        remedy = f"as root: apt-get install --no-install-recommends {' '.join(f.missing_packages)}"
    found = _missing(f.missing_packages, "all there")
    yield _check("host-packages", not f.missing_packages, found, remedy=remedy)
    now = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(f.clock_unix))
    yield _check("clock", f.clock_unix > f.source_unix - 86400, now)


def _kernel(f: HostFacts) -> Iterator[Check]:
    found = _missing(f.kernel_lacks, "namespaces, veth and bridge work")
    yield _check(
        "kernel-network",
        not f.kernel_lacks,
        f"{f.kernel_release}: {found if f.root else 'not tried: only root can'}",
        remedy="" if f.root else "run as root",
        bad="fail" if f.root else "warn",
    )
    works = [f"engine {name}" for name, lacking in f.links_lack.items() if not lacking]
    because = "; ".join(lacking for lacking in f.links_lack.values() if lacking)
    found = works[0] if works else "no engine works"
    yield _check("links", bool(works), f"{found} ({because})" if because else found)
    absent = [name for name in FILESYSTEMS if name not in f.filesystems]
    absent += [] if f.loop else ["loop devices"]
    found = _missing(absent, "squashfs, ext4, overlay, tmpfs, loop devices")
    yield _check("kernel-filesystems", not absent, found)
    short = [c for c in CONTROLLERS if c not in f.controllers]
    found = f"version {f.cgroup_version}, {_missing(short, 'all controllers')}"
    yield _check("cgroups", not short and f.cgroup_version > 0, found if f.cgroup_version else "none mounted")


def _docker(f: HostFacts) -> Iterator[Check]:
    ok, remedy = bool(f.engine_url), "run as root" if f.dockerd else "`hil setup` as root"
    if f.engine_url:
        found = f"{f.engine_version} at {f.engine_url}"
    elif f.engine_problem:
        found, remedy = f.engine_problem, "unset DOCKER_HOST"
    elif f.dockerd:
        found, ok = f"none answers; {'hil' if f.root else 'root'} can start one when a bench needs it", f.root
    else:
        found = "not installed"
    yield _check("docker", ok, found, remedy=remedy)
    if f.apparmor:
        yield _check("apparmor", True, "enabled: boards ask Docker for `apparmor=unconfined`")
    if f.gpu_problem:
        yield _check("gpu", False, f.gpu_problem, bad="warn")
    elif f.gpus and not f.cuda:
        yield _check("gpu", False, ", ".join(f.gpus), remedy="`hil setup --cuda` fetches it (2 GB)", bad="warn")
    elif f.gpus:
        yield _check("gpu", True, f"{', '.join(f.gpus)}; ONNX Runtime with CUDA is here")


def _resources(f: HostFacts) -> Iterator[Check]:
    disk, memory = f.free_disk_bytes, f.free_memory_bytes
    bad: Status = "fail" if disk < DISK_NEEDED / 2 else "warn"
    yield _check("disk", disk >= DISK_NEEDED, f"{disk / GIB:.1f} GiB free under {f.home}", bad=bad)
    bad = "fail" if memory < MEMORY_FAIL else "warn"
    found = f"{memory / GIB:.1f} of {f.total_memory_bytes / GIB:.1f} GiB available"
    yield _check("memory", memory >= MEMORY_WARN, found, bad=bad)
    yield _check("cpus", f.cpus >= 2, str(f.cpus), bad="warn")


def _missing(names: Sequence[str], none: str) -> str:
    return f"missing: {', '.join(names)}" if names else none
