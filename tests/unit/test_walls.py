"""The walls of the house: which room imports which, and what tests share."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import hil
from tests.kits import checkout

PACKAGE = Path(hil.__file__).parent
FLOORS = (
    *("text", "errors", "core", "database", "lab", "leases", "orbit", "evidence"),
    *("onboard", "twin", "images", "boards", "links", "workload"),
    *("host", "bench", "rollout", "faults", "operation", "report", "campaign", "trials"),
    *("nightly", "monitor", "cli", "testing"),
)
"""Rooms from the ground up; a room imports only from itself and from rooms before it."""
AT_RUN_TIME = {"numpy", "onnxruntime"}
"""Foreign packages that a board has: the inference of :mod:`hil.onboard.node.infer`."""


def _modules() -> dict[str, Path]:
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in sorted(PACKAGE.rglob("*.py"))
    }


MODULES = _modules()


@cache
def _imports(path: Path) -> list[tuple[int, str]]:
    """Every module that a file imports anywhere, with the line."""
    return list(_walk(path))


def _walk(path: Path) -> Iterator[tuple[int, str]]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                named = whole in MODULES or alias.name.startswith("test_")
                yield node.lineno, whole if named else node.module


def _room(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_its_floor() -> None:
    assert {_room(module) for module in MODULES} - {""} == set(FLOORS)


def test_no_room_imports_from_a_room_above_it() -> None:
    upward = [
        f"{module}:{line} imports {imported}"
        for module, path in MODULES.items()
        for line, imported in _imports(path)
        if imported.startswith("hil.") and _room(module)
        if FLOORS.index(_room(imported)) > FLOORS.index(_room(module))
    ]
    assert not upward, "\n".join(upward)


def test_the_public_face_is_for_those_outside() -> None:
    inside = [f"{module}:{line}" for module, path in MODULES.items() for line, name in _imports(path) if name == "hil"]
    assert not inside, f"import from the room that has it: {inside}"


def test_no_module_imports_itself_through_others() -> None:
    ways = {m: {i for _, i in _imports(p) if i in MODULES and i != m} for m, p in MODULES.items()}
    while free := {m for m, needs in ways.items() if not needs & ways.keys()}:
        ways = {m: needs for m, needs in ways.items() if m not in free}
    assert not ways, f"in or behind a circle: {sorted(ways)}"


def test_what_runs_on_a_board_needs_only_the_standard_library() -> None:
    foreign = [
        f"{module}:{line} imports {imported}"
        for module, path in MODULES.items()
        if _room(module) == "onboard"
        for line, imported in _imports(path)
        if not imported.startswith("hil.onboard")
        and imported.split(".")[0] not in sys.stdlib_module_names | AT_RUN_TIME
    ]
    assert not foreign, "\n".join(foreign)


def _test_modules_imported_by(*folders: str) -> list[str]:
    """Each import of a module named ``test_*`` of this checkout, in the Python files of these folders."""
    return [
        f"{path.relative_to(checkout.ROOT)}:{line} imports {imported}"
        for folder in folders
        for path in sorted((checkout.ROOT / folder).rglob("*.py"))
        for line, imported in _imports(path)
        if imported.split(".")[0] in ("tests", "testplans")
        if any(part.startswith("test_") for part in imported.split("."))
    ]


def test_what_tests_share_is_in_kits_and_not_in_another_test() -> None:
    shared = _test_modules_imported_by("tests", "testplans", "fixtures", "tools", "hil", "examples")
    assert not shared, "\n".join(shared)
