"""Pages made of the templates beside this module: self-contained, everything from outside escaped."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from hil.core import paths
from hil.report import units

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **context: Any) -> str:
    """Return the page (or part of one) that a template makes."""
    return _environment().get_template(template).render(**context)


@cache
def _environment() -> Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(paths.PACKAGE / "report" / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        # Evidence comes from many hands: a field that is missing leaves a blank, never a run without a page.
        undefined=jinja2.ChainableUndefined,
    )
    for show in (units.value, units.quantity, units.figure, units.seconds, units.size, units.brief, units.css):
        environment.filters[show.__name__] = show
    return environment
