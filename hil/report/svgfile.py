"""A picture from a file, made safe to stand in the page: only what draws is kept, and its styles stay inside it."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

LARGEST = 1_500_000
"""Bytes; a larger picture is linked, not inlined."""

_SVG = "{http://www.w3.org/2000/svg}"
_ELEMENTS = """
svg g defs path rect circle ellipse line polyline polygon text tspan title desc linearGradient radialGradient stop
"""
_DRAWS = frozenset(_ELEMENTS.split())
_HARMLESS = """
class role transform viewBox preserveAspectRatio opacity offset d points x y x1 x2 y1 y2 dx dy cx cy r rx ry width
height fill fill-opacity fill-rule stroke stroke-opacity stroke-width stroke-dasharray stroke-linecap stroke-linejoin
stop-color gradientTransform text-anchor dominant-baseline font-size font-weight font-family
"""
_ATTRIBUTES = frozenset(_HARMLESS.split())
_RULE = re.compile(r"([^{}]+)\{([^{}]*)\}")
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_REACHES_OUT = re.compile(r"url|[@\\<>]|expression|import|behavior|binding|javascript|position", re.IGNORECASE)


def inline_svg(path: Path, scope: str) -> str | None:
    """Return the picture as an ``<svg>`` element; None when it is missing, too large or not an SVG.

    Kept: shapes, text, titles, and style rules that name nothing outside of the picture; they apply within an element
    of the class ``scope``, which the page puts around the picture.  Dropped: scripts, handlers, links, images,
    embedded documents, ids, references.
    """
    try:
        if path.stat().st_size > LARGEST:
            return None
        text = path.read_text("utf-8")
        return None if "<!DOCTYPE" in text or "<!ENTITY" in text else _inlined(text, scope)
    except (OSError, ValueError, ElementTree.ParseError, RecursionError):  # the last: shapes within shapes
        return None


def _inlined(text: str, scope: str) -> str | None:
    root = ElementTree.fromstring(text)
    if _name(root) != "svg":
        return None
    styles = [_scoped(e.text or "", scope) for e in root.iter() if _name(e) == "style"]
    safe = _safe(root)
    if not safe.get("viewBox"):
        safe.set("viewBox", f"0 0 {safe.get('width', '1')} {safe.get('height', '1')}")
    for size in ("width", "height"):
        safe.attrib.pop(size, None)
    safe.set("role", "img")
    if any(styles):
        style = ElementTree.Element("style")
        style.text = "\n".join(styles)
        safe.insert(1 if len(safe) and safe[0].tag == "title" else 0, style)
    return ElementTree.tostring(safe, encoding="unicode", short_empty_elements=False)


def _name(element: ElementTree.Element) -> str:
    """Return the element's name without its name space; empty for comments and elements of other languages."""
    tag = element.tag if isinstance(element.tag, str) else ""
    return tag.removeprefix(_SVG) if tag.startswith(_SVG) or not tag.startswith("{") else ""


def _safe(element: ElementTree.Element) -> ElementTree.Element:
    copy = ElementTree.Element(_name(element))
    copy.text = element.text
    for key, value in element.attrib.items():
        if key in _ATTRIBUTES and not _REACHES_OUT.search(value):
            copy.set(key, value)
    for child in () if copy.tag in ("title", "desc") else element:  # text alone: their content is parsed as HTML
        if _name(child) in _DRAWS:
            kept = _safe(child)
            kept.tail = child.tail
            copy.append(kept)
    return copy


def _scoped(css: str, scope: str) -> str:
    """Return the rules with each selector below ``.scope``; drop a rule that could reach out of the picture."""
    rules = []
    for selectors, body in _RULE.findall(_COMMENT.sub("", css)):
        if _REACHES_OUT.search(selectors) or _REACHES_OUT.search(body):
            continue
        names = [s.strip().replace(":root", "svg") for s in selectors.split(",") if s.strip()]
        if names:
            rules.append(f"{','.join(f'.{scope} {name}' for name in names)}{{{body.strip()}}}")
    return "\n".join(rules)
