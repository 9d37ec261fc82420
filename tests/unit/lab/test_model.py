"""Lab files: what is accepted, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path
from textwrap import indent

import pytest

from hil.core import paths
from hil.errors import ConfigurationError
from hil.lab.model import load_lab
from tests.kits import checkout

VIRTUAL = (paths.ROOT / "lab/virtual.yaml").read_text()


def refused(tmp_path: Path, old: str, new: str) -> str:
    assert old in VIRTUAL
    file = tmp_path / "lab.yaml"
    file.write_text(VIRTUAL.replace(old, new))
    with pytest.raises(ConfigurationError) as caught:
        load_lab(file)
    return caught.value.message


def line_of(text: str, needle: str) -> int:
    return next(i for i, line in enumerate(text.splitlines(), start=1) if needle in line)


def test_an_industrial_module_may_be_in_a_lab_file() -> None:
    assert load_lab(checkout.DATA / "cases/17-lab-industrial.yaml").boards[1].module == "p3701-0008"


@pytest.mark.parametrize(("file", "split"), [("virtual.yaml", [3, 3]), ("virtual-4-2.yaml", [4, 2])])
def test_the_shipped_labs_hold_six_boards_on_two_spacecraft(file: str, split: list[int]) -> None:
    lab = load_lab(paths.ROOT / "lab" / file)
    assert [len(craft.boards) for craft in lab.spacecraft] == split
    assert lab.gateway in {board.name for board in lab.spacecraft[0].boards}


def test_the_default_crosslink_is_a_neighbour_in_a_ring_of_ten_and_marked_as_scaled() -> None:
    lab = load_lab(paths.ROOT / "lab/virtual.yaml")
    crosslink = next(link for link in lab.links if link.kind == "crosslink")
    assert crosslink.one_way_delay_us == 14386
    assert crosslink.rate_scaled


def test_a_rate_in_megabits_typed_as_bits_is_refused_with_its_line(tmp_path: Path) -> None:
    message = refused(tmp_path, "rate_bps: 100000000", "rate_bps: 100")
    assert f"lab.yaml:{line_of(VIRTUAL, 'rate_bps: 100000000')}: links.0.rate_bps:" in message
    assert "64000" in message


def test_a_key_with_another_unit_is_refused_and_the_right_one_suggested(tmp_path: Path) -> None:
    assert "did you mean rate_bps?" in refused(tmp_path, "rate_bps: 100000000", "rate_mbps: 100")


def test_a_delay_with_a_fraction_is_refused(tmp_path: Path) -> None:
    assert "valid integer" in refused(tmp_path, "one_way_delay_us: 4000", "one_way_delay_us: 4.5")


def test_a_delay_longer_than_any_crosslink_is_refused(tmp_path: Path) -> None:
    assert "2000000" in refused(tmp_path, "one_way_delay_us: 4000", "one_way_delay_us: 14386000")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("name: a2", "name: a1", "the name a1 is used twice"),
        ("name: sc-b", "name: sc-a", "the name sc-a is used twice"),
        ("name: isl-ab", "name: ground", "the name ground is used twice"),
        ("gateway: a1", "gateway: z9", "z9 is not a board; boards: a1, a2, a3"),
        ("[gs-1, sc-a]", "[gs-1, sc-q]", "sc-q is neither the ground station nor a spacecraft"),
        ("[sc-a, sc-b]", "[sc-b, sc-b]", "both ends are sc-b"),
        ("kind: ground", "kind: crosslink", "has the ground station at an end"),
        ("name: a1,", "name: A 1,", "should match pattern"),
        ("name: sc-b", "name: box", "taken by the bench itself"),
        ("gateway: a1", "gateway: a1\ngateway: a2", "given twice"),
        ("schema: 1", "schema: 2", "schema"),
        ("p3701-0005}", "p9999}", "p3701-0005"),
    ],
)
def test_a_wrong_name_or_reference_is_refused(tmp_path: Path, old: str, new: str, told: str) -> None:
    message = refused(tmp_path, old, new)
    assert told in message
    assert "lab.yaml:" in message


def test_a_spacecraft_that_no_link_reaches_is_refused(tmp_path: Path) -> None:
    start = VIRTUAL.index("  - name: isl-ab")
    file = tmp_path / "lab.yaml"
    file.write_text(VIRTUAL[:start] + VIRTUAL[VIRTUAL.index("bench:") :])
    with pytest.raises(ConfigurationError, match="no chain of links joins gs-1 and sc-b"):
        load_lab(file)


def test_several_faults_are_told_at_once(tmp_path: Path) -> None:
    message = refused(tmp_path, "rate_bps: 100000000", "rate_bps: 1\n    speed: 3")
    assert len(message.splitlines()) == 2


@pytest.mark.parametrize("content", ["", "- a\n", "a: [1\n", "{", "\x00"])
def test_a_file_that_is_no_lab_gets_a_configuration_error(tmp_path: Path, content: str) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"lab\.yaml"):
        load_lab(file)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"nowhere\.yaml: no such file"):
        load_lab(tmp_path / "nowhere.yaml")


def test_the_old_key_of_the_shaper_host_is_still_read_with_a_note(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    section = """
ssh: {address: 192.0.2.7, host_key: "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl",
      agent: true}
links:
  ground: {a: {port: p1, near: n1}, b: {port: p2, near: n2}}
  isl-ab: {a: {port: p3, near: n3}, b: {port: p4, near: n4}}
"""
    path = tmp_path / "lab.yaml"
    path.write_text(f"{VIRTUAL}\ngateway_host:\n{indent(section, '  ')}")
    lab = load_lab(path)
    assert lab.shaper_host is not None and lab.shaper_host.links["ground"].b.near == "n2"
    assert "gateway_host is now called shaper_host" in caplog.text
    path.write_text(path.read_text().replace("near: n2", "near: n1"))
    line = path.read_text().splitlines().index("gateway_host:") + 1
    with pytest.raises(ConfigurationError, match=rf"lab.yaml:{line}: .*near n1: used for two ends"):
        load_lab(path)


def test_a_wrong_driver_on_many_boards_is_told_once_with_what_was_meant(tmp_path: Path) -> None:
    message = refused(tmp_path, "driver: container", "driver: contianer")
    lines = [i for i, line in enumerate(VIRTUAL.splitlines(), start=1) if "driver: container" in line]
    assert len(lines) == 6
    assert message.count("\n") == 0
    assert f"lab.yaml:{lines[0]}: spacecraft.0.boards.0.driver: unknown driver 'contianer'" in message
    assert "did you mean container? Allowed: container, jetson" in message
    assert f"also in line {', '.join(map(str, lines[1:]))}" in message


def test_a_rules_line_is_searched_below_its_own_place(tmp_path: Path) -> None:
    message = refused(tmp_path, "name: a1, driver: container", "name: a1, driver: jetson")
    line = line_of(VIRTUAL, "name: a1,")
    assert f"lab.yaml:{line}: spacecraft.0.boards.0.jetson: is required with driver: jetson" in message
    text = VIRTUAL.replace("schema: 1", "schema: 1\nos: {adapter: declared}\nrack: declared")
    message = refused(tmp_path, VIRTUAL, text)
    assert f"lab.yaml:{line_of(text, 'os:')}: os.file: is required" in message


def test_a_name_used_twice_is_found_where_it_is_given_not_where_it_is_used(tmp_path: Path) -> None:
    message = refused(tmp_path, "name: a2", "name: a1")
    assert f"lab.yaml:{line_of(VIRTUAL, 'name: a2')}: " in message


def test_a_misspelt_schema_key_is_suggested_by_the_name_that_stands_in_the_file(tmp_path: Path) -> None:
    message = refused(tmp_path, "schema: 1", "shcema: 1")
    assert "shcema: unknown key; did you mean schema? Allowed: " in message


def test_an_unknown_key_that_resembles_none_gets_the_list(tmp_path: Path) -> None:
    assert "unknown key. Allowed: " in refused(tmp_path, "schema: 1", "schema: 1\nqqqqqqqqqq: 1")


def test_a_file_of_a_newer_version_is_called_that(tmp_path: Path) -> None:
    message = refused(tmp_path, "schema: 1", "schema: 2")
    assert "schema: 2 is of a newer version of this program; this one reads 1" in message


@pytest.mark.parametrize(
    ("content", "line"),
    [
        ("a: 1\nb: &loop [*loop]\n", 2),
        ("a: 1\nb:\n  " + "[" * 900 + "]" * 900 + "\n", 3),
        ("a: 1\n" + "".join(f"{' ' * i}k:\n" for i in range(1000)), 101),
    ],
)
def test_a_file_without_end_is_refused_with_its_line(tmp_path: Path, content: str, line: int) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=rf"lab\.yaml:{line}: nested too deeply") as caught:
        load_lab(file)
    assert caught.value.remedy


def test_a_list_as_a_key_is_a_fault_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "lab.yaml"
    file.write_text("? [a, b]\n: 1\n")
    with pytest.raises(ConfigurationError, match=r"lab\.yaml"):
        load_lab(file)
