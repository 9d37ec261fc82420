"""A plan with fades, which several modules look at."""

from __future__ import annotations

import pytest

from hil.orbit.elements import Constellation
from hil.orbit.link_phases import every_candidate, plan_links
from hil.orbit.model import Fades
from hil.orbit.phases import Candidate, LinkPlan
from tests.kits.orbits import contacts, orbit, with_terminals


@pytest.fixture(scope="module")
def fading() -> tuple[Constellation, tuple[Candidate, ...], LinkPlan]:
    """Two planes with a fade every twelve seconds of tracking, some of them long enough to lose the link."""
    found = with_terminals(orbit("two-planes"), fades=Fades(per_hour=300.0))
    candidates = every_candidate(contacts("two-planes", 6000))
    return found, candidates, plan_links(found, candidates, start=found.epoch, span_s=6000, seed=5, step_s=10)
