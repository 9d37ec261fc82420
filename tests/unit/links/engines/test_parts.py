"""The small parts of the links: host settings, NIC features, User-Mode Linux's command line, judging figures."""

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from hil.evidence.events import LinkFigure
from hil.links.calibration.calibrate import cannot_carry, percentile
from hil.links.engines import uml
from hil.links.engines.offload import segmentation_features
from hil.links.engines.sysctl import big_socket_buffers, restore_socket_buffers

FEATURES = [
    "rx-checksum",
    "tx-checksum-ip-generic",
    "tx-generic-segmentation",
    "tx-tcp-segmentation",
    "tx-tcp6-segmentation",
    "tx-udp-segmentation",
    "tx-gso-list",
    "rx-gro",
    "rx-udp-gro-forwarding",
    "tx-vlan-hw-insert",
]


@pytest.fixture
def core(tmp_path: Path) -> Path:
    """A stand-in for /proc/sys/net/core."""
    for name in ("rmem_default", "wmem_default"):
        (tmp_path / name).write_text("212992\n")
    return tmp_path


def buffers(core: Path) -> list[int]:
    return [int((core / name).read_text()) for name in ("rmem_default", "wmem_default")]


def test_socket_buffers_are_large_inside_and_the_hosts_own_afterwards(core: Path) -> None:
    with big_socket_buffers(1 << 24, directory=core, note=core / "note.json"):
        assert buffers(core) == [1 << 24, 1 << 24]
    assert buffers(core) == [212992, 212992]


def test_socket_buffers_come_back_also_after_an_error(core: Path) -> None:
    with pytest.raises(RuntimeError), big_socket_buffers(1 << 24, directory=core, note=core / "note.json"):
        raise RuntimeError
    assert buffers(core) == [212992, 212992]


def test_buffers_larger_than_wanted_are_not_made_smaller(core: Path) -> None:
    (core / "rmem_default").write_text(str(1 << 25))
    with big_socket_buffers(1 << 24, directory=core, note=core / "note.json"):
        assert buffers(core) == [1 << 25, 1 << 24]


def test_what_a_killed_run_left_raised_is_put_back_and_not_taken_for_the_hosts_own(core: Path) -> None:
    (core / "note.json").write_text(json.dumps({"rmem_default": 212992, "wmem_default": 212992}))
    for name in ("rmem_default", "wmem_default"):
        (core / name).write_text(str(1 << 24))
    with big_socket_buffers(1 << 24, directory=core, note=core / "note.json"):
        pass
    assert buffers(core) == [212992, 212992]
    assert not restore_socket_buffers(directory=core, note=core / "note.json")


def test_clean_puts_the_buffers_back(core: Path) -> None:
    (core / "note.json").write_text(json.dumps({"rmem_default": 7, "wmem_default": 8}))
    assert restore_socket_buffers(directory=core, note=core / "note.json")
    assert buffers(core) == [7, 8]


def test_profile_exact_turns_every_segmentation_off_and_no_checksum() -> None:
    assert segmentation_features(FEATURES, udp_only=False) == FEATURES[2:9]


def test_profile_bulk_turns_only_udp_segmentation_off() -> None:
    assert segmentation_features(FEATURES, udp_only=True) == ["tx-udp-segmentation"]


def test_no_more_cards_than_a_command_line_holds_are_put_on_it() -> None:
    nics = [f"l{index}{side}" for index in range(45) for side in "ab"]
    argv = uml._kernel_argv(Path("/c/relay/0123456789abcdef"), Path("/run/hil/uml/1-1"), 7, profile="exact")
    cards = uml._cards(nics, mtu=1500, profile="exact")
    fit = uml._fitting(argv, cards)
    assert 0 < fit < 90  # the others are added when it runs
    assert len(" ".join([*argv, *cards[:fit]])) <= 4000 < len(" ".join([*argv, *cards[: fit + 1]]))


def test_large_receive_buffers_come_with_taking_packets_one_at_a_time() -> None:
    for profile, wanted in (("exact", "depth=64,mtu=1518,gro=0"), ("bulk", "depth=1,mtu=1518,gro=1")):
        (card,) = uml._cards(["l0a"], mtu=1500, profile=profile)
        assert card == f"vec0:transport=raw,ifname=l0a,{wanted},bpffile=b"


def test_the_packet_filter_drops_what_the_socket_itself_sent() -> None:
    load, compare, drop, keep = struct.iter_unpack("=HBBI", uml._NO_OUTGOING)
    assert load == (0x30, 0, 0, 0xFFFFF000 + 4)  # BPF_LD|BPF_B|BPF_ABS, SKF_AD_OFF + SKF_AD_PKTTYPE
    assert compare == (0x15, 0, 1, 4)  # BPF_JMP|BPF_JEQ|BPF_K PACKET_OUTGOING
    assert (drop, keep) == ((0x06, 0, 0, 0), (0x06, 0, 0, 0x40000))


def test_only_a_rate_below_tolerance_says_that_the_bench_cannot_carry_it() -> None:
    good = LinkFigure("x", "a_to_b", "rate", 200e6, 195e6, "bit/s", 6e6, True)
    short = replace(good, direction="b_to_a", measured=100e6, ok=False)
    high = replace(good, measured=300e6, ok=False)
    delay = LinkFigure("x", "a_to_b", "delay_p50", 14390, 5000, "us", 150, False)
    silent = replace(good, measured=None, ok=False)
    assert cannot_carry([good, short, high, delay, silent]) == [short]


def test_a_percentile_is_one_of_the_values() -> None:
    values = [float(value) for value in range(100, 0, -1)]
    assert [percentile(values, share) for share in (0.0, 0.07, 0.5, 0.95, 0.951, 1.0)] == [1, 7, 50, 95, 96, 100]
    assert percentile([3.0], 0.99) == 3
