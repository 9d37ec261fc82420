"""The suite that every OS adapter must pass, so that a rollout never needs to ask which updater it drives.

Subclass it where pytest collects and offer an ``updater`` fixture (module scope: the tests share one board)::

    class TestMyOs(AdapterConformance):
        pass

    @pytest.fixture(scope="class")
    @classmethod
    def updater(cls):
        yield Updater(board, lambda: MyAdapter(...), good, second, bad)

The suite installs, restarts and cuts the power of the board, several times.  Container boards take a minute.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import ClassVar

import pytest

from hil.boards.conformance import reboot, running
from hil.boards.protocol import Board, BootState, Identity, Slot
from hil.core.wait import wait_until
from hil.errors import DeviceError, HilError
from hil.images.artefact import BundleFacts
from hil.rollout.updaters.protocol import InstallFailed, OsAdapter, OsStatus, RefusedBundle


class Bad(StrEnum):
    """The bundles that must be refused."""

    TAMPERED_PAYLOAD = "tampered-payload"
    TAMPERED_SIGNATURE = "tampered-signature"
    TRUNCATED = "truncated"
    WRONG_KEY = "wrong-key"
    REVOKED = "revoked"  # signed under the right CA, with a certificate that is revoked
    EXPIRED = "expired"  # likewise, with one that has expired
    WRONG_HARDWARE = "wrong-hardware"
    OLDER = "older"  # good signature; older than the OS that runs
    EMPTY = "empty"
    RANDOM = "random"  # no bundle at all
    OTHER_FORMAT = "other-format"  # good signature, a format that the updater cannot install


@dataclass(frozen=True)
class Updater:
    """One board with one updater, and the bundles to try on it."""

    board: Board
    adapter: Callable[[], OsAdapter]
    good: BundleFacts
    second: BundleFacts  # well signed too, with another image; it need not boot
    bad: Mapping[Bad, BundleFacts]
    """One of each kind.  ``REVOKED`` may be missing, of an updater that reads no revocation list, and ``OLDER``, of one
    that compares no versions.
    """
    upload: str = "/data/conformance.bundle"
    devices: Mapping[Slot, str] = field(default_factory=lambda: {"A": "/dev/mmcblk0p1", "B": "/dev/mmcblk0p2"})

    def opened(self) -> AbstractContextManager[OsAdapter]:
        """An adapter, closed afterwards."""
        return closing(self.adapter())

    def push(self, bundle: BundleFacts) -> None:
        """Put a bundle where it is installed from, on disk."""
        with self.board.shell() as shell:
            shell.push(Path(bundle.path), self.upload)
            shell.run(["sync"])

    def digest(self, slot: Slot) -> str:
        """SHA-256 over a whole slot as it reads on the board."""
        with self.board.shell() as shell:
            done = shell.run(["openssl", "dgst", "-sha256", "-r", self.devices[slot]], timeout_s=120.0)
        return done.stdout.split()[0]


class AdapterConformance:
    """What ``hil.rollout.updaters.protocol.OsAdapter`` promises."""

    boot_deadline_s: ClassVar[float] = 60.0
    install_deadline_s: ClassVar[float] = 120.0
    cut_after_s: ClassVar[float] = 0.1  # from the moment a slot cannot boot any more: the write is under way

    # -- what the updater says

    def test_the_adapter_and_the_firmware_agree_on_the_slots(self, updater: Updater) -> None:
        now = running(updater.board)
        boot = updater.board.boot.state()
        with updater.opened() as adapter:
            adapter.prepare()
            status = adapter.status()
        assert status.compatible
        assert (status.booted, status.primary) == (now.slot, boot.active)
        assert {slot.slot: slot.bootable for slot in status.slots} == {s.slot: s.bootable for s in boot.slots}
        assert status.slot(now.slot).state == "booted"

    def test_a_healthy_board_says_so_with_its_boot_id(self, updater: Updater) -> None:
        now = running(updater.board)
        with updater.opened() as adapter:
            report = adapter.health()
        assert (report.healthy, report.problems) == (True, ())
        assert report.facts["boot_id"] == now.boot_id

    def test_a_board_without_power_is_unhealthy_and_gives_an_error(self, updater: Updater) -> None:
        running(updater.board)
        updater.board.supervisor.cut()
        with updater.opened() as adapter:
            report = adapter.health()
            with pytest.raises(HilError):
                adapter.status()
        assert not report.healthy
        assert report.problems
        running(updater.board)

    # -- install, activate, confirm, roll back

    def test_a_bundle_is_installed_activated_confirmed_and_rolled_back(self, updater: Updater) -> None:
        before = running(updater.board)
        kept = updater.digest(before.slot)
        status = self._install(updater)
        target = status.other
        assert target.slot != before.slot
        assert (target.complete, target.image_sha256) == (True, updater.good.image_sha256)
        assert target.version == updater.good.version
        assert updater.digest(before.slot) == kept, "the running slot was written to"
        boot = updater.board.boot.state()
        assert (boot.running, boot.active) == (before.slot, before.slot), "an installation must not activate"

        upload = self._activate(updater, before)
        assert (upload.slot, upload.image_sha256) == (target.slot, updater.good.image_sha256)
        assert upload.os_version == updater.good.version
        assert not self._good(updater, upload.slot), "a fresh slot is not good before somebody says so"
        with updater.opened() as adapter:
            adapter.confirm()
            adapter.confirm()
            assert adapter.status().slot(upload.slot).bootable
        assert self._good(updater, upload.slot)

        back = self._roll_back(updater, upload)
        assert (back.slot, back.image_sha256) == (before.slot, before.image_sha256)
        assert self._good(updater, back.slot), "the old slot stays confirmed"

    def test_a_restart_after_an_installation_runs_the_old_os(self, updater: Updater) -> None:
        before = running(updater.board)
        self._install(updater)
        after = reboot(updater.board, before, deadline_s=self.boot_deadline_s)
        assert (after.slot, after.image_sha256) == (before.slot, before.image_sha256)

    def test_what_was_installed_survives_a_power_cut_right_after(self, updater: Updater) -> None:
        before = running(updater.board)
        status = self._install(updater)
        updater.board.supervisor.reset()
        updater.board.wait_booted(deadline_s=self.boot_deadline_s)
        with updater.opened() as adapter:
            again = adapter.status()
        assert again.other == status.other
        upload = self._activate(updater, updater.board.identity())
        assert upload.image_sha256 == updater.good.image_sha256
        self._confirm(updater)
        self._roll_back(updater, upload, expect=before.slot)

    def test_a_power_cut_in_mid_install_leaves_the_old_os_and_a_second_try_succeeds(self, updater: Updater) -> None:
        before = running(updater.board)
        target = self._install(updater, updater.second).other.slot
        for slot in (target, before.slot):  # bootable, so that it shows when the updater takes that back
            updater.board.boot.set_active(slot)
        held = updater.digest(target)
        updater.push(updater.good)
        with updater.opened() as adapter:
            adapter.prepare()

            def attempt() -> None:
                with suppress(HilError, OSError, EOFError):  # the power is gone
                    adapter.install(updater.upload, sha256=updater.good.sha256, timeout_s=self.install_deadline_s)

            thread = threading.Thread(target=attempt)
            thread.start()
            # An updater takes a slot out of the boot order before it writes to it
            wait_until(
                lambda: not self._bootable(updater.board.boot.state(), target),
                what=f"the write to slot {target}",
                deadline_s=self.install_deadline_s,
                every_s=0.002,
            )
            time.sleep(self.cut_after_s)
            updater.board.supervisor.cut()
            thread.join(timeout=self.install_deadline_s)
        assert not self._bootable(updater.board.boot.state(), target)
        updater.board.supervisor.on()
        after = updater.board.wait_booted(deadline_s=self.boot_deadline_s)
        assert (after.slot, after.image_sha256) == (before.slot, before.image_sha256)
        assert after.boot_id != before.boot_id
        with updater.opened() as adapter:
            torn = adapter.status().other
            assert not torn.bootable
            if torn.complete:  # only what is whole may be called so: nothing was written yet, or all of it
                whole = {updater.second.image_sha256: True, updater.good.image_sha256: False}
                assert (updater.digest(target) == held) is whole[str(torn.image_sha256)]
            with pytest.raises(DeviceError, match=f"slot {target}"):
                adapter.roll_back()
        assert updater.board.identity().boot_id == after.boot_id, "a refused roll-back must not restart"
        self._install(updater)
        upload = self._activate(updater, after)
        assert (upload.slot, upload.image_sha256) == (target, updater.good.image_sha256)
        self._confirm(updater)
        self._roll_back(updater, upload, expect=before.slot)

    # -- what must be refused

    def test_a_bundle_that_is_not_the_one_sent_is_refused_by_its_digest(self, updater: Updater) -> None:
        running(updater.board)
        boot = updater.board.boot.state()
        updater.push(updater.bad[Bad.RANDOM])
        with updater.opened() as adapter, pytest.raises(RefusedBundle) as refusal:
            adapter.install(updater.upload, sha256=updater.good.sha256)
        assert refusal.value.reason == "digest mismatch"
        assert updater.board.boot.state() == boot

    @pytest.mark.parametrize("kind", Bad)
    def test_a_bad_bundle_is_refused(self, updater: Updater, kind: Bad) -> None:
        """Refused with a reason; the running slot untouched; the other one as it was, or not bootable."""
        may_lack = {Bad.REVOKED: "reads no revocation list", Bad.OLDER: "compares no versions"}
        if kind in may_lack and kind not in updater.bad:
            pytest.skip(f"this updater {may_lack[kind]}")
        now = self._both_good(updater)
        other: Slot = "B" if now.slot == "A" else "A"
        boot, held = updater.board.boot.state(), {slot: updater.digest(slot) for slot in updater.devices}
        bundle = updater.bad[kind]
        updater.push(bundle)
        with updater.opened() as adapter:
            with pytest.raises(RefusedBundle, match=updater.board.name) as refusal:
                adapter.install(updater.upload, sha256=bundle.sha256, timeout_s=self.install_deadline_s)
            assert refusal.value.reason.strip(), "a refusal must say why"
            assert refusal.value.reason != "digest mismatch"
            after = adapter.status()
        assert (after.booted, after.primary) == (now.slot, now.slot)
        assert updater.digest(now.slot) == held[now.slot]
        if updater.digest(other) == held[other]:
            assert updater.board.boot.state() == boot, "refused, and yet the boot order changed"
        else:
            assert not self._bootable(updater.board.boot.state(), other), "touched, and yet it would boot"

    # -- parts

    def _both_good(self, updater: Updater) -> Identity:
        """Return a board with an OS to go back to in the other slot; who runs."""
        now = running(updater.board)
        state = updater.board.boot.state()
        if all(slot.bootable and slot.good for slot in state.slots):
            return now
        self._install(updater)
        upload = self._activate(updater, now)
        self._confirm(updater)
        return self._roll_back(updater, upload, expect=now.slot)

    def _install(self, updater: Updater, bundle: BundleFacts | None = None) -> OsStatus:
        wanted = bundle or updater.good
        updater.push(wanted)
        with updater.opened() as adapter:
            try:
                return adapter.install(updater.upload, sha256=wanted.sha256, timeout_s=self.install_deadline_s)
            except (RefusedBundle, InstallFailed) as exc:
                raise AssertionError(f"a good bundle was not installed: {exc}") from exc

    def _confirm(self, updater: Updater) -> None:
        with updater.opened() as adapter:
            adapter.confirm()

    def _activate(self, updater: Updater, before: Identity) -> Identity:
        with updater.opened() as adapter:
            adapter.activate()
        return self._restarted(updater, before)

    def _roll_back(self, updater: Updater, before: Identity, *, expect: Slot | None = None) -> Identity:
        with updater.opened() as adapter:
            adapter.roll_back()
        after = self._restarted(updater, before)
        assert after.slot == (expect or after.slot)
        return after

    def _restarted(self, updater: Updater, before: Identity) -> Identity:
        def again() -> Identity | None:
            now = updater.board.identity()
            return now if now.boot_id != before.boot_id else None

        what = f"{updater.board.name} to restart"
        return wait_until(again, what=what, deadline_s=self.boot_deadline_s, error=DeviceError)

    @staticmethod
    def _bootable(state: BootState, slot: Slot) -> bool:
        return next(s.bootable for s in state.slots if s.slot == slot)

    @staticmethod
    def _good(updater: Updater, slot: Slot) -> bool:
        return next(s.good for s in updater.board.boot.state().slots if s.slot == slot)
