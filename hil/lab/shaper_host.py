"""The link box on another machine: how to log in to it, and which of its ports each end of each link is cabled to."""

from __future__ import annotations

from collections import Counter
from typing import Self

from pydantic import Field, model_validator

from hil.lab.real_board import SshSpec
from hil.lab.yamlfile import Strict

_NIC = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$"


class PortSpec(Strict):
    """One end of a link: a port of the shaper host and the NIC of this machine that leads to it."""

    port: str = Field(pattern=_NIC, description="NIC of the shaper host; only for this link, unless a VLAN is given")
    vlan: int | None = Field(
        default=None, ge=1, le=4094, description="VLAN on that port, made by the bench; several share a trunk"
    )
    near: str = Field(
        pattern=_NIC, description="NIC or VLAN of this machine that leads there; the bench takes it while it is up"
    )


class ShapedLinkSpec(Strict):
    """The two ends of a link, in the order of its `between`."""

    a: PortSpec
    b: PortSpec


class ShaperHostSpec(Strict):
    """The shaper host: a Linux with netem in the middle of all links of the lab. See docs/shaper-host.md."""

    ssh: SshSpec
    links: dict[str, ShapedLinkSpec] = Field(min_length=1, description="every link of the lab by its name")

    @model_validator(mode="after")
    def _each_port_once(self) -> Self:
        if self.ssh.jump:
            raise ValueError("a shaper host is logged in to directly: leave `jump` out")
        ends = [end for link in self.links.values() for end in (link.a, link.b)]
        whole = {end.port for end in ends if end.vlan is None}
        twice = Counter(f"port {end.port}" + (f" VLAN {end.vlan}" if end.vlan else "") for end in ends)
        twice.update(f"near {end.near}" for end in ends)
        if found := sorted(name for name, count in twice.items() if count > 1):
            raise ValueError(f"{', '.join(found)}: used for two ends; each needs its own")
        if found := sorted(whole & {end.port for end in ends if end.vlan is not None}):
            raise ValueError(f"port {found[0]} is used whole and as a trunk of VLANs; choose one")
        return self
