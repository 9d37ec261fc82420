"""The reference of lab and orbit files: complete, up to date, and its examples can be copied."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel, Field

from hil.cli.lab.reference import document, reference
from hil.core import paths
from hil.errors import ConfigurationError
from hil.lab.model import Lab, load_lab
from hil.lab.reference import Section, examples, markdown, sections, unit_of
from hil.lab.unions import OneOfKinds
from hil.lab.yamlfile import Strict, load_yaml
from hil.orbit.model import OrbitFile

FILE = "docs/lab-reference.md"
FILES: tuple[tuple[type[BaseModel], dict[str, str]], ...] = ((Lab, examples("lab")), (OrbitFile, examples("orbit")))


def models_below(model: type[BaseModel]) -> dict[str, type[BaseModel]]:
    """Every model that a file of this model is read with, by class name."""
    found = {model.__name__: model}

    def visit(annotation: object) -> Iterator[type[BaseModel]]:
        for marker in getattr(annotation, "__metadata__", ()):
            if isinstance(marker, OneOfKinds):
                yield from marker.models().values()
                return
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation
        for part in getattr(annotation, "__args__", ()):
            yield from visit(part)

    for field in model.model_fields.values():
        for below in visit(Annotated[field.annotation, None, *field.metadata]):
            found.update(models_below(below))
    return found


def all_sections() -> list[Section]:
    found: list[Section] = []
    for model, texts in FILES:
        found += sections(model, model.__name__.replace("File", " file"), texts, found)
    return found


def _examples() -> Iterator[tuple[str, type[BaseModel], str]]:
    """(name of a model, the model, its example), those that stand in the model itself included."""
    for file, texts in FILES:
        for name, model in models_below(file).items():
            extra = model.model_config.get("json_schema_extra")
            own = extra.get("x-example", "") if isinstance(extra, dict) else ""
            if text := texts.get(name, str(own)):
                yield name, model, text


EXAMPLES = [pytest.param(model, text, id=name) for name, model, text in _examples()]


def test_the_document_is_what_the_models_say() -> None:
    assert (paths.ROOT / FILE).read_text() == document(), (
        f"{FILE} is out of date: run `.venv/bin/hil lab reference > {FILE}`"
    )


def test_every_section_of_both_files_is_there() -> None:
    for model, _ in FILES:
        assert {s.model for s in sections(model, "file", {})} == set(models_below(model))


def test_every_key_says_what_it_means() -> None:
    silent = [
        f"{section.model}.{key.name}"
        for section in all_sections()
        for key in section.keys
        if not key.meaning and key.name != "kind"
    ]
    assert not silent, f"give these a description in their model: {silent}"


def test_every_section_says_what_it_is_and_has_an_example() -> None:
    silent = [section.model for section in all_sections() if not section.about]
    assert not silent, f"give these models a docstring: {silent}"
    bare = [section.model for section in all_sections() if not section.example]
    assert not bare, f"give these an example in hil/lab/examples.yaml or hil/orbit/examples.yaml: {bare}"


@pytest.mark.parametrize(("model", "text"), EXAMPLES)
def test_an_example_is_read_by_its_model(model: type[BaseModel], text: str, tmp_path: Path) -> None:
    file = tmp_path / "example.yaml"
    file.write_text(text)
    load_yaml(file, model)


def test_an_example_stands_below_its_own_key_and_says_the_same_there() -> None:
    by_name = {section.model: section for section in all_sections()}
    for name, _, text in _examples():
        shown = yaml.safe_load(by_name[name].example)
        if by_name[name].places:
            ((_, shown),) = shown.items()
            if by_name[name].places[0].endswith(".NAME"):
                ((_, shown),) = shown.items()
        assert (shown[0] if isinstance(shown, list) else shown) == yaml.safe_load(text), name


def test_every_link_in_the_document_leads_to_a_heading_and_no_two_headings_are_alike() -> None:
    anchors = [section.anchor for section in all_sections()]
    assert len(anchors) == len(set(anchors))
    text = document()
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= set(anchors)
    for page in re.findall(r"\]\(([\w-]+\.md)\)", text):
        assert (paths.ROOT / "docs" / page).exists(), page


def test_the_smallest_lab_of_the_reference_is_a_whole_lab_file(tmp_path: Path) -> None:
    file = tmp_path / "smallest.yaml"
    file.write_text(examples("lab")["Lab"])
    assert [board.name for board in load_lab(file).boards] == ["a1", "b1"]


class Lamp(Strict):
    """A lamp.

    With ``delay_us`` it waits.
    """

    kind: Literal["lamp"]
    delay_us: Annotated[int, Field(ge=0, le=20_000, description="a | b")] | None = None
    share: float = Field(default=0.5, gt=0, lt=1)
    colours: tuple[Literal["red", "blue"], ...] = Field(strict=False, min_length=1)


class Bell(Strict):
    kind: Literal["bell"]
    text: str = Field("", max_length=9)


class Room(Strict):
    """A room."""

    door: Door


class Door(Strict):
    """A door inside."""


class House(Strict):
    """A house."""

    door: Lamp | None = None
    signals: tuple[Annotated[Lamp | Bell, Field(discriminator="kind")], ...] = Field((), strict=False)
    rooms: dict[str, Room] = Field(default={}, max_length=3)


def test_keys_are_described_in_words() -> None:
    house, lamp, bell, room, _ = sections(House, "House file", {"Room": "door: {}\n"})
    assert (house.title, house.places) == ("House file", ())
    assert lamp.places == ("door", "signals[] (kind: lamp)")
    assert (room.places, room.example) == (("rooms.NAME",), "rooms:\n  isl-ab:\n    door: {}\n")
    assert house.keys[2].type == "names, each with section {Room}"
    assert house.keys[2].allowed == "at most 3 of them"
    assert (lamp.title, bell.title) == ("door, signals: lamp", "signals: bell")
    by_name = {key.name: key for key in lamp.keys}
    assert (by_name["delay_us"].unit, by_name["delay_us"].allowed) == ("µs", "0 to 20,000")
    assert not by_name["delay_us"].required
    assert (by_name["share"].default, by_name["share"].allowed) == ("`0.5`", "more than 0, less than 1")
    assert by_name["colours"].required
    assert by_name["colours"].type == "list of word"
    assert by_name["colours"].allowed == "at least 1 of them; each `red`, `blue`"
    assert bell.keys[1].allowed == "at most 9 characters"
    assert {key.name: key.meaning for key in house.keys} == {"door": "A lamp.", "signals": "", "rooms": "A room."}


def test_two_sections_below_keys_of_one_name_have_titles_of_their_own() -> None:
    class Street(Strict):
        door: Lamp
        room: Room

    titles = {section.model: section.title for section in sections(Street, "Street", {})}
    assert titles == {"Street": "Street", "Lamp": "door", "Room": "room", "Door": "room.door"}


def test_a_bar_in_a_cell_does_not_end_the_cell() -> None:
    text = markdown(sections(House, "House file", {}))
    assert "a \\| b |" in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) == 7, line


@pytest.mark.parametrize(
    ("key", "unit"),
    [("one_way_delay_us", "µs"), ("rate_bps", "bit/s"), ("slew_deg_per_s", "degrees/s"), ("p99_s", "s"), ("os", "")],
)
def test_the_unit_is_in_the_name(key: str, unit: str) -> None:
    assert unit_of(key) == unit


def test_the_bit_error_rate_keeps_its_bounds_and_may_be_written_without_a_point(tmp_path: Path) -> None:
    file = tmp_path / "orbit.yaml"
    orbit = examples("orbit")["OrbitFile"]
    file.write_text(orbit + "terminals: {bit_error_rate: 1e-7}\n")
    assert load_yaml(file, OrbitFile).terminals.bit_error_rate == 1e-7
    file.write_text(orbit + "terminals: {bit_error_rate: 1}\n")
    with pytest.raises(ConfigurationError, match=r"less than or equal to 0\.01"):
        load_yaml(file, OrbitFile)


@pytest.mark.parametrize(("form", "key"), [("lab-schema", "links"), ("orbit-schema", "shell")])
def test_the_command_prints_the_schema_that_editors_read(form: str, key: str) -> None:
    result = CliRunner().invoke(reference, ["--format", form])
    assert result.exit_code == 0
    assert key in json.loads(result.output)["properties"]


def test_the_command_prints_the_document() -> None:
    result = CliRunner().invoke(reference, [])
    assert result.exit_code == 0
    assert result.output == document()
