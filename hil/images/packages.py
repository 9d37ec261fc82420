"""Debian packages and Python wheels for the images: resolved and downloaded, never installed on this host."""

from __future__ import annotations

import logging
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from urllib.parse import unquote

from hil.core.command import Progress
from hil.core.files import sha256_of
from hil.errors import BenchError

_log = logging.getLogger(__name__)

DOWNLOAD_S = 900.0
_PIP = "-m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --require-hashes"
_WHEEL = re.compile(r"(?P<name>\S+)==(?P<version>\S+) sha256:(?P<sha256>[0-9a-f]{64})")
_URI = re.compile(r"^'[^']+' (?P<file>\S+\.deb) (?P<size>\d+) ")


@dataclass(frozen=True)
class Wheel:
    """One wheel to unpack, and the globs inside it to leave out."""

    name: str
    version: str
    sha256: str
    skip: tuple[str, ...]

    def keeps(self, member: str) -> bool:
        """Return whether a file of the wheel goes into the image."""
        return not any(fnmatch(member, glob) or fnmatch(member, f"{glob}/*") for glob in self.skip)


def read_list(path: Path) -> list[str]:
    """Return the lines of a list; ``#`` begins a comment."""
    lines = (line.split("#", 1)[0].rstrip() for line in path.read_text().splitlines())
    return [line for line in lines if line]


def read_wheels(path: Path) -> list[Wheel]:
    """Read ``name==version sha256:digest`` at the margin, each followed by indented globs."""
    wheels: list[tuple[re.Match[str], list[str]]] = []
    for line in read_list(path):
        head = _WHEEL.fullmatch(line)
        if head:
            wheels.append((head, []))
        elif line[0].isspace() and wheels:
            wheels[-1][1].append(line.strip())
        else:
            raise BenchError(f"{path}: {line!r} is neither `name==version sha256:digest` nor a glob below one")
    return [Wheel(head["name"], head["version"], head["sha256"], tuple(globs)) for head, globs in wheels]


def run_tool(argv: Sequence[str], *, cwd: Path | None = None, timeout_s: float = 600.0) -> str:
    """Run a host tool and return its stdout. BenchError with the end of stderr when it fails or is not there."""
    try:
        _log.debug("run %.500r", shlex.join(argv))
        done = subprocess.run(argv, capture_output=True, text=True, cwd=cwd, timeout=timeout_s)
    except FileNotFoundError as exc:
        raise BenchError(f"{argv[0]} is not installed", remedy="run `hil setup`") from exc
    except OSError as exc:
        raise BenchError(f"{argv[0]} cannot run here: {exc.strerror}") from exc
    except subprocess.TimeoutExpired as exc:
        raise BenchError(f"`{argv[0]}` did not end within {timeout_s:g} s") from exc
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise BenchError(f"`{' '.join(argv[:3])} ...` failed ({done.returncode}): {tail}")
    return done.stdout


class Apt:
    """apt with a private state: an empty system on which everything is yet to be installed."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for part in ("archives/partial", "lists/partial"):
            (directory / part).mkdir(parents=True, exist_ok=True)
        (directory / "status").write_text("")

    def _options(self, *, private_lists: bool) -> list[str]:
        options = {
            "Dir::State::status": self.directory / "status",
            "Dir::State::extended_states": self.directory / "extended_states",
            "Dir::Cache::archives": self.directory / "archives",
            "Dir::Cache::pkgcache": "",
            "Dir::Cache::srcpkgcache": "",
            "APT::Install-Recommends": "false",
            "APT::Architecture": "amd64",
            "APT::Sandbox::User": "root",
            "Debug::NoLocking": "true",
            "Acquire::Retries": "3",
        }
        if private_lists:
            options["Dir::State::lists"] = self.directory / "lists"
        return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]

    def resolve(self, packages: Sequence[str], progress: Progress) -> tuple[dict[str, str], list[str]]:
        """Return (package -> ``package=version`` with all dependencies, the options that found them).

        The host's own package lists are used when they know all packages, else private ones are fetched.
        """
        argv = ["--yes", "--print-uris", "install", *packages]
        options = self._options(private_lists=False)
        try:
            out = run_tool(["apt-get", *options, *argv])
        except BenchError:
            progress("package lists: fetching")
            options = self._options(private_lists=True)
            run_tool(["apt-get", *options, "update"])
            try:
                out = run_tool(["apt-get", *options, *argv])
            except BenchError as exc:
                raise BenchError(
                    f"Debian packages cannot be resolved: {exc.message}",
                    remedy="the images are made from Debian 12 packages: are these in this host's apt sources?",
                ) from exc
        found: dict[str, str] = {}
        for line in out.splitlines():
            if match := _URI.match(line):
                name, version, _ = unquote(match["file"]).split("_", 2)
                found[name] = f"{name}={version}"
        return found, options

    def download(self, packages: Sequence[str], skip: Sequence[str], progress: Progress) -> list[Path]:
        """Download ``packages`` and their dependencies, except ``skip``, and return the .deb files, sorted."""
        found, options = self.resolve(packages, progress)
        wanted = [spec for name, spec in sorted(found.items()) if name not in set(skip)]
        progress(f"Debian packages: downloading {len(wanted)}")
        archives = self.directory / "archives"
        run_tool(["apt-get", *options, "download", *wanted], cwd=archives)
        return sorted(archives.glob("*.deb"))


def download_wheels(wheels: Sequence[Wheel], directory: Path, progress: Progress) -> list[Path]:
    """Download the wheels for CPython 3.11 on x86-64 Linux, whatever Python runs here."""
    platforms = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux2014_x86_64")
    options = ["--python-version", "3.11", "--implementation", "cp", "--abi", "cp311"]
    options += [word for platform in platforms for word in ("--platform", platform)]
    return [
        download_wheel(f"{wheel.name}=={wheel.version}", wheel.sha256, directory, progress, options) for wheel in wheels
    ]


def download_wheel(
    requirement: str, sha256: str, directory: Path, progress: Progress, options: Sequence[str] = ()
) -> Path:
    """Return the wheel with that digest in ``directory``, downloaded with pip when it is not there.

    BenchError with pip's words when the package index cannot be reached or delivers something else.
    """

    def present() -> Path | None:
        return next((path for path in sorted(directory.glob("*.whl")) if sha256_of(path) == sha256), None)

    directory.mkdir(parents=True, exist_ok=True)
    if wheel := present():
        return wheel
    progress(f"downloading {requirement}")
    with tempfile.NamedTemporaryFile("w", prefix="hil-", suffix=".txt") as file:
        file.write(f"{requirement} --hash=sha256:{sha256}\n")
        file.flush()
        argv = [sys.executable, *shlex.split(_PIP), *options, "--dest", str(directory), "-r", file.name]
        try:
            run_tool(argv, timeout_s=DOWNLOAD_S)
        except BenchError as exc:
            raise BenchError(
                f"{requirement} cannot be downloaded: {exc.message}",
                remedy="the first set-up needs a Python package index; check the network and pip's configuration",
            ) from exc
    wheel = present()
    if wheel is None:
        raise BenchError(f"pip downloaded {requirement}, but no wheel with the digest {sha256[:16]}…")
    return wheel
