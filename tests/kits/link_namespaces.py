"""Namespaces with addresses, and a link box between them, for link tests."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hil.core import netns
from hil.evidence.events import LinkFigure
from hil.links.calibration.calibrate import measure
from hil.links.calibration.probe import Probe, warm_up
from hil.links.calibration.stages import Stage
from hil.links.link_box import DIRECTIONS, End, LinkBox, Wire
from hil.links.state import LinkState
from hil.links.wires import Share

GROUND = LinkState(5_000, 50_000_000)
CROSS = LinkState(14_390, 200_000_000)
SHARES = (Share("alpha", 30, ("198.18.1.11", "198.18.0.11")), Share("beta", 70, ("198.18.1.12", "198.18.0.12")))


@contextmanager
def namespaces(test: str) -> Iterator[str]:
    """Empty namespaces ``<prefix>gs``, ``a``, ``b`` and ``box``; yields the prefix."""
    prefix = f"hilt-links-{test}-{os.getpid()}-"
    made = [prefix + name for name in ("gs", "a", "b", "box")]
    try:
        for name in made:
            netns.create(name)
        yield prefix
    finally:
        for name in made:
            netns.delete(name)


def nics_in(namespace: str) -> list[str]:
    """Return the names of the NICs in a namespace."""
    argv = ["ip", "-n", namespace, "-o", "link"]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    return [line.split(": ")[1].split("@")[0] for line in text.splitlines()]


def wires(prefix: str, *, shares: tuple[Share, ...] = ()) -> list[Wire]:
    """Ground station to A, of which tenants may have ``shares``, and A to B."""
    return [
        Wire("ground", End(prefix + "gs", "gnd0"), End(prefix + "a", "gnd0"), GROUND, GROUND, shares),
        Wire("crosslink", End(prefix + "a", "isl0"), End(prefix + "b", "isl0"), CROSS, CROSS),
    ]


def give_addresses(prefix: str, nics: tuple[str, ...] = ("gnd0", "isl0")) -> None:
    """Addresses for the ends of :func:`wires` with these NICs."""
    for end, nic, address in (
        ("gs", "gnd0", "198.19.128.1/30"),
        ("a", "gnd0", "198.19.128.2/30"),
        ("a", "isl0", "198.19.128.5/30"),
        ("b", "isl0", "198.19.128.6/30"),
    ):
        if nic in nics:
            subprocess.run(["ip", "-n", prefix + end, "addr", "add", address, "dev", nic], check=True)


@contextmanager
def link_box(test: str, directory: Path) -> Iterator[LinkBox]:
    """The two links of this kit in User-Mode Linux, with addresses; its socket lies in ``directory``.

    Tenants have :data:`SHARES` of the ground link.
    """
    with (
        namespaces(test) as prefix,
        LinkBox.up(
            prefix + "box", wires(prefix, shares=SHARES), socket_path=directory / "links.sock", engine="uml"
        ) as box,
    ):
        give_addresses(prefix)
        yield box


def as_it_came_up(box: LinkBox) -> LinkBox:
    """The same box with both links commanded as at first and nothing compensated."""
    box.set("ground", a_to_b=GROUND, b_to_a=GROUND)
    box.set("crosslink", a_to_b=CROSS, b_to_a=CROSS)
    for link in box.links:
        for direction in DIRECTIONS:
            box.compensate(link, direction, 0)
    return box


def figures(box: LinkBox, link: str, *stages: Stage) -> list[LinkFigure]:
    """Measure both directions of a link as a calibration does, in these of its stages alone."""
    (status,) = (each for each in box.show() if each.name == link)
    rows: list[LinkFigure] = []
    with ExitStack() as stack:
        probes = [stack.enter_context(Probe(status, direction)) for direction in DIRECTIONS]
        assert not warm_up(probes)
        for stage in stages:
            measured, gone = measure(box, probes, stage)
            assert not gone
            rows += measured
    return rows
