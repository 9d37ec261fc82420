"""``hil clean``: find what a killed run left on this host, name it, and remove it."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

from hil.bench.leftovers import FINDERS, Finder, Leftover, keepers, live_benches, strangers
from hil.core.processes import end
from hil.errors import ConfigurationError, HilError

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
            "removed": [x.as_json() for x in self.removed],
            "failed": [{**x.as_json(), "error": why} for x, why in self.failed],
            "live": list(self.live),
        }


def clean(
    *,
    everything: bool = False,
    dry_run: bool = False,
    of: Sequence[Finder] = FINDERS,
    live: Callable[[], Collection[str]] = live_benches,
) -> Cleaned:
    """Remove what killed runs left; live benches are not touched unless ``everything``.

    ``dry_run`` only names what it finds.  ConfigurationError when this is not root and something has to be
    removed; whatever resists is reported in ``failed``, and the rest is removed all the same.
    """
    up = live()
    removed: list[Leftover] = []
    failed: list[tuple[Leftover, str]] = []

    def remove(leftover: Leftover) -> None:
        if dry_run:
            removed.append(leftover)
            return
        if os.geteuid() != 0:
            raise ConfigurationError(f"only root can remove {leftover}", remedy="run `hil clean` as root")
        try:
            leftover.remove()
            removed.append(leftover)
        except (HilError, OSError) as exc:
            failed.append((leftover, getattr(exc, "message", str(exc))))

    if everything and up:
        benches = [
            Leftover(
                "live bench",
                name,
                partial(end, keeper, what=f"keeper of bench {name}", term_s=KEEPER_DEADLINE_S),
                name,
                f"keeper pid {keeper.pid}",
            )
            for name, keeper in keepers().items()
        ]
        with ThreadPoolExecutor(len(benches) or 1) as pool:  # each takes its bench down, all at the same time
            list(pool.map(remove, benches))
        up = () if dry_run else live()
    for find in of:
        # Each kind looks when its turn comes: a container that is gone has taken its loop devices along.
        for leftover in list(find(up)):
            remove(leftover)
    busy = [f"containers, which process {who.pid} may be using" for who in strangers()]
    return Cleaned(tuple(removed), tuple(failed), (*sorted(up), *busy), dry_run)
