"""What the wire benchmark measures on: link boxes of its own, loads and a schedule."""

from __future__ import annotations

import multiprocessing
import os
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hil.core import netns
from hil.errors import BenchError
from hil.links.calibration.probe import Probe, warm_up
from hil.links.link_box import End, LinkBox, LinkStatus, Wire
from hil.links.schedule.windows import ScheduleRow
from hil.links.state import LinkState
from hil.links.wires import Profile

ONE_WAY_US = 14_386
CROSSLINK = LinkState(ONE_WAY_US, 200_000_000)
_PLANNED = 60
_FIRST_NS = 3_000_000_000  # by then whoever watches has begun, on a busy machine too


@contextmanager
def bench(
    engine: str, links: int, *, state: LinkState = CROSSLINK, profile: Profile = "exact", kernels: int | None = None
) -> Iterator[LinkBox]:
    """A link box with ``links`` alike, ``isl-0`` and so on, between two namespaces; all addresses given."""
    prefix = f"hilt-wire-{os.getpid()}-"
    near, far, middle = (prefix + name for name in ("a", "b", "box"))
    wires = [Wire(f"isl-{n}", End(near, f"isl{n}"), End(far, f"isl{n}"), state, state) for n in range(links)]
    with ExitStack() as stack:
        for name in (near, far, middle):
            stack.callback(netns.delete, name)
            netns.create(name)
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        box = LinkBox.up(middle, wires, socket_path=scratch / "s", engine=engine, profile=profile, kernels=kernels)
        stack.enter_context(box)
        for name, host in ((near, 1), (far, 2)):
            script = "".join(
                f"addr add 198.18.{100 + n // 64}.{n % 64 * 4 + host}/30 dev isl{n}\n" for n in range(links)
            )
            subprocess.run(["ip", "-n", name, "-batch", "-"], input=script, text=True, check=True, timeout=30)
        yield box


@contextmanager
def both_ways(box: LinkBox, link: str) -> Iterator[list[Probe]]:
    """Probes in both directions of a link, that arrive."""
    status = next(each for each in box.show() if each.name == link)
    with Probe(status, "a_to_b") as there, Probe(status, "b_to_a") as back:
        if silent := warm_up([there, back]):
            raise BenchError(f"nothing arrives: {silent}")
        yield [there, back]


@contextmanager
def saturated(link: LinkStatus) -> Iterator[None]:
    """One TCP flow that fills a link from A to B, in a process of its own, and has done so for a moment."""
    with Probe(link, "a_to_b") as probe:
        if warm_up([probe]):
            raise BenchError(f"nothing arrives over {link.name}")
        sender, receiver = probe.tcp_pair()
        with sender, receiver:
            pump = multiprocessing.get_context("fork").Process(target=_pump, args=(sender, receiver), daemon=True)
            pump.start()
            try:
                time.sleep(1.0)
                yield
                if not pump.is_alive():
                    raise BenchError(f"the load on {link.name} ended by itself")
            finally:
                pump.kill()
                pump.join()


def _pump(sender: socket.socket, receiver: socket.socket) -> None:
    def drain() -> None:
        while receiver.recv(1 << 20):
            pass

    receiver.settimeout(None)
    sender.settimeout(None)
    threading.Thread(target=drain, daemon=True).start()
    block = bytes(1 << 16)
    while True:
        sender.sendall(block)


class Outages:
    """A schedule source: one link that is down for 100 ms every 200 ms, from three seconds on."""

    def __init__(self, link: str) -> None:
        self.links = (link,)
        self.outages_ns = [
            (down, down + 100_000_000) for down in range(_FIRST_NS, _FIRST_NS + _PLANNED * 200_000_000, 200_000_000)
        ]
        self.span_s = self.outages_ns[-1][1] / 1e9 + 0.2

    def window(self, from_ns: int, to_ns: int) -> list[ScheduleRow]:
        edges = [(0, True), *((at, up) for o in self.outages_ns for at, up in ((o[0], False), (o[1], True)))]
        up_now = [up for at, up in edges if at <= from_ns] or [True]
        rows = [(from_ns, up_now[-1]), *((at, up) for at, up in edges if from_ns < at < to_ns)]
        return [ScheduleRow(at, self.links[0], up, ONE_WAY_US, 0) for at, up in rows]
