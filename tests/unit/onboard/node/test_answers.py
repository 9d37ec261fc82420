"""The contract of the node service: what does not fit it is refused with the words that do not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from hil.onboard.node.answers import SHOWN, Claim, ContractError, Health

HEALTH = Health(
    board="a1",
    boot_id="b-1",
    healthy=True,
    confirmed=False,
    claim=Claim(True, 7, 1.5),
    services={"node": True},
    problems=("no disk",),
    model_provider="CPU",
)


def changed(**fields: Any) -> dict[str, Any]:
    return {**HEALTH.document(), **fields}


def test_a_health_page_reads_back_as_it_was_written() -> None:
    assert Health.from_json(json.loads(json.dumps(HEALTH.document()))) == HEALTH


def test_a_page_of_an_older_os_lacks_fields_and_of_a_newer_one_has_more() -> None:
    page = changed(colour="red")
    del page["model_provider"], page["problems"]
    assert Health.from_json(page).model_provider is None


@pytest.mark.parametrize(
    ("page", "why"),
    [
        ([], "no object"),
        (changed(healthy="yes"), "healthy must be bool, not 'yes'"),
        (changed(claim={"serving": True, "epoch": "7"}), "epoch must be .*not '7'"),
        (changed(problems="none"), "problems must be"),
        ({k: v for k, v in HEALTH.document().items() if k != "boot_id"}, "boot_id is missing"),
    ],
)
def test_a_page_that_does_not_fit_is_refused_with_its_words(page: object, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        Health.from_json(page)


def test_a_flood_is_quoted_in_part() -> None:
    with pytest.raises(ContractError) as raised:
        Health.from_json(changed(boot_id=["x" * 10_000]))
    assert len(str(raised.value)) < SHOWN + 100
