"""An older bundle with a good signature reaches a board's updater: it must refuse it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from hil.boards.protocol import Fidelity
from hil.evidence.events import OlderBundle
from hil.faults.fault import Bite, Fault, Parameter, Proof
from hil.faults.os_kinds import on_board
from hil.images.bundles import Bundle, BundleKind
from hil.rollout.updaters.kinds import adapter_of
from hil.rollout.updaters.protocol import OsAdapter, RefusedBundle

if TYPE_CHECKING:
    from hil.bench.bench import Bench

PLACE = "/data/hil-fault-older.bundle"
INSTALL_S = 60.0


class OlderBundleOffered:
    """An updater is told to install a bundle that is older than the OS that runs, and well signed."""

    description = "has a board's updater install a well signed bundle that is older than what it runs: it must refuse"
    works_on = "container boards"
    parameters: Sequence[Parameter] = ()

    def targets(self, bench: Bench) -> Sequence[str]:
        """Return the container boards: the older bundle is one of the reference OS."""
        return tuple(name for name, board in bench.boards.items() if board.fidelity is Fidelity.VIRTUAL)

    def inject(self, bench: Bench, target: str, values: Mapping[str, float]) -> Bite:
        """Put the bundle on the board and have it installed; evidence: ``fault.older_bundle``.

        The proof is the updater's answer: refused with a reason, or the bundle is in the other slot.
        """
        board, bundle = bench.boards[target], bench.images.bundles.bundle(BundleKind.OLDER)
        running = board.identity().os_version
        with board.shell() as shell:
            shell.push(bundle.path, PLACE)
        with closing(adapter_of(bench.lab, version=bundle.version)(board)) as adapter:
            refused = self.bite(adapter, bundle)
            holds = refused == "" and adapter.status().other.version == bundle.version
        if refused is None:
            seen = f"the updater of {target} was not asked"
        elif refused:
            seen = f"the updater of {target}, which runs {running}, refused {bundle.version}: {refused}"
        else:
            seen = f"the updater of {target}, which runs {running}, says that it installed {bundle.version}"
            seen += "" if holds else ", and the slot does not hold it"
        if refused or holds:
            bench.sink.emit(OlderBundle(target, running, bundle.version, refused or ""))
        proof = Proof.of(bool(refused) or holds, seen)
        return Bite(lambda: proof)

    def bite(self, adapter: OsAdapter, bundle: Bundle) -> str | None:
        """Have it installed; return why it was refused, empty when it was not, None when nobody was asked."""
        try:
            adapter.install(PLACE, sha256=bundle.sha256, timeout_s=INSTALL_S)
        except RefusedBundle as exc:
            return exc.reason
        return ""

    def heal(self, bench: Bench, target: str, values: Mapping[str, float]) -> None:
        """Take the bundle away; what was installed stays."""
        on_board(bench.boards[target], f"rm -f {PLACE}", check=False)


OLDER_BUNDLE: Fault = OlderBundleOffered()
