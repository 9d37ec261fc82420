"""Bugs planted in the reference OS: what a series of trials must find.  Each is one change of one file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hil.errors import HarnessError
from hil.images import rootfs


@dataclass(frozen=True)
class Bug:
    """A bug: what is to be found, and the change of a file of the root file system that causes it."""

    description: str
    file: str
    before: str
    after: str


_NODE = "usr/lib/hil/hil/onboard/node"
_BOOTCTL = 'PYTHONPATH=/usr/lib/hil exec python3 -S -m hil.onboard.tools.bootctl "$@"\n'
_CONFIRM = (
    'PYTHONPATH=/usr/lib/hil python3 -S -m hil.onboard.tools.bootctl set-state "$slot" good'
    "; echo 1 >/run/slot-confirmed"
)

BUGS: Mapping[str, Bug] = {
    "confirms-early": Bug(
        "confirms a new slot before its health was checked",
        "usr/sbin/init",
        'number "Confirmed$slot" 0 >/run/slot-confirmed\n',
        _CONFIRM + "\n",
    ),
    "serves-on": Bug(
        "keeps serving after its lease has ended",
        f"{_NODE}/epoch.py",
        "        if self._lease is not None and now_s >= self._lease.expires_s:\n",
        "        if self._lease is not None and now_s >= self._lease.expires_s + 3600:\n",
    ),
    "forgets-epoch": Bug(
        "forgets to wait until its epoch is on disk",
        f"{_NODE}/state.py",
        "    write_json(path, {**document, DIGEST: _digest(document)})\n",
        "    from hil.onboard.files import write_durably\n\n"
        "    content = json.dumps({**document, DIGEST: _digest(document)}, sort_keys=True).encode()\n"
        '    write_durably(path, content, durable=path.parent.name != "cluster")\n',
    ),
    "takes-older": Bug("installs an older bundle", "usr/lib/rauc/pre-install", "    exit 10\n", "    exit 0\n"),
    "boots-old": Bug(
        "reports that its slot is confirmed, and starts the old one next",
        "usr/lib/rauc/bootctl",
        _BOOTCTL,
        'PYTHONPATH=/usr/lib/hil python3 -S -m hil.onboard.tools.bootctl "$@" || exit 1\n'
        '[ "$1:$3" = set-state:good ] || exit 0\n'
        'if [ "$2" = A ]; then set -- B; else set -- A; fi\n'
        'PYTHONPATH=/usr/lib/hil exec python3 -S -m hil.onboard.tools.bootctl set-primary "$1"\n',
    ),
}
"""By the name of the bundle's kind."""


def plant(name: str, tree: Path) -> None:
    """Change the root file system. HarnessError when the OS is no longer as the bug expects it."""
    bug = BUGS[name]
    file = tree / bug.file
    text = file.read_text("utf-8")
    if text.count(bug.before) != 1:
        raise HarnessError(f"the bug {name} cannot be planted: {bug.file} has changed")
    mode = file.stat().st_mode & 0o755
    rootfs.put(file, text.replace(bug.before, bug.after).encode(), mode)
    if file.suffix == ".py":
        rootfs.compile_python(tree, ["usr/lib/hil"], keep_sources=True)
