"""Clusters of real node services on loopback: configured, split, restarted, brought back."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hil.onboard.node.client import Peer
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
