"""The operation under test: upload, relay, install, activate, confirm, configure, roll back."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, suppress
from dataclasses import dataclass

from hil.boards.protocol import Board, Via
from hil.core.wait import SYSTEM_CLOCK, Clock
from hil.errors import DeviceError, HilError
from hil.evidence.events import BundleUsed
from hil.evidence.sink import NullSink, Sink
from hil.images.artefact import Artefact, BundleFacts
from hil.images.signer import signed_by
from hil.onboard.node.answers import Health
from hil.rollout import activation, configure, serving, transfer
from hil.rollout.fleet import ClusterConfig, Fleet
from hil.rollout.node_client import NodeClient
from hil.rollout.policy import RolloutPolicy
from hil.rollout.restart_barrier import RestartBarrier
from hil.rollout.serving import ServedTogether
from hil.rollout.steps import Context
from hil.rollout.transfer import Transfer
from hil.rollout.updaters.declared import RAUC, over_flight
from hil.rollout.updaters.protocol import InstallFailed, OsAdapter, OsStatus, RefusedBundle

__all__ = ["Artefact", "Rollout", "RolloutPolicy", "RunReport", "Transfer"]


@dataclass(frozen=True)
class RunReport:
    """What :meth:`Rollout.run` did."""

    seconds: float  # from the first byte uploaded to the last board confirmed (and configured, where it was)
    confirmed_s: float  # from the first byte uploaded to the last board confirmed
    canary: str
    epoch: int | None
    transfers: tuple[Transfer, ...]


class Rollout:
    """One bundle onto one fleet.  Every step may be repeated, and after a kill a new object continues.

    ``adapter`` makes the OS adapter of a board; RAUC's without it.
    State is what the boards say.
    Errors: DeviceError names board and step; BenchError when the lab's own cable reaches a board that the flight
    network does not.
    """

    def __init__(
        self,
        fleet: Fleet,
        bundle: BundleFacts,
        sink: Sink | None = None,
        policy: RolloutPolicy | None = None,
        *,
        adapter: Callable[[Board], OsAdapter] | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.fleet = fleet
        self.bundle = bundle
        self.policy = policy or RolloutPolicy()
        self._context = Context(fleet, sink or NullSink(), self.policy, clock)
        self._adapter = adapter or over_flight(RAUC)
        self._noted = False
        self._watching: dict[str, NodeClient] = {}
        self._watch_lock = threading.Lock()

    @property
    def artefact(self) -> Artefact:
        """The bundle as a file to distribute."""
        return Artefact.of_bundle(self.bundle)

    def _note_bundle(self) -> None:
        """Record once which bundle this is, so that the evidence says what was uploaded and installed.

        ConfigurationError for one whose signature may not cover all of it.
        """
        with self._watch_lock:
            if self._noted:
                return
            activation.check_size(self.bundle)
            self._noted = True
        bundle, signer = self.bundle, signed_by(self.bundle.path)
        facts = (bundle.version, bundle.sha256, bundle.size_bytes, bundle.image_sha256, signer.subject, signer.sha256)
        self._context.sink.emit(BundleUsed(bundle.path.name, *facts))

    # --- one step at a time ------------------------------------------------------------------------------------

    def upload(self, artefact: Artefact | None = None) -> Transfer:
        """Ground to the gateway board, resumed at the byte after any cut. Default artefact: the bundle."""
        self._note_bundle()
        return transfer.to_gateway(self._context, artefact or self.artefact)

    def relay(self, artefact: Artefact | None = None) -> list[Transfer]:
        """Gateway to one head per other spacecraft, and fan-out inside every spacecraft."""
        self._note_bundle()
        return transfer.everywhere(self._context, artefact or self.artefact, with_upload=False)

    def distribute(self, artefact: Artefact | None = None) -> list[Transfer]:
        """Upload and relay at once: every board forwards what it has while more arrives."""
        self._note_bundle()
        return transfer.everywhere(self._context, artefact or self.artefact)

    def bytes_at(self, board: str, artefact: Artefact | None = None) -> int:
        """Return bytes of an artefact (default: the bundle) that a board has, seen through the management network."""
        wanted = self.bundle.sha256 if artefact is None else artefact.sha256
        with self._watch_lock:
            client = self._watching.get(board)
            if client is None:
                client = self._watching[board] = self._context.client(board, Via.MANAGEMENT)
            status = client.artefact(wanted)
        return 0 if status is None else status.have_bytes

    def install(self, boards: Iterable[str] | None = None) -> dict[str, OsStatus]:
        """Hash and signature checked, then the slot that is not running is written; all boards in parallel.

        A board that runs the bundle or has it in its other slot is left alone.  RefusedBundle or InstallFailed.
        """

        self._note_bundle()

        def one(board: str) -> OsStatus:
            with self._opened(board) as adapter:
                return self._install(board, adapter)

        return self._context.each(self._names(boards), one)

    def _install(self, board: str, adapter: OsAdapter, *, just_arrived: bool = False) -> OsStatus:
        """With ``just_arrived`` nobody can have installed it yet, and the updater is not asked whether."""
        health = self._context.health(board, deadline_s=self.policy.boot_deadline_s)
        activation.check_newer(health, self.bundle, downgrade=self.policy.downgrade)
        if activation.runs(health, self.bundle) or not just_arrived:
            status = adapter.status()
            if activation.runs(health, self.bundle) or activation.holds(status, self.bundle):
                return status
        with self._context.step("install", board) as facts:
            path = transfer.path_on_board(self._context, self.artefact, board)
            try:
                status = adapter.install(path, sha256=self.bundle.sha256, timeout_s=self.policy.install_deadline_s)
            except (RefusedBundle, InstallFailed):
                raise
            except DeviceError as exc:  # the connection broke: the board's fault, or the path's?
                raise self._context.silence(board, "finish the installation", exc) from exc
            if not activation.holds(status, self.bundle):
                raise DeviceError(
                    f"{board}: the updater reports success, but slot {status.other.slot} does not hold the image"
                )
            signed, wanted = status.other.version, self.bundle.manifest_version or self.bundle.version
            if signed not in (None, wanted):
                raise DeviceError(
                    f"{board}: the manifest of what is in slot {status.other.slot} says version {signed}, not {wanted}",
                    remedy="say its manifest_version where the OS's own version is meant to be another",
                )
            facts.update(slot=status.other.slot, version=self.bundle.version)
        return status

    def _opened(self, board: str) -> AbstractContextManager[OsAdapter]:
        return closing(self._adapter(self.fleet.member(board)))

    @property
    def canary(self) -> str:
        """The board to activate first: the policy's, else the first one that no other board pulls from."""
        if self.policy.canary is not None:
            return self.fleet.member(self.policy.canary).name
        feeding = {m.name for m in self.fleet.heads().values()}
        return next((n for n in self.fleet.names if n not in feeding), self.fleet.names[-1])

    def activate_canary(self) -> str:
        """Switch one board to the new slot, check its health, confirm it; the board's name.

        FellBack (a DeviceError) when it did not boot or was unhealthy; it then runs the old OS again.
        """
        self._activate(self.canary)
        return self.canary

    def activate_rest(self) -> list[str]:
        """The same for all others at once; DeviceError, with nothing touched, when the canary is not confirmed."""
        health = self._context.health(self.canary, deadline_s=self.policy.boot_deadline_s)
        if not (activation.runs(health, self.bundle) and health.confirmed):
            raise DeviceError(
                f"the canary {self.canary} does not run {self.bundle.version} confirmed",
                remedy="activate the canary first",
            )
        rest = [n for n in self.fleet.names if n != self.canary]
        self._context.each(rest, self._activate)
        return rest

    def activate(self, boards: Iterable[str]) -> list[str]:
        """Switch these boards to the new slot at once, each confirmed after its health check; their names.

        For staged updates that choose their own order: no canary is asked for.  FellBack as of :meth:`activate_canary`.
        """
        chosen = self._names(boards)
        self._context.each(chosen, self._activate)
        return chosen

    def _activate(self, board: str) -> None:
        with self._opened(board) as adapter:
            activation.activate(self._context, board, self.bundle, adapter)

    def configure(
        self,
        config: ClusterConfig,
        *,
        wait_for: Iterable[str] | None = None,
        between_phases: configure.EpochHook | None = None,
        after_commit: configure.EpochHook | None = None,
        fresh: bool = False,
    ) -> int:
        """Two-phase: prepared on all members, then committed; the epoch.

        Waits until the boards in ``wait_for`` (default: all) claim it at one moment.  The hooks are called with the
        epoch after the prepare and after the commit.  The same document twice is the same epoch unless ``fresh``.
        """
        return configure.configure(
            self._context,
            config,
            wait_for=wait_for,
            between_phases=between_phases,
            after_commit=after_commit,
            fresh=fresh,
        )

    def serving_together(
        self, epoch: int, boards: Iterable[str] | None = None, *, silent: Iterable[str] = (), deadline_s: float = 20.0
    ) -> ServedTogether:
        """Wait until these boards (default: all) claim this epoch at one moment, and ``silent`` claim nothing then.

        DeviceError at the deadline names the boards that lack it; see :func:`hil.rollout.serving.serving_together`.
        """
        return serving.serving_together(self._context, epoch, self._names(boards), silent=silent, deadline_s=deadline_s)

    def roll_back(self, boards: Iterable[str] | None = None) -> list[str]:
        """Back to the previous slot on command, confirmed after a health check; the boards that changed.

        Boards that do not run this rollout's bundle are left alone.
        """

        def one(board: str) -> bool:
            health = self._context.health(board, deadline_s=self.policy.boot_deadline_s)
            with self._opened(board) as adapter:
                if activation.runs(health, self.bundle):
                    activation.roll_back(self._context, board, adapter)
                    return True
                activation.confirm(self._context, board, adapter, health)
                return False

        return [board for board, changed in self._context.each(self._names(boards), one).items() if changed]

    def status(self, *, management: bool = False) -> dict[str, Health | None]:
        """Return what every board says now, None where it does not answer.

        The boards are asked from the ground, or with ``management`` through the lab's own cables.
        """

        def one(board: str) -> Health | None:
            via = Via.MANAGEMENT if management else Via.FLIGHT
            with suppress(HilError), self._context.client(board, via, timeout_s=1.0) as client:
                return client.health()
            return None

        return self._context.each(self.fleet.names, one)

    # --- everything at once ------------------------------------------------------------------------------------

    def run(self, config: ClusterConfig | None = None) -> RunReport:
        """Return everything, as much at once as is safe; picks up where a killed run stopped.

        Each board installs as soon as the bundle is there, the canary restarts as soon as it has installed, and the
        others restart at once when all have installed and the canary is confirmed.  When one board fails, no other
        board restarts.
        """
        clock = self._context.clock
        self._note_bundle()
        start = clock.monotonic()
        barrier = RestartBarrier(self.fleet.names)
        canary, limit = self.canary, self.policy.transfer_deadline_s + self.policy.install_deadline_s
        with ExitStack() as stack, ThreadPoolExecutor(len(self.fleet), "preflight") as early:
            adapters = {name: stack.enter_context(self._opened(name)) for name in self.fleet.names}
            # Logging in takes time on a busy board: do it while the bundle is on its way
            ready = {name: early.submit(_prepare, adapter) for name, adapter in adapters.items()}

            def arrived(done: Transfer) -> None:
                board, adapter = done.board, adapters[done.board]
                with barrier.guard():
                    ready[board].result()
                    if board != canary:
                        barrier.yield_to(canary, self.policy.canary_head_start_s)
                    status = self._install(board, adapter, just_arrived=done.moved)
                    barrier.installed(board)
                    if board != canary:
                        barrier.wait(limit + self.policy.boot_deadline_s)
                    activation.activate(self._context, board, self.bundle, adapter, status)
                    if board == canary:
                        barrier.open()

            transfers = transfer.everywhere(self._context, self.artefact, arrived=arrived, failed=barrier.fail)
        confirmed_s = clock.monotonic() - start
        epoch = self.configure(config) if config is not None else None
        seconds = round(clock.monotonic() - start, 3)
        return RunReport(seconds, round(confirmed_s, 3), canary, epoch, tuple(transfers))

    def _names(self, boards: Iterable[str] | None) -> list[str]:
        return self.fleet.names if boards is None else [self.fleet.member(b).name for b in boards]


def _prepare(adapter: OsAdapter) -> None:
    """What is wrong will be found, and told, when the adapter is needed."""
    with suppress(HilError, OSError, EOFError):
        adapter.prepare()
