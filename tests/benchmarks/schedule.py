"""What playing a schedule costs: 45 links, both directions, delays that move at 10 Hz, in User-Mode Linux."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from hil.links.calibration.probe import Probe, pace, warm_up
from hil.links.engines.uml import UmlAgent
from hil.links.link_box import LinkStatus
from hil.links.schedule.player import Player
from hil.links.state import LinkState
from tests.benchmarks.figures import Figure
from tests.kits.many_links import Slope, cpu_percent, many_links, process_tree, pss_mb

LINKS = 45
SECONDS = 20.0
_SETTLE_S = 6.0  # the player fills the engine's stock in this time
_STATE = LinkState(14_386, 200_000_000)


def schedule(lab: Path) -> Iterator[Figure]:
    """45 links in User-Mode Linux, a kernel per core: bring-up, memory, CPU idle, loaded and playing."""
    with tempfile.TemporaryDirectory() as directory, ExitStack() as stack:
        begin = time.monotonic()
        box = stack.enter_context(many_links("bench", LINKS, _STATE, Path(directory) / "s"))
        up_s = time.monotonic() - begin
        kernels = [agent for agent in box.agents if isinstance(agent, UmlAgent)]
        assert len(kernels) == len(box.agents)
        pids = [pid for kernel in kernels for pid in process_tree(kernel.pid)]
        idle = cpu_percent(pids, 5)
        moved = cpu_percent_under(box.show()[:4], pids, hertz=250)
        source = Slope(box.links, spread=True)
        player = Player(box, source, zero_ns=time.monotonic_ns(), log_path=Path(directory) / "schedule.csv").start()
        time.sleep(_SETTLE_S)
        playing = cpu_percent(pids, SECONDS)
        memory = pss_mb(pids)
        player.close()
        found = player.summary()
    against = f"issue limit; {LINKS} links x 2 directions x 10 Hz"
    yield Figure("45 links up", round(up_s, 2), "s", "", "namespaces, 90 cables, User-Mode Linux, addresses")
    yield Figure("45 links, memory", round(memory), "MB PSS", "", f"{len(kernels)} User-Mode Linuxes")
    yield Figure("45 links, idle", round(idle, 1), "% of a core", "", "nothing sent, nothing played")
    yield Figure("45 links, 1,000 packets/s", round(moved, 1), "% of a core", "", "4 links, 64 bytes")
    yield Figure("schedule, CPU", round(playing, 1), "% of a core", "<= 10", against)
    yield Figure("schedule, late p50", found["late_p50_us"] / 1000, "ms", "", f"{found['rows']} rows")
    yield Figure("schedule, late p99", found["late_p99_us"] / 1000, "ms", "<= 50", against)
    yield Figure("schedule, late worst", found["late_max_us"] / 1000, "ms", "", f"{found['rows']} rows")
    yield Figure("schedule, rows refused or lost", found["errors"] + found["lost"], "", "<= 0", "")


def cpu_percent_under(links: Sequence[LinkStatus], pids: Sequence[int], *, hertz: int) -> float:
    """Share of a core while ``hertz`` small packets a second go over each of these links."""
    with ExitStack() as stack:
        probes = [stack.enter_context(Probe(link, "a_to_b")) for link in links]
        assert not warm_up(probes)
        sending = threading.Thread(target=pace, args=(probes,), kwargs={"count": 6 * hertz, "interval_s": 1 / hertz})
        sending.start()
        time.sleep(0.5)
        found = cpu_percent(pids, 5)
        sending.join()
    return found
