"""Files that a person names and that cannot be read: the message names the file, and what is wrong in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.cli.app import run


@pytest.mark.parametrize(
    "words",
    [
        ["lab", "validate"],
        ["lab", "show"],
        ["orbit", "contacts"],
        ["orbit", "show"],
        ["orbit", "lint"],
        ["orbit", "convert", "--to", "hdtn"],
    ],
    ids=" ".join,
)
def test_a_folder_and_a_file_that_is_no_text_are_called_so(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "picture.yaml"
    picture.write_bytes(b"name: x\nmodel: \xff\xd8\xff\n")
    for file, why in (
        (tmp_path, "is a folder; a file is wanted"),
        (picture, "line 2 is not UTF-8 text"),
        (tmp_path / "none.yaml", "no such file"),
    ):
        assert run([*words, str(file)]) == 2
        said = capsys.readouterr().err
        assert f"{file}: {why}" in said and "remedy: " in said
        assert "codec" not in said and "Errno" not in said
