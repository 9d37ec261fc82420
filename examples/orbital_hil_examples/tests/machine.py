"""What the tests drive: a machine of its own namespaces with a real sshd, and a strip that switches it. Needs root."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, cast

from orbital_hil_examples.sshhost import SSHHOST, SshHost, SshHostSpec

from hil.boards.kinds import Site
from hil.boards.protocol import Via
from hil.core import netns, paths
from hil.images.rootfs import ensure_base
from hil.lab.model import load_lab
from hil.testing.fakes import ListSink

STRIP_PORT = 8023
OUTLET = 3
_SSHD = """
Port 22
ListenAddress 127.0.0.1
HostKey {d}/host_key
AuthorizedKeysFile {d}/key.pub
StrictModes no
UsePAM no
PidFile none
PasswordAuthentication no
Subsystem sftp internal-sftp
SetEnv PATH={d}/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
# Process 1 of the machine: users and a boot id of its own, a small disk in memory; 3 asks for another boot.
_BOOT = """
set -e
mount --bind {d}/passwd /etc/passwd
mount --bind {d}/shadow /etc/shadow
mount --bind {d}/boot_id /proc/sys/kernel/random/boot_id
mount -t tmpfs tmpfs /run
mkdir -p /run/sshd
mount -t tmpfs -o size=64m tmpfs /var/tmp
trap 'exit 3' USR1
trap 'exit 0' TERM
LD_LIBRARY_PATH={lib} {sshd} -D -e -f {d}/config &
wait
"""
_POWERED = """
while :; do
  cat /proc/sys/kernel/random/uuid >{d}/boot_id
  unshare --mount --pid --fork --kill-child --mount-proc sh {d}/boot
  [ $? = 3 ] || exit 0
done
"""
_LAB = """
schema: 1
name: example
ground_station: {{name: gs-1}}
gateway: h1
spacecraft:
  - name: sc-a
    boards:
      - name: h1
        driver: sshhost
        sshhost:
          ssh: {{address: 127.0.0.1, key_file: {d}/key, host_key: {host_key}}}
          supervisor:
            power: {{kind: acme, address: "127.0.0.1:{port}", outlet: {outlet}}}
            min_off_s: 0
links:
  - {{name: ground, kind: ground, between: [gs-1, sc-a], one_way_delay_us: 4000, rate_bps: 100000000}}
"""


class Machine:
    """A Linux machine on ``127.0.0.1`` of ``namespace``: off until :meth:`on`."""

    def __init__(self, namespace: str, directory: Path) -> None:
        self.namespace = namespace
        self.directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        base = ensure_base(paths.cache(), lambda line: None) / "tree"
        names = {"d": directory, "sshd": base / "usr/sbin/sshd", "lib": base / "usr/lib/x86_64-linux-gnu"}
        files = {
            "passwd": f"root:x:0:0::{directory}:/bin/sh\nsshd:x:74:74::/run/sshd:/bin/false\n",
            "shadow": "root:*:19000:0:99999:7:::\nsshd:*:19000:0:99999:7:::\n",
            "config": _SSHD.format(**names),
            "boot": _BOOT.format(**names),
            "boot_id": "",
            "bin/reboot": "#!/bin/sh\nkill -USR1 1\n",
            "bin/poweroff": "#!/bin/sh\nkill -TERM 1\n",
        }
        (directory / "bin").mkdir()
        for name, text in files.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        for name in ("host_key", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", directory / name], check=True)

    @property
    def is_on(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def on(self) -> None:
        if not self.is_on:
            argv = netns.argv_inside(self.namespace, ["sh", "-c", _POWERED.format(d=self.directory)])
            with (self.directory / "console.log").open("ab") as log:
                self._process = subprocess.Popen(argv, stdout=log, stderr=log, start_new_session=True)

    def cut(self) -> None:
        if self._process is not None:
            if self.is_on:
                os.killpg(self._process.pid, signal.SIGKILL)  # process 1 of the machine dies with `unshare`
            self._process.wait(timeout=10)
            self._process = None

    def lab_file(self) -> Path:
        """Write a lab file with this machine as its only board."""
        host_key = " ".join((self.directory / "host_key.pub").read_text().split()[:2])
        file = self.directory / "lab.yaml"
        file.write_text(_LAB.format(d=self.directory, host_key=host_key, port=STRIP_PORT, outlet=OUTLET))
        return file

    def board(self) -> SshHost:
        """Return the driver, as a bench makes it from the lab file, but with the namespace's way to the machine."""
        (spec,) = load_lab(self.lab_file()).boards
        assert isinstance(spec, SshHostSpec)
        site = Site(
            bench="example",
            spacecraft="sc-a",
            addresses={Via.MANAGEMENT: (self.namespace, "127.0.0.1")},
            facts={},
            disks=self.directory,
            management=self.namespace,
            strip=("", 0),
            client=cast(Any, None),
            image_id="",
            plug=lambda pid: None,
            pki=cast(Any, None),
            sink=ListSink(),
        )
        from hil.boards.console.log_console import ConsoleLine

        board = SSHHOST.board(spec, site, ConsoleLine("", "", self.directory / "none.log"))
        assert isinstance(board, SshHost)
        return board


@contextmanager
def strip(machine: Machine) -> Iterator[dict[str, Any]]:
    """Serve an Acme strip whose outlet 3 feeds the machine; the paths that were asked for are in ``seen``."""
    notes: dict[str, Any] = {"seen": [], "answer": None}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            notes["seen"].append(self.path)
            word = self.path.removeprefix(f"/outlet/{OUTLET}").strip("/")
            if word == "on":
                machine.on()
            elif word == "off":
                machine.cut()
            body = json.dumps(notes["answer"] or {"on": machine.is_on}).encode()
            self.send_response(200 if self.path.startswith(f"/outlet/{OUTLET}") else 404)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            return

    with netns.inside(machine.namespace):
        server = HTTPServer(("127.0.0.1", STRIP_PORT), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield notes
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
