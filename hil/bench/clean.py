"""``hil clean``: find what a killed run left on this host, name it, and remove it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

from hil.bench import leftovers
from hil.bench.leftovers import Kind, Leftover, keepers, live_benches
from hil.core.processes import end
from hil.core.wait import SYSTEM_CLOCK, Clock, wait_until
from hil.errors import ConfigurationError, HilError
from hil.host import setup
from hil.host.apt_no_start import ServiceGuard

KEEPER_DEADLINE_S = 60.0


@dataclass(frozen=True)
class Cleaned:
    """What was found, what was removed and what was not."""

    removed: tuple[Leftover, ...]
    failed: tuple[tuple[Leftover, str], ...]
    """What could not be removed, and why."""
    live: tuple[str, ...]
    """What is in use and was left alone: benches, and processes that use the container engine."""
    dry_run: bool = False

    def as_json(self) -> dict[str, Any]:
        """``{"dry_run", "removed": [...], "failed": [{..., "error"}], "live": [...]}``."""
        return {
            "dry_run": self.dry_run,
            "removed": [asdict(x) for x in self.removed],
            "failed": [{**asdict(x), "error": why} for x, why in self.failed],
            "live": list(self.live),
        }


def kinds() -> list[Kind]:
    """Every kind, in the order in which they are removed: holders go before what they hold."""
    return [
        leftovers.Processes(),
        leftovers.Containers(),
        leftovers.Namespaces(),
        leftovers.Nics(),
        leftovers.Mounts(),
        leftovers.LoopDevices(),
        leftovers.Directories(),
        leftovers.LinkEngines(),
        leftovers.PackageGuard(ServiceGuard(), setup.is_running),
        leftovers.Engine(),
    ]


def clean(
    *,
    everything: bool = False,
    dry_run: bool = False,
    of: Sequence[Kind] | None = None,
    live: Callable[[], Collection[str]] = live_benches,
) -> Cleaned:
    """Remove what killed runs left; live benches are not touched unless ``everything``.

    ``dry_run`` only names what it finds.  ConfigurationError when this is not root and something has to be
    removed; whatever resists is reported in ``failed``, and the rest is removed all the same.
    """
    up = live()
    removed: list[Leftover] = []
    failed: list[tuple[Leftover, str]] = []
    if everything and up:
        for name, keeper in keepers().items():
            removed.append(Leftover("live bench", name, name, f"keeper pid {keeper.pid}"))
        if not dry_run:
            end_keepers()
            up = live()
        else:
            up = ()
    for kind in of if of is not None else kinds():
        # Each kind looks when its turn comes: a container that is gone has taken its loop devices along.
        for leftover in list(kind.find(up)):
            if dry_run:
                removed.append(leftover)
                continue
            if os.geteuid() != 0:
                raise ConfigurationError(f"only root can remove {leftover}", remedy="run `hil clean` as root")
            try:
                kind.remove(leftover)
                removed.append(leftover)
            except (HilError, OSError) as exc:
                failed.append((leftover, getattr(exc, "message", str(exc))))
    busy = [f"containers, which process {who.pid} may be using" for who in leftovers.strangers()]
    return Cleaned(tuple(removed), tuple(failed), (*sorted(up), *busy), dry_run)


def end_keepers(*, deadline_s: float = KEEPER_DEADLINE_S, clock: Clock = SYSTEM_CLOCK) -> None:
    """Ask every keeper to take its bench down, then end those that do not."""
    mine = keepers()
    for keeper in mine.values():
        with suppress(ProcessLookupError):
            if keeper.alive():
                os.kill(keeper.pid, signal.SIGTERM)
    with suppress(HilError):
        wait_until(
            lambda: not any(k.alive() for k in mine.values()),
            what="benches to go down",
            deadline_s=deadline_s,
            clock=clock,
        )
    for name, keeper in mine.items():
        end(keeper, what=f"keeper of bench {name}")
