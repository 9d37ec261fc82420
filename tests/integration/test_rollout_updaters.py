"""RAUC and SWUpdate, as their files declare them: each on a container board, both by one suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.boards.container.board import ContainerBoard
from hil.images.bundles import BundleKind
from hil.images.recipes import REFERENCE, Recipe, recipe_of
from hil.onboard.boot_control import BootControl, Variables, other
from hil.rollout.updaters.conformance import AdapterConformance, Bad, Updater
from hil.rollout.updaters.declaration import load_adapter
from hil.rollout.updaters.declared import RAUC, SWUPDATE, DeclaredAdapter
from hil.rollout.updaters.protocol import RefusedBundle
from tests.kits.container_boards import boards, engine_client

pytestmark = [pytest.mark.integration, pytest.mark.side_by_side]


@contextmanager
def updater_on_a_board(recipe: Recipe, declaration: Path) -> Iterator[Updater]:
    file = load_adapter(declaration)
    with engine_client() as client, boards(client, 1, recipe=recipe) as (made, images):
        board = made[0]
        bad = {kind: images.bundles.bundle(BundleKind(kind.value)) for kind in Bad}
        second = images.bundles.bundle(BundleKind.NO_BOOT)
        yield Updater(board, lambda: DeclaredAdapter(file, board.name, board.shell), images.bundles.os_v2, second, bad)


class TestRauc(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def updater(cls) -> Iterator[Updater]:
        with updater_on_a_board(REFERENCE, RAUC) as updater:
            yield updater

    def test_a_revoked_certificate_is_refused_in_raucs_own_words(self, updater: Updater) -> None:
        bundle = updater.bad[Bad.REVOKED]
        updater.push(bundle)
        with updater.opened() as adapter, pytest.raises(RefusedBundle, match="certificate revoked"):
            adapter.install(updater.upload, sha256=bundle.sha256)


class TestSwupdate(AdapterConformance):
    @pytest.fixture(scope="class")
    @classmethod
    def updater(cls) -> Iterator[Updater]:
        with updater_on_a_board(recipe_of("swupdate"), SWUPDATE) as updater:
            yield updater

    def test_the_refusals_are_swupdates_own_words(self, updater: Updater) -> None:
        """Whoever reads a report at night must be able to look them up."""
        words = {
            Bad.TAMPERED_PAYLOAD: "HASH mismatch",
            Bad.TRUNCATED: "HASH mismatch",
            Bad.WRONG_HARDWARE: "SW not compatible with hardware",
            Bad.RANDOM: "CPIO Format not recognized",
            Bad.OTHER_FORMAT: "feature 'of-another-time' required",
            Bad.REVOKED: "certificate revoked",  # the tool's: SWUpdate reads no revocation list
        }
        for kind, expected in words.items():
            updater.push(updater.bad[kind])
            with updater.opened() as adapter, pytest.raises(Exception, match=expected):
                adapter.install(updater.upload, sha256=updater.bad[kind].sha256)

    def test_swupdate_called_past_the_tool_takes_the_slot_out_of_the_boot_order_itself(self, updater: Updater) -> None:
        """The configuration file of the OS says so (preupdatecmd), not the tool of this testbed."""
        board = updater.board
        assert isinstance(board, ContainerBoard)
        control = BootControl(Variables(board.spec.nv_dir / "vars"))
        target = other(control.current)
        control.mark_good(target)
        updater.push(updater.bad[Bad.TAMPERED_PAYLOAD])
        argv = ["swupdate", "-f", "/etc/swupdate.cfg", "-e", f"stable,slot{target}", "-i", updater.upload]
        with board.shell() as shell:
            assert shell.run(argv, check=False, timeout_s=60.0).returncode != 0
        assert not control.slot(target).bootable
