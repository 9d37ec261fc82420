"""Documentation against code: commands parse, links and paths exist, names import, tables are complete."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import hil
from hil.core import kinds, paths
from hil.workload import model, scene
from tests.kits.command_lines import after_hil, fault_of

ROOT = paths.ROOT
ROOT_PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md")
PAGES = sorted([*(ROOT / name for name in ROOT_PAGES), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
READERS_OWN = re.compile(
    r"(lab/(mine|my-lab|rack|first)\.yaml|lab/adapters/skyos\.yaml|testplans/(first|mine|skyos)|reports/out)\b"
)
"""Paths that a page tells its reader to make."""
NOT_MODULES = {
    *(kinds.BOARDS, kinds.OUTLETS, kinds.ENGINES, kinds.UPDATERS, kinds.FAULTS),
    kinds.ENGINEERING_MODELS,
    "hil.v",  # how a shaper host's VLANs are called
}

FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```", re.M | re.S)
INLINE = re.compile(r"`([^`\n]+)`")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def prose(page: Path) -> str:
    """Return the text of a page without its code blocks."""
    return FENCE.sub("", page.read_text("utf-8"))


def blocks(page: Path, *languages: str) -> Iterator[str]:
    """Yield the code blocks of a page that are in one of the languages ("" for a block that names none)."""
    for match in FENCE.finditer(page.read_text("utf-8")):
        if match[2] in languages:
            yield match[3]


def shell_lines(page: Path) -> Iterator[list[str]]:
    """Yield the words of every line of a page's shell blocks, without comments."""
    for block in blocks(page, "sh", "console", "bash", ""):
        for line in block.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line.strip().removeprefix("$ "), comments=True)
            except ValueError:
                continue  # a drawing or a sentence, not a command
            if words:
                yield words


@each_page
def test_every_hil_command_of_a_page_parses(page: Path) -> None:
    faults = []
    for words in shell_lines(page):
        arguments = after_hil(words)
        if arguments is not None and (fault := fault_of(arguments, complete=True)):
            faults.append(f"{shlex.join(words)}: {fault}")
    for match in INLINE.finditer(prose(page)):
        text = re.sub(r"[\[\]]", "", match[1].replace("\\|", "|")).replace("…", " 1 ")
        try:
            words = shlex.split(text)
        except ValueError:
            continue
        arguments = after_hil(words)
        if arguments is not None and (fault := fault_of(arguments, complete=False)):
            faults.append(f"{match[0]}: {fault}")
    assert not faults, "\n".join(faults)


def test_the_check_of_commands_finds_what_is_wrong() -> None:
    assert "no `hil board rest`" in fault_of(["board", "rest", "a1"], complete=True)
    assert "No such option" in fault_of(["bench", "up", "--labb", "x"], complete=False)
    assert "Missing" in fault_of(["board", "power"], complete=True)
    assert "is not one of" in fault_of(["board", "power", "a1", "blink"], complete=True)
    assert "no `hil lease tale`" in fault_of(["lease", "take|tale"], complete=False)
    assert fault_of(["lease", "take", "x/a1", "--for", "t", "--", "hil", "bench", "upp"], complete=True)


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as the site and the usual web views of a repository make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.M)
    texts = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    plain = (re.sub(r"[^\w\s-]", "", text.encode("ascii", "ignore").decode()).strip().lower() for text in texts)
    return frozenset(re.sub(r"[\s-]+", "-", text) for text in plain)


@each_page
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    dead = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        other = (page.parent / name).resolve() if name else page
        if not other.exists() or (anchor and anchor not in anchors(other)):
            dead.append(target)
    assert not dead, dead


@each_page
def test_every_path_of_a_page_exists(page: Path) -> None:
    named = [match[1] for match in INLINE.finditer(prose(page))]
    named += [word for words in shell_lines(page) for word in words]
    wanted = {
        path.rstrip("/")
        for path in named
        if re.fullmatch(r"(hil|tests|tools|lab|testplans|docs|fixtures|examples|reports)/[\w./*-]+", path)
        if not READERS_OWN.match(path)
    }
    absent = sorted(path for path in wanted if not any(ROOT.glob(path)))
    assert not absent, absent


def exists(dotted: str) -> bool:
    """Say whether a dotted name is a module or something in one."""
    parts = dotted.split(".")
    for cut in range(len(parts), 0, -1):
        try:
            thing: Any = import_module(".".join(parts[:cut]))
        except ImportError:
            continue
        for name in parts[cut:]:
            if not hasattr(thing, name):
                return False
            thing = getattr(thing, name)
        return True
    return False


@pytest.mark.parametrize(
    "page", [p for p in PAGES if p.name != "CHANGELOG.md"], ids=lambda page: page.relative_to(ROOT).as_posix()
)
def test_every_name_of_a_page_imports(page: Path) -> None:
    text = page.read_text("utf-8")
    names = set(re.findall(r"(?<![\w./<-])hil(?:\.[A-Za-z_]\w*)+(?!\w*[…<])", text)) - NOT_MODULES
    for block in blocks(page, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "hil":
                names |= {f"{node.module}.{alias.name}" for alias in node.names}
    absent = sorted(name for name in names if not exists(name))
    assert not absent, absent


def code_of(*folders: str) -> str:
    """Return the text of all program files in some folders of the repository."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return "\n".join(path.read_text("utf-8") for path in [*files, ROOT / "Makefile"])


def test_the_page_of_environment_variables_has_all_that_the_code_reads() -> None:
    page = (ROOT / "docs/environment.md").read_text("utf-8")
    described = set(re.findall(r"^\| `(\w+)` \|", page, re.M))
    read = set(re.findall(r"\bHIL_[A-Z_]+\b|\bALLOW_PARTIAL\b|\bDOCKER_HOST\b", code_of("hil", "tools")))
    assert described == read - {"HIL_COMPLETE"}


def test_the_messages_of_the_troubleshooting_page_are_those_of_the_code() -> None:
    page = (ROOT / "docs/troubleshooting.md").read_text("utf-8")
    messages = re.findall(r"^\| \*(.+?)\* \|", page, re.M)
    code = re.sub(r'"\s*\n?\s*f?"', "", code_of("hil"))
    unknown = [
        message
        for message in messages
        if any(part.strip() not in code for part in re.split("…", message) if len(part.strip()) > 3)
    ]
    assert len(messages) > 30
    assert not unknown, unknown


def test_the_page_for_test_authors_has_every_fixture() -> None:
    fixtures = {
        node.name
        for path in (ROOT / "hil/campaign").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef)
        if any("pytest.fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    }
    page = (ROOT / "docs/api.md").read_text("utf-8")
    sections = re.findall(r"::: hil\.campaign\..*?members: \[(.*?)\]", page, re.S)
    assert fixtures == {name.strip() for section in sections for name in section.split(",")}


def test_the_notice_names_the_network_and_the_scene_by_version() -> None:
    notice = (ROOT / "NOTICE").read_text("utf-8")
    for wheel in (model.WHEEL, scene.WHEEL):
        assert wheel.replace("==", " ") in notice


def test_the_map_of_the_house_has_every_room() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Map of the house")[2].partition("Beside it:")[0]
    rooms = {path.parent.name for path in (ROOT / "hil").glob("*/__init__.py")}
    assert set(re.findall(r"`hil/(\w+)/`", page)) == rooms
    assert set(re.findall(r"`hil/(\w+)/`", (ROOT / "README.md").read_text("utf-8"))) == rooms


def test_the_page_for_test_authors_has_every_public_name() -> None:
    page = (ROOT / "docs/api.md").read_text("utf-8").partition("## The public face")[2].partition("\n## ")[0]
    assert set(re.findall(r"`(\w+)`", page)) == set(hil.__all__)


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    def files(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            yield from files(inner)

    listed = list(files(yaml.safe_load((ROOT / "mkdocs.yml").read_text("utf-8"))["nav"]))
    generated = {name.lower() for name in ROOT_PAGES} - {"readme.md"}
    there = {path.relative_to(ROOT / "docs").as_posix() for path in ROOT.glob("docs/**/*.md")}
    assert len(listed) == len(set(listed))
    assert set(listed) == there | generated
