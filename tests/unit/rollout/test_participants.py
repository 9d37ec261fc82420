"""Who takes part: the default of every lab, --on, --split, and what is refused."""

from __future__ import annotations

import pytest

from hil.core import paths
from hil.errors import ConfigurationError
from hil.lab.model import Lab, load_lab
from hil.lab.tenant import TenantSpec
from hil.rollout.participants import Participants, choose, links_that_matter, second_way
from tests.kits.small_labs import PAIR, RING, lab


@pytest.mark.parametrize(("name", "split"), [("virtual", "3+3"), ("virtual-4-2", "4+2")])
def test_a_lab_of_six_boards_on_two_spacecraft_takes_part_as_a_whole(name: str, split: str) -> None:
    six = load_lab(paths.ROOT / "lab" / f"{name}.yaml")
    chosen = choose(six)
    assert set(chosen.boards) == {b.name for b in six.boards}
    assert (chosen.split, chosen.gateway, chosen.others, chosen.way) == (split, "a1", (), ("isl-ab",))


def test_of_a_larger_lab_three_boards_of_the_gateways_spacecraft_and_of_its_first_neighbour() -> None:
    chosen = choose(RING)
    assert chosen.boards == ("a1", "a2", "a3", "b1", "b2", "b3")
    assert (chosen.near, chosen.far, chosen.split) == ("sc-a", "sc-b", "3+3")
    assert len(chosen.others) == 14
    assert str(chosen) == (
        "a1, a2, a3, b1, b2, b3 (3+3 on sc-a and sc-b); 1 hop apart; 14 other boards are to be left alone"
    )


def test_the_first_spacecraft_named_carries_the_gateway() -> None:
    chosen = choose(RING, "sc-d,sc-a", "4+2")
    assert chosen.boards == ("d1", "d2", "d3", "d4", "a1", "a2")
    assert (chosen.gateway, chosen.way) == ("d1", ("d-e", "e-a"))


def test_the_labs_gateway_takes_part_and_comes_first_wherever_it_stands_in_the_file() -> None:
    late = lab({"a": 4, "b": 4}, [("a", "b")], gateway="a4")
    assert choose(late).boards[:3] == ("a4", "a1", "a2")
    assert choose(late, "sc-b,sc-a").boards == ("b1", "b2", "b3", "a4", "a1", "a2")


def test_two_spacecraft_that_are_no_neighbours_are_allowed_and_the_hops_are_told() -> None:
    chosen = choose(RING, "sc-a,sc-c")
    assert chosen.way == ("a-b", "b-c")
    assert (chosen.facts()["hops"], chosen.crosslink) == (2, "a-b")


def test_a_small_lab_without_a_crosslink_takes_part_as_a_whole_and_asking_for_the_far_one_is_refused() -> None:
    chosen = choose(lab({"a": 2}, []))
    assert (chosen.boards, chosen.way) == (("a1", "a2"), ())
    for name in ("far", "crosslink"):
        with pytest.raises(ConfigurationError, match="only sc-a takes part"):
            getattr(chosen, name)


@pytest.mark.parametrize(
    ("on", "split", "says"),
    [
        ("sc-a,sc-x", None, "no spacecraft sc-x"),
        ("sc-a", None, "two spacecraft"),
        ("sc-a,sc-a", None, "two spacecraft"),
        ("sc-a,sc-b,sc-c", None, "two spacecraft"),
        (None, "6", "not a split"),
        (None, "0+6", "not a split"),
        (None, "5+1", "sc-a has 4 boards, 5 are wanted"),
        ("sc-b,sc-c", "2+5", "sc-c has 4 boards"),
    ],
)
def test_what_is_wrong_is_named(on: str | None, split: str | None, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says.replace("+", r"\+")) as error:
        choose(RING, on, split)
    assert error.value.remedy


def test_spacecraft_that_only_the_ground_joins_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="not joined by crosslinks"):
        choose(lab({"a": 3, "b": 3}, [], ground="ab"))


def test_a_ring_has_a_second_way_and_a_single_crosslink_has_none() -> None:
    assert second_way(RING, choose(RING)) == ["e-a", "d-e", "c-d", "b-c"]
    assert second_way(PAIR, choose(PAIR)) is None
    assert second_way(lab({"a": 2}, []), choose(lab({"a": 2}, []))) is None


class TestLinksThatMatter:
    def names(self, of: Lab, chosen: Participants | None = None, without: str = "") -> list[str]:
        usable = {link.name for link in of.links} - {without}
        return links_that_matter(of, chosen or choose(of), usable)

    def test_all_of_a_small_lab_also_one_that_is_cut_so_that_it_is_noticed(self) -> None:
        assert self.names(PAIR) == ["gnd-a", "a-b"]
        assert self.names(PAIR, without="a-b") == ["gnd-a", "a-b"]

    def test_of_a_large_lab_those_of_the_two_spacecraft_of_the_ground_and_of_the_ways(self) -> None:
        big = lab(dict.fromkeys("abcdefgh", 1), [*zip("abcdefgh", "bcdefgha", strict=True)], ground="d")
        near = choose(big, "sc-a,sc-b")
        assert self.names(big, near) == ["gnd-d", "a-b", "b-c", "c-d", "h-a"]
        assert self.names(big, choose(big, "sc-a,sc-c")) == ["gnd-d", "a-b", "b-c", "c-d", "h-a"]


def test_a_tenants_boards_take_part_on_the_spacecraft_that_carry_them() -> None:
    shared = load_lab(paths.ROOT / "lab/two-tenants.yaml")
    beta = choose(shared.as_seen_by("beta"))
    assert (beta.boards, beta.gateway, beta.split, beta.others) == (("a3", "b2", "b3"), "a3", "1+2", ())
    far = TenantSpec.model_validate({"name": "far", "boards": ["k01b", "k05a"]})
    ring = load_lab(paths.ROOT / "lab/kepler.yaml").model_copy(update={"tenants": (far,)})
    assert choose(ring.as_seen_by("far")).spacecraft == ("sc-01", "sc-05")
