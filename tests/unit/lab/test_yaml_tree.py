"""YAML files of people: values as they are written, and a sentence with file and line for everything that is none."""

from __future__ import annotations

import os
import random
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hil.core import paths
from hil.errors import ConfigurationError
from hil.evidence.fidelity_gaps import load_gaps
from hil.evidence.test_plan import load_plan
from hil.lab.model import load_lab
from hil.lab.yaml_tree import MAX_BYTES, MAX_VALUES, read_tree
from hil.lab.yamlfile import Strict, load_yaml
from hil.operation.model import load_operation
from hil.orbit.model import load_orbit_file
from hil.rollout.updaters.declaration import load_adapter

ROOT = paths.ROOT


BOMB = "a: &a [x, x]\n" + "".join(f"{c}: &{c} [{(f'*{p},' * 9)}]\n" for p, c in zip("abcdef", "bcdefg", strict=True))


def value(tmp_path: Path, text: str | bytes) -> object:
    file = tmp_path / "file.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tree(file)[1]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        *(("0", 0), ("-12", -12), ("+5", 5), ("0x1F", 31), ("999999999999999999", 10**18 - 1)),
        *(("1.5", 1.5), ("1e-7", 1e-7), (".5", 0.5), ("2.", 2.0), ("-1E3", -1000.0)),
        *(("true", True), ("FALSE", False), ("null", None), ("~", None), ("", None)),
        *((word, word) for word in ("yes", "no", "on", "off", "y", "Yes", "tRue")),
        *((word, word) for word in ("010000", "3:59:46", "1_000", "0o17", ".nan", ".inf", "1e999", "1e-999", "00.5")),
        *((word, word) for word in ("2026-03-21", "2001-99-99", "2026-03-21T00:00:00Z", "9" * 5000, "=")),
        *(('"12"', "12"), ("'true'", "true"), ('""', "")),
    ],
)
def test_a_value_is_what_is_written(tmp_path: Path, written: str, read: object) -> None:
    found = value(tmp_path, f"key: {written}\n")
    assert found == {"key": read}
    assert type(found["key"]) is type(read)


def test_keys_are_text_and_aliases_stand_for_their_anchor(tmp_path: Path) -> None:
    assert value(tmp_path, "1: &here {on: [x]}\ntrue: *here\n") == {"1": {"on": ["x"]}, "true": {"on": ["x"]}}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a: 1\nb: !!bool maybe\n", "2: the tag !!bool is not read"),
        ("a: !!timestamp x\n", "1: the tag !!timestamp"),
        ("a: !!python/object/apply:os.system [x]\n", "1: the tag !!python"),
        ("a: 1\n? [a, b]\n: 1\n", "2: a key is a word"),
        ("a: {? [a, b] : c}\n", "1: a key is a word"),
        ("a: 1\nb: &a [*a]\n", "2: nested too deeply"),
        ("a: &x {b: 1}\nc:\n  <<: *x\n", r"3: merge keys \(<<\) are not read"),
        ("a:\n  b: 1\n  c: 2\n  'b': 3\n", r"4: b: given twice \(first in line 2\)"),
        ("a: 1\nb: *none\n", "2: not valid YAML: found undefined alias"),
        ("a: 1\n---\nb: 2\n", "2: not valid YAML"),
        ("a: 1\n\tb: 2\n", "2: not valid YAML"),
        ('a: 1\nb: "x\n', "3: not valid YAML"),
        ('a: 1\nb: "\\UFFFFFFFF"\n', "2: not valid YAML"),
        ('a: 1\nb: "\\ud800"\n', "2: not valid YAML: found invalid Unicode character"),
        ('a: 1\nb: "\\e[2J"\n', r"2: the character U\+001B has no place"),
        ("a: 1\nb: x\u202ey\n", r"2: the character U\+202E has no place"),
        ("a: 1\nb: \0\n", r"2: the character U\+0000 has no place"),
        ("%YAML 3.0\n---\na: 1\n", "1: not valid YAML"),
        ("# nothing\n", "1: the file is empty"),
        (BOMB, "1: more than 20,000"),
        (f"a: [{'0,' * MAX_VALUES}]\n", "1: more than 20,000 values"),
        ("a: 1\nb: ü\nc: ü\a\n", r"3: the character U\+0007 has no place"),
        ("a:\n " + "[" * 900 + "]" * 900, "2: nested too deeply"),
        ("a:\n " + "[" * (MAX_BYTES - 9), "2: not valid YAML: exceeded maximum nesting depth"),
        (b"a: 1\nb: \xff\n", " line 2 is not UTF-8 text"),
        ("a: 1\n".encode("utf-16"), " line 1 is not UTF-8 text"),
        (b"#" * (MAX_BYTES + 1), " is larger than 1 MB"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_with_file_and_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"file\.yaml:{told}") as caught:
        value(tmp_path, text)
    assert caught.value.remedy
    assert len(caught.value.message) < len(str(tmp_path)) + 400


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/null", "FIFO"])
def test_a_device_or_a_pipe_is_refused_at_once(tmp_path: Path, device: str) -> None:
    file = Path(device)
    if device == "FIFO":
        file = tmp_path / "fifo"
        os.mkfifo(file)
    with pytest.raises(ConfigurationError, match="is a device or a pipe; a file is wanted"):
        read_tree(file)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("one_way_delay_us: 4000", "one_way_delay_us: 010000", "valid integer .*010000.*plain digits"),
        ("one_way_delay_us: 4000", "one_way_delay_us: 3:59:46", "valid integer .*3:59:46"),
        ("one_way_delay_us: 4000", f"one_way_delay_us: {'9' * 5000}", r"999\.\.\. \(49\d\d more characters"),
        ("name: virtual", "name: 12", r"valid string \(found 12\); wanted: text; put it in quotes"),
        ("gateway: a1", f"gateway: {'x' * 70_000}", "more characters"),
        ("gateway: a1", f"gateway: a1\n{'x' * 1000}: 1", "unknown key"),
        ("gateway: a1", f"gateway: {{{', '.join(f'k{i}: {i}' for i in range(9000))}}}", "more characters"),
    ],
)
def test_a_wrong_value_is_named_in_few_words(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = (ROOT / "lab/virtual.yaml").read_text()
    assert old in text
    file = tmp_path / "lab.yaml"
    file.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError, match=told) as caught:
        load_lab(file)
    assert all(len(line) < 1500 for line in caught.value.message.splitlines())


class Switch(Strict):
    on: bool


def test_a_switch_is_true_or_false(tmp_path: Path) -> None:
    file = tmp_path / "switch.yaml"
    file.write_text("on: true\n")
    assert load_yaml(file, Switch).on
    file.write_text("on: yes\n")
    with pytest.raises(ConfigurationError, match=r"1: on: .*valid boolean.*'yes'.*wanted: true or false"):
        load_yaml(file, Switch)


def test_the_faults_of_a_file_are_not_all_named(tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text("schema: 1\nid: x1\ntitle: Some\nrequirements:\n" + "- {id: 1, text: 2}\n" * 1000)
    with pytest.raises(ConfigurationError, match=r"\.\.\. and .* more") as caught:
        load_plan(file)
    assert len(caught.value.message) < 30_000


def test_only_one_place_reads_yaml() -> None:
    """Everybody else gets the same words, bounds and errors from it."""
    readers = re.compile(
        r"yaml\.(?:safe_|full_|unsafe_)?(?:load|compose|parse)\w*\(|yaml\.\w*Loader|import yaml\.|from yaml"
    )
    found = {str(file.relative_to(ROOT)) for file in (ROOT / "hil").rglob("*.py") if readers.search(file.read_text())}
    assert found == {"hil/lab/yaml_tree.py"}


# --- every shipped file, damaged in 30 ways each

LOADERS: list[tuple[str, Callable[[Path], object]]] = [
    ("lab/*.yaml", load_lab),
    ("examples/customer/lab/*.yaml", load_lab),
    ("lab/orbits/*.yaml", load_orbit_file),
    ("operations/*.yaml", load_operation),
    ("testplans/*/plan.yaml", load_plan),
    ("examples/customer/plans/*/plan.yaml", load_plan),
    ("hil/rollout/updaters/*.yaml", load_adapter),
    ("hil/evidence/fidelity_gaps.yaml", load_gaps),
]
SHIPPED = [(file, load) for pattern, load in LOADERS for file in sorted(ROOT.glob(pattern))]
ODD = (
    *("010000", "3:59:46", "1_000", "9" * 5000, "1e999", ".nan", "-.inf", "-1", "0", "yes", "null", "''", "[]", "{}"),
    *(
        "!!bool maybe",
        "!!timestamp x",
        "!!float abc",
        "2001-99-99",
        "&a [*a]",
        "{? [a, b] : c}",
        "*none",
        "<<",
        "[[a]]",
    ),
    *('"\\e]0;x\\a"', '"\\ud800"', "'" + "x" * 70_000 + "'", "\u202eabc", "\0", "\ufeff", "[" * 3000, "{a: {b: [c]}}"),
)
NUMBER = re.compile(r"(?<=: )-?\d[\d.]*(?=[ ,}\n])")


def damaged(text: str, dice: random.Random) -> tuple[str, bool]:
    """Return the text with one fault in it, and whether no loader may take it."""
    lines = text.splitlines(keepends=True)
    places = [i for i, line in enumerate(lines) if ":" in line and not line.lstrip().startswith("#")]
    here = dice.choice(places)
    way = dice.randrange(7)
    if way == 0:  # another value
        odd = dice.choice(ODD)
        lines[here] = re.sub(r":[^:\n{]*$", lambda _: f": {odd}", lines[here].rstrip("\n")) + "\n"
    elif way == 1:  # a number that YAML 1.1 reads otherwise than written
        numbers = [i for i, line in enumerate(lines) if NUMBER.search(line) and not set(line) & set("#'\"")]
        if numbers:
            here = dice.choice(numbers)
            other = dice.choice(["0{}0", "3:59:46", "1_000", "0{}", "{}:30", ".nan", "1e999", "0o17"])
            lines[here] = NUMBER.sub(lambda match: other.format(match[0].replace(".", "")), lines[here], count=1)
            return "".join(lines), True
    elif way == 2:  # a line again, a line less
        lines[here : here + 1] = [lines[here]] * dice.choice([0, 2])
    elif way == 3:  # a line elsewhere
        lines.insert(dice.choice(places), lines.pop(here))
    elif way == 4:  # a merge key beside it
        indent = lines[here][: len(lines[here]) - len(lines[here].lstrip(" -"))].replace("-", " ")
        lines.insert(here, f"{indent}<<: {{schema: 1}}\n")
    elif way == 5:  # another character
        at = dice.randrange(len(text))
        return text[:at] + dice.choice("\t:{}[]&*!|>%@`\"'#,-?\n \0\x1b\u0085") + text[at + 1 :], False
    else:  # cut off
        return text[: dice.randrange(len(text))], False
    return "".join(lines), way == 4


@pytest.mark.parametrize(("file", "load"), SHIPPED, ids=[str(file.relative_to(ROOT)) for file, _ in SHIPPED])
def test_a_damaged_file_is_read_or_refused_with_its_line(
    tmp_path: Path, file: Path, load: Callable[[Path], object]
) -> None:
    if (file.parent / "orbits").is_dir():
        shutil.copytree(file.parent / "orbits", tmp_path / "orbits")
    text, copy = file.read_text(), tmp_path / file.name
    load(file)
    dice = random.Random(file.name)
    for trial in range(30):
        wrong, hopeless = damaged(text, dice)
        copy.write_text(wrong)
        begin = time.process_time()
        try:
            load(copy)
        except ConfigurationError as exc:
            assert re.match(rf"{re.escape(str(tmp_path))}[^:\n]*:(\d+: | )", exc.message), (trial, exc.message)
            assert all(len(row) < len(str(copy)) + 1200 for row in exc.message.splitlines()), (trial, exc.message)
        else:
            assert not hopeless, (trial, wrong)
        assert time.process_time() - begin < 5, (trial, wrong)
