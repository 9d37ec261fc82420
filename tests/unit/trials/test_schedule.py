"""Schedules repeat with their seed, stay within the profile, and kinds are switched off as a whole."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hil.errors import ConfigurationError
from hil.faults.fault import all_faults
from hil.lab.model import load_lab
from hil.trials.profile import PROFILES, Profile, load_profile
from hil.trials.schedule import Strike, draw
from tests.kits.fake_bench import LAB

VIRTUAL = load_lab(LAB)
LINKS, BOARDS = [link.name for link in VIRTUAL.links], [board.name for board in VIRTUAL.boards]
CRAFT = [craft.name for craft in VIRTUAL.spacecraft]


def targets(profile: Profile) -> dict[str, list[str]]:
    """What each fault of a profile can hit on the virtual lab."""
    parts = ["keeper", "link-box", "engine"]
    special = {
        "bench-part-frozen": parts,
        "bench-part-killed": parts[:2],
        "bench-disks-full": ["disks"],
        "bench-clock-jump": ["clock"],
        "spacecraft-dark": CRAFT,
        "spacecraft-lost": CRAFT,
        "ground-lost": ["gs-1"],
        "swizzle": ["virtual"],
    }
    return {
        kind.fault: special.get(kind.fault, LINKS if kind.fault.startswith("link") else BOARDS)
        for kind in profile.kinds
    }


def drawn(profile: Profile, seed: int) -> tuple[Strike, ...]:
    return draw(profile, seed, all_faults(), targets(profile), VIRTUAL)


@pytest.mark.parametrize("name", sorted(path.stem for path in PROFILES.glob("*.yaml")))
def test_a_shipped_profile_draws_what_its_faults_accept_and_the_same_again(name: str) -> None:
    profile, faults = load_profile(name), all_faults()
    for seed in range(200):
        strikes = drawn(profile, seed)
        assert strikes == drawn(profile, seed)
        assert profile.faults[0] <= len({s.number for s in strikes}) <= profile.faults[1]
        for strike in strikes:
            known = {p.name: p for p in faults[strike.fault].parameters}
            assert all(known[name].checked(value) == value for name, value in strike.parameters.items())
            assert strike.target in targets(profile)[strike.fault]
            assert Strike.read(strike.document()) == strike


def test_whole_kinds_are_switched_off_in_a_trial() -> None:
    profile = load_profile("default").model_copy(update={"faults": (20, 20), "swarm": 0.2})
    kinds = [len({s.fault for s in drawn(profile, seed)}) for seed in range(100)]
    assert max(kinds) < len(profile.kinds) * 0.6 and min(kinds) >= 1
    seen = Counter(s.fault for seed in range(300) for s in drawn(profile, seed))
    assert seen.keys() == {kind.fault for kind in profile.kinds}


def test_a_bench_that_can_do_nothing_of_a_profile_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="can do no fault"):
        draw(load_profile("links"), 1, all_faults(), {}, VIRTUAL)


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ("kinds: [{fault: link-cutt}]", "no fault is called"),
        ("kinds: [{fault: link-cut, moments: [landing]}]", "no moment is called"),
        ("kinds: [{fault: link-cut, lasts_s: [3, 1]}]", "the least and the most"),
        ("kinds: [{fault: link-cut}]\nfaults: [0, 2]", "1 to 20"),
        ("kinds: []", "kinds"),
    ],
)
def test_a_profile_that_is_wrong_is_refused_with_its_file(tmp_path: Path, lines: str, why: str) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(f"schema: 1\nname: p\n{lines}\n")
    with pytest.raises(ConfigurationError, match=why) as raised:
        load_profile(file)
    assert "p.yaml" in str(raised.value)


def test_a_profile_that_is_not_shipped_names_those_that_are() -> None:
    with pytest.raises(ConfigurationError) as raised:
        load_profile("nightmare")
    shipped: Any = str(raised.value)
    assert "default" in shipped and "links" in shipped
