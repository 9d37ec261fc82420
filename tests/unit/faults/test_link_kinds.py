"""Faults of links: each is read back from the kernel, and one that does nothing is not confirmed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hil.faults.fault import Injection, Outcome, injected, load_fault
from hil.faults.link_kinds import LinksHeld, LinksMoved
from hil.lab.model import load_lab
from hil.links.shape import DIRECTIONS
from hil.testing.fakes import ListSink
from hil.testing.links import fake_box
from tests.kits.fake_bench import LAB
from tests.kits.fake_faults import wires_of

KINDS = [
    *("link-cut", "link-one-way", "link-slow", "link-loss", "link-bursts", "link-corrupt", "link-reorder"),
    *("link-duplicate", "link-flap", "link-fade", "swizzle", "spacecraft-dark", "ground-lost"),
]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Any]:
    lab = load_lab(LAB)
    with fake_box(wires_of(lab), socket_path=tmp_path / "links.sock") as links:
        yield SimpleNamespace(name="test", lab=lab, links=links, boards={}, sink=ListSink(), orbit=None)


def _states(world: Any) -> list[Any]:
    return [world.links.commanded(link, d) for link in world.links.links for d in DIRECTIONS]


@pytest.mark.parametrize("name", KINDS)
def test_every_fault_of_links_bites_is_proven_and_is_healed(world: Any, name: str) -> None:
    before = _states(world)
    injection = Injection(name, world, load_fault(name).targets(world)[-1], {})
    proof = injection.begin()
    assert proof.outcome is Outcome.CONFIRMED, proof
    assert _states(world) != before
    injection.end()
    assert _states(world) == before
    assert all(s.a_to_b.agrees and s.b_to_a.agrees for s in world.links.show())


@pytest.mark.parametrize("name", KINDS)
def test_the_proof_of_a_fault_that_does_nothing_fails(world: Any, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in (LinksHeld, LinksMoved):
        monkeypatch.setattr(kind, "command", lambda *args: None)
    injection = Injection(name, world, load_fault(name).targets(world)[-1], {})
    assert injection.begin().outcome is Outcome.MISMATCH
    injection.end()


def test_a_share_of_a_rate_that_is_no_whole_number_of_bytes_is_confirmed(world: Any) -> None:
    injection = Injection("link-slow", world, "isl-ab", {"share": 0.1234567})
    assert injection.begin().outcome is Outcome.CONFIRMED
    assert all(s.a_to_b.agrees and s.b_to_a.agrees for s in world.links.show())
    injection.end()


def test_a_fault_that_moves_goes_on_until_it_ends_and_every_step_is_read_back(world: Any) -> None:
    injection = Injection("link-flap", world, "isl-ab", {"down_s": 0.05, "up_s": 0.05})
    injection.begin()
    time.sleep(0.4)
    proof = injection.prove()
    assert proof.outcome is Outcome.CONFIRMED and not proof.seen.startswith("1 of 1")
    injection.end()
    assert world.links.commanded("isl-ab", "a_to_b").up


def test_an_impaired_link_goes_back_to_what_was_commanded_by_hand(world: Any) -> None:
    own = world.links.commanded("isl-ab", "a_to_b")
    from dataclasses import replace

    world.links.set("isl-ab", a_to_b=replace(own, rate_bps=8_000_000))
    injection = Injection("link-loss", world, "isl-ab", {"loss_ppm": 1000})
    injection.begin()
    assert world.links.commanded("isl-ab", "a_to_b") == replace(own, rate_bps=8_000_000, loss_ppm=1000)
    injection.end()
    assert world.links.commanded("isl-ab", "a_to_b") == replace(own, rate_bps=8_000_000)


def test_a_fault_goes_on_when_another_one_on_its_link_has_ended(world: Any) -> None:
    with injected("link-loss", world, "isl-ab", loss_ppm=1000) as (outer,):
        with injected("link-slow", world, "isl-ab"):
            assert world.links.commanded("isl-ab", "a_to_b").loss_ppm == 1000
        assert outer.prove().outcome is Outcome.CONFIRMED
    assert world.links.commanded("isl-ab", "a_to_b").loss_ppm == 0
    with injected("spacecraft-dark", world, "all"):
        assert world.links.cut_links() == {*world.links.links}
    assert not world.links.cut_links()


def test_what_chance_does_needs_the_exact_profile(tmp_path: Path) -> None:
    lab = load_lab(LAB)
    with fake_box(wires_of(lab), socket_path=tmp_path / "links.sock", profile="bulk") as links:
        bulk: Any = SimpleNamespace(name="test", lab=lab, links=links, boards={}, sink=ListSink(), orbit=None)
        assert not load_fault("link-corrupt").targets(bulk) and load_fault("link-cut").targets(bulk)
