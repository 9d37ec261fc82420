"""The orbit files of ``lab/orbits``, their contacts and their link plans."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from hil.orbit.contact_plan import ContactPlan, contact_plan
from hil.orbit.elements import Constellation, load_constellation
from hil.orbit.link_phases import every_candidate, plan_links
from hil.orbit.phases import LinkPlan, Phase
from hil.orbit.times import parse_time
from tests.kits import checkout

ORBITS = checkout.ROOT / "lab" / "orbits"
EPOCH = parse_time("2026-03-21T00:00:00Z")
"""Of every orbit file there."""


@cache
def orbit(name: str) -> Constellation:
    return load_constellation(ORBITS / f"{name}.yaml")


@cache
def contacts(name: str, span_s: float) -> ContactPlan:
    return contact_plan(orbit(name), duration_s=span_s, step_s=10)


def with_terminals(found: Constellation, **changes: object) -> Constellation:
    return replace(found, terminals=found.terminals.model_copy(update=changes))


def plan_of(found: Constellation, span_s: float, *, seed: int = 1, step_s: float = 10.0) -> LinkPlan:
    candidates = every_candidate(contact_plan(found, duration_s=span_s, step_s=10))
    return plan_links(found, candidates, start=found.epoch, span_s=span_s, seed=seed, step_s=step_s)


def phases(plan: LinkPlan, link: str) -> list[Phase]:
    return [interval.phase for interval in plan.links[link]]
