"""Requirements of another tool, read from ReqIF (extra ``[reqif]``), as the requirements of a plan."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import unescape
from itertools import chain, count
from pathlib import Path

from hil.core.files import read_text
from hil.errors import ConfigurationError
from hil.evidence.test_plan import Plan
from hil.text import one_line

ID = ("ReqIF.ForeignID", "ReqIF.ForeignId", "ReqIF.ForeignCreatedID", "Id", "ID", "Identifier")
TEXT = ("ReqIF.Text", "Requirement", "Text", "ReqIF.Name", "Statement", "STATEMENT", "ReqIF.ChapterName")
USABLE = re.compile(r"(?=.{,32}\Z)[A-Z][A-Z0-9]*(-[A-Z0-9]+)+")
"""An id of a plan."""
MOST_BYTES = 50_000_000


@dataclass(frozen=True)
class Foreign:
    """A requirement as the other tool has it."""

    id: str
    text: str


def requirements_of(path: Path) -> list[Foreign]:
    """Return the requirements of a ReqIF file in its order: objects with an id and a text.

    ConfigurationError: the package ``reqif`` is not installed, or the file is no ReqIF.
    """
    try:
        from reqif.parser import ReqIFParser
    except ImportError as exc:
        raise ConfigurationError(
            f"{path}: reading ReqIF needs the package reqif, which is not here",
            remedy="pip install 'orbital-hil[reqif]'",
        ) from exc
    text = read_text(path, remedy="a .reqifz is a zip of .reqif files: unpack it", most_bytes=MOST_BYTES)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ConfigurationError(f"{path}: it has a document type, which ReqIF has not", remedy="export it again")
    try:
        bundle = ReqIFParser.parse_from_string(text)
        content = bundle.core_content.req_if_content
        names = {
            each.identifier: each.long_name or each.identifier
            for kind in content.spec_types or ()
            for each in getattr(kind, "attribute_definitions", None) or ()
        }
        found = [_foreign(each, names) for each in content.spec_objects or ()]
    except Exception as exc:  # the parser raises what it likes
        raise ConfigurationError(f"{path}: no ReqIF that can be read: {one_line(str(exc), 200)}") from exc
    return [each for each in found if each.id and each.text]


def _foreign(thing: object, names: dict[str, str]) -> Foreign:
    values: dict[str, str] = {}
    for attribute in getattr(thing, "attributes", ()):
        value, marked = attribute.value, attribute.value_stripped_xhtml
        if isinstance(value, str):
            words = value if marked is None else unescape(re.sub(r"<[^>]*>", " ", marked))
            values[names.get(attribute.definition_ref, "")] = one_line(words, 2000).strip()
    first = [next((values[name] for name in known if values.get(name)), "") for known in (ID, TEXT)]
    return Foreign(first[0], re.sub(r"\s+", " ", first[1]))


def as_plan(found: list[Foreign]) -> str:
    """Return the block ``requirements`` of a plan.yaml: each by test, on real boards, until its author says else."""
    import json

    lines = ["requirements:"]
    for each, name in zip(found, _ids(found), strict=True):
        lines.append(f"  - id: {name}" if name == each.id else f"  - id: {name} # there: {each.id}")
        lines.append(f"    text: {json.dumps(each.text, ensure_ascii=False)}")
        lines.append("    method: T\n    level: system\n    fidelity_needed: hardware")
        if name != each.id:
            lines.append(f"    trace: {json.dumps(each.id, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"


def _ids(found: list[Foreign]) -> list[str]:
    """Return an id of a plan's form for each, no two the same: its own where it has that form."""
    own, ids = {each.id for each in found if USABLE.fullmatch(each.id)}, dict[str, None]()
    for number, each in enumerate(found, start=1):
        wanted = each.id if each.id in own else _usable(each.id, number)
        more = (f"{wanted[:27].rstrip('-')}-{n}" for n in count(2))
        ids[
            next(name for name in chain([wanted], more) if name not in ids and (name == each.id or name not in own))
        ] = None
    return list(ids)


def _usable(text: str, number: int) -> str:
    """Return an id of a plan's form for another one, the ``number``-th."""
    words = re.findall(r"[A-Z0-9]+", text.upper()) or [str(number)]
    formed = "-".join(words)[:32].rstrip("-")
    return formed if USABLE.fullmatch(formed) else f"REQ-{formed[:28]}".rstrip("-")


def differences(plan: Plan, found: list[Foreign]) -> list[str]:
    """Return where a plan's requirements are not those of the other tool, a sentence each."""
    ours = {r.trace: r for r in plan.requirements} | {r.id: r for r in plan.requirements}
    theirs = {each.id for each in found} | set(_ids(found))
    said = [f"{each.id} is not in the plan: {each.text}" for each in found if each.id not in ours]
    said += [
        f"{each.id} has another text: {each.text}"
        for each in found
        if each.id in ours and " ".join(ours[each.id].text.split()) != each.text
    ]
    return said + [f"{r.id} is only in the plan" for r in plan.requirements if not {r.id, r.trace} & theirs]
