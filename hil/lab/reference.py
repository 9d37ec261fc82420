"""The reference of a YAML file, made from the strict models that read it: nothing in it can be forgotten or outdated.

A model's JSON schema says what a key takes; this module turns it into sections of keys, and those into Markdown. It
knows no model: whoever calls it hands over the models, and one worked example per model.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from textwrap import indent
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from pydantic import BaseModel

Schema = Mapping[str, Any]

_UNITS = (
    ("_deg_per_s", "degrees/s"),
    ("_us", "µs"),
    ("_ms", "ms"),
    ("_s", "s"),
    ("_h", "h"),
    ("_bps", "bit/s"),
    ("_ppm", "per million"),
    ("_deg", "degrees"),
    ("_km", "km"),
)
_UNIT_OF = {"mtu": "bytes", "baud": "baud", "baudrate": "baud", "per_hour": "per hour"}
_TYPES = {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}


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
    """The unit that a key's name ends in: ``delay_us`` is µs; empty for a name without one."""
    if key in _UNIT_OF:
        return _UNIT_OF[key]
    return next((unit for suffix, unit in _UNITS if key.endswith(suffix)), "")


def sections(model: type[BaseModel], title: str, examples: Mapping[str, str]) -> list[Section]:
    """Every section of the file that ``model`` reads, in the order in which its keys lead there.

    ``examples``: name of a model's class to YAML of what stands below its key.
    """
    schema = model.model_json_schema()
    definitions: Schema = {**schema.get("$defs", {}), model.__name__: schema}
    places: dict[str, list[str]] = {}
    for name, place in _visit(definitions, model.__name__, ""):
        places.setdefault(name, [])
        if place:
            places[name].append(place)
    titles = _titles(places)
    return [
        Section(
            model=name,
            title=titles[name] or title,
            places=tuple(where),
            about=_prose(definitions[name].get("description", "")),
            keys=tuple(_keys(definitions, name)),
            example=_example(
                examples.get(name, definitions[name].get("x-example", "")), where[0] if where else ""
            ),
        )
        for name, where in places.items()
    ]


def markdown(found: Sequence[Section]) -> str:
    """Sections as Markdown: a heading, where it stands, a table of keys, an example."""
    return "\n".join(_markdown(section, {s.model: s for s in found}) for section in found)


# --- walking the schema


def _visit(definitions: Schema, name: str, place: str) -> Iterator[tuple[str, str]]:
    """(model, place) of everything below, depth first; lab files nest, they do not recur."""
    yield name, place
    for key, prop in definitions[name].get("properties", {}).items():
        for target, tail in _targets(prop):
            yield from _visit(definitions, target, f"{place}.{key}{tail}".removeprefix("."))


def _targets(prop: Schema) -> Iterator[tuple[str, str]]:
    """(model, what to put behind the key) of the sections that a property leads to."""
    union = prop.get("discriminator", {})
    kinds = {ref: f"{union['propertyName']}: {kind}" for kind, ref in union.get("mapping", {}).items()}
    for variant in _variants(prop):
        if "$ref" in variant:
            kind = kinds.get(variant["$ref"])
            yield _name(variant["$ref"]), f" ({kind})" if kind else ""
        elif "items" in variant:
            for target, tail in _targets(variant["items"]):
                yield target, f"[]{tail}"
        elif isinstance(variant.get("additionalProperties"), dict):
            for target, tail in _targets(variant["additionalProperties"]):
                yield target, f".NAME{tail}"
        elif variant is not prop:
            yield from _targets(variant)


def _variants(prop: Schema) -> list[Schema]:
    """What a property may be, apart from nothing."""
    for word in ("anyOf", "oneOf", "allOf"):
        if word in prop:
            return [v for v in prop[word] if v.get("type") != "null"]
    return [prop]


def _name(ref: str) -> str:
    return ref.rsplit("/", 1)[-1]


def _keys(definitions: Schema, name: str) -> Iterator[Key]:
    required = definitions[name].get("required", ())
    properties = definitions[name].get("properties", {}).items()
    for key, prop in sorted(
        properties, key=lambda item: "const" not in item[1]
    ):  # what names the kind is first
        yield Key(
            name=key,
            type=_type(prop),
            unit=unit_of(key),
            default=_default(definitions, prop),
            required=key in required,
            allowed=_allowed(prop),
            meaning=_meaning(definitions, prop),
        )


# --- words


def _type(prop: Schema) -> str:
    if "discriminator" in prop or any("discriminator" in v for v in _variants(prop)):
        union = next(v["discriminator"] for v in (prop, *_variants(prop)) if "discriminator" in v)
        sections = ", ".join(f"{{{name}}}" for name, _ in _targets(prop))
        return f"section by `{union['propertyName']}`: {sections}"
    words = []
    for variant in _variants(prop):
        if "$ref" in variant:
            words.append(f"section {{{_name(variant['$ref'])}}}")
        elif "prefixItems" in variant:
            words.append("list of " + " and ".join(_type(item) for item in variant["prefixItems"]))
        elif "items" in variant:
            words.append(f"list of {_type(variant['items'])}")
        elif "additionalProperties" in variant:
            words.append(f"names, each with {_type(variant['additionalProperties'])}")
        elif "enum" in variant or "const" in variant:
            words.append("word" if isinstance(_choices(variant)[0], str) else "number")
        else:
            words.append(_TYPES[variant["type"]])
    return " or ".join(dict.fromkeys(words))


def _choices(variant: Schema) -> Sequence[Any]:
    return variant.get("enum") or (variant["const"],)


def _default(definitions: Schema, prop: Schema) -> str:
    value = prop.get("default")
    if value is None or value == [] or value == "":
        return ""
    if isinstance(value, dict):
        target = next(name for name, _ in _targets(prop))
        return _flow(value) if definitions[target].get("required") else "its own defaults"
    return _flow(value)


def _flow(value: object) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=200)
    return f"`{text.removesuffix('...' + chr(10)).strip()}`"


def _allowed(prop: Schema) -> str:
    return "; ".join(dict.fromkeys(text for v in _variants(prop) for text in _limits(v)))


def _limits(v: Schema) -> Iterator[str]:
    if "enum" in v or "const" in v:
        yield ", ".join(f"`{choice}`" for choice in _choices(v))
    low, high = v.get("minimum"), v.get("maximum")
    over, under = v.get("exclusiveMinimum"), v.get("exclusiveMaximum")
    if low is not None and high is not None:
        yield f"{_number(low)} to {_number(high)}"
    else:
        bounds = (("at least", low), ("more than", over), ("at most", high), ("less than", under))
        if text := ", ".join(f"{word} {_number(bound)}" for word, bound in bounds if bound is not None):
            yield text
    if "pattern" in v:
        yield f"`{v['pattern'].removeprefix('^').removesuffix('$')}`"
    yield from _counts(v.get("minLength"), v.get("maxLength"), "characters")
    if "prefixItems" in v:
        yield from (f"each {text}" for item in v["prefixItems"] for text in _limits(item))
        return
    yield from _counts(v.get("minItems"), v.get("maxItems"), "of them")
    yield from _counts(v.get("minProperties"), v.get("maxProperties"), "of them")
    if "items" in v:
        yield from (f"each {text}" for text in _limits(v["items"]))


def _counts(low: int | None, high: int | None, what: str) -> Iterator[str]:
    if low is not None and high is not None:
        yield f"{low} to {high} {what}"
    elif low is not None:
        yield f"at least {low} {what}" if what != "characters" or low > 1 else "not empty"
    elif high is not None:
        yield f"at most {high} {what}"


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:,g}"


def _meaning(definitions: Schema, prop: Schema) -> str:
    """The key's own description, else its type's, else what the section that it opens says first."""
    variants = _variants(prop)
    said = [prop, *variants, *(v["items"] for v in variants if "items" in v)]
    for schema in said:
        if "description" in schema:
            return _prose(schema["description"])
    targets = [name for name, _ in _targets(prop)]
    if len(targets) != 1:
        return ""
    return _prose(definitions[targets[0]].get("description", "")).partition("\n\n")[0]


def _prose(text: str) -> str:
    """Docstring to Markdown: double backquotes to single ones, lines of a paragraph joined."""
    paragraphs = re.split(r"\n\s*\n", text.strip().replace("``", "`"))
    return "\n\n".join(re.sub(r"\s+", " ", p) for p in paragraphs)


# --- Markdown


def _last(place: str) -> tuple[str, str, str]:
    """(key, ``[]`` for a list or ``.NAME`` for a mapping, kind) at the end of a place."""
    match = re.search(r"(\w+)(\[\]|\.NAME)?(?: \(\w+: ([^)]+)\))?$", place)
    assert match is not None  # places are made by _visit
    return match[1], match[2] or "", match[3] or ""


def _titles(places: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Title of every model's section: short, or the whole path where a section further up has the same."""
    titles: dict[str, str] = {}
    for name, where in sorted(
        places.items(), key=lambda item: min((p.count(".") for p in item[1]), default=0)
    ):
        ends = [_last(place) for place in where]
        kind = next((kind for _, _, kind in ends if kind), "")
        title = ", ".join(dict.fromkeys(key for key, _, _ in ends)) + (f": {kind}" if kind else "")
        titles[name] = title if title not in titles.values() else where[0].removesuffix(".NAME")
    return titles


def _example(text: str, place: str) -> str:
    if not text or not place:
        return text
    key, holder, _ = _last(place)
    if holder == "[]":
        first, *rest = text.splitlines(keepends=True)
        return f"{key}:\n  - {first}{indent(''.join(rest), '    ')}"
    if holder == ".NAME":
        return f"{key}:\n  isl-ab:\n{indent(text, '    ')}"
    return f"{key}:\n{indent(text, '  ')}"


def _markdown(section: Section, known: Mapping[str, Section]) -> str:
    lines = [f"{'###' if section.places else '##'} {section.title}", ""]
    if section.places:
        lines += [f"At {', '.join(f'`{place}`' for place in section.places)}.", ""]
    if section.about:
        lines += [section.about, ""]
    lines += ["| key | takes | unit | default | allowed | meaning |", "|---|---|---|---|---|---|"]
    for key in section.keys:
        cells = (
            f"`{key.name}`",
            re.sub(r"\{(\w+)\}", lambda m: f"[{_short(known[m[1]])}](#{known[m[1]].anchor})", key.type),
            key.unit,
            "**required**" if key.required else key.default,
            key.allowed,
            key.meaning,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    if section.example:
        lines += ["", "```yaml", section.example.rstrip("\n"), "```"]
    return "\n".join([*lines, ""])


def _short(section: Section) -> str:
    return section.title.rsplit(": ", 1)[-1]
