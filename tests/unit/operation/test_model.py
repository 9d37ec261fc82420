"""Operation files: strict, with the line of each fault."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.cli.operation import document
from hil.errors import ConfigurationError
from hil.lab.reference import Section, sections
from hil.operation.model import Operation, Steps, load_operation
from tests.kits import checkout

HEAD = "schema: 1\nname: test\n"


def load(folder: Path, text: str) -> Operation:
    file = folder / "operation.yaml"
    file.write_text(HEAD + text)
    return load_operation(file)


def test_the_shipped_operation_has_every_step() -> None:
    operation = load_operation("six_gpu")
    assert [*operation.steps.names()] == [*Steps.model_fields]
    assert operation.deadline_s == 180 + 30 + 120 + 180 + 60 + 60 + 180
    assert operation.bundle_path is None


def test_an_absent_file_names_the_shipped_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="no such file") as caught:
        load_operation(tmp_path / "absent.yaml")
    assert "six_gpu" in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("steps: {upload: {deadlin: 3m}}\n", 3, "steps.upload.deadlin: unknown key; did you mean deadline?"),
        ("steps:\n  upload: {}\n  activate: {}\n", 5, "activate needs the steps before it; missing: verify"),
        ("steps:\n  upload: {}\n  verify:\n", 5, "is empty; write {} for a step with its defaults"),
        ("steps: {verify: {}}\n", 3, "steps.upload: is required and missing"),
        ("steps: {upload: {deadline: 3 minutes}}\n", 3, "is not a duration: write 90s"),
        ("steps: {upload: {deadline: 900d}}\n", 3, "give 1s to 7d"),
        ("bundle:\n  file: os.raucb\nsteps: {upload: {}}\n", 4, "file needs version, too"),
        ("bundle: {version: 2.0.0}\nsteps: {upload: {}}\n", 3, "version needs file, too"),
        ("bundle: {size_bytes: 5e9}\nsteps: {upload: {}}\n", 3, "bundle.size_bytes"),
        ("boards: {split: three}\nsteps: {upload: {}}\n", 3, "boards.split"),
        ("limits: {margin: 1.0}\nsteps: {upload: {}}\n", 3, "limits.margin"),
        ("", 1, "steps: is required and missing"),
    ],
)
def test_a_fault_is_named_with_line_and_key(text: str, line: int, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text)
    assert f"operation.yaml:{line}: " in caught.value.message
    assert words in caught.value.message


def test_a_deadline_of_the_whole_is_the_files_own(tmp_path: Path) -> None:
    operation = load(tmp_path, "deadline: 2h\nsteps: {upload: {deadline: 10m}, verify: {deadline: 1m}}\n")
    assert operation.deadline_s == 7200 and operation.commanding_s == 60 and operation.running_s == 0
    assert load(tmp_path, "steps: {upload: {deadline: 10m}}\n").deadline_s == 600


def test_a_bundle_is_beside_its_file(tmp_path: Path) -> None:
    operation = load(
        tmp_path,
        f"bundle: {{file: images/os.raucb, version: 7.1.0, image_sha256: {'0' * 64}}}\nsteps: {{upload: {{}}}}\n",
    )
    assert operation.bundle_path == tmp_path / "images/os.raucb"


def test_the_page_of_all_keys_is_up_to_date() -> None:
    assert (checkout.ROOT / "docs/operation-reference.md").read_text("utf-8") == document()


@pytest.mark.parametrize("section", sections(Operation, "Operation file", {}), ids=lambda section: section.model)
def test_the_examples_of_the_page_can_be_copied(section: Section, tmp_path: Path) -> None:
    if section.example:
        load(tmp_path, section.example + ("" if section.model == "Steps" else "\nsteps: {upload: {}}\n"))
