"""The lab file: what exists.  Strict, frozen, units in the key names.

Numbers without a unit in their name do not exist here, so 100 cannot be read as 100 bit/s when 100 Mbit/s was
meant: every bound refuses what no terminal or cable does and says what is allowed.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, AliasChoices, Field, PrivateAttr, model_validator

from hil.core import kinds, paths
from hil.errors import ConfigurationError
from hil.lab.guest import MAX_GUESTS, GuestSpec, check_guests
from hil.lab.link_spec import LinkSpec, Name, check_bursts
from hil.lab.real_board import RealBoard
from hil.lab.shaper_host import ShaperHostSpec
from hil.lab.tenant import MAX_TENANTS, TenantSpec, check_tenants
from hil.lab.twin import TwinSpec
from hil.lab.unions import OneOfKinds
from hil.lab.yamlfile import Strict, fault, load_yaml

logger = logging.getLogger("hil.lab")

SHAPER_HOST, OLD_SHAPER_HOST = "shaper_host", "gateway_host"
"""The key of the section, also the name of its link engine; and the key in lab files of versions before 0.2."""

RESERVED = frozenset({"mgmt", "box"})
"""Names of the bench's own namespaces."""

MAX_SPACECRAFT = 64
MAX_BOARDS_PER_SPACECRAFT = 16

Module = Literal[
    "p3701-0005",
    "p3701-0004",
    "p3701-0008",
    "p3701-0000",
    "p3701-0001",
    "p3701-0002",
    "p3767-0000",
    "p3767-0001",
    "p3767-0002",
    "p3767-0003",
    "p3767-0004",
    "p3767-0005",
]

_NX = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
MODULE_MODEL: dict[str, str] = {
    **{f"p3701-000{n}": "NVIDIA Jetson AGX Orin Developer Kit" for n in (0, 1, 2, 4, 5, 8)},
    **{f"p3767-000{n}": _NX for n in (0, 1, 2)},
    **{f"p3767-000{n}": "NVIDIA Jetson Orin Nano Developer Kit" for n in (3, 4, 5)},
}
"""Module part number to /proc/device-tree/model (without the trailing NUL)."""


class BoardSpec(Strict):
    """One board; what each driver reads is below.

    The model of a driver is a subclass with ``driver: Literal[...]`` and what else its boards need, and is named by
    its :class:`hil.boards.kinds.BoardKind`.
    """

    name: Name
    driver: str
    module: Module = Field(
        default="p3701-0005",
        description="part number: p3701 is an AGX Orin (-0004: 32 GB, -0008: Industrial), p3767 an Orin NX (-0000 "
        "to -0002) or Nano; a real board that says another is refused",
    )
    serial: str = Field(
        default="",
        max_length=32,
        description="module serial; empty: a real board's is not compared, a virtual one's is made from its name",
    )
    power_mode: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,31}$",
        description="nvpmodel's name of a mode, e.g. 30W or MAXN: set when the bench comes up, with the reboot that "
        "some need; left as it is without. `hil board mode NAME` lists them",
    )

    orin: ClassVar[bool] = False
    """Whether every board of this driver is an Orin module, also where the lab file does not say which."""

    @property
    def model(self) -> str:
        return MODULE_MODEL[self.module]

    @property
    def real(self) -> RealBoard | None:
        """How a real board is reached; None where the bench makes the hardware itself."""
        return None

    @property
    def stand_in(self) -> str | None:
        """What stands in for the real board of this driver; None: nothing does."""
        return None

    @property
    def contained(self) -> bool:
        """Whether its hardware is a container, whatever drives it."""
        return self.real is None

    @property
    def fidelity(self) -> Literal["virtual", "hardware"]:
        """What a result on this board is worth."""
        return "virtual" if self.contained else "hardware"


Board = Annotated[BoardSpec, OneOfKinds(kinds.BOARDS, "driver", default="container")]


class Spacecraft(Strict):
    """A bus with its boards and the switch between them."""

    name: Name
    boards: tuple[Board, ...] = Field(
        min_length=1, max_length=MAX_BOARDS_PER_SPACECRAFT, strict=False, description="in the order of their addresses"
    )


class GroundStation(Strict):
    """Where uploads come from: one per lab."""

    name: Name


class OrbitSpec(Strict):
    """Where the spacecraft are: names of spacecraft and ground station are those of the orbit file."""

    file: str = Field(min_length=1, description="orbit file, relative to this lab file")
    epoch: str | None = Field(
        default=None,
        description="moment of the mission at which a bench starts, ISO 8601 UTC; default: the orbit file's epoch",
    )
    span_h: float = Field(
        default=12.0, gt=0, le=240, description="hours planned ahead; a bench that stays up longer keeps its last state"
    )
    time_factor: float = Field(
        default=1.0, ge=1, le=60, description="mission time passes so many times faster than the bench's; delays do not"
    )


class OsSpec(Strict):
    """How the operating system under test is updated.

    The model of an updater is a subclass with ``adapter: Literal[...]`` and what else it needs, and is named by its
    :class:`hil.rollout.updaters.kinds.UpdaterKind`.
    """

    adapter: str


Os = Annotated[OsSpec, OneOfKinds(kinds.UPDATERS, "adapter", default="rauc")]


def _engines() -> list[str]:
    return ["auto", *kinds.names(kinds.ENGINES)]


def _installed_engine(name: str) -> str:
    if name not in _engines():
        raise ValueError(f"unknown engine {name!r}. Allowed: {', '.join(_engines())}")
    return name


class BenchSpec(Strict):
    """How the bench is built from this lab."""

    engine: Annotated[str, AfterValidator(_installed_engine)] = Field(
        default="auto",
        description="where netem runs: auto takes the shaper_host if there is one, else this kernel if it has netem, "
        "else User-Mode Linux",
        json_schema_extra=lambda schema: schema.update(enum=[*_engines()]),
    )
    link_profile: Literal["exact", "bulk"] = Field(
        default="exact", description="exact: one packet is one frame, loss is valid; bulk: full rate, no random loss"
    )
    seed: int = Field(default=1, ge=0, le=2**32 - 1, description="of everything that is drawn")


class Lab(Strict):
    """A whole lab file."""

    schema_version: Literal[1] = Field(alias="schema", description="version of this format")
    name: Name
    description: str = Field(default="", description="one line for people")
    rack: Name | None = Field(
        default=None,
        description="where the real boards are, when several lab files share them: they are leased as RACK/BOARD "
        "(default: as NAME/BOARD), so name a board alike in all of these files",
    )
    bench: BenchSpec = BenchSpec()
    os: Os = Field(
        default_factory=dict, validate_default=True, description="how the OS under test is updated; left out: RAUC"
    )
    flight_security: Literal["none", "mtls"] = Field(
        default="none",
        description="mtls: the node service of the reference OS serves nobody without a certificate, and what changes "
        "a cluster has to be signed; none: whoever can send to the boards can command them",
    )
    ground_station: GroundStation
    gateway: Name = Field(description="the board that receives from the ground")
    spacecraft: tuple[Spacecraft, ...] = Field(min_length=1, max_length=MAX_SPACECRAFT, strict=False)
    orbit: OrbitSpec | None = None
    shaper_host: ShaperHostSpec | None = Field(
        default=None,
        validation_alias=AliasChoices("shaper_host", OLD_SHAPER_HOST),
        description="another machine that shapes the links; left out: this one does",
    )
    twin: TwinSpec | None = Field(
        default=None, description="heat and power of the spacecraft; left out: nothing gets warm and power has no end"
    )
    links: tuple[LinkSpec, ...] = Field(min_length=1, strict=False)
    tenants: tuple[TenantSpec, ...] = Field(
        default=(), max_length=MAX_TENANTS, strict=False, description="customers that share it; left out: there is one"
    )
    guests: tuple[GuestSpec, ...] = Field(
        default=(), max_length=MAX_GUESTS, strict=False, description="nodes from outside that spacecraft serve"
    )
    _file: Path = PrivateAttr(default=Path("lab.yaml"))

    @property
    def file(self) -> Path:
        """Where the lab was read from; files that it names are beside it."""
        return self._file

    @model_validator(mode="before")
    @classmethod
    def _note_old_key(cls, data: object) -> object:
        if isinstance(data, dict) and OLD_SHAPER_HOST in data:
            logger.warning("the key %s is now called shaper_host; rename it in the lab file", OLD_SHAPER_HOST)
        return data

    @model_validator(mode="after")
    def _names_and_references(self) -> Self:
        nodes = list(self.nodes)
        _unique("node", [*nodes, *(b.name for b in self.boards)])
        for name in sorted(RESERVED & {*nodes}):
            raise fault("node", name, f"the name {name} is taken by the bench itself; choose another")
        _unique("link", [link.name for link in self.links])
        self._check_cables()
        if self.gateway not in {b.name for b in self.boards}:
            known = ", ".join(b.name for b in self.boards)
            raise fault("gateway", self.gateway, f"{self.gateway} is not a board; boards: {known}")
        for link in self.links:
            a, b = link.between
            for end in link.between:
                if end not in nodes:
                    what = f"{end} is neither the ground station nor a spacecraft nor a guest"
                    raise fault(f"links.{link.name}.between", end, f"{what}; allowed: {', '.join(nodes)}")
            if a == b:
                raise fault(f"links.{link.name}.between", link.name, f"both ends are {a}")
            self._check_orbit(link)
            check_bursts(link)
        names = [b.name for b in self.boards]
        station, security = self.ground_station.name, self.flight_security
        check_guests(self.guests, self.links, boards=names, station=station, security=security)
        _connected(nodes, [link.between for link in self.links])
        self._check_shaper_host()
        check_tenants(self.tenants, names, [link.name for link in self.links])
        if self.twin:
            self.twin.check({craft.name: [b.name for b in craft.boards] for craft in self.spacecraft})
            real = ", ".join(board.name for board in self.boards if not board.contained)
            if self.twin.loop and self.twin.time_factor != 1 and real:
                raise fault("twin.time_factor", "", f"must be 1 with real boards ({real}), or set loop: false")
        return self

    def _check_cables(self) -> None:
        """Refuse what leads to two machines: an outlet, a flight port, a console, a USB port."""
        seen: dict[tuple[str, str], str] = {}
        cables = [(guest.name, "flight.nic", guest.nic) for guest in self.guests if guest.nic]
        cables += [(board.name, *cable) for board in self.boards if board.real for cable in board.real.cables()]
        for name, key, place in cables:
            if (other := seen.setdefault((key, place), name)) != name:
                raise fault(f"{name}.{key}", name, f"is that of {other}, too; each has its own")

    def _check_shaper_host(self) -> None:
        if self.shaper_host is None:
            if self.bench.engine == SHAPER_HOST:
                raise fault("bench.engine", SHAPER_HOST, "needs a shaper_host section")
            return
        if self.bench.engine not in ("auto", SHAPER_HOST):
            raise fault("bench.engine", self.bench.engine, "is for links shaped here; there is a shaper_host")
        ours, theirs = {link.name for link in self.links}, {*self.shaper_host.links}
        if ours != theirs:
            names = ", ".join(sorted(ours ^ theirs))
            raise fault("shaper_host.links", names, f"names every link of the lab and no other: {names}")

    def _check_orbit(self, link: LinkSpec) -> None:
        if not link.follows_orbit:
            return
        if self.orbit is None:
            raise fault(
                f"links.{link.name}.one_way_delay_us",
                link.name,
                "is required in a lab without an orbit section: nothing else says how long light takes",
            )
        if link.a_to_b.one_way_delay_us is not None or link.b_to_a.one_way_delay_us is not None:
            raise fault(
                f"links.{link.name}",
                link.name,
                "follows the orbit, so no direction has a delay of its own; give one_way_delay_us to fix it",
            )

    @property
    def boards(self) -> tuple[BoardSpec, ...]:
        """All boards, spacecraft by spacecraft, in file order."""
        return tuple(b for s in self.spacecraft for b in s.boards)

    @property
    def engine(self) -> str:
        """Name of the link engine; empty: the first that works on this host."""
        return SHAPER_HOST if self.shaper_host else self.bench.engine.removeprefix("auto")

    @property
    def lease_scope(self) -> str:
        """What stands before a real board's name among the leases."""
        return self.rack or self.name

    @property
    def nodes(self) -> tuple[str, ...]:
        """The ground station, then the spacecraft, then the guests."""
        return (self.ground_station.name, *(s.name for s in self.spacecraft), *(g.name for g in self.guests))

    @property
    def leaves(self) -> frozenset[str]:
        """Nodes that forward nothing for others: the ground station and the guests."""
        return frozenset({self.ground_station.name, *(g.name for g in self.guests)})

    def link(self, name: str) -> LinkSpec:
        """Return the link of that name; KeyError when there is none."""
        return {link.name: link for link in self.links}[name]

    def tenant(self, name: str) -> TenantSpec:
        """Return the tenant of that name; ConfigurationError names those that there are."""
        known = {tenant.name: tenant for tenant in self.tenants}
        if name not in known:
            raise ConfigurationError(
                f"lab {self.name} has no tenant {name}",
                remedy=f"tenants: {', '.join(known)}" if known else "name tenants in its section `tenants`",
            )
        return known[name]

    def with_shares_of(self, tenant: str) -> Lab:
        """Return this lab with links of the rate that is sure to a tenant; those of which it has no share stay."""
        shares = self.tenant(tenant).shares
        links = []
        for link in self.links:
            percent = shares.get(link.name, 100)
            ends = {
                name: over.model_copy(update={"rate_bps": over.rate_bps and over.rate_bps * percent // 100})
                for name, over in (("a_to_b", link.a_to_b), ("b_to_a", link.b_to_a))
            }
            links.append(link.model_copy(update={"rate_bps": link.rate_bps * percent // 100, **ends}))
        return self.model_copy(update={"links": tuple(links)})

    def as_seen_by(self, tenant: str) -> Lab:
        """Return this lab with the tenant's boards only, its own gateway among them; links and spacecraft stay.

        Addresses go by the place in the whole lab: they are not to be computed of this one.  ConfigurationError for a
        tenant that is not there.
        """
        own = self.tenant(tenant).boards
        craft = tuple(
            each.model_copy(update={"boards": tuple(board for board in each.boards if board.name in own)})
            for each in self.spacecraft
        )
        return self.model_copy(update={"spacecraft": craft, "gateway": own[0]})

    def tenant_of(self, board: str) -> TenantSpec | None:
        """Return the tenant whose board it is; None for nobody's."""
        return next((tenant for tenant in self.tenants if board in tenant.boards), None)

    def spacecraft_of(self, board: str) -> Spacecraft:
        """Return the spacecraft that carries ``board``; KeyError when none does."""
        return {b.name: craft for craft in self.spacecraft for b in craft.boards}[board]


def load_lab(path: Path) -> Lab:
    """Read a lab file, or the shipped one of that name.

    ConfigurationError names file, line, key and what is allowed.
    """
    file = paths.lab_file(path)
    lab = load_yaml(file, Lab)
    lab._file = file.resolve()
    return lab


def _unique(what: str, names: list[str]) -> None:
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise fault(what, twice[0], f"the name {twice[0]} is used twice; names are unique in a lab")


def _connected(nodes: list[str], edges: list[tuple[str, str]]) -> None:
    reached, frontier = {nodes[0]}, [nodes[0]]
    while frontier:
        here = frontier.pop()
        for a, b in edges:
            for near, far in ((a, b), (b, a)):
                if near == here and far not in reached:
                    reached.add(far)
                    frontier.append(far)
    if lonely := [n for n in nodes if n not in reached]:
        raise fault("links", lonely[0], f"no chain of links joins {nodes[0]} and {', '.join(lonely)}")
