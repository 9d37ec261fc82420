"""A real PostgreSQL of Debian's, with a folder of its own, on a socket in it; it ends with its block."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import psycopg

from hil.core.wait import wait_until
from hil.host.packages import HostPackage, install, missing

PACKAGE = HostPackage("postgresql", "the shared store", "these tests", files=("/usr/lib/postgresql/*/bin/postgres",))
USER, PASSWORD = "hil", "so secret %&/ it is"
ESCAPED = "so%20secret%20%25%26%2F%20it%20is"


class Postgres:
    """One server; ``url`` names a database of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
        self._process: subprocess.Popen[bytes] | None = None
        self._as = {"user": "nobody", "group": pwd.getpwnam("nobody").pw_gid} if os.geteuid() == 0 else {}
        (folder / "password").write_text(PASSWORD)
        argv = [self._programs / "initdb", "-D", folder / "data", "-U", USER, "--pwfile", folder / "password"]
        argv += ["--auth=scram-sha-256", "--no-sync", "--no-locale", "--encoding=UTF8"]
        subprocess.run(argv, check=True, capture_output=True, cwd=folder, **self._as)  # type: ignore[call-overload]

    def url(self, database: str = "postgres", *, password: str = ESCAPED, host: str = "") -> str:
        """Return the URL of a database."""
        return f"postgresql://{USER}:{password}@/{database}?host={host or self.folder}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = {"unix_socket_directories": self.folder, "listen_addresses": "", "fsync": "off"}
        options |= {"max_connections": 300, "shared_buffers": "32MB", "log_min_messages": "fatal"}
        argv = [self._programs / "postgres", "-D", self.folder / "data"]
        argv += [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(argv, stdout=log, stderr=log, cwd=self.folder, **self._as)  # type: ignore[call-overload]
        wait_until(self._answers, what=f"PostgreSQL to start, see {self.folder / 'log'}", deadline_s=60)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End it: with SIGINT as a restart does, with SIGQUIT as a crash does."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(60)
            self._process = None

    def make(self, database: str) -> str:
        """Make a database; return its URL."""
        self.run(f'CREATE DATABASE "{database}"')
        return self.url(database)

    def run(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Run a statement past the program under test; return its rows."""
        with psycopg.connect(self.url(database), autocommit=True) as db:
            done = db.execute(statement.encode())
            return done.fetchall() if done.description else []

    def _answers(self) -> bool:
        with suppress(psycopg.OperationalError):
            self.run("SELECT 1")
            return True
        assert self._process is not None and self._process.poll() is None, (self.folder / "log").read_text()
        return False


@contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server; Debian's package is installed where there is none. HilError when that cannot be."""
    install(find_missing=partial(missing, [PACKAGE]))
    folder = Path(tempfile.mkdtemp(prefix="hil-pg-", dir="/tmp"))  # the path of a socket is short
    try:
        shutil.chown(folder, "nobody") if os.geteuid() == 0 else None
        server = Postgres(folder)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)
    finally:
        shutil.rmtree(folder)
