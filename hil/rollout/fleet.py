"""The boards of one rollout, and how to reach them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

from hil.boards.protocol import Board, Via
from hil.core import netns
from hil.errors import ConfigurationError
from hil.images.flight_pki import Operator
from hil.onboard.node.answers import PORT


class Dial(Protocol):
    """Opens a TCP connection from inside a namespace; :func:`hil.core.netns.connect` is the real one."""

    def __call__(self, namespace: str, address: tuple[str, int], *, timeout_s: float) -> socket.socket: ...


@dataclass(frozen=True)
class Fleet:
    """The members, the gateway board among them, and the cluster's name.

    ConfigurationError when a name is doubled or the gateway is not a member.
    """

    members: tuple[Board, ...]
    gateway: str
    cluster: str = "cluster"
    port: int = PORT
    dial: Dial = field(default=netns.connect, compare=False, repr=False)
    operator: Operator | None = field(default=None, compare=False, repr=False)
    """As whom the ground commands the boards; None where they have no flight security."""

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) != len(names):
            raise ConfigurationError(f"fleet has a board twice: {', '.join(sorted(names))}")
        if self.gateway not in names:
            raise ConfigurationError(
                f"gateway {self.gateway!r} is not one of the boards", remedy=f"choose one of {', '.join(names)}"
            )

    @classmethod
    def of(
        cls, boards: Mapping[str, Board], gateway: str, cluster: str = "cluster", *, operator: Operator | None = None
    ) -> Fleet:
        """Return a fleet of all boards of a bench, commanded as its ``operator``."""
        return cls(tuple(boards.values()), gateway, cluster, operator=operator)

    def __iter__(self) -> Iterator[Board]:
        return iter(self.members)

    def __len__(self) -> int:
        return len(self.members)

    @property
    def names(self) -> list[str]:
        return [m.name for m in self.members]

    def member(self, name: str) -> Board:
        """Return the member of that name; ConfigurationError names the others."""
        for member in self.members:
            if member.name == name:
                return member
        raise ConfigurationError(f"no board {name!r} in the fleet", remedy=f"choose one of {', '.join(self.names)}")

    def spacecraft(self) -> dict[str, list[Board]]:
        """Return members by spacecraft, the gateway's spacecraft first."""
        first = self.member(self.gateway).spacecraft
        grouped: dict[str, list[Board]] = {first: []}
        for member in self.members:
            grouped.setdefault(member.spacecraft, []).append(member)
        return grouped

    def heads(self) -> dict[str, Board]:
        """By spacecraft, the one member that takes data from outside the spacecraft.

        The gateway's spacecraft has the gateway; every other has its first member in lab file order.
        """
        return {
            name: self.member(self.gateway) if any(m.name == self.gateway for m in members) else members[0]
            for name, members in self.spacecraft().items()
        }

    def far_heads(self) -> list[Board]:
        """Return the heads of all spacecraft but the gateway's: what crosses a crosslink goes to them."""
        return [head for head in self.heads().values() if head.name != self.gateway]

    def only(self, *boards: str) -> Fleet:
        """A fleet of some of the boards; the first one takes the uploads when the gateway is not among them."""
        chosen = tuple(self.member(name) for name in boards)
        gateway = self.gateway if self.gateway in boards else chosen[0].name
        return replace(self, members=chosen, gateway=gateway)

    def node_address(self, name: str) -> str:
        """``ip:port`` of a member's node service on the flight network."""
        return f"{self.member(name).address(Via.FLIGHT)[1]}:{self.port}"

    def config(
        self,
        *,
        os_version: str,
        image_sha256: str | None = None,
        model: str | None = None,
        params: dict[str, Any] | None = None,
    ) -> ClusterConfig:
        """Return the cluster configuration of all members."""
        return ClusterConfig(
            cluster=self.cluster,
            gateway=self.gateway,
            members={m.name: self.node_address(m.name) for m in self.members},
            os_version=os_version,
            image_sha256=image_sha256,
            model=model,
            params=params or {},
        )


@dataclass(frozen=True)
class ClusterConfig:
    """What all members of a cluster agree on under one configuration epoch."""

    cluster: str
    gateway: str
    members: dict[str, str]  # board name -> ip:port of its node service on the flight network
    os_version: str  # a member with another version does not claim
    image_sha256: str | None = None  # None: the version alone identifies the image
    model: str | None = None  # artefact id; None: no inference
    params: dict[str, Any] = field(default_factory=dict)  # ``lease_s``, ``renew_s``, payload settings

    def document(self) -> dict[str, Any]:
        """Return the JSON document that the nodes store and hash."""
        return {**asdict(self), "members": dict(sorted(self.members.items()))}
