"""The pytest hooks of a campaign run.

:class:`Campaign` is registered by :mod:`hil.campaign.plugin` when a folder with a ``plan.yaml`` is run.
Nothing is written until the plan and all markers have been checked; from then on the run always ends with a report,
also after Ctrl-C, SIGTERM or an internal error.  After SIGKILL, ``hil runs`` makes it.
"""

from __future__ import annotations

import atexit
import logging
import sys
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hil.bench.state import Step, own_name, write_step
from hil.campaign.attempt import RETRIED, forget_failed_fixtures, fresh_request, run_phase, show_as_retry
from hil.campaign.interrupts import ABANDON, Loss, on_dead_thread, on_signal, one_interrupt
from hil.campaign.live import LiveView
from hil.campaign.markers import CampaignTest, absent_reason, check_markers, in_file_order
from hil.campaign.options import asked_for_reruns, chosen_lab, no_xdist, refused
from hil.campaign.run import CampaignRecorder, CampaignRun
from hil.campaign.selection import Selection, named_parts, partial_reason, refuse_without_bench
from hil.core.wait import SYSTEM_CLOCK
from hil.errors import Abandoned, BenchError, Blame, ConfigurationError, HilError
from hil.evidence.blame import Judgement, gravest, judge_exception, raise_if_violated
from hil.evidence.carriers import judged_with_bench
from hil.evidence.events import BenchLost, BenchRetried, TestEnded, TestStarted, ThreadDied
from hil.evidence.model import Verdict
from hil.evidence.record import Recorder
from hil.evidence.test_plan import Plan
from hil.text import clean

if TYPE_CHECKING:
    from hil.bench.carrier_watch import CarrierWatch
    from hil.campaign.resume import Earlier

_log = logging.getLogger(__name__)

CHOICES = ("bench", "tenant", "run_id", "on", "split", "epoch")
"""Options of the plugin that :meth:`CampaignRun.check` takes as they are."""
DETAIL_CHARACTERS = 20_000


class Campaign:
    """The pytest plugin of one campaign run."""

    def __init__(
        self, run: CampaignRun, view: LiveView, *, reruns: bool = False, earlier: Earlier | None = None
    ) -> None:
        """``reruns``: pytest-rerunfailures is asked to repeat failures; the run says that it does not."""
        self.run = run
        self._reruns = reruns
        self._tests: dict[str, CampaignTest] = {}
        self._deselected: dict[str, CampaignTest] = {}
        self._taken: dict[str, CampaignTest] = {}
        self._selection = Selection(earlier)
        self._verdicts_of_step: dict[str, list[Verdict]] = {}
        self._phases: list[Judgement] = []
        self._details: list[str] = []
        self._first_error: BaseException | None = None
        self.carriers: CarrierWatch | None = None
        """The watch over the bench, while there is one; the fixture ``bench`` sets it."""
        self._loss = Loss()
        self._harmed = ""
        """The title of the first test that a fault of the bench spoiled."""
        self._interrupted = ""
        self._configuration_error = ""
        self._undo = ExitStack()
        self.view = view
        self._shown = False
        self._step: Step | None = None

    @classmethod
    def start(cls, config: pytest.Config, folders: Sequence[Path]) -> Campaign:
        """Check plan, lab file and options.  Ends pytest with exit code 2 on a configuration error."""
        try:
            if len(folders) > 1:
                names = ", ".join(str(f) for f in folders)
                raise ConfigurationError(f"one campaign per run, not {len(folders)}: {names}")
            if config.getoption("dist", "no") != "no":
                raise no_xdist()
            out = config.getoption("hil_out")
            run = CampaignRun.check(
                folders[0],
                lab=chosen_lab(config),
                out=config.invocation_params.dir / out if out else None,
                changes=config.getoption("hil_set"),
                **{name: config.getoption(f"hil_{name}") or "" for name in CHOICES},
            )
            earlier = None
            if word := config.getoption("hil_resume"):
                from hil.campaign.resume import Earlier

                earlier = Earlier.of(run, word)
        except HilError as exc:
            raise refused(exc) from exc
        return cls(run, LiveView(config), earlier=earlier, reruns=asked_for_reruns(config))

    @property
    def earlier(self) -> Earlier | None:
        """The run that this one goes on with."""
        return self._selection.earlier

    @property
    def plan(self) -> Plan:
        return self.run.plan

    @property
    def recorder(self) -> Recorder:
        """The run's recorder; there is one only while tests run."""
        if self.run.recorder is None:
            raise ConfigurationError("evidence can be recorded while tests run, not while they are collected")
        return self.run.recorder

    # Before the first test ---------------------------------------------------------------------------------

    def pytest_deselected(self, items: Sequence[pytest.Item]) -> None:
        try:
            self._deselected.update({item.nodeid: CampaignTest.of(item) for item in items})
        except HilError as exc:
            raise refused(exc) from exc

    def pytest_report_header(self) -> str | None:
        if not self._reruns:
            return None
        return (
            "hil: --reruns has no effect on a campaign: a failure of the device under test is never "
            "repeated; the marker retry_bench(n) repeats a test when the bench was at fault"
        )

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> Generator[None]:
        """Undo the reordering of other plug-ins (pytest-randomly): a campaign has one order.

        -k also goes by the names of steps, which are what users see.  Steps that a chosen step needs are chosen too,
        though -k does not name them.
        """
        collected = list(items)
        try:
            for item in collected:
                step = CampaignTest.of(item).step
                item.extra_keyword_matches.update((step, step.replace(" ", "_")))
        except HilError as exc:
            raise refused(exc) from exc
        yield
        try:
            items[:] = in_file_order(self._selection.complete(items, collected, config), collected)
        except HilError as exc:
            raise refused(exc) from exc
        for item in items:
            self._deselected.pop(item.nodeid, None)
        self._taken = {name: self._deselected.pop(name) for name in self._selection.taken}

    def pytest_report_collectionfinish(self) -> list[str]:
        return self._selection.remarks

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        try:
            for item in session.items:
                if not item.path.is_relative_to(self.run.folder):
                    raise ConfigurationError(
                        f"{item.nodeid} does not belong to the campaign {self.run.folder}",
                        remedy="run a campaign on its own",
                    )
            if self.run.lab is None and not session.config.option.collectonly:
                refuse_without_bench(session.items)
            self._tests = {item.nodeid: CampaignTest.of(item) for item in session.items}
            check_markers(
                self._tests,
                {**self._deselected, **self._taken},
                self.plan,
                self.run.plan_path,
                whole=not named_parts(session.config, self.run.folder),
            )
        except HilError as exc:
            raise refused(exc) from exc

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> None:
        if session.config.option.collectonly or session.testsfailed:
            return
        atexit.register(self._finish)
        self.view.open()
        self._undo.callback(self.view.close)
        self._undo.enter_context(one_interrupt(self.view.keep))
        self._undo.enter_context(on_signal(ABANDON, self._loss.woken))
        self._undo.enter_context(on_dead_thread(self._thread_died))
        try:
            recorder = self.run.begin(
                [
                    *(t.collected(selected=True, absent=self._absent(t)) for t in self._taken.values()),
                    *(t.collected(selected=True, absent=self._absent(t)) for t in self._tests.values()),
                    *(t.collected(selected=False, absent=self._absent(t)) for t in self._deselected.values()),
                ],
                partial=self.run.changed
                or partial_reason(
                    session.config, self.run.folder, self._tests, self._deselected, self._selection.taken
                ),
            )
            for name, test in self._taken.items():
                run_id = self._selection.taken[name]
                with recorder.scope(test=name):
                    recorder.emit(TestEnded(Verdict.PASS, message=f"passed in run {run_id}", taken_over=run_id))
                self._verdicts_of_step.setdefault(test.step, []).append(Verdict.PASS)
        except HilError as exc:
            raise refused(exc) from exc

    # The tests ---------------------------------------------------------------------------------------------

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        test, recorder = self._tests.get(item.nodeid), self.run.recorder
        if test is None or recorder is None:
            return None
        self.view.log_start(item)
        attempt = 1
        while self._attempt(item, nextitem, test, recorder, attempt):
            attempt += 1
        self.view.log_finish(item)
        return True

    def _attempt(
        self,
        item: pytest.Item,
        nextitem: pytest.Item | None,
        test: CampaignTest,
        recorder: CampaignRecorder,
        attempt: int,
    ) -> bool:
        """Run set-up, call and teardown once; True when the bench was at fault and the test is to be repeated."""
        self._phases, self._details, self._first_error = [], [], None
        recorder.taken, recorder.about_bench = [], []
        reports: list[pytest.TestReport] = []
        retry = False
        judgement = Judgement(Verdict.INCONCLUSIVE, Blame.HARNESS, "the test did not end")
        begun = time.monotonic()
        headline = f"{list(self._tests).index(item.nodeid) + 1} of {len(self._tests)}  {test.title}"
        if attempt > 1:
            headline += f", attempt {attempt}"
        with self.view.showing(headline, test.description), recorder.scope(test=item.nodeid), fresh_request(item):
            _log.info("step %s, attempt %d: %s", test.step, attempt, test.title)
            recorder.emit(TestStarted(attempt, test.title))
            self._step = Step.now(
                run_id=recorder.run_id, plan=self.plan.id, step=test.step, title=test.title, attempt=attempt
            )
            self._show_step()
            try:
                reports.append(run_phase(item, "setup"))
                if reports[0].passed:
                    reports.append(run_phase(item, "call"))
                retry = attempt <= test.retries and isinstance(self._first_error, BenchError)
                # With the parent as "next item" only this test's own fixtures go before a retry.
                following: pytest.Item | pytest.Collector | None = item.parent if retry else nextitem
                if item.session.shouldfail or item.session.shouldstop:
                    following, retry = None, False
                reports.append(run_phase(item, "teardown", nextitem=following))
                try:  # also when the test raised, and what teardown measured
                    raise_if_violated(recorder.taken)
                except (HilError, AssertionError) as exc:
                    self._phases.append(judge_exception(exc))
                judgement = gravest(self._phases)
                if self.carriers is not None and judgement.verdict not in (Verdict.PASS, Verdict.NOT_RUN):
                    self.carriers.settle()
                retry = retry and self._loss.error is None
                carried = judged_with_bench(judgement, recorder.about_bench, self._harmed)
                if carried != judgement and carried.blame is Blame.BENCH:
                    self._harmed = self._harmed or test.title
                elif carried.verdict is Verdict.PASS and attempt > 1 and self._harmed == test.title:
                    self._harmed = ""  # this test mended what its attempts before had left
                judgement = carried
            except BaseException as exc:
                judgement = judge_exception(exc)
                self._interrupted = self._interrupted or judgement.message
                raise
            finally:
                recorder.emit(
                    TestEnded(
                        attempt=attempt,
                        verdict=judgement.verdict.value,
                        blame=judgement.blame.value if judgement.blame else "",
                        message=judgement.message,
                        remedy=judgement.remedy,
                        detail="\n".join(self._details)[-DETAIL_CHARACTERS:],
                        duration_s=round(time.monotonic() - begun, 3),
                        retried=retry,
                    )
                )
            if retry:
                recorder.emit(BenchRetried(test.title, judgement.message, attempt))
        if retry:
            forget_failed_fixtures(item)
            show_as_retry(reports)
        else:
            self._verdicts_of_step.setdefault(test.step, []).append(judgement.verdict)
            if judgement.blame is Blame.CONFIGURATION:
                self._configuration_error = judgement.message
                item.session.shouldstop = f"configuration error: {judgement.message}"
        if self._loss.error is not None:
            item.session.shouldstop = f"the bench is lost: {self._loss.error.message}"
        for report in reports:
            item.ihook.pytest_runtest_logreport(report=report)
        return retry

    def _show_step(self) -> None:
        """Write down which test runs, for `hil bench watch`."""
        write_step(self.run.bench or own_name(), self._step, self.run.tenant)

    def lose_bench(self, part: str, error: BenchError) -> None:
        """Give the bench up: the test that runs ends now, and no other begins.  Called from the watch's thread."""
        with suppress(HilError, OSError):  # a full disk
            self.recorder.emit(BenchLost(part, error.message))
        self._loss.strike(error)

    def _thread_died(self, died: threading.ExceptHookArgs) -> None:
        """Record that a thread ended early; the bench's loss ends those that wait, and needs no word."""
        if self.run.recorder is not None and not isinstance(died.exc_value, Abandoned):
            name = died.thread.name if died.thread is not None else "unknown"
            with suppress(HilError, OSError):  # the run is over, or the disk is full
                self.run.recorder.emit(ThreadDied(name, f"{died.exc_type.__name__}: {died.exc_value}"))

    @pytest.hookimpl(wrapper=True, trylast=True)  # innermost: the wrappers of pytest itself expect to be entered
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, object, object]:
        self._skip_without_needs(item)
        with self._loss.may_end():
            return (yield)

    def _skip_without_needs(self, item: pytest.Item) -> None:
        test = self._tests.get(item.nodeid)
        if test and (why := self._absent(test)):
            pytest.skip(why)
        for need in test.needs if test else ():
            verdicts = self._verdicts_of_step.get(need)
            if not verdicts:
                pytest.skip(f"needs step {need}, which was not run")
            if bad := [v for v in verdicts if v is not Verdict.PASS]:
                pytest.skip(f"needs step {need}, which is {bad[0]}")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self) -> Generator[None, object, object]:
        __tracebackhide__ = True
        self._show_step()  # once more: the first test's set-up has brought up the bench
        with self._loss.may_end():
            result = yield
        if self.run.recorder is not None:
            raise_if_violated(self.run.recorder.taken)
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        error = call.excinfo.value if call.excinfo else None
        self._phases.append(judge_exception(error))
        self._first_error = self._first_error or error
        if error is not None and not report.skipped:
            self._details.append(f"[{call.when}]\n{report.longreprtext}")
        return report

    @pytest.hookimpl(tryfirst=True)
    def pytest_report_teststatus(self, report: pytest.TestReport) -> tuple[str, str, Any] | None:
        if str(report.outcome) == RETRIED:
            return RETRIED, "R", ("BENCH RETRY", {"yellow": True})
        return None

    # After the last test -----------------------------------------------------------------------------------

    def pytest_keyboard_interrupt(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self._interrupted = self._interrupted or str(excinfo.value) or "interrupted by the operator"

    def pytest_internalerror(self, excinfo: pytest.ExceptionInfo[BaseException]) -> None:
        self._interrupted = f"internal error: {excinfo.typename}: {excinfo.value}"

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        try:
            with self.view.showing("the end"):  # after Ctrl-C fixtures are torn down here
                return (yield)
        finally:
            with self.view.showing("the report is made"):
                self._finish()
            if self.run.exit_code is not None:
                session.exitstatus = self.run.exit_code

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.run.result:
            return
        from hil.report.terminal import summary

        self._shown = True
        terminalreporter.section(f"campaign {self.plan.id}")
        for text, markup in summary(self.run.result, self.run.report):
            terminalreporter.write_line(text, **markup)

    def pytest_unconfigure(self) -> None:
        self._finish()
        atexit.unregister(self._finish)
        self._undo.close()
        SYSTEM_CLOCK.abandon(None)
        if self.run.result and not self._shown:
            self._shown = True
            verdict, reason = self.run.result["verdict"], self.run.result["reason"]
            sys.stderr.write(f"\n{verdict}: {reason}\nreport: {self.run.report}\n")

    def _absent(self, test: CampaignTest) -> str:
        """Return why this lab cannot show what the test is to show; empty when it can."""
        return absent_reason(self.plan, test.requirements, self.run.unmet)

    def _finish(self) -> None:
        if self._step is not None:
            write_step(self.run.bench or own_name(), None, self.run.tenant)
        try:
            self.run.finish(interrupted=self._interrupted, configuration_error=self._configuration_error)
        except Exception as exc:  # a full disk, a store that cannot be written: no fault of the device
            _log.exception("the run could not be finished")
            sys.stderr.write(
                f"\nerror (harness): the run could not be finished: {clean(f'{type(exc).__name__}: {exc}')}\n"
                f"  remedy: make room for {self.run.directory}, then run `hil runs report {self.run.directory.name}`\n"
            )
