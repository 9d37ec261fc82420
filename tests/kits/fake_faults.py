"""What faults hit in unit tests: the links of a lab on a link box whose kernel only remembers."""

from __future__ import annotations

from hil.lab.model import Lab
from hil.links.link_box import End, Wire
from hil.links.state import LinkState


def wires_of(lab: Lab) -> list[Wire]:
    """Return one wire for each link of a lab without an orbit, with its delay and rate."""
    return [
        Wire(link.name, End("ns1", f"l-{link.name}"), End("ns2", f"l-{link.name}"), state, state)
        for link in lab.links
        for state in [LinkState(delay_us=link.one_way_delay_us or 0, rate_bps=link.rate_bps)]
    ]
