"""Each line of evidence carries the digest of the one before: what is changed afterwards shows."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hil.evidence.chain import read_chain
from hil.evidence.events import LinkCut
from hil.evidence.record import EVIDENCE, Recorder


@pytest.fixture
def evidence(tmp_path: Path) -> Path:
    with Recorder.create(tmp_path / "run", {}) as recorder:
        for number in range(5):
            recorder.emit(LinkCut(f"isl-{number}"))
    return tmp_path / "run" / EVIDENCE


def test_the_head_stands_for_all_lines_and_grows_with_them(evidence: Path) -> None:
    before = read_chain(evidence)
    assert (before.linked, before.broken, len(before.lines)) == (True, "", 5)
    with Recorder.attach(evidence.parent) as recorder:
        recorder.emit(LinkCut("isl-5"))
    after = read_chain(evidence)
    assert after.lines[:5] == before.lines
    assert after.first == before.first and after.lines[-1] != before.lines[-1]


@pytest.mark.parametrize(
    ("edit", "line"),
    [
        (lambda lines: [*lines[:2], lines[2].replace("isl-2", "isl-9"), *lines[3:]], 4),
        (lambda lines: [*lines[:2], *lines[3:]], 3),
        (lambda lines: lines[1:], 1),
        (lambda lines: [*lines[:2], lines[1], *lines[2:]], 3),
        (lambda lines: [*lines[:2], "garbled", *lines[2:]], 4),
        (lambda lines: [*lines[:4], lines[4].partition(',"prev"')[0] + "}"], 5),
        (lambda lines: [lines[1], lines[0], *lines[2:]], 1),
    ],
    ids=["changed", "taken out", "first taken out", "doubled", "put in", "digest taken out", "another order"],
)
def test_a_line_that_was_changed_is_found(evidence: Path, edit: Callable[[list[str]], list[str]], line: int) -> None:
    evidence.write_text("\n".join(edit(evidence.read_text("utf-8").splitlines())) + "\n", "utf-8")
    assert read_chain(evidence).broken == f"line {line} does not follow from the one before it"


def test_half_a_line_of_a_killed_writer_is_no_change(evidence: Path) -> None:
    whole = evidence.read_bytes()
    evidence.write_bytes(whole[:-40])
    assert read_chain(evidence).broken == ""
    with Recorder.attach(evidence.parent) as recorder:
        recorder.emit(LinkCut("isl-5"))
    assert (read_chain(evidence).broken, len(read_chain(evidence).lines)) == ("", 6)


def test_lines_of_a_version_without_digests_show_nothing(tmp_path: Path) -> None:
    (tmp_path / EVIDENCE).write_text('{"t_utc":"x","mono_s":1,"kind":"a"}\n' * 2, "utf-8")
    chain = read_chain(tmp_path / EVIDENCE)
    assert (chain.linked, chain.broken, len(chain.lines)) == (False, "", 2)
    assert read_chain(tmp_path / "none").lines == ()
