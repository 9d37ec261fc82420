"""What a link box is asked to build, and whether that makes sense."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hil.errors import ConfigurationError
from hil.links.engines.wiring import Profile
from hil.links.state import LinkState


@dataclass(frozen=True)
class End:
    """One end of a wire: a NIC that the link box makes in a namespace that exists already."""

    namespace: str
    ifname: str


@dataclass(frozen=True)
class Wire:
    """One link to build."""

    name: str
    a: End
    b: End
    a_to_b: LinkState
    b_to_a: LinkState


def check_profile(link: str, state: LinkState, profile: Profile) -> None:
    """ConfigurationError for random loss in profile bulk, where it would drop 64 KB at a time."""
    if profile == "bulk" and state.mean_loss_ppm:
        raise ConfigurationError(
            f"link {link!r}: random loss is not possible in profile bulk",
            remedy="use profile exact for loss models; bulk has outages only",
        )


def check_wires(wires: Sequence[Wire], profile: Profile) -> None:
    """ConfigurationError for wires that cannot be built as they are."""
    if not wires:
        raise ConfigurationError("a link box without links", remedy="give at least one wire")
    names = [wire.name for wire in wires]
    ends = [end for wire in wires for end in (wire.a, wire.b)]
    for kind, values in (("link name", names), ("link end", ends)):
        if twice := {str(value) for value in values if values.count(value) > 1}:  # type: ignore[arg-type]
            raise ConfigurationError(
                f"{kind} used twice: {', '.join(sorted(twice))}", remedy="make them unique"
            )
    for wire in wires:
        if wire.a_to_b.mtu != wire.b_to_a.mtu:
            raise ConfigurationError(
                f"link {wire.name!r} has two MTUs: {wire.a_to_b.mtu} and {wire.b_to_a.mtu}",
                remedy="a link has one MTU",
            )
        for end in (wire.a, wire.b):
            if not 0 < len(end.ifname) < 16 or any(c in end.ifname for c in "/ \t\n:"):
                raise ConfigurationError(
                    f"link {wire.name!r}: {end.ifname!r} is no NIC name",
                    remedy="1 to 15 characters, no space, / or :",
                )
        for state in (wire.a_to_b, wire.b_to_a):
            check_profile(wire.name, state, profile)
