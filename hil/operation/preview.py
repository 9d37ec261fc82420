"""The feasibility preview: whether passes, bytes, time, power and heat allow an operation on a lab.

Nothing is powered, built or connected.  What it leaves out: the switch inside a spacecraft (it is faster than any
link), loss, and that two transfers may share a link (results come back when the upload is over).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hil.boards.kinds import kind_of
from hil.core.wait import duration_s
from hil.errors import ConfigurationError
from hil.images.bundles import last_upload_bytes
from hil.images.recipes import recipe_of
from hil.lab.model import Lab
from hil.lab.tenant import TenantSpec
from hil.onboard.node.store import RESERVE_BYTES
from hil.operation.arithmetic import (
    ENDLESS,
    Curve,
    Preview,
    Term,
    Window,
    after_contact_s,
    at,
    quantity,
    reached_s,
    through,
)
from hil.operation.arithmetic import contacts as passes_in
from hil.operation.contacts import Contacts
from hil.operation.heat import heat_and_power
from hil.operation.model import Collect, Operation
from hil.rollout.participants import Participants, choose

LOOK_BEYOND_S = 86_400.0
"""So long after the deadline is looked at, too, to say when what comes too late would be done."""


@dataclass(frozen=True)
class Checked:
    """An operation that has been compared with a lab, or with an engineering model."""

    operation: Operation
    lab: str
    """Name of the lab, or of the engineering model."""
    boards: tuple[str, ...]
    who: str
    """Who takes part, for people."""
    preview: Preview
    files: dict[str, int]
    """What is uploaded, bytes by name."""
    uploaded_s: float | None
    """When all of it is on all boards, seconds from the begin; None: not in the time that was looked at."""

    @property
    def sentence(self) -> str:
        """Return the answer in one sentence, with the constraint that binds."""
        binding = self.preview.binding
        if binding is None:
            return f"{self.operation.name} on {self.lab}: nothing is known that speaks against it."
        free = f"{max(0.0, binding.free or 0.0):.0%}" if binding.fits(0.0) else "nothing"
        figures = f"needs {quantity(binding.needs, binding.unit)} and has {quantity(binding.has, binding.unit)}"
        if self.preview.feasible:
            return f"Feasible; the binding constraint is {binding.name}: {figures}, {free} stays free."
        wanted = "" if not binding.fits(0.0) else f", {free} stays free and {self.preview.margin:.0%} must"
        why = f" ({binding.reason})" if binding.reason else ""
        return f"Infeasible: {binding.name} {figures}{wanted}{why}."

    def document(self) -> dict[str, Any]:
        """Return everything as JSON."""
        binding = self.preview.binding
        return {
            "operation": self.operation.name,
            "lab": self.lab,
            "feasible": self.preview.feasible,
            "sentence": self.sentence,
            "binding": binding.name if binding else None,
            "margin": self.preview.margin,
            "boards": list(self.boards),
            "files": self.files,
            "uploaded_s": self.uploaded_s,
            "deadline_s": self.operation.deadline_s,
            "terms": [
                {
                    "name": term.name,
                    "needs": term.needs,
                    "has": term.has,
                    "unit": term.unit,
                    "free": term.free,
                    "fits": term.fits(self.preview.margin) if term.known else None,
                    "source": term.source,
                    "reason": term.reason,
                }
                for term in self.preview.terms
            ],
        }


def check(operation: Operation, lab: Lab, *, epoch: str | None = None, tenant: str = "") -> Checked:
    """Compare an operation with a lab, from ``epoch`` on (default: the lab's).

    ``tenant``: whose operation it is; then with the tenant's boards, its shares of links and its quotas.

    Raises ConfigurationError: boards or a tenant that the lab does not have, a bundle that is not there, a fault of the
    orbit file, a quota of which the bundle declares nothing.
    """
    owner = lab.tenant(tenant) if tenant else None
    if owner is not None:
        lab = lab.with_shares_of(owner.name).as_seen_by(owner.name)
    participants = participants_of(operation, lab)
    files = files_of(operation, lab.os.adapter)
    at_look = _Look(operation, lab, participants, files, epoch, owner)
    preview = Preview(tuple(at_look.terms()), operation.limits.margin)
    boards = tuple(participants.boards)
    return Checked(operation, lab.name, boards, str(participants), preview, files, at_look.uploaded_s)


def participants_of(operation: Operation, lab: Lab) -> Participants:
    """Return the boards of a lab that take part. ConfigurationError names the file and what the lab has."""
    spec = operation.boards
    try:
        found = choose(lab, ",".join(spec.on) if spec.on else None, spec.split)
    except ConfigurationError as exc:
        raise exc.with_context(f"{operation.file}: boards: {exc.message}") from exc
    canary = operation.steps.activate.canary if operation.steps.activate else None
    if canary is not None and canary not in found.boards:
        raise ConfigurationError(
            f"{operation.file}: steps.activate.canary: {canary} does not take part",
            remedy=f"choose one of {', '.join(found.boards)}",
        )
    return found


def files_of(operation: Operation, adapter: str) -> dict[str, int]:
    """Return what is uploaded, bytes by name, with the reference OS for ``adapter``.

    ConfigurationError when the size of the bundle is not known.
    """
    size, file = operation.bundle.size_bytes, operation.bundle_path
    if file is not None and file.is_file():
        measured = file.stat().st_size
        if size not in (None, measured):
            raise ConfigurationError(
                f"{operation.file}: bundle.size_bytes: {file} has {measured} bytes, not {size}",
                remedy="correct it, or leave it out",
            )
        size = measured
    elif file is None and size is None:
        size = last_upload_bytes(recipe_of(adapter))
    if not size:
        what = f"{file} is not there or empty" if file else "the reference OS has not been built on this machine yet"
        raise ConfigurationError(
            f"{operation.file}: bundle: {what}", remedy="run `hil setup`, correct the path, or give bundle.size_bytes"
        )
    sizes = {file.name if file else "reference OS": size}
    if operation.steps.run is not None:
        from hil.workload.artefacts import files

        model, scene = files()
        wanted = {"model of the payload": model} | ({"its scene": scene} if operation.steps.collect else {})
        sizes |= {name: each.stat().st_size for name, each in wanted.items() if each.is_file()}
    return sizes


class _Look:
    """One look at an operation on a lab; moments in seconds from its begin."""

    def __init__(
        self,
        operation: Operation,
        lab: Lab,
        participants: Participants,
        files: dict[str, int],
        epoch: str | None,
        owner: TenantSpec | None = None,
    ) -> None:
        self.owner = owner
        self.operation, self.lab, self.participants, self.epoch = operation, lab, participants, epoch
        self.size = float(sum(files.values()))
        self.what = " and ".join(files)
        self.efficiency = operation.limits.efficiency
        self.contacts = Contacts.of(lab, operation.deadline_s + LOOK_BEYOND_S, epoch)
        self.ground = lab.ground_station.name
        self.uploaded_s: float | None = None

    def terms(self) -> Iterator[Term]:
        """Yield the terms, in the order of the steps."""
        upload_s = min(duration_s(self.operation.steps.upload.deadline), self.operation.deadline_s)
        yield from self._storage()
        yield from self._quotas()
        legs = self._uploads(upload_s)
        yield from (term for term, _ in legs)
        arrived_s = self.uploaded_s = legs[-1][1]
        in_time = arrived_s is not None and arrived_s <= upload_s
        commands, ready_s = self._commands(arrived_s if arrived_s is not None and in_time else upload_s)
        if self.operation.commanding_s:
            yield commands
        run = self.operation.steps.run
        if run is not None:
            busy = dict.fromkeys(self.participants.boards, run.busy)
            yield from heat_and_power(
                self.lab,
                self.operation.limits,
                busy,
                seconds=self.operation.running_s,
                after_s=self.operation.deadline_s if ready_s is None else ready_s,
                epoch=self.epoch,
            )
        collect = self.operation.steps.collect
        if collect is not None and ready_s is not None:
            yield self._collect(collect, ready_s + self.operation.running_s)
        elif collect is not None:
            yield Term("collect", float(collect.size_bytes), None, "B", "not known: the steps before it do not end")

    def _storage(self) -> Iterator[Term]:
        """Yield one term for all boards of which the size of the data partition is known, one for the others."""
        taking_part = [board for board in self.lab.boards if board.name in self.participants.boards]
        sizes = {board.name: kind_of(board).data_bytes(board) for board in taking_part}
        known = {name: size for name, size in sizes.items() if size is not None}
        needs = self.size + RESERVE_BYTES
        if known:
            least = min(known, key=lambda name: known[name])
            source = f"{self.what}, and what the node service keeps free; data partition of {least}"
            yield Term("storage of a board", needs, known[least], "B", source, f"{least} has no room for it")
        if unknown := [name for name, size in sizes.items() if size is None]:
            source = f"not known before they run: {', '.join(unknown)}"
            yield Term("storage of a real board", needs, None, "B", source)

    def _quotas(self) -> Iterator[Term]:
        """Yield a term for each quota of the tenant: what the bundle declares, or at least what is known of it.

        ConfigurationError for a quota of which nothing is declared.
        """
        if self.owner is None:
            return
        collect, hops = self.operation.steps.collect, len(self.participants.spacecraft) - 1
        known = {
            "storage_bytes": (self.size, self.what),
            "bus_bytes_per_day": (self.size * hops, f"{self.what}, over {hops} crosslink"),
            "downlink_bytes_per_day": (float(collect.size_bytes if collect else 0), "what is collected"),
        }
        for key, quota in self.owner.quotas.model_dump(exclude_none=True).items():
            declared = getattr(self.operation.bundle.needs, key)
            if declared is None and key not in known:
                raise ConfigurationError(
                    f"{self.operation.file}: bundle.needs: says nothing of {key}, of which tenant {self.owner.name} "
                    "has a quota",
                    remedy=f"declare {key} in bundle.needs",
                )
            least, source = known.get(key, (0.0, ""))
            needs, source = (least, source) if declared is None or declared < least else (declared, "bundle.needs")
            unit = "cores" if key == "cpu_cores" else "B"
            name = f"{key} of tenant {self.owner.name}"
            yield Term(name, float(needs), float(quota), unit, f"{source}; its quota", "more than its quota")

    def _uploads(self, deadline_s: float) -> list[tuple[Term, float | None]]:
        """Return for each leg, from the ground on, its term and when everything has arrived behind it."""
        wanted: Curve = [(0.0, self.size)]
        endless: Curve = [(0.0, ENDLESS)]
        legs: list[tuple[Term, float | None]] = []
        start, what = self.ground, "upload"
        for craft in self.participants.spacecraft:
            windows = self.contacts.ways(start, craft)
            wanted, endless = (through(windows, curve, self.efficiency) for curve in (wanted, endless))
            has, done_s = at(endless, deadline_s), reached_s(wanted, self.size)
            legs.append(
                (self._leg(f"{what}: {start} to {craft}", windows, self.size, has, 0.0, deadline_s, done_s), done_s)
            )
            start, what = craft, "relay"
        return legs

    def _leg(
        self,
        name: str,
        windows: list[Window],
        size: float,
        has: float,
        from_s: float,
        to_s: float,
        done_s: float | None,
    ) -> Term:
        """Return the term of one way; it says in how many passes, and when it would be done."""
        passes = passes_in(windows, from_s=from_s, to_s=to_s)
        many = f"{len(passes)} pass{'es' * (len(passes) != 1)}"
        length_s = sum(each.length_s for each in passes)
        rates = sorted({window.rate_bps for window in windows})
        rate = f"{rates[0] / 1e6:g} Mbit/s" if rates else "no link"
        rate = f"{rate} to {rates[-1] / 1e6:g} Mbit/s" if len(rates) > 1 else rate
        seen = ", ".join(filter(None, [self.contacts.source, self.contacts.scaled()]))
        source = f"{rate}, {self.efficiency:.0%} of it for files, {many} of {quantity(length_s, 's')}; {seen}"
        late = f"not done in the {quantity(self.contacts.span_s, 's')} that were looked at"
        if done_s is not None:
            more = len(passes_in(windows, from_s=from_s, to_s=done_s + 0.001))
            late = f"it would be done after {quantity(done_s - from_s, 's')}, in {more} pass{'es' * (more != 1)}"
        reason = f"{many} in {quantity(to_s - from_s, 's')}; {late}"
        return Term(name, size, has, "B", source, reason)

    def _commands(self, begin_s: float) -> tuple[Term, float | None]:
        """Return the term of the steps that the ground commands, and when they end at the latest.

        None when they would not end before the payload has to begin.
        """
        needs = self.operation.commanding_s
        end_s = self.operation.deadline_s - self.operation.running_s
        windows = self.contacts.ways(self.ground, *self.participants.spacecraft)
        has = sum(one.length_s for one in passes_in(windows, from_s=begin_s, to_s=end_s))
        done_s = after_contact_s(windows, needs, from_s=begin_s, to_s=self.contacts.span_s)
        steps = [name for name in self.operation.steps.names() if name not in ("upload", "run", "collect")]
        source = (
            f"their deadlines; {self.ground} reaches {' and '.join(self.participants.spacecraft)} after the upload; "
            f"{self.contacts.source}"
        )
        late = f"they may end {quantity(done_s, 's')} after the begin" if done_s is not None else "there is no more"
        term = Term(f"contact for {', '.join(steps)}", needs, has, "s", source, f"until {quantity(end_s, 's')}; {late}")
        return term, done_s if done_s is not None and done_s <= end_s else None

    def _collect(self, collect: Collect, begin_s: float) -> Term:
        """Return the term of the way down that carries least; all bytes are reckoned over it."""
        end_s = min(begin_s + duration_s(collect.deadline), self.operation.deadline_s)
        size = float(collect.size_bytes)
        legs = []
        for craft in self.participants.spacecraft:
            windows = self.contacts.ways(craft, self.ground)
            wanted, endless = (
                through(windows, [(begin_s, there)], self.efficiency) for there in (max(1.0, size), ENDLESS)
            )
            name, done_s = f"collect: {craft} to {self.ground}", reached_s(wanted, size)
            legs.append(self._leg(name, windows, size, at(endless, end_s), begin_s, end_s, done_s))
        return min(legs, key=lambda leg: leg.has or 0.0)
