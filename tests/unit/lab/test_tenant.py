"""The tenants of a lab file: what is accepted, and what a wrong one is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from hil.core import paths
from hil.errors import ConfigurationError
from hil.lab.model import load_lab

SHARED = paths.ROOT / "lab/two-tenants.yaml"


def test_a_tenant_has_boards_shares_and_quotas_and_a_board_knows_its_tenant() -> None:
    lab = load_lab(SHARED)
    beta = lab.tenant("beta")
    assert (beta.boards, beta.shares["isl-ab"], beta.quotas.cpu_cores) == (("a3", "b2", "b3"), 70, None)
    assert lab.tenant_of("b2") is beta
    assert load_lab(paths.ROOT / "lab/virtual.yaml").tenant_of("b2") is None


def test_a_tenant_that_is_not_there_is_refused_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match="has no tenant gamma") as caught:
        load_lab(SHARED).tenant("gamma")
    assert "alpha, beta" in caught.value.remedy


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("boards: [a3, b2, b3]", "boards: [a3, b2, b9]", "tenants.beta.boards: b9 is not a board; boards: a1"),
        ("boards: [a3, b2, b3]", "boards: [a3, b2, b1]", "tenants.beta.boards: b1 is alpha's already"),
        ("name: beta", "name: alpha", "the tenant alpha is there twice"),
        ("isl-ab: 70", "isl-ab: 71", "tenants.beta.shares.isl-ab: the shares of isl-ab are 101 percent; at most"),
        ("isl-ab: 70", "isl-ac: 70", "tenants.beta.shares: isl-ac is not a link; links: ground, isl-ab"),
        ("isl-ab: 70", "isl-ab: 0", "greater than or equal to 1"),
        ("boards: [a3, b2, b3]", "boards: []", "at least 1 item"),
        (
            "quotas: {memory_bytes: 16000000000,",
            "quotas: {memory_mb: 16000,",
            "unknown key; did you mean memory_bytes?",
        ),
    ],
)
def test_a_wrong_tenant_is_refused_with_its_line(tmp_path: Path, old: str, new: str, told: str) -> None:
    text = SHARED.read_text()
    at = text.rindex(old)  # beta's: it comes last
    file = tmp_path / "lab.yaml"
    file.write_text(text[:at] + new + text[at + len(old) :])
    with pytest.raises(ConfigurationError) as caught:
        load_lab(file)
    assert told in caught.value.message
    assert f"lab.yaml:{text[:at].count(chr(10)) + 1}:" in caught.value.message


def test_a_tenant_sees_its_own_boards_and_gateway_and_every_spacecraft_and_link() -> None:
    lab = load_lab(SHARED)
    seen = lab.as_seen_by("beta")
    assert [board.name for board in seen.boards] == ["a3", "b2", "b3"]
    assert (seen.gateway, seen.nodes, seen.links, seen.file) == ("a3", lab.nodes, lab.links, lab.file)
    assert len(lab.boards) == 6
