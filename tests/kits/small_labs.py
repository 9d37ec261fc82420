"""Labs of a few boards, built from a layout, and a contact plan that is a list."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hil.lab.model import Lab


def lab(layout: dict[str, int], edges: list[tuple[str, str]], *, gateway: str = "a1", ground: str = "a") -> Lab:
    """Spacecraft sc-x with boards x1, x2, ...; crosslinks x-y; the ground joined to some spacecraft."""
    links: list[dict[str, Any]] = [
        {"name": f"gnd-{x}", "kind": "ground", "between": ["gs-1", f"sc-{x}"], "rate_bps": 10**8} for x in ground
    ]
    links += [
        {"name": f"{a}-{b}", "kind": "crosslink", "between": [f"sc-{a}", f"sc-{b}"], "rate_bps": 2 * 10**8}
        for a, b in edges
    ]
    return Lab.model_validate(
        {
            "schema": 1,
            "name": "lab",
            "ground_station": {"name": "gs-1"},
            "gateway": gateway,
            "spacecraft": [
                {"name": f"sc-{x}", "boards": [{"name": f"{x}{k}"} for k in range(1, n + 1)]} for x, n in layout.items()
            ],
            "links": [{**link, "one_way_delay_us": 1000} for link in links],
        }
    )


def orbiting(*edges: str, fixed: tuple[str, ...] = ()) -> Lab:
    """Spacecraft sc-a ... sc-d; edges such as ``ab`` are crosslinks that follow the orbit, or ``fixed`` ones."""
    craft = sorted({c for edge in (*edges, *fixed) for c in edge})
    crosslinks = [
        {
            "name": edge,
            "kind": "crosslink",
            "between": [f"sc-{edge[0]}", f"sc-{edge[1]}"],
            "rate_bps": 200_000_000,
            **({"one_way_delay_us": 1000} if edge in fixed else {}),
        }
        for edge in (*edges, *fixed)
    ]
    ground = {"name": "g", "kind": "ground", "between": ["gs-1", "sc-a"], "rate_bps": 100_000_000}
    return Lab.model_validate(
        {
            "schema": 1,
            "name": "sky",
            "ground_station": {"name": "gs-1"},
            "gateway": "a1",
            "orbit": {"file": "orbits/x.yaml"},
            "spacecraft": [{"name": f"sc-{c}", "boards": [{"name": f"{c}1"}]} for c in craft],
            "links": [ground, *crosslinks],
        }
    )


@dataclass
class Plan:
    """``ContactPlan`` as a list: when, and which links from then on."""

    steps: list[tuple[float, str]]

    def topology(self) -> list[tuple[float, frozenset[str]]]:
        return [(at_s, frozenset(links.split())) for at_s, links in self.steps]


RING = lab(dict.fromkeys("abcde", 4), [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a")])
PAIR = lab({"a": 3, "b": 3}, [("a", "b")])
