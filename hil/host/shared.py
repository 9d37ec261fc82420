"""What several users of this machine share: a group, and the directory of their leases."""

from __future__ import annotations

import grp
import os

from hil.core import paths
from hil.core.command import run
from hil.errors import BenchError
from hil.leases.leases import Leases


def missing() -> str:
    """Return what set-up has to do for several users, in a few words; empty when nothing, or when it cannot.

    Only root's own home is shared: with ``HIL_HOME`` or ``HIL_LEASES`` one decides for himself.
    """
    if os.geteuid() != 0 or {"HIL_HOME", "HIL_LEASES"} & os.environ.keys():
        return ""
    folder = paths.SYSTEM_HOME / "leases"
    if folder.is_dir():
        return ""
    old = paths.SYSTEM_HOME / "leases.db"
    if old.exists():
        held = Leases(old)
        if held.list() or held.queue():
            return ""  # moved when nobody holds a board
    return f"the directory of leases for group {paths.GROUP} is missing"


def make() -> None:
    """Make the group and the directory; move root's store there. BenchError when the group cannot be made.

    One process at a time.  A move that was interrupted is finished.
    """
    try:
        group = grp.getgrnam(paths.GROUP).gr_gid
    except KeyError:
        done = run(["groupadd", "--system", paths.GROUP])
        if not done.ok:
            raise BenchError(
                f"group {paths.GROUP} could not be made: {done.tail(1)}",
                remedy=f"make it by hand: groupadd {paths.GROUP}",
            ) from None
        group = grp.getgrnam(paths.GROUP).gr_gid
    folder, old = paths.SYSTEM_HOME / "leases", paths.SYSTEM_HOME / "leases.db"
    fresh = folder.with_name(".leases")
    fresh.mkdir(mode=0o755, parents=True, exist_ok=True)
    os.chown(fresh, 0, group)
    fresh.chmod(0o2775)
    moved_before = (fresh / old.name).exists() and old.exists()  # the one here is of somebody who came since then
    for end in () if moved_before else ("", "-wal", "-shm"):  # nobody holds a board; marks and history go along
        if (file := old.with_name(old.name + end)).exists():
            os.chown(file, 0, group)
            file.chmod(0o664)
            file.rename(fresh / file.name)
    fresh.rename(folder)
