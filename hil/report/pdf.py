"""The report of a run as PDF, by WeasyPrint (extra ``[pdf]``): the page as it prints, made without any network."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from hil.core import paths
from hil.errors import ConfigurationError

WHOLE = "* { break-inside: auto !important; }"
"""WeasyPrint 70 gives up on some pages whose parts are to stay in one piece."""


def pdf_of(page: Path) -> bytes:
    """Return a report page as PDF; the same page gives the same bytes.

    Nothing is fetched: what a board or a test's author wrote must not make a request.  ConfigurationError: WeasyPrint,
    or Pango below it, is not installed.
    """
    try:
        from weasyprint import CSS, HTML
        from weasyprint.urls import URLFetcher
    except (ImportError, OSError) as exc:  # OSError: the package is there, a library of the system is not
        raise ConfigurationError(
            f"a PDF needs WeasyPrint, which is not here: {str(exc).splitlines()[0]}",
            remedy="pip install 'orbital-hil[pdf]', and on Debian: apt install libpango-1.0-0 libpangoft2-1.0-0",
        ) from exc
    logging.getLogger("weasyprint").setLevel(logging.CRITICAL)  # links to files beside the page lead nowhere in a PDF
    inline = URLFetcher(allowed_protocols={"data"}, allow_redirects=False)
    text, style = page.read_text("utf-8"), (paths.PACKAGE / "report/templates/pdf.css").read_text("utf-8")
    html = HTML(
        string=with_styled_pictures(text).replace("</head>", f"<style>{style}</style></head>", 1), url_fetcher=inline
    )
    try:
        made = html.write_pdf()
    except AssertionError:
        made = html.write_pdf(stylesheets=[CSS(string=WHOLE)])
    return bytes(made)


def with_styled_pictures(text: str) -> str:
    """Return a page whose pictures have the page's rules and patterns in them: WeasyPrint draws each on its own."""
    rules = _without_media("".join(re.findall(r"<style>(.*?)</style>", text, re.S)))
    values = dict(reversed(re.findall(r"(--[a-z0-9-]+)\s*:\s*([^;}]+)", rules)))  # the first one is that of light pages

    def value(found: re.Match[str]) -> str:
        return str(values.get(found[1], found[2] or "none"))

    for _ in range(3):  # a value may name another one
        rules = re.sub(r"var\((--[a-z0-9-]+)(?:,\s*([^()]*(?:\([^)]*\))?))?\)", value, rules)
    rules = re.sub(r"\bfont:\s*(?:\d+ )?([\d.]+px)[^;}]*", r'font-size: \1; font-family: "DejaVu Sans"', rules)
    rules = rules.replace(".cal svg ", "svg ")
    patterns = "".join(re.findall(r"<defs>(.*?)</defs>", text, re.S)[:1])
    inside = f"<style>{rules}</style><defs>{patterns}</defs>"
    return re.sub(r'(<svg [^>]*(?:role="img"|class="(?:timeline|heat)[^"]*")[^>]*>)', lambda svg: svg[1] + inside, text)


def _without_media(rules: str) -> str:
    """Return rules without those for some media only."""
    return re.sub(r"@media[^{]*\{(?:[^{}]*\{[^{}]*\})*[^{}]*\}|@page[^}]*\}", "", rules)
