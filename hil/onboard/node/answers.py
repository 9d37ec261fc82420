"""What the node service answers: its port, one class per answer, and the configuration that a cluster agrees on.

The node writes the answers, the rollout and the monitor read them; the ground writes the configuration.
"""

from __future__ import annotations

import dataclasses
import functools
import ipaddress
import json
import types
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

PORT = 8470
"""TCP port of the node service on every board."""
LONGEST_ANSWER = 8 << 20
"""Bytes of one answer; the longest honest one is the mask of a job, about 1 MB."""
SHOWN = 200
"""At most so many characters of an answer that does not fit are quoted."""
LONGEST_TEXT = 4096
"""Characters of one text of an answer."""
MOST_ITEMS = 1024
"""Items of one list or object of an answer."""
LARGEST_NUMBER = 2**53
"""The largest whole number that every reader of JSON keeps."""
MAX_MEMBERS = 64
LEASE_S = 1.0
RENEW_S = 0.25
LEASE_MAX_S = 10.0

T = TypeVar("T")


class ContractError(ValueError):
    """An answer that does not fit the contract; the text quotes the part that does not."""


def json_object(content: bytes, what: str = "the answer") -> dict[str, Any]:
    """Return the JSON object in an answer, or in ``what`` it is.

    ContractError when it is not UTF-8, not strict JSON, nested too deep, holds NaN or half a character, or is no
    object.
    """
    try:
        document = json.loads(content.decode(), parse_constant=_no_number)
        if b"\\u" in content:  # the only way in for half a character, as the bytes are UTF-8
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        quoted = content[:SHOWN].decode("utf-8", "replace")
        raise ContractError(f"{what} is not JSON ({type(exc).__name__}): {_quoted(quoted)}") from exc
    if not isinstance(document, dict):
        raise ContractError(f"{what} is not a JSON object: {_quoted(document)}")
    return document


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number")


@dataclasses.dataclass(frozen=True)
class Claim:
    """The configuration epoch under which a board serves now; seconds are of the board's own clock."""

    serving: bool
    epoch: int | None = None
    since_s: float | None = None
    """How long it has claimed this epoch without a break."""
    lease_left_s: float | None = None
    config_sha256: str | None = None

    def __post_init__(self) -> None:
        if (self.epoch or 0) < 0 or (self.since_s or 0.0) < 0:
            raise ContractError(f"claim: epoch {self.epoch} since {self.since_s} s: below 0")


@dataclasses.dataclass(frozen=True)
class Health:
    """The document of ``GET /health``; a field with a default may be missing (an older OS)."""

    board: str
    boot_id: str
    healthy: bool
    confirmed: bool
    """Whether the running slot was marked good after a health check."""
    claim: Claim
    os_version: str | None = None
    slot: str | None = None
    image_sha256: str | None = None
    uptime_s: float | None = None
    services: dict[str, bool] = dataclasses.field(default_factory=dict)
    problems: tuple[str, ...] = ()
    blocked_by: tuple[str, ...] = ()
    """Why it does not claim the latest configuration that it has."""
    prepared: int | None = None
    committed: int | None = None
    epoch_at_start: int | None = None
    """The highest epoch that it found on disk when its service started; 0: none."""
    model: str | None = None
    """Artefact id of the network in memory."""
    model_provider: str | None = None
    """The execution provider of that network: ``TensorRT``, ``CUDA`` or ``CPU``."""
    model_providers: tuple[str, ...] = ()
    """All that took it: what one cannot run is run by those after it."""
    model_left_out: str = ""
    """Providers that this board's runtime has and that could not be used, with the reason."""
    model_error: str = ""

    @classmethod
    def from_json(cls, document: object) -> Health:
        """Read an answer. Raises ContractError when a field is missing or of another type; others are ignored."""
        return read(cls, document, "the answer")

    def document(self) -> dict[str, Any]:
        """Return it as JSON objects."""
        return dataclasses.asdict(self)


@dataclasses.dataclass(frozen=True)
class Pulling:
    """The order under which a board fetches an artefact from others (``ip:port`` each)."""

    sources: tuple[str, ...] = dataclasses.field(metadata={"key": "from"})
    last_error: str = ""


@dataclasses.dataclass(frozen=True)
class ArtefactStatus:
    """The document of ``GET /artefacts/<id>``; of an artefact that is only ordered, ``path`` is empty."""

    have_bytes: int
    complete: bool
    installed: bool
    """It is complete and its digest was checked."""
    error: str = ""
    path: str = ""
    received: dict[str, int] = dataclasses.field(default_factory=dict)
    """Bytes by sender."""
    connections: dict[str, int] = dataclasses.field(default_factory=dict)
    """Connections by sender."""
    pulling: Pulling | None = None

    def __post_init__(self) -> None:
        if self.have_bytes < 0:
            raise ContractError(f"have_bytes is below 0: {self.have_bytes}")


@dataclasses.dataclass(frozen=True)
class Proposal:
    """The gateway's answer to a proposed configuration."""

    epoch: int
    committed: bool
    """It was committed before."""
    missing: dict[str, str]
    """Members that have not stored it, with the reason."""

    def __post_init__(self) -> None:
        if self.epoch < 1:
            raise ContractError(f"epoch must be 1 or more, not {self.epoch}")


@dataclasses.dataclass(frozen=True)
class Order:
    """What an operator signs: one request to one board, which follows it once."""

    board: str
    method: str
    path: str
    """With its query."""
    number: int
    """Microseconds since 1970, and above that of every order before it."""
    body_sha256: str
    configuration: str = ""
    """Digest of the configuration that is proposed: other boards get it with this order from the one that is told."""

    @property
    def text(self) -> str:
        """The JSON text that is signed."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)


@dataclasses.dataclass(frozen=True)
class Signed:
    """An order's text, and its signature (CMS in DER) in base64."""

    order: str
    signature: str


def must_be_signed(method: str, path: str) -> bool:
    """Return whether a request changes a cluster, so that a board with flight security wants an order for it."""
    return (
        method == "DELETE"
        or path in ("/cluster/propose", "/cluster/commit")
        or (path.startswith("/artefacts/") and path.endswith("/pull"))
    )


@dataclasses.dataclass(frozen=True)
class Params:
    """Settings of a cluster.  A payload may have more of them; the node service ignores those."""

    lease_s: float = LEASE_S
    """Seconds that a lease lasts."""
    renew_s: float = RENEW_S
    """Seconds between two renewals; at most half a lease."""
    tile: int = 256
    """Pixels, the edge of a tile of a scene."""

    def __post_init__(self) -> None:
        if not 0.1 <= self.lease_s <= LEASE_MAX_S:
            raise ContractError(f"params.lease_s must be a number from 0.1 to {LEASE_MAX_S:g}, not {self.lease_s:g}")
        if not 0.01 <= self.renew_s <= LEASE_MAX_S:
            raise ContractError(f"params.renew_s must be a number from 0.01 to {LEASE_MAX_S:g}, not {self.renew_s:g}")
        if not 1 <= self.tile <= 1 << 14:
            raise ContractError(f"params.tile must be a number from 1 to {1 << 14}, not {self.tile}")


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What all members of a cluster agree on; other fields of the document are the payload's own."""

    gateway: str
    members: dict[str, str]
    """``ip:port`` of the node service of each board, on the flight network."""
    os_version: str
    image_sha256: str | None = None
    """None: the version alone identifies the image."""
    model: str | None = None
    """Artefact id; None: no inference."""
    params: Params = dataclasses.field(default_factory=Params)

    def __post_init__(self) -> None:
        if not 0 < len(self.members) <= MAX_MEMBERS:
            raise ContractError(f"members must name 1 to {MAX_MEMBERS} boards, not {len(self.members)}")
        for name, address in self.members.items():
            ip_and_port(address, f"members.{name}")
        if self.gateway not in self.members:
            raise ContractError(f"gateway must be one of the members, not {_quoted(self.gateway)}")


def ip_and_port(address: str, name: str = "address") -> tuple[str, int]:
    """``ip:port`` to its parts; ContractError when it is something else."""
    host, _, port = address.rpartition(":")
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        host = ""
    if not host or not port.isascii() or not port.isdigit() or not 0 < int(port[:6]) < 65536:
        raise ContractError(f"{name} must be ip:port, not {_quoted(address)}")
    return host, int(port)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    """Return the types of a dataclass's fields; working them out costs more than reading a whole answer."""
    return get_type_hints(cls)


def read(cls: type[T], document: object, where: str) -> T:
    """Read a dataclass from JSON objects.

    ContractError when a field is missing, of another type, too long, not finite or too large.
    """
    if not isinstance(document, Mapping):
        raise ContractError(f"{where} is no object: {_quoted(document)}")
    hints = _hints(cls)  # type: ignore[arg-type]  # classes are hashable
    values = {}
    for field in dataclasses.fields(cls):  # type: ignore[arg-type]  # every contract is a dataclass
        key = field.metadata.get("key", field.name)
        if key in document:
            values[field.name] = _value(hints[field.name], document[key], key)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ContractError(f"{key} is missing in {_quoted(document)}")
    return cls(**values)


def _value(hint: Any, value: Any, name: str) -> Any:
    """Return ``value`` as the type ``hint`` says."""
    if isinstance(value, str | list | tuple | Mapping):
        limit = LONGEST_TEXT if isinstance(value, str) else MOST_ITEMS
        if len(value) > limit:
            raise ContractError(f"{name} is longer than {limit}: {_quoted(value)}")
    if isinstance(value, int | float) and not abs(value) <= LARGEST_NUMBER:  # nor is NaN
        raise ContractError(f"{name} is out of range: {_quoted(value)}")
    choices = get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if value is None and types.NoneType in choices:
        return None
    for choice in choices:
        inner = get_args(choice)
        if isinstance(choice, type) and dataclasses.is_dataclass(choice):
            return read(choice, value, name)
        if get_origin(choice) is tuple and isinstance(value, list | tuple):
            hints = inner if inner[-1] is not Ellipsis else inner[:1] * len(value)
            if len(hints) == len(value):
                return tuple(_value(each, item, name) for each, item in zip(hints, value, strict=True))
        if get_origin(choice) is dict and isinstance(value, Mapping):
            return {str(key): _value(inner[1], item, f"{name}.{key}") for key, item in value.items()}
        if choice is float and isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
        if type(value) is choice:
            return value
    raise ContractError(f"{name} must be {getattr(hint, '__name__', hint)}, not {_quoted(value)}")


def _quoted(value: object) -> str:
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits, or nested too deep
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
