"""One trial: the boards as they left the factory, a storm, a calm, final reads, a verdict."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hil.bench.carrier_watch import CarrierWatch
from hil.campaign.run import CampaignRecorder
from hil.core.wait import SYSTEM_CLOCK
from hil.errors import Abandoned, BenchError, HilError
from hil.evidence.events import BenchLost, Event
from hil.evidence.readback import RunRecord
from hil.evidence.record import write_json
from hil.evidence.sink import NullSink, Sink
from hil.images.bundles import Bundle, BundleKind
from hil.images.planted import BUGS
from hil.rollout.fleet import ClusterConfig, Fleet
from hil.rollout.rollout import Rollout, RolloutPolicy
from hil.rollout.watcher import InvariantWatcher
from hil.trials.final_reads import put_marks, read_all
from hil.trials.fresh import put_back
from hil.trials.history import BoardRead, History, Wanted
from hil.trials.planted_bugs import plant
from hil.trials.profile import Profile
from hil.trials.schedule import Strike
from hil.trials.storm import Moments, Storm
from hil.trials.trial_verdict import TrialVerdict, judge

if TYPE_CHECKING:
    from hil.bench.bench import Bench

POLICY = RolloutPolicy(
    transfer_deadline_s=60.0, install_deadline_s=60.0, boot_deadline_s=30.0, configure_deadline_s=20.0
)
AGAIN_S = 0.5
PREPARED_S = 1.0
"""So long the rollout rests between prepare and commit, so that a fault can strike there."""
LEASE_S = 1.0


class SwitchedSink:
    """A sink whose receiver changes from trial to trial, while the bench's objects keep it."""

    def __init__(self) -> None:
        self.to: Sink = NullSink()

    def emit(self, event: Event) -> None:
        self.to.emit(event)


class TrialRecorder(CampaignRecorder):
    """A recorder that also tells the storm which moments have come."""

    moments: Moments | None = None

    def emit(self, event: Event, *, mono_s: float | None = None) -> None:
        super().emit(event, mono_s=mono_s)
        if self.moments is not None:
            self.moments.note(event)


@dataclass(frozen=True)
class TrialInput:
    """What a trial depends on, besides the commit and the lab."""

    number: int
    attempt: int
    seed: int
    strikes: tuple[Strike, ...]
    planted: str = ""
    """A bug planted in one board (:data:`hil.trials.planted_bugs.PLANTS`)."""

    @property
    def directory(self) -> str:
        """Return the name of its folder."""
        return f"{self.number:04d}-{self.attempt}"


@dataclass(frozen=True)
class TrialResult:
    """What a trial came to; seconds by part of it."""

    given: TrialInput
    judged: TrialVerdict
    history: History
    phases_s: Mapping[str, float]
    converged_s: float | None
    """From the end of the storm until all boards served together."""
    planted_in: str = ""
    lost: str = ""
    """The part of the bench that was given up; then it must be brought up again."""

    def document(self) -> dict[str, Any]:
        """Return it as JSON objects, without the events."""
        judged = self.judged
        return {
            **{k: v for k, v in vars(self.given).items() if k != "strikes"},
            "verdict": judged.verdict.value,
            "safe": judged.safe,
            "live": judged.live,
            "blame": judged.blame.value if judged.blame else "",
            "reason": judged.reason,
            "found": judged.found,
            "struck": [struck.document() for struck in self.history.struck],
            "reads": [asdict(read) for read in self.history.reads],
            "epoch": self.history.epoch,
            "phases_s": dict(self.phases_s),
            "converged_s": self.converged_s,
            "planted_in": self.planted_in,
            "lost": self.lost,
        }


@dataclass
class TrialBench:
    """A bench on which trials run one after the other."""

    bench: Bench
    sink: SwitchedSink
    profile: Profile
    phases_s: dict[str, float] = field(default_factory=dict)

    def run(self, given: TrialInput, folder: Path, meta: Mapping[str, Any]) -> TrialResult:
        """Run one trial; everything about it lies in ``folder`` afterwards. Raises nothing of the bench or device."""
        recorder = TrialRecorder.create(folder, {**meta, "seed": given.seed})
        self.phases_s = {}
        self.sink.to = recorder
        try:
            result = self._run(given, recorder, folder)
        finally:
            self.sink.to = NullSink()
            recorder.close()
        write_json(folder / "trial.json", result.document())
        return result

    def bundle(self, given: TrialInput) -> Bundle:
        """Return what a trial uploads: OS 2.0.0, or the same with a planted bug."""
        bundles = self.bench.images.bundles
        return bundles.bundle(BundleKind(given.planted)) if given.planted in BUGS else bundles.os_v2

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        begun_s = time.monotonic()
        try:
            yield
        finally:
            self.phases_s[name] = round(time.monotonic() - begun_s, 3)

    def _run(self, given: TrialInput, recorder: TrialRecorder, folder: Path) -> TrialResult:
        bundle = self.bundle(given)
        lab, operator = self.bench.lab, self.bench.operator
        fleet = Fleet.of(self.bench.boards, lab.gateway, cluster=lab.name, operator=operator)
        craft = self.bench.lab.spacecraft_of(self.bench.lab.gateway).name
        wanted = Wanted(bundle.version, bundle.image_sha256, craft, LEASE_S)
        try:
            with self._phase("reset"):
                put_back(self.bench)
                marks = put_marks(fleet, given.seed)
                slots = {name: str(board.boot.state().running or "") for name, board in self.bench.boards.items()}
                planted_in = plant(given.planted, fleet, given.seed) if given.planted else ""
        except HilError as exc:
            history = History(wanted)
            judged = judge(history, [f"the boards could not be put back: {exc.message}"])
            return TrialResult(given, judged, history, self.phases_s, None, lost="" if not _dead(exc) else exc.message)
        course = _Course(self, recorder, fleet, given, marks)
        reads, epoch, success_s, unreached = course.go()
        history = History(
            wanted=wanted,
            events=RunRecord.load(folder).events,
            struck=course.storm.struck,
            reads=reads,
            epoch=epoch,
            success_s=success_s,
            unreached=unreached,
            initial_slots=slots,
        )
        faults = [f"{course.lost} is lost"] if course.lost else []
        judged = judge(history, faults, course.storm.broken)
        return TrialResult(given, judged, history, self.phases_s, course.converged_s, planted_in, course.lost)


def _dead(error: HilError) -> bool:
    return isinstance(error, BenchError)


class _CourseClock:
    """The clock of one trial's rollout: when the trial is over, what still works ends at its next sleep."""

    over = False

    def monotonic(self) -> float:
        return SYSTEM_CLOCK.monotonic()

    def sleep(self, seconds: float) -> None:
        SYSTEM_CLOCK.sleep(seconds)
        if self.over:
            raise Abandoned(BenchError("the trial is over"))


class _Course:
    """The course of one trial on boards that were put back."""

    def __init__(
        self, kit: TrialBench, recorder: TrialRecorder, fleet: Fleet, given: TrialInput, marks: Mapping[str, str]
    ) -> None:
        from hil.rollout.updaters.kinds import adapter_of

        self._kit, self._recorder, self._fleet, self._given, self._marks = kit, recorder, fleet, given, marks
        bundle = kit.bundle(given)
        self._clock = _CourseClock()
        adapter = adapter_of(kit.bench.lab, version=bundle.version)
        self._rollout = Rollout(fleet, bundle, recorder, POLICY, adapter=adapter, clock=self._clock)
        self._first, self._second = (self._configuration(bundle, revision) for revision in (1, 2))
        self.moments = recorder.moments = Moments()
        self.storm = Storm(kit.bench, given.strikes, self.moments)
        self.lost = ""
        self.converged_s: float | None = None
        self._began_s = time.monotonic()
        self._success_s: float | None = None
        self._one_at_a_time = threading.Lock()

    def go(self) -> tuple[list[BoardRead], int | None, float | None, str]:
        """Return the final reads, the epoch that all came to serve, when success was last reported, and why not."""
        kit, profile = self._kit, self._kit.profile
        watch = CarrierWatch.of(kit.bench, self._recorder, ordered=self._recorder.ordered_s, on_lost=self._lose)
        try:
            with watch, InvariantWatcher(self._fleet, self._recorder):
                with kit._phase("storm"):
                    self.storm.run(self._roll_out, profile.storm_s, lambda: bool(self.lost))
                with kit._phase("calm"):
                    epoch, why = (None, f"{self.lost} is lost") if self.lost else self._calm(profile.calm_s)
                with kit._phase("final reads"):
                    reads = read_all(self._fleet, self._marks) if not self.lost else []
            if watch.ended_early:
                self.storm.broken = self.storm.broken or f"the watch over the bench ended early: {watch.ended_early}"
            return reads, epoch, self._success_s, why
        finally:
            self._clock.over = True
            SYSTEM_CLOCK.abandon(None)

    def _configuration(self, bundle: Bundle, revision: int) -> ClusterConfig:
        params = {"lease_s": LEASE_S, "revision": revision}
        return self._fleet.config(os_version=bundle.version, image_sha256=bundle.image_sha256, params=params)

    def _prepared(self, epoch: int) -> None:
        self.moments.mark("prepared")
        self._clock.sleep(PREPARED_S)

    def _roll_out(self) -> int:
        """Roll out, configure, and configure once more; the epoch at the end.

        It picks up where an earlier call stopped.  Raises what the rollout raises.
        """
        with self._one_at_a_time:
            self._rollout.run(self._first if self._success_s is None else None)
            epoch = self._rollout.configure(self._second, between_phases=self._prepared)
            self._success_s = round(time.monotonic() - self._began_s, 3)
            return epoch

    def _calm(self, deadline_s: float) -> tuple[int | None, str]:
        """Return the epoch that all boards came to serve, or None and why they did not."""
        begun_s = time.monotonic()
        outcome: list[tuple[int | None, str]] = [(None, "the rollout was still at work at the deadline")]
        done = threading.Event()

        def work() -> None:
            while time.monotonic() < begun_s + deadline_s:
                try:
                    outcome[0] = self._roll_out(), ""
                    break
                except HilError as exc:
                    outcome[0] = None, exc.message
                except Abandoned as exc:
                    outcome[0] = None, str(exc)
                    break
                except Exception as exc:  # a bug of ours: nothing is known of the device
                    self.storm.broken = f"the rollout ended with {type(exc).__name__}: {exc}"
                    outcome[0] = None, self.storm.broken
                    break
                time.sleep(AGAIN_S)
            done.set()

        threading.Thread(target=work, name="rollout in the calm", daemon=True).start()
        while not done.wait(0.1) and time.monotonic() < begun_s + deadline_s and not self.lost:
            pass
        epoch, why = outcome[0]
        if epoch is not None:
            self.converged_s = round(time.monotonic() - begun_s, 3)
        return epoch, why

    def _lose(self, part: str, error: BenchError) -> None:
        self.lost = part
        SYSTEM_CLOCK.abandon(error)
        with suppress(HilError, OSError):  # a full disk
            self._recorder.emit(BenchLost(part, error.message))
