"""Who a Jetson is, and whether it is the one the lab file means."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from hil.boards.jetson.identity import (
    DEVICE_TREES,
    JetsonIdentity,
    check_identity,
    jetpack_of,
    parse_release,
    parse_tnspec,
    parts_of,
)
from hil.boards.jetson.inspection import inspect
from hil.boards.protocol import Completed
from hil.errors import ConfigurationError, DeviceError
from tests.kits import checkout
from tests.kits.jetson_files import LocalRemote, plant

DATA = checkout.DATA / "jetson"
TREE = "/proc/device-tree"
NANO: dict[str, str | bytes | None] = {
    f"{TREE}/model": b"NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    f"{TREE}/serial-number": b"1421523012345\0",
    f"{TREE}/compatible": b"nvidia,p3768-0000+p3767-0005-super\0nvidia,p3767-0005\0nvidia,tegra234\0",
    "/etc/nv_tegra_release": (DATA / "nv_tegra_release").read_text(),
    "/etc/nv_boot_control.conf": (DATA / "nv_boot_control.conf").read_text(),
}


class Rooted(LocalRemote):
    """A board whose identity is a tree of files, with two good slots."""

    def __init__(self, root: Path) -> None:
        super().__init__()
        self.root = root

    def run(self, argv: Sequence[str], *, timeout_s: float = 30.0, stdin: bytes = b"", check: bool = True) -> Completed:
        script = f"nvbootctrl() {{ cat {DATA / 'nvbootctrl_rootfs.txt'}; }}\n{argv[-1]}"
        for place in (*DEVICE_TREES, "/etc/nv_"):
            script = script.replace(place, f"{self.root}{place}")
        return super().run([*argv[:-1], script], timeout_s=timeout_s, stdin=stdin, check=check)


def read(root: Path) -> JetsonIdentity:
    return inspect(Rooted(root), board="a1").who


def test_a_nano_says_who_it_is(tmp_path: Path) -> None:
    assert read(plant(tmp_path, NANO)) == JetsonIdentity(
        model="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        serial="1421523012345",
        compatible=("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"),
        parts=("p3767-0005",),
        tnspec="3767-300-0005-K.2-1-0-jetson-orin-nano-devkit-",
        tnspec_part="p3767-0005",
        l4t="36.4.7",
        jetpack="6.2.1",
    )


def test_an_os_without_nvidias_files_is_known_by_its_device_tree(tmp_path: Path) -> None:
    tree = {k.replace(TREE, "/sys/firmware/devicetree/base"): v for k, v in NANO.items() if k.startswith(TREE)}
    found = read(plant(tmp_path, tree))
    assert (found.parts, found.l4t, found.jetpack, found.tnspec_part) == (("p3767-0005",), "", "", "")
    check_identity(found, board="a1", module="p3767-0005")


def test_a_machine_without_a_device_tree_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match="no /proc/device-tree/model"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("l4t", "jetpack"),
    [
        ("35.1", "5.0.2"),
        ("35.1.0", "5.0.2"),
        ("35.4.1", "5.1.2"),
        ("35.2.1", "5.1"),
        ("35.3.1", "5.1.1"),
        ("35.6.0", "5.1.4"),
        ("35.6.2", "5.1.5 or 5.1.6"),
        ("36.2.0", "6.0 DP"),
        ("39.2.1", "7.2.1"),
        ("36.3", "6.0"),
        ("36.4", "6.1"),
        ("36.4.0", "6.1"),
        ("36.4.3", "6.2"),
        ("36.4.7", "6.2.1"),
        ("36.5.0", "6.2.2"),
        ("39.2", "7.2"),
        ("99.9", "unknown"),
        ("", ""),
    ],
)
def test_l4t_tells_jetpack_where_it_is_known(l4t: str, jetpack: str) -> None:
    assert jetpack_of(l4t) == jetpack


@pytest.mark.parametrize("text", ["", "R36", "# R36 (release), REVISION: , GCID", "REVISION: 4.7"])
def test_a_release_file_that_says_nothing_gives_nothing(text: str) -> None:
    assert parse_release(text) == ""


def test_parts_come_from_carrier_and_module_names_and_the_module_counts() -> None:
    both = ("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234")
    assert parts_of(both) == ("p3701-0005",)
    assert parts_of(("nvidia,tegra234",)) == ()
    assert parts_of(("nvidia,p3701-00051",)) == ()
    assert parse_tnspec("TNSPEC 3701-500-0005-G.0-1-1-jetson-agx-orin-devkit-\n")[1] == "p3701-0005"
    assert parse_tnspec("COMPATIBLE_SPEC 1\nTNSPEC strange\n") == ("strange", "")
    assert parse_tnspec("") == ("", "")


def test_the_right_board_passes(tmp_path: Path) -> None:
    check_identity(read(plant(tmp_path, NANO)), board="a1", module="p3767-0005", serial="1421523012345")


def test_a_wrong_module_is_a_configuration_error_that_names_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        check_identity(read(plant(tmp_path, NANO)), board="a1", module="p3701-0004")
    for word in ("a1", "p3701-0004 (Jetson AGX Orin 32 GB)", "p3767-0005 (Jetson Orin Nano", "1421523012345"):
        assert word in caught.value.message
    assert "a1" in caught.value.remedy


def test_a_wrong_serial_names_both(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="serial 999, but 1421523012345 answers"):
        check_identity(read(plant(tmp_path, NANO)), board="a1", module="p3767-0005", serial="999")


def test_another_jetson_generation_is_no_orin(tmp_path: Path) -> None:
    xavier = {**NANO, f"{TREE}/compatible": b"nvidia,p2972-0000\0nvidia,tegra194\0", f"{TREE}/model": b"Jetson-AGX\0"}
    with pytest.raises(ConfigurationError, match=r"no Orin: 'Jetson-AGX' \(nvidia,p2972-0000, nvidia,tegra194\)"):
        check_identity(read(plant(tmp_path, xavier)), board="a1", module="p3767-0005")


def test_the_eeprom_is_believed_over_a_device_tree_of_another_module(tmp_path: Path) -> None:
    wrong = {**NANO, f"{TREE}/compatible": b"nvidia,p3767-0004\0nvidia,tegra234\0"}
    found = read(plant(tmp_path, wrong))
    with pytest.raises(DeviceError, match=r"is p3767-0005 .* but runs a device tree of p3767-0004"):
        check_identity(found, board="a1", module="p3767-0005")
    with pytest.raises(ConfigurationError, match="but p3767-0005"):
        check_identity(found, board="a1", module="p3767-0004")


def test_an_orin_that_names_no_part_is_not_taken_for_granted(tmp_path: Path) -> None:
    anonymous = {k: v for k, v in NANO.items() if k.startswith(TREE)}
    anonymous[f"{TREE}/compatible"] = b"acme,blade\0nvidia,tegra234\0"
    with pytest.raises(DeviceError, match="a1: cannot tell which module"):
        check_identity(read(plant(tmp_path, anonymous)), board="a1", module="p3767-0005")


# -- boards of others --------------------------------------------------------------------------------------------


def answers(compatible: str, tnspec: str) -> JetsonIdentity:
    """A board with these device tree parts (of ``compatible``) and this EEPROM (board, fab and SKU)."""
    names = (*(f"nvidia,{part}" for part in compatible.split()), "nvidia,tegra234")
    spec, part = parse_tnspec(f"TNSPEC {tnspec}-L.3-1-0-x-\n") if tnspec else ("", "")
    return JetsonIdentity("Orin", "1", names, parts_of(names), spec, part, "35.3.1", "5.1.1")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("15-look-nano-8gb-jp511.json", "p3767-0003"),
        ("17-look-industrial.json", "p3701-0008"),
        ("17-look-p3701-0001.json", "p3701-0001"),
    ],
)
def test_boards_that_others_own_are_accepted_as_what_they_are(name: str, module: str) -> None:
    case = json.loads((checkout.DATA / "cases" / name).read_text())
    names = tuple(case["compatible"])
    spec, part = parse_tnspec(case["boot_control"])
    l4t = parse_release(case["release"])
    who = JetsonIdentity(case["model"], "1", names, parts_of(names), spec, part, l4t, jetpack_of(l4t))
    check_identity(who, board="b1", module=module)
    assert who.part == module and who.jetpack in ("5.1.1", "6.2.1", "7.2")


def test_jetpack_names_are_those_of_the_table_of_others() -> None:
    rows = (checkout.DATA / "cases/18-jetpack-names.txt").read_text().splitlines()
    assert [f"{row.split()[0]} {jetpack_of(row.split()[0])}" for row in rows] == rows


@pytest.mark.parametrize(
    ("compatible", "tnspec", "module"),
    [
        ("p3737-0000+p3701-0000", "3701-500-0005", "p3701-0005"),  # every 64 GB AGX with L4T 35
        ("p3737-0000+p3701-0000", "3701-500-0008", "p3701-0008"),
        ("p3737-0000+p3701-0000-as-p3701-0004", "3701-300-0000", "p3701-0000"),  # a kit that plays another module
        ("p3740-0002+p3701-0002", "3701-300-0002", "p3701-0002"),
        ("p3768-0000+p3767-0000", "3767-300-0002", "p3767-0002"),
        ("p3768-0000+p3767-0003 p3768-0000+p3767-0005", "", "p3767-0003"),  # no EEPROM: either name fits
        ("p3768-0000+p3767-0003 p3768-0000+p3767-0005", "", "p3767-0005"),
        ("p3768-0000+p3767-0005-super", "3767-300-0003", "p3767-0003"),
    ],
)
def test_a_device_tree_that_nvidia_flashes_on_the_module_is_right(compatible: str, tnspec: str, module: str) -> None:
    check_identity(answers(compatible, tnspec), board="b1", module=module)


@pytest.mark.parametrize(
    ("compatible", "tnspec", "module", "words"),
    [
        ("p3768-0000+p3767-0003", "3767-300-0000", "p3767-0000", "runs a device tree of p3767-0003"),
        ("p3737-0000+p3701-0004", "3701-300-0005", "p3701-0005", "runs a device tree of p3701-0004"),
        ("p3737-0000+p3701-0000", "3701-300-0001", "p3701-0000", "p3701-0001 (Jetson AGX Orin, early kit) answers"),
        ("p3737-0000+p3701-0000", "3701-300-0099", "p3701-0000", "p3701-0099 answers"),
        ("p3768-0000+p3767-0003 p3768-0000+p3767-0005", "", "p3767-0000", "answers"),
    ],
)
def test_another_module_or_another_ones_device_tree_is_refused(
    compatible: str, tnspec: str, module: str, words: str
) -> None:
    with pytest.raises((ConfigurationError, DeviceError)) as caught:
        check_identity(answers(compatible, tnspec), board="b1", module=module)
    assert words in caught.value.message
    assert "0099" not in tnspec or "no Orin module is known as p3701-0099" in caught.value.remedy
