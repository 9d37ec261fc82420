"""The contract of the node service: its port, and what ``GET /health`` says.

The node writes it, the rollout and the monitor read it.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

PORT = 8470
"""TCP port of the node service on every board."""
SHOWN = 200
"""At most so many characters of an answer that does not fit are quoted."""
LONGEST_TEXT = 4096
"""Characters of one text of an answer."""
MOST_ITEMS = 1024
"""Items of one list or object of an answer."""
LARGEST_NUMBER = 2**53
"""The largest whole number that every reader of JSON keeps."""

T = TypeVar("T")


class ContractError(ValueError):
    """An answer that does not fit the contract; the text quotes the part that does not."""


def json_object(content: bytes) -> dict[str, Any]:
    """Return the JSON object in an answer.

    ContractError when it is not UTF-8, not strict JSON, nested too deep, holds NaN or half a character, or is no
    object.
    """
    try:
        document = json.loads(content.decode(), parse_constant=_no_number)
        if b"\\u" in content:  # the only way in for half a character, as the bytes are UTF-8
            json.dumps(document, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        quoted = content[:SHOWN].decode("utf-8", "replace")
        raise ContractError(f"the answer is not JSON ({type(exc).__name__}): {_quoted(quoted)}") from exc
    if not isinstance(document, dict):
        raise ContractError(f"the answer is not a JSON object: {_quoted(document)}")
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
    model: str | None = None
    """Artefact id of the network in memory."""
    model_provider: str | None = None
    """The execution provider of that network: ``TensorRT``, ``CUDA`` or ``CPU``."""
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


@dataclasses.dataclass(frozen=True)
class Proposal:
    """The gateway's answer to a proposed configuration."""

    epoch: int
    committed: bool
    """It was committed before."""
    missing: dict[str, str]
    """Members that have not stored it, with the reason."""


def read(cls: type[T], document: object, where: str) -> T:
    """Read a dataclass from JSON objects.

    ContractError when a field is missing, of another type, too long, not finite or too large.
    """
    if not isinstance(document, Mapping):
        raise ContractError(f"{where} is no object: {_quoted(document)}")
    hints = get_type_hints(cls)
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
    if isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= LARGEST_NUMBER):
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
