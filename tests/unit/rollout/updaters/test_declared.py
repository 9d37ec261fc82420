"""The declared adapter: its file with its errors, and what it makes of an updater's answers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hil.boards.protocol import Board
from hil.core.paths import ROOT
from hil.errors import ConfigurationError, DeviceError
from hil.images.artefact import BundleFacts
from hil.images.recipes import REFERENCE, SWUPDATE, recipe_of
from hil.lab.model import Lab
from hil.rollout.updaters.declaration import AdapterFile, load_adapter
from hil.rollout.updaters.declared import RAUC, DeclaredAdapter
from hil.rollout.updaters.jsonpath import find, parse_path
from hil.rollout.updaters.kinds import adapter_of
from hil.rollout.updaters.protocol import InstallFailed, RefusedBundle
from hil.testing.fakes import FakeClock
from tests.kits.updater_shell import FakeShell

DIGEST = "ab" * 32
GOOD_FILE = (0, f"{DIGEST}  /data/x\n", "")

SKYOS = """\
schema: 1
name: skyos
slots: {A: "0", B: "1"}
busy: ["try again"]
status:
  queries:
    slots: {run: [skyctl, slots], exit_codes: [0, 1]}
    info: {run: [skyctl, info, "{slot}"]}
  compatible: {constant: sky-orin}
  booted: {query: slots, pattern: 'running: (\\d)'}
  primary: {query: slots, pattern: 'next: (\\w+)', values: {first: "0", second: "1"}}
  each_slot:
    bootable: {query: slots, pattern: '^slot {slot}: (\\w+)', yes_when: [ok, new]}
    complete: {query: info, field: $.whole}
    image_sha256: {query: info, field: "$.image['sha-256']"}
    version: {query: info, field: "$.versions[0]"}
install:
  steps:
    - {run: [skyctl, write, "{bundle}", --to, "{slot}", --expect, "{version}"], expect: "written {version}"}
    - {run: [skyctl, sync]}
  refused: ["not trusted", "E1[0-9]"]
  reason: "because (.+)$"
activate:
  steps:
    - {run: [skyctl, next, "{slot}"]}
confirm:
  steps:
    - {run: [skyctl, keep, "{slot}"]}
roll_back:
  steps:
    - {run: [skyctl, back]}
restart: {run: [skyctl, restart]}
configure:
  steps:
    - {run: [skyctl, settings]}
health:
  checks:
    - {run: [skyctl, doctor], expect: "all well"}
"""

SLOTS = "running: 0\nnext: first\nslot 0: ok\nslot 1: broken\n"


def info(**fields: Any) -> str:
    return json.dumps({"whole": True, "image": {"sha-256": "cd" * 32}, "versions": ["2.0.0"], **fields})


@pytest.fixture
def load(tmp_path: Path) -> Callable[[str], AdapterFile]:
    def write(text: str) -> AdapterFile:
        path = tmp_path / "skyos.yaml"
        path.write_text(text)
        return load_adapter(path)

    return write


@pytest.fixture
def skyos(load: Callable[[str], AdapterFile]) -> AdapterFile:
    return load(SKYOS)


def make(file: AdapterFile, shell: FakeShell) -> DeclaredAdapter:
    return DeclaredAdapter(file, "a1", lambda: shell, version="2.0.0", clock=FakeClock())


def board(**answers: Any) -> FakeShell:
    usual = {
        "skyctl_slots": (1, SLOTS, ""),
        "skyctl_info": (0, info(), ""),
        "sha256sum": GOOD_FILE,
        "skyctl_write": (0, "written 2.0.0\n", ""),
        "cat": (0, "b-1\n", ""),
    }
    return FakeShell(**{**usual, **answers})


# -- the file


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"{bundle}"', '"{bundel}"', "unknown placeholder {bundel}"),
        ("running: (\\d)", "running: (\\d", "not a regular expression"),
        ("running: (\\d)", "running: \\d", "exactly one group"),
        ("$.whole", "whole", "begins with $"),
        ("$.versions[0]", "$.versions[-1]", "not a path from '[-1]' on"),
        ("query: info, field: $.whole", "query: inof, field: $.whole", "There are: slots, info"),
        ("{constant: sky-orin}", "{constant: sky-orin, field: $.x}", "exactly one of"),
        ("{constant: sky-orin}", "{query: slots, field: '$.{slot}'}", "not a path"),
        ('"not trusted"', '"not (trusted"', "not a regular expression"),
        ("[skyctl, keep, ", "[skyctl, keep, '{bundle}', ", "{bundle} has no value here"),
        ("[skyctl, restart]", "[skyctl, '{slot}']", "{slot} has no value here"),
        ('B: "1"', 'B: "0"', "both slots are called '0'"),
        ("confirm:", "conform:", "did you mean confirm?"),
        ('  refused: ["not trusted", "E1[0-9]"]', "  # no refusals", "refused"),
        ("[skyctl, sync]", "[]", "at least 1 item"),
        ("run: [skyctl, sync]", "run: skyctl sync", "valid list"),
    ],
)
def test_a_fault_in_the_file_is_told_with_its_line(
    load: Callable[[str], AdapterFile], old: str, new: str, words: str
) -> None:
    line = SKYOS[: SKYOS.index("install:" if "refused" in old else old)].count("\n") + 1
    with pytest.raises(ConfigurationError) as error:
        load(SKYOS.replace(old, new, 1))
    assert f"skyos.yaml:{line}:" in error.value.message
    assert words in error.value.message


def test_a_version_that_nobody_said_is_missed_before_anything_runs(skyos: AdapterFile) -> None:
    shell = board()
    with pytest.raises(ConfigurationError, match="which version"):
        DeclaredAdapter(skyos, "a1", lambda: shell)
    assert shell.ran == []


# -- status


def test_facts_come_from_text_and_json_and_a_query_about_a_slot_is_asked_for_each(skyos: AdapterFile) -> None:
    shell = board()
    found = make(skyos, shell).status()
    assert (found.compatible, found.booted, found.primary) == ("sky-orin", "A", "A")
    assert (found.slot("A").bootable, found.other.bootable) == (True, False)
    assert (found.other.image_sha256, found.other.version, found.other.complete) == ("cd" * 32, "2.0.0", True)
    assert shell.ran == [("skyctl", "slots"), ("skyctl", "info", "0"), ("skyctl", "info", "1")]


def test_a_fact_that_is_not_there_is_unknown_and_a_digest_must_look_like_one(skyos: AdapterFile) -> None:
    text = json.dumps({"image": {"sha-256": "none"}, "versions": []})
    found = make(skyos, board(skyctl_info=(0, text, ""))).status().other
    assert (found.image_sha256, found.version, found.complete) == (None, None, False)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"skyctl_info": (0, "Segmentation fault", "")}, "not JSON"),
        ({"skyctl_info": (0, "[" * 200_000, "")}, "not JSON"),
        ({"skyctl_info": (3, "", "no such slot")}, "no such slot"),
        ({"skyctl_slots": (0, "running: 7\nnext: first", "")}, "reads '7' as the booted slot"),
        ({"skyctl_slots": (0, "hello", "")}, "reads None as the booted slot"),
    ],
)
def test_an_answer_that_cannot_be_read_is_the_devices_fault(
    skyos: AdapterFile, answer: dict[str, Any], words: str
) -> None:
    with pytest.raises(DeviceError, match=words):
        make(skyos, board(**answer)).status()


def test_an_updater_that_asks_to_be_asked_again_is_asked_again(skyos: AdapterFile) -> None:
    shell = board(skyctl_slots=[(2, "", "starting, try again"), (1, SLOTS, "")])
    assert make(skyos, shell).status().booted == "A"


# -- verbs


def test_an_installation_checks_the_digest_and_runs_the_steps_about_the_other_slot(skyos: AdapterFile) -> None:
    shell = board()
    assert make(skyos, shell).install("/data/x", sha256=DIGEST).other.complete
    ran = [argv for argv in shell.ran if argv[1] not in ("slots", "info")]
    write = ("skyctl", "write", "/data/x", "--to", "1", "--expect", "2.0.0")
    assert ran == [("sha256sum", "/data/x"), write, ("skyctl", "sync")]


def test_another_digest_is_refused_before_the_updater_is_asked(skyos: AdapterFile) -> None:
    shell = board(sha256sum=(0, f"{'00' * 32}  /data/x\n", ""))
    with pytest.raises(RefusedBundle) as refusal:
        make(skyos, shell).install("/data/x", sha256=DIGEST)
    assert refusal.value.reason == "digest mismatch"
    assert not any("write" in argv for argv in shell.ran)


def test_a_refusal_is_known_by_its_pattern_and_gives_the_last_reason(skyos: AdapterFile) -> None:
    words = "because of the moon\nfailed E12: because its signature does not verify\n"
    with pytest.raises(RefusedBundle) as refusal:
        make(skyos, board(skyctl_write=(4, "", words))).install("/data/x", sha256=DIGEST)
    assert refusal.value.reason == "its signature does not verify"


def test_a_refusal_needs_its_exit_code_as_well_as_its_cause(load: Callable[[str], AdapterFile]) -> None:
    file = load(SKYOS.replace("  reason:", "  refused_exit_codes: [7]\n  reason:"))
    with pytest.raises(RefusedBundle, match="the moon"):
        make(file, board(skyctl_write=(7, "", "E12 because the moon is full"))).install("/data/x", sha256=DIGEST)
    for code, words in ((8, "E12"), (7, "because the moon is full")):
        with pytest.raises(InstallFailed, match="no refusal"):
            make(file, board(skyctl_write=(code, "", words))).install("/data/x", sha256=DIGEST)


def test_a_refusal_needs_a_board_that_could_install(load: Callable[[str], AdapterFile]) -> None:
    file = load(SKYOS.replace("  reason:", "  able: [{run: [skyctl, selftest]}]\n  reason:"))
    shell = board(skyctl_write=(1, "", "E12"), skyctl_selftest=(1, "", "no key in it"))
    with pytest.raises(InstallFailed, match="can install no bundle at all: `skyctl selftest` ended with 1"):
        make(file, shell).install("/data/x", sha256=DIGEST)


@pytest.mark.parametrize("answer", [(1, "", "disk gone"), (0, "written 1.9.0\n", "")])
def test_every_other_failure_is_one_of_the_installation_and_ends_it(
    skyos: AdapterFile, answer: tuple[int, str, str]
) -> None:
    shell = board(skyctl_write=answer)
    with pytest.raises(InstallFailed, match=r"disk gone|did not print"):
        make(skyos, shell).install("/data/x", sha256=DIGEST)
    assert ("skyctl", "sync") not in shell.ran


def test_activate_confirm_and_roll_back_name_the_slot_they_are_about(skyos: AdapterFile) -> None:
    shell = board(skyctl_slots=(1, SLOTS.replace("broken", "new"), ""))
    adapter = make(skyos, shell)
    adapter.activate()
    adapter.confirm()
    adapter.roll_back()
    ran = [argv[1:] for argv in shell.ran if argv[1] not in ("slots", "info")]
    assert ran == [("next", "1"), ("restart",), ("keep", "0"), ("back",), ("restart",)]


def test_a_step_that_fails_does_not_restart_the_board(skyos: AdapterFile) -> None:
    shell = board(skyctl_next=(1, "", "no image there"))
    with pytest.raises(DeviceError, match="no image there"):
        make(skyos, shell).activate()
    assert ("skyctl", "restart") not in shell.ran


def test_without_a_restart_command_the_last_step_restarts_and_its_answer_may_be_lost(
    load: Callable[[str], AdapterFile],
) -> None:
    file = load(SKYOS.replace("restart: {run: [skyctl, restart]}", "restart: null"))
    shell = board(skyctl_next=DeviceError("the connection broke"))
    make(file, shell).activate()
    assert shell.ran[-1] == ("skyctl", "next", "1")
    assert shell.closed == 1


def test_rolling_back_to_a_slot_that_cannot_boot_is_refused_and_nothing_happens(skyos: AdapterFile) -> None:
    shell = board()
    with pytest.raises(DeviceError, match="slot B is not bootable"):
        make(skyos, shell).roll_back()
    assert ("skyctl", "restart") not in shell.ran


def test_settings_arrive_as_json_on_stdin(skyos: AdapterFile) -> None:
    shell = board()
    make(skyos, shell).configure({"ntp": "off"})
    assert shell.ran[-1] == ("skyctl", "settings")
    assert json.loads(shell.stdin[-1]) == {"ntp": "off"}


@pytest.mark.parametrize(
    ("doctor", "healthy"),
    [((0, "all well\n", ""), True), ((0, "fan stuck\n", ""), False), ((1, "all well", ""), False)],
)
def test_health_is_the_updaters_answer_and_every_check(
    skyos: AdapterFile, doctor: tuple[int, str, str], healthy: bool
) -> None:
    report = make(skyos, board(skyctl_doctor=doctor)).health()
    assert report.healthy is healthy
    assert bool(report.problems) is not healthy
    assert report.facts["boot_id"] == "b-1"


def test_a_board_that_does_not_answer_is_unhealthy_not_an_error(skyos: AdapterFile) -> None:
    report = make(skyos, board(cat=DeviceError("a1: no answer from sshd"))).health()
    assert (report.healthy, report.problems) == (False, ("a1: no answer from sshd",))


# -- paths


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("$", [{"a": [1, {"b.c": None}], "d": "x"}]),
        ("$.a[1]['b.c']", [None]),
        ('$.a[*]["b.c"]', [None]),
        ("$.*", [[1, {"b.c": None}], "x"]),
        ("$.a[7]", []),
        ("$.d.a", []),
        ("$.d[0]", []),
    ],
)
def test_a_path_reaches_what_is_there_and_nothing_else(path: str, found: list[Any]) -> None:
    assert find({"a": [1, {"b.c": None}], "d": "x"}, parse_path(path)) == found


@given(st.text(alphabet="$.[]*'\"0a-", max_size=12))
def test_whatever_is_written_is_a_path_or_is_told_not_to_be_one(text: str) -> None:
    try:
        steps = parse_path(text)
    except ValueError as exc:
        assert str(exc)
    else:
        assert text.startswith("$")
        assert find([{"a": 0}], steps) is not None


# -- choosing


def lab_with(**os: str) -> Lab:
    document = yaml.safe_load((ROOT / "lab/virtual.yaml").read_text())
    lab = Lab.model_validate({**document, "os": os})
    lab._file = ROOT / "lab/virtual.yaml"
    return lab


def test_a_lab_chooses_an_adapter_and_with_it_the_os_of_container_boards() -> None:
    labs = [lab_with(), lab_with(adapter="swupdate"), lab_with(adapter="declared", file=str(RAUC))]
    assert [recipe_of(lab.os.adapter) for lab in labs] == [REFERENCE, SWUPDATE, REFERENCE]
    member = cast("Board", SimpleNamespace(name="a1"))
    made = [adapter_of(lab, version="2.0.0")(member) for lab in labs]
    assert [cast("Any", adapter)._file.name for adapter in made] == ["RAUC", "SWUpdate", "RAUC"]


def test_a_declaration_goes_with_the_declared_adapter_only() -> None:
    with pytest.raises(ValidationError, match=r"os.*file\n.*Field required"):
        lab_with(adapter="declared")
    with pytest.raises(ValidationError, match=r"os.*file\n.*not permitted"):
        lab_with(adapter="rauc", file="adapters/rauc.yaml")


def test_a_bundle_of_somebody_else_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "sky.bundle"
    path.write_bytes(b"sky")
    bundle = BundleFacts.of_file(path, version="7.1", image_sha256="ef" * 32)
    assert (bundle.sha256, bundle.size_bytes) == (hashlib.sha256(b"sky").hexdigest(), 3)
    with pytest.raises(ConfigurationError, match="No such file"):
        BundleFacts.of_file(tmp_path / "none", version="7.1", image_sha256="ef" * 32)
