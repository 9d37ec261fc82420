"""What a link box is asked to build, and whether that makes sense."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from hil.boards.ssh.login import Target
from hil.errors import ConfigurationError
from hil.links.state import LinkState

if TYPE_CHECKING:
    from hil.lab.shaper_host import ShaperHostSpec

Profile = Literal["exact", "bulk"]
"""``exact``: one packet is one frame, and loss is valid; ``bulk``: full rate, no random loss."""


@dataclass(frozen=True)
class End:
    """One end of a wire: a NIC that the link box makes in a namespace that exists already."""

    namespace: str
    ifname: str


@dataclass(frozen=True)
class Share:
    """A tenant's share of a link: percent of its rate, and the IPv4 addresses of the tenant's boards."""

    tenant: str
    percent: int
    addresses: tuple[str, ...]


@dataclass(frozen=True)
class Wire:
    """One link to build."""

    name: str
    a: End
    b: End
    a_to_b: LinkState
    b_to_a: LinkState
    shares: tuple[Share, ...] = ()
    """Of tenants; empty: who comes first is served first."""


@dataclass(frozen=True)
class Port:
    """Where a link's end is on the shaper host: a NIC of its, or one VLAN on that NIC."""

    nic: str
    vlan: int | None = None

    def __str__(self) -> str:
        return self.nic if self.vlan is None else f"VLAN {self.vlan} on {self.nic}"


@dataclass(frozen=True)
class ShaperHost:
    """A shaper host and the two ports of it, of ends a and b, that each link is cabled to."""

    target: Target
    ports: Mapping[str, tuple[Port, Port]]

    @classmethod
    def of(cls, section: ShaperHostSpec) -> ShaperHost:
        """Return the shaper host of a lab file."""
        name = f"shaper host {section.ssh.user}@{section.ssh.address}"
        ends = {
            name: (Port(link.a.port, link.a.vlan), Port(link.b.port, link.b.vlan))
            for name, link in section.links.items()
        }
        return cls(Target.of(name, section.ssh, under_test=False), ends)

    def ends(self, links: Iterable[str]) -> list[Port]:
        """Return the ports of these links, a then b of each. ConfigurationError for a link without ports."""
        try:
            return [port for name in links for port in self.ports[name]]
        except KeyError as exc:
            raise ConfigurationError(f"link {exc} has no ports on {self.target.name}") from exc


def check_profile(link: str, state: LinkState, profile: Profile) -> None:
    """Raise ConfigurationError for what hits packets by chance in profile bulk, where it would hit 64 KB at a time."""
    if profile == "bulk" and state.random:
        raise ConfigurationError(
            f"link {link!r}: random loss, and anything else by chance, is not possible in profile bulk",
            remedy="use profile exact for loss models; bulk has outages only",
        )


def check_wires(wires: Sequence[Wire], profile: Profile) -> None:
    """Raise ConfigurationError for wires that cannot be built as they are."""
    if not wires:
        raise ConfigurationError("a link box without links", remedy="give at least one wire")
    names = [wire.name for wire in wires]
    ends = [end for wire in wires for end in (wire.a, wire.b)]
    for kind, values in (("link name", names), ("link end", ends)):
        if twice := {str(value) for value in values if values.count(value) > 1}:  # type: ignore[arg-type]
            raise ConfigurationError(f"{kind} used twice: {', '.join(sorted(twice))}", remedy="make them unique")
    for wire in wires:
        if wire.a_to_b.mtu != wire.b_to_a.mtu:
            raise ConfigurationError(
                f"link {wire.name!r} has two MTUs: {wire.a_to_b.mtu} and {wire.b_to_a.mtu}", remedy="a link has one MTU"
            )
        for end in (wire.a, wire.b):
            if not 0 < len(end.ifname) < 16 or any(c in end.ifname for c in "/ \t\n:"):
                raise ConfigurationError(
                    f"link {wire.name!r}: {end.ifname!r} is no NIC name", remedy="1 to 15 characters, no space, / or :"
                )
        for state in (wire.a_to_b, wire.b_to_a):
            check_profile(wire.name, state, profile)
        _check_shares(wire)


def _check_shares(wire: Wire) -> None:
    percents = [share.percent for share in wire.shares]
    wrong = [f"a share of {percent} percent" for percent in percents if percent < 1]
    wrong += [f"the shares are {sum(percents)} percent"] if sum(percents) > 100 else []
    wrong += ["a tenant twice"] if len({share.tenant for share in wire.shares}) < len(percents) else []
    if wrong:
        raise ConfigurationError(f"link {wire.name!r}: {', '.join(wrong)}", remedy="1 to 100 percent, 100 together")
