"""The whole constellation on one machine: forty boards, a ring of crosslinks that follows the orbit, passes."""

from __future__ import annotations

import socket
import statistics
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from hil.bench.bench import Bench
from hil.core import netns, paths
from hil.faults.fault import injected
from hil.lab.addressing import node_address
from hil.lab.routes import path
from hil.links.calibration import stages
from hil.links.calibration.calibrate import measure
from hil.links.calibration.probe import Probe, warm_up
from hil.links.link_box import DIRECTIONS, LinkBox
from tests.kits.host_state import as_it_was

pytestmark = [pytest.mark.integration, pytest.mark.quiet]

LAB = paths.ROOT / "lab/kepler.yaml"
HOP_US = 14_386
RING = [f"isl-{k:02d}-{k % 10 + 1:02d}" for k in range(1, 11)]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with as_it_was(), Bench(LAB) as up:
        yield up


def compensate(box: LinkBox) -> None:
    """Measure the engine's own delay on the ring and take it off what the links are told."""
    with ExitStack() as stack:
        ring = [status for status in box.show() if status.name in RING]
        probes = [stack.enter_context(Probe(status, direction)) for status in ring for direction in DIRECTIONS]
        assert not warm_up(probes)
        rows, _ = measure(box, probes, stages.engine_constant)
    assert {(row.link, row.direction) for row in rows} == {(name, way) for name in RING for way in DIRECTIONS}


class Stream:
    """Packets from one router to another, one every 10 ms, with their one-way delay (both share a clock)."""

    def __init__(self, bench: Bench, start: str, end: str) -> None:
        self._sender = self._socket(bench, start)
        self._receiver = self._socket(bench, end)
        self._receiver.settimeout(0.5)
        self.arrived: list[tuple[float, float]] = []  # (sent, delay), seconds
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._send), threading.Thread(target=self._receive)]

    @staticmethod
    def _socket(bench: Bench, node: str) -> socket.socket:
        with netns.inside(bench.plumbing.namespace(node)):
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((node_address(bench.lab, node), 0))
        return sock

    def _send(self) -> None:
        target = self._receiver.getsockname()
        while not self._stop.wait(0.01):
            self._sender.sendto(struct.pack("d", time.monotonic()), target)

    def _receive(self) -> None:
        while True:
            try:
                (sent,) = struct.unpack("d", self._receiver.recv(64))
            except TimeoutError:
                if self._stop.is_set():
                    return
                continue
            self.arrived.append((sent, time.monotonic() - sent))

    def __enter__(self) -> Stream:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        self._sender.close()
        self._receiver.close()

    def longest_gap_s(self, from_s: float) -> float:
        """Longest time between two packets that arrived, by the moments at which they were sent."""
        sent = [moment for moment, _ in self.arrived if moment >= from_s]
        return max(b - a for a, b in zip([from_s, *sent], sent, strict=False))


def test_every_board_reaches_every_spacecraft_by_name(bench: Bench) -> None:
    assert len(bench.boards) == 40
    others = [f"k{k:02d}{'abcd'[k % 4]}" for k in range(1, 11)]
    script = "for b in $@; do ping -c1 -W2 $b >/dev/null || echo $b; done"
    for name in ("k01a", "k06c"):
        with bench.boards[name].shell() as shell:
            assert shell.run(["sh", "-c", script, "-", *others], timeout_s=60).stdout == ""


def test_the_ring_tracks_and_one_spacecraft_has_the_pass(bench: Bench) -> None:
    up = {status.name for status in bench.links.show() if status.up}
    assert up == {*RING, "gnd-01"}
    assert all(s.a_to_b.agrees and s.b_to_a.agrees for s in bench.links.show())


def test_five_hops_take_five_times_the_light_time_and_the_other_way_takes_over_within_a_second(bench: Bench) -> None:
    compensate(bench.links)
    way = path(bench.lab, "sc-01", "sc-06", [*RING])
    assert way is not None and len(way) == 5
    through = "sc-02" if "isl-01-02" in way else "sc-10"
    with Stream(bench, "sc-01", "sc-06") as stream:
        time.sleep(2)
        before = [delay for _, delay in stream.arrived[20:]]
        lost_at = time.monotonic()
        with injected("spacecraft-lost", bench, through):
            time.sleep(2.5)
            gap_s = stream.longest_gap_s(lost_at)
            after = [delay for sent, delay in stream.arrived if sent > lost_at + 1.5]
            assert after, "nothing arrives over the line that remains"
    assert abs(statistics.median(before) * 1e3 - 5 * HOP_US / 1e3) <= 1.0
    assert abs(statistics.median(after) * 1e3 - 5 * HOP_US / 1e3) <= 1.0  # five hops the other way round
    assert gap_s <= 1.0


def test_the_ground_reaches_the_far_side_through_the_spacecraft_that_has_the_pass(bench: Bench) -> None:
    with Stream(bench, bench.lab.ground_station.name, "sc-06") as stream:
        time.sleep(1.5)
    assert 72 <= statistics.median(delay for _, delay in stream.arrived) * 1e3 <= 85
