"""The reference of a YAML file, made from the strict models that read it: nothing in it can be forgotten or outdated.

A model's JSON schema says what a key takes; this module turns it into sections of keys, and those into Markdown.  It
knows no model; an example is in the model itself (``with_example``) or given by the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import TYPE_CHECKING, Any

import yaml

from hil.core.paths import PACKAGE
from hil.lab.yaml_tree import read_tree

if TYPE_CHECKING:
    from pydantic import BaseModel

Schema = Mapping[str, Any]

_UNITS = {
    **{"deg_per_s": "degrees/s", "m_per_s": "m/s", "us": "µs", "ms": "ms", "s": "s", "h": "h", "bps": "bit/s"},
    **{"ppm": "per million", "deg": "degrees", "km": "km", "bytes": "bytes", "bytes_per_day": "bytes per day"},
    **{"j_per_k": "J/K", "w_per_k": "W/K", "m2": "m²", "wh": "Wh", "w": "W", "c": "°C"},
}
_UNIT_OF = {"mtu": "bytes", "baud": "baud", "baudrate": "baud", "per_hour": "per hour"}
_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}
_BOUNDS = {
    **{"minimum": "at least", "exclusiveMinimum": "more than"},
    **{"maximum": "at most", "exclusiveMaximum": "less than"},
}


@dataclass(frozen=True)
class Key:
    """One key of a section, in words; empty strings where there is nothing to say."""

    name: str
    type: str
    """With ``{ModelName}`` where a section of that name is meant."""
    unit: str
    default: str
    required: bool
    allowed: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """A model as a reader of the file meets it."""

    model: str
    """Name of the model's class."""
    title: str
    places: tuple[str, ...]
    """Where it stands in the file, like ``spacecraft[].boards[]``; empty for the file itself."""
    about: str
    keys: tuple[Key, ...]
    example: str
    """YAML, with the section's own key above it; empty where none was given."""

    @property
    def anchor(self) -> str:
        """What the common Markdown renderers make of the title."""
        return re.sub(r"[^\w\- ]", "", self.title.lower()).replace(" ", "-")


def unit_of(key: str) -> str:
    """Return the unit that a key's name ends in: ``delay_us`` is µs; empty for a name without one."""
    endings = (unit for ending, unit in _UNITS.items() if key.endswith(f"_{ending}"))
    return _UNIT_OF.get(key) or next(endings, "")


def examples(room: str) -> dict[str, str]:
    """Return one worked example for every section, by model, of ``lab`` or ``orbit`` files."""
    document: dict[str, str] = read_tree(PACKAGE / room / "examples.yaml")[1]
    return document


def sections(
    model: type[BaseModel], title: str, examples: Mapping[str, str], above: Sequence[Section] = ()
) -> list[Section]:
    """Return every section of the file that ``model`` reads, in the order in which its keys lead there.

    ``examples``: name of a model's class to YAML of what stands below its key.  ``above``: sections of another file on
    the same page; a title of theirs gets the name of this file.
    """
    schema = model.model_json_schema()
    definitions: Schema = {**schema.get("$defs", {}), model.__name__: schema}
    places: dict[str, list[str]] = {}
    for name, place in _visit(definitions, model.__name__, ""):
        places.setdefault(name, []).extend([place] if place else [])
    taken = {section.title for section in above}
    titles = {name: f"{each}: {title.lower()}" if each in taken else each for name, each in _titles(places).items()}
    return [
        Section(
            model=name,
            title=titles[name] or title,
            places=tuple(where),
            about=_prose(definitions[name].get("description", "")),
            keys=tuple(_keys(definitions, definitions[name])),
            example=_example(examples.get(name) or definitions[name].get("x-example", ""), where),
        )
        for name, where in places.items()
    ]


# --- the schema


def _visit(definitions: Schema, name: str, place: str) -> Iterator[tuple[str, str]]:
    """Yield (model, place) of everything below, depth first; lab files nest, they do not recur."""
    yield name, place
    for key, prop in definitions[name].get("properties", {}).items():
        for target, tail in _targets(prop):
            yield from _visit(definitions, target, f"{place}.{key}{tail}".removeprefix("."))


def _targets(prop: Schema) -> Iterator[tuple[str, str]]:
    """Yield (model, what to put behind the key) of the sections that a property leads to."""
    union = prop.get("discriminator", {})
    words = {ref: f" ({union['propertyName']}: {word})" for word, ref in union.get("mapping", {}).items()}
    for variant in _variants(prop):
        if "$ref" in variant:
            yield _name(variant), words.get(variant["$ref"], "")
        elif below := variant.get("items"):
            yield from ((target, f"[]{tail}") for target, tail in _targets(below))
        elif isinstance(below := variant.get("additionalProperties"), dict):
            yield from ((target, f".NAME{tail}") for target, tail in _targets(below))
        elif variant is not prop:
            yield from _targets(variant)


def _variants(prop: Schema) -> list[Schema]:
    """Return what a property may be, apart from nothing."""
    union = next((prop[word] for word in ("anyOf", "oneOf", "allOf") if word in prop), [prop])
    return [variant for variant in union if variant.get("type") != "null"]


def _name(reference: Schema) -> str:
    return str(reference["$ref"]).rsplit("/", 1)[-1]


def _keys(definitions: Schema, section: Schema) -> Iterator[Key]:
    properties: Schema = section.get("properties", {})
    # what names the kind first
    for name in sorted(properties, key=lambda name: "const" not in properties[name]):
        prop = properties[name]
        yield Key(
            name=name,
            type=_type(prop),
            unit=unit_of(name),
            default=_default(definitions, prop),
            required=name in section.get("required", ()),
            allowed=_joined("; ", _limits(prop)),
            meaning=_meaning(definitions, prop),
        )


# --- words


def _joined(separator: str, words: Iterator[str]) -> str:
    return separator.join(dict.fromkeys(words))


def _type(prop: Schema) -> str:
    unions = [each["discriminator"] for each in (prop, *_variants(prop)) if "discriminator" in each]
    if unions:
        return f"section by `{unions[0]['propertyName']}`: " + ", ".join(f"{{{t}}}" for t, _ in _targets(prop))
    return _joined(" or ", map(_type_of_one, _variants(prop)))


def _type_of_one(variant: Schema) -> str:
    if "$ref" in variant:
        return f"section {{{_name(variant)}}}"
    if "prefixItems" in variant:
        return "list of " + " and ".join(map(_type, variant["prefixItems"]))
    if "items" in variant:
        return f"list of {_type(variant['items'])}"
    if "additionalProperties" in variant:
        return f"names, each with {_type(variant['additionalProperties'])}"
    if choices := _choices(variant):
        return "word" if isinstance(choices[0], str) else "number"
    return _TYPES[variant["type"]]


def _choices(variant: Schema) -> Sequence[Any]:
    return variant.get("enum") or ([variant["const"]] if "const" in variant else [])


def _default(definitions: Schema, prop: Schema) -> str:
    value = prop.get("default")
    if value is None or value == [] or value == "":
        return ""
    if isinstance(value, dict) and not definitions[next(_targets(prop))[0]].get("required"):
        return "its own defaults"
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=200)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def _limits(prop: Schema) -> Iterator[str]:
    for v in _variants(prop):
        if choices := _choices(v):
            yield ", ".join(f"`{choice}`" for choice in choices)
        if "minimum" in v and "maximum" in v:
            yield f"{_number(v['minimum'])} to {_number(v['maximum'])}"
        elif bounds := [f"{word} {_number(v[key])}" for key, word in _BOUNDS.items() if key in v]:
            yield ", ".join(bounds)
        if "pattern" in v:
            yield f"`{v['pattern'].removeprefix('^').removesuffix('$')}`"
        yield from _counts(v, "Length", "characters")
        if "prefixItems" not in v:  # a list of so many says how many by itself
            yield from _counts(v, "Items", "of them")
        yield from _counts(v, "Properties", "of them")
        items = v.get("prefixItems") or [v["items"]] if "items" in v or "prefixItems" in v else []
        yield from (f"each {text}" for item in items for text in _limits(item))


def _counts(v: Schema, of: str, what: str) -> Iterator[str]:
    low, high = v.get(f"min{of}"), v.get(f"max{of}")
    if low == 1 and high is None and of == "Length":
        yield "not empty"
    elif low is not None and high is not None:
        yield f"{low} to {high} {what}"
    elif low is not None or high is not None:
        yield f"at least {low} {what}" if low is not None else f"at most {high} {what}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def _meaning(definitions: Schema, prop: Schema) -> str:
    """Return the key's own description, else its type's, else what the section that it opens says first."""
    for schema in (prop, *_variants(prop)):
        if "description" in schema:
            return _prose(schema["description"])
    targets = [name for name, _ in _targets(prop)]
    about = definitions[targets[0]].get("description", "") if len(targets) == 1 else ""
    return _prose(about).partition("\n\n")[0]


def _prose(text: str) -> str:
    """Turn a docstring into Markdown: double backquotes into single ones, lines of a paragraph joined."""
    paragraphs = re.split(r"\n\s*\n", text.strip().replace("``", "`"))
    return "\n\n".join(re.sub(r"\s+", " ", paragraph) for paragraph in paragraphs)


# --- Markdown


def _last(place: str) -> tuple[str, str, str]:
    """Return (key, ``[]`` for a list or ``.NAME`` for a mapping, kind) at the end of a place."""
    match = re.search(r"(\w+)(\[\]|\.NAME)?(?: \(\w+: ([^)]+)\))?$", place)
    assert match is not None  # places are made by _visit
    return match[1], match[2] or "", match[3] or ""


def _titles(places: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Title every model's section: short, or by the whole path where a section further up has the same title."""
    titles: dict[str, str] = {}
    for name in sorted(places, key=lambda name: min((p.count(".") for p in places[name]), default=0)):
        ends = [_last(place) for place in places[name]]
        kind = next((kind for _, _, kind in ends if kind), "")
        title = ", ".join(dict.fromkeys(key for key, _, _ in ends)) + (f": {kind}" if kind else "")
        titles[name] = title if title not in titles.values() else places[name][0].removesuffix(".NAME")
    return titles


def _example(text: str, places: Sequence[str]) -> str:
    if not text or not places:
        return text
    key, holder, _ = _last(places[0])
    if holder == "[]":
        first, *rest = text.splitlines(keepends=True)
        return f"{key}:\n  - {first}{indent(''.join(rest), '    ')}"
    return f"{key}:\n  isl-ab:\n{indent(text, '    ')}" if holder else f"{key}:\n{indent(text, '  ')}"


def markdown(parts: Sequence[Section]) -> str:
    """Return sections as Markdown: a heading, where it stands, a table of keys, an example."""
    import jinja2

    known = {section.model: section for section in parts}

    def link(match: re.Match[str]) -> str:
        section = known[match[1]]
        return f"[{section.title.rsplit(': ', 1)[-1]}](#{section.anchor})"

    def linked(kind: str) -> str:
        return re.sub(r"\{(\w+)\}", link, kind)

    text = (PACKAGE / "lab" / "reference.md.j2").read_text("utf-8")
    template = jinja2.Template(text, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    page: str = template.render(sections=parts, linked=linked)
    return page
