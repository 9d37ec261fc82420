"""What the virtual lab needs from the host's distribution (``packages.toml``), and its installation with apt.

A package counts as present when what it *provides* is there (a command, a file), not when dpkg knows its
name: a Docker Engine from another source, or another distribution's packages, are as good and not touched.
"""

from __future__ import annotations

import os
import shutil
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hil.core.command import Progress, Runner, run, silent
from hil.errors import BenchError, ConfigurationError
from hil.host.apt_no_start import ServiceGuard

APT_ENV = {
    "DEBIAN_FRONTEND": "noninteractive",
    "APT_LISTCHANGES_FRONTEND": "none",
    "NEEDRESTART_SUSPEND": "1",  # needrestart would restart services of the user
}
APT_OPTIONS = (
    "-y",
    "-q",
    "--no-install-recommends",
    "--no-remove",  # adding our packages never takes one of the user's away
    "-o=DPkg::Lock::Timeout=180",  # another apt may be at work, e.g. unattended-upgrades
    "-o=Dpkg::Use-Pty=0",
    "-o=Dpkg::Options::=--force-confold",
    "-o=Acquire::Retries=3",
)
INSTALL_DEADLINE_S = 900.0
DOCKER_UNITS = ("docker.service", "docker.socket", "containerd.service")
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True)
class HostPackage:
    """One Debian package: what proves that it is there, what it is for, what works without it."""

    name: str
    purpose: str
    without: str
    commands: Sequence[str] = ()
    files: Sequence[str] = ()
    """Glob patterns; each must match at least one file.  ``a|b``: either will do."""


_ROWS = tomllib.loads(Path(__file__).with_name("packages.toml").read_text(encoding="utf-8"))["package"]
PACKAGES: tuple[HostPackage, ...] = tuple(HostPackage(**row) for row in _ROWS)


def provided(package: HostPackage, *, root: Path = Path("/"), which: Callable[..., str | None] = shutil.which) -> bool:
    """Return whether everything that proves ``package`` is on this host."""
    # sbin is not in the PATH of a plain user, nor of root after some kinds of su.
    search = os.environ.get("PATH", "") + ":" + SYSTEM_PATH
    return all(which(c, path=search) for c in package.commands) and all(
        any(any(root.glob(pattern.lstrip("/"))) for pattern in either.split("|")) for either in package.files
    )


def missing(packages: Sequence[HostPackage] = PACKAGES, *, root: Path = Path("/")) -> list[HostPackage]:
    """Return the packages that this host lacks; takes some milliseconds and runs no command."""
    return [p for p in packages if not provided(p, root=root)]


def page(lacking: Sequence[HostPackage], why_not: str) -> ConfigurationError:
    """Return the error, one page: what is missing, why it is needed, what works without it, and what to do."""
    width = max(len(p.name) for p in lacking)
    lines = [
        f"this host lacks {len(lacking)} package(s) for the virtual lab, and {why_not}:",
        "",
        *(f"  {p.name:<{width}}  for: {p.purpose}\n  {'':<{width}}  without: {p.without}" for p in lacking),
    ]
    return ConfigurationError(
        "\n".join(lines),
        remedy=f"as root: apt-get install --no-install-recommends {' '.join(p.name for p in lacking)}\n"
        "  (or the packages of your distribution that hold the same commands), then `hil setup`; "
        "`make unit` works as it is",
    )


def install(
    progress: Progress = silent,
    *,
    runner: Runner = run,
    is_root: bool | None = None,
    find_missing: Callable[[], list[HostPackage]] = missing,
    guard: ServiceGuard | None = None,
) -> list[str]:
    """Install what is missing and return the names of what was installed (empty: nothing to do).

    ConfigurationError with one page when this is not root or there is no apt; BenchError when apt fails, with
    its last lines.  While apt works no service may start: the package ``docker.io`` would else start a daemon
    that makes a bridge and writes firewall rules.  Units that came with a fresh ``docker.io`` stay disabled
    for the same reason; an existing Docker is not touched.
    """
    lacking = find_missing()
    if not lacking:
        return []
    if not (os.geteuid() == 0 if is_root is None else is_root):
        raise page(lacking, "only root can install them")
    if not runner(["apt-get", "--version"]).ok:
        raise page(lacking, "this host has no apt-get, so they cannot be installed automatically")
    names = [p.name for p in lacking]
    progress(f"host packages: {', '.join(names)}")
    with guard or ServiceGuard():
        _install(names, progress, runner)
    if "docker.io" in names:
        # Freshly installed by us, so nobody relies on it starting with the machine.
        runner(["systemctl", "disable", "--quiet", *DOCKER_UNITS])
    if still := find_missing():
        raise BenchError(
            f"apt-get succeeded, yet this host still lacks: {', '.join(p.name for p in still)}",
            remedy="see `hil doctor`; is a file of the package diverted or removed?",
        )
    return names


def _install(names: list[str], progress: Progress, runner: Runner) -> None:
    install_argv = ["apt-get", "install", *APT_OPTIONS, *names]
    # Fresh lists are fetched only when the ones that are there do not do: that is the slow step, and on a lab
    # machine without a connection the packages may still be in apt's cache.
    known = runner(["apt-get", "install", "--simulate", *APT_OPTIONS, *names], env=APT_ENV, timeout_s=240)
    if known.ok:
        done = runner(install_argv, env=APT_ENV, timeout_s=INSTALL_DEADLINE_S)
        if done.ok:
            return
        progress("host packages: fetching fresh package lists and trying once more")
    else:
        progress("host packages: fetching package lists")
    updated = runner(["apt-get", "update", "-q", "-o=DPkg::Lock::Timeout=180"], env=APT_ENV, timeout_s=300)
    done = runner(install_argv, env=APT_ENV, timeout_s=INSTALL_DEADLINE_S)
    if not done.ok:
        said = done.tail() if updated.ok else f"{updated.tail(4)}\n{done.tail()}"
        raise BenchError(
            f"apt-get could not install {' '.join(names)}:\n{said}",
            remedy="check the network and /etc/apt/sources.list, then `hil setup` again",
        )
