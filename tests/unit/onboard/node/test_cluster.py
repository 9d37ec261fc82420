"""Clusters of real node services on loopback: configured, split, restarted, brought back."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from hil.onboard.files import write_json
from hil.onboard.node.client import Peer
from hil.onboard.node.epoch import Config, MemberState
from hil.onboard.node.errors import ApiError
from tests.kits.loopback_nodes import Bed, LoopBoard, bed, eventually


@pytest.fixture
def boards(tmp_path: Path) -> Iterator[Bed]:
    with bed(tmp_path, {"a": 2, "b": 2}) as made:
        yield made


def ask(board: LoopBoard, path: str, document: Any = None) -> dict[str, Any]:
    peer = Peer(f"{board.ip}:{board.port}", timeout_s=5)
    try:
        return peer.json("GET" if document is None else "POST", path, document)
    finally:
        peer.close()


def document(boards: Bed, **changes: Any) -> dict[str, Any]:
    config = boards.fleet.config(os_version="1.0.0", params={"lease_s": 0.5, "renew_s": 0.1, **changes})
    return config.document()


def configured(boards: Bed, **changes: Any) -> int:
    proposed = ask(boards["a1"], "/cluster/propose", {"document": document(boards, **changes)})
    assert proposed["missing"] == {}
    if not proposed["committed"]:
        ask(boards["a1"], "/cluster/commit", {"epoch": proposed["epoch"]})
    return int(proposed["epoch"])


def epochs(boards: Bed) -> dict[str, int | None]:
    return {
        name: ask(board, "/health")["claim"]["epoch"] for name, board in boards.boards.items() if board.node is not None
    }


def all_claim(boards: Bed, epoch: int) -> bool:
    return set(epochs(boards).values()) == {epoch}


def test_all_members_claim_soon_after_the_commit(boards: Bed) -> None:
    epoch = configured(boards)
    eventually(lambda: all_claim(boards, epoch), "all to claim")
    claim = ask(boards["b2"], "/health")["claim"]
    assert claim["serving"] and 0 < claim["lease_left_s"] <= 0.5
    assert claim["config_sha256"]


def test_the_same_document_again_is_the_same_epoch(boards: Bed) -> None:
    assert configured(boards) == configured(boards) == 1
    assert configured(boards, revision=2) == 2


def test_a_board_with_another_os_version_does_not_claim_and_says_why(boards: Bed) -> None:
    boards["b2"].off()
    boards["b2"].slots["A"] = "0.9.0"
    boards["b2"].on()
    epoch = configured(boards)
    eventually(lambda: epochs(boards)["a2"] == epoch, "a board that is fit to claim")
    health = ask(boards["b2"], "/health")
    assert health["claim"]["epoch"] is None
    assert any("0.9.0" in reason for reason in health["blocked_by"])


def test_a_board_that_is_not_confirmed_claims_only_once_it_is(boards: Bed) -> None:
    (boards["a2"].facts / "confirmed").write_text("0")
    epoch = configured(boards)
    eventually(lambda: epochs(boards)["b1"] == epoch, "the others to claim")
    assert epochs(boards)["a2"] is None
    (boards["a2"].facts / "confirmed").write_text("1")
    eventually(lambda: epochs(boards)["a2"] == epoch, "it to claim once confirmed")


def test_a_board_stops_claiming_when_it_is_no_longer_confirmed(boards: Bed) -> None:
    eventually(lambda: all_claim(boards, configured(boards)), "all to claim")
    (boards["a2"].facts / "confirmed").write_text("0")
    assert ask(boards["a2"], "/health")["claim"]["serving"] is False


def test_without_the_coordinator_everybody_stops_within_a_lease(boards: Bed) -> None:
    epoch = configured(boards)
    eventually(lambda: all_claim(boards, epoch), "all to claim")
    boards["a1"].off()
    gone = time.monotonic()
    eventually(lambda: set(epochs(boards).values()) == {None}, "all to stop claiming")
    assert time.monotonic() - gone < 5
    boards["a1"].on()
    eventually(lambda: all_claim(boards, epoch), "all to claim again after its return")


def test_a_board_that_was_away_while_the_epoch_changed_comes_back_under_the_new_one(boards: Bed) -> None:
    eventually(lambda: all_claim(boards, configured(boards)), "all to claim")
    boards["b2"].off()
    proposed = ask(boards["a1"], "/cluster/propose", {"document": document(boards, revision=2)})
    assert list(proposed["missing"]) == ["b2"]
    with pytest.raises(ApiError, match="b2"):
        ask(boards["a1"], "/cluster/commit", {"epoch": proposed["epoch"]})
    assert set(epochs(boards).values()) == {1}, "what is only prepared changes nothing"
    boards["b2"].on()
    epoch = configured(boards, revision=2)
    assert epoch == proposed["epoch"]
    eventually(lambda: all_claim(boards, epoch), "all to claim the new epoch")


def test_a_board_that_lost_its_disk_is_brought_to_the_current_epoch(boards: Bed) -> None:
    epoch = configured(boards)
    eventually(lambda: all_claim(boards, epoch), "all to claim")
    boards["b1"].off()
    boards["b1"].wipe()
    boards["b1"].on()
    eventually(lambda: epochs(boards)["b1"] == epoch, "the emptied board to claim")


def test_a_proposal_for_another_gateway_is_refused(boards: Bed) -> None:
    with pytest.raises(ApiError, match="gateway is a1") as refusal:
        ask(boards["b1"], "/cluster/propose", {"document": document(boards)})
    assert refusal.value.status == 409


def test_an_epoch_that_was_never_prepared_cannot_be_committed(boards: Bed) -> None:
    with pytest.raises(ApiError) as refusal:
        ask(boards["a1"], "/cluster/commit", {"epoch": 7})
    assert refusal.value.status == 409


def test_claims_survive_a_restart_of_the_service_only_as_new_ones(boards: Bed) -> None:
    epoch = configured(boards)
    eventually(lambda: all_claim(boards, epoch), "all to claim")
    time.sleep(0.2)
    boards["a2"].off()
    restarted = time.monotonic()
    boards["a2"].on()
    eventually(lambda: epochs(boards)["a2"] == epoch, "it to claim again")
    claim = ask(boards["a2"], "/health")["claim"]
    assert claim["since_s"] <= time.monotonic() - restarted


def test_a_member_that_cannot_be_reached_is_named_with_the_reason(boards: Bed) -> None:
    boards["b1"].off()
    with socket.create_server((boards["b1"].ip, boards["b1"].port)):  # accepts, says nothing
        proposed = ask(boards["a1"], "/cluster/propose", {"document": document(boards)})
    assert list(proposed["missing"]) == ["b1"]
    assert proposed["missing"]["b1"]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"image_sha256": 5}, "image_sha256"),
    ({"image_sha256": {}}, "image_sha256"),
    ({"image_sha256": True}, "image_sha256"),
    ({"params": {"renew_s": "x"}}, "renew_s"),
    ({"params": {"renew_s": None}}, "renew_s"),
    ({"params": {"renew_s": 0}}, "renew_s"),
    ({"params": []}, "params"),
    ({"params": {"lease_s": 1e9}}, "lease_s"),
    ({"params": {"tile": "256"}}, "tile"),
    ({"model": 7}, "model"),
    ({"gateway": []}, "gateway"),
    ({"gateway": "x9"}, "gateway"),
    ({"os_version": None}, "os_version"),
    ({"members": {}}, "members"),
    ({"members": {"a1": "no address"}}, "members.a1"),
    ({"members": {"a1": 5}}, "members.a1"),
    ({"notes": "x" * 5000}, "longer"),
]


def test_a_wrong_document_is_refused_at_both_doors_and_changes_nothing(boards: Bed) -> None:
    epoch = configured(boards)
    for changes, field in WRONG:
        wrong = {**document(boards), **changes}
        for path, body in (
            ("/cluster/propose", {"document": wrong}),
            ("/cluster/prepare", asdict(Config.of(epoch + 1, wrong))),
        ):
            with pytest.raises(ApiError, match=field) as refusal:
                ask(boards["b1"], path, body)
            assert refusal.value.status == 400, wrong
    eventually(lambda: all_claim(boards, epoch), "all to claim what was there before")


def test_a_wrong_document_of_an_older_version_on_disk_stops_neither_health_nor_the_next_one(boards: Bed) -> None:
    config = Config.of(3, {**document(boards), "image_sha256": 5})
    boards["b1"].off()
    write_json(boards["b1"].root / "data/cluster/member.json", asdict(MemberState(config, config)))
    boards["b1"].on()
    assert ask(boards["b1"], "/health")["prepared"] is None
    epoch = configured(boards)
    eventually(lambda: all_claim(boards, epoch), "all to claim")


def test_the_renewal_outlives_whatever_it_meets_and_says_it(boards: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    node = boards["b1"].node
    assert node is not None
    renew, met = node.cluster.renew_once, [ZeroDivisionError("odd"), MemoryError(), KeyError("x")]

    def broken() -> bool:
        if met:
            raise met.pop()
        return renew()

    monkeypatch.setattr(node.cluster, "renew_once", broken)
    epoch = configured(boards)
    eventually(lambda: all_claim(boards, epoch), "all to claim")
    assert not met


def test_epochs_go_on_above_the_highest_that_a_member_knows(boards: Bed) -> None:
    assert configured(boards) == 1
    foreign = Config.of(5000, document(boards, revision="foreign"))
    node = boards["b1"].node
    assert node is not None
    node.cluster.prepare(asdict(foreign))
    assert configured(boards, revision=2) == 5001
    eventually(lambda: all_claim(boards, 5001), "all to claim")
    with pytest.raises(ApiError, match="too far above") as refusal:
        node.cluster.prepare(asdict(Config.of(10**15, document(boards))))
    assert refusal.value.facts["known"] == 5001


def test_a_gateway_that_lost_its_coordinators_file_goes_on_from_what_it_knows_as_a_member(boards: Bed) -> None:
    for revision in range(3):
        configured(boards, revision=revision)
    eventually(lambda: all_claim(boards, 3), "all to claim")
    boards["a1"].off()
    (boards["a1"].root / "data/cluster/coordinator.json").write_text("{}")
    boards["a1"].on()
    assert configured(boards, revision="later") == 4


def test_names_that_no_configuration_has_are_not_kept(boards: Bed) -> None:
    epoch = configured(boards)
    eventually(lambda: all_claim(boards, epoch), "all to claim")
    node = boards["a1"].node
    assert node is not None
    for number in range(3):
        invented = {"member": f"x{number}", "incarnation": 1, "seq": 1, "stored": [], "fit": [], "holding": None}
        node.cluster.renew(invented)
    assert "b1" in node.cluster._heard and not any(name.startswith("x") for name in node.cluster._heard)


def test_nobody_speaks_for_a_board_from_another_address(boards: Bed) -> None:
    epoch = configured(boards)
    eventually(lambda: all_claim(boards, epoch), "all to claim")
    renewal = {"member": "b1", "incarnation": 99, "seq": 1, "stored": [], "fit": [], "holding": None}
    elsewhere = document(boards)
    elsewhere["members"]["a1"] = f"127.0.0.1:{boards['a1'].port}"
    for path, body, words in (
        ("/cluster/renew", renewal, "does not speak for b1"),
        ("/cluster/prepare", asdict(Config.of(9, document(boards, revision="forged"))), "does not speak for a1"),
        ("/cluster/prepare", asdict(Config.of(9, elsewhere)), "members.a1 is 127.0.0.1"),
        ("/cluster/propose", {"document": elsewhere}, "members.a1 is 127.0.0.1"),
    ):
        with pytest.raises(ApiError, match=words):
            ask(boards["a1"], path, body)
    assert all_claim(boards, epoch)
