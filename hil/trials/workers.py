"""Trials on several benches at once: Dask carries them to workers, and the folder of the series says what counts.

Each worker process has one bench and declares ``BENCH=1``.  There are never more trials out than benches.  A worker
writes what a trial came to into the series before it returns.  A trial whose worker died or froze is written down as
lost; it runs again elsewhere as another attempt, and what the first one may still say comes too late to count.
"""

from __future__ import annotations

import logging
import os
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from hil.errors import BenchError, ConfigurationError, HilError
from hil.evidence.model import Verdict
from hil.text import one_line
from hil.trials.page import write_page
from hil.trials.run import Runner, in_one_line, run_trial
from hil.trials.series import Following, Series, Standing

BENCH = "BENCH"
SILENT_S = 60.0
"""A worker that is silent for so long is given up.  Longer than a trial holds Python's lock at a time."""
POLL_S = 0.1
TRIAL_S = 900.0
"""A trial hangs that is out for longer than this, and its profile's storm and calm; its bench may come up for it."""
RESTART_S = 30.0
NO_WORKER_S = 120.0
"""So long the client waits for a first worker, or for another one when the last was lost."""
CERTIFICATE, KEY = "certificate.pem", "key.pem"

SCRATCH = "temporary-directory"
LAB_FILE = "HIL_WORKER_LAB"
"""Where `hil worker` says to its worker process which lab file of its host is meant."""

MakeRunner = Callable[[Series, Path | None], Runner]


@dataclass
class BenchOwner:
    """The plug-in of a worker: its runner, made at the first trial, and closed with the worker."""

    make: MakeRunner = Runner.of
    name: str = "bench"
    _open: dict[str, Runner] = field(default_factory=dict)

    def setup(self, worker: Any) -> None:
        """Be found by the trials."""
        worker.bench_owner = self

    def teardown(self, worker: Any) -> None:
        """Take the bench down."""
        for runner in self._open.values():
            runner.drop()
        self._open.clear()

    def runner(self, series: Series) -> Runner:
        """Return the runner for a series; the bench of another one goes down first."""
        if series.facts.id not in self._open:
            self.teardown(None)
            lab_file = os.environ.get(LAB_FILE)
            self._open[series.facts.id] = self.make(series, Path(lab_file) if lab_file else None)
        return self._open[series.facts.id]


@dataclass(frozen=True)
class Answer:
    """What a worker says of a trial: a line for people, or why it could not run."""

    line: str
    refused: str = ""
    remedy: str = ""
    configuration: bool = False


def trial_here(folder: str, following: tuple[str, int, int, int]) -> Answer:
    """Run a trial on this worker's bench."""
    from distributed import get_worker

    worker: Any = get_worker()
    owner: BenchOwner = worker.bench_owner
    role = following[0]
    try:
        series = Series.join(Path(folder))
        return Answer(in_one_line(role, run_trial(series, owner.runner(series), Following(*following))))
    except HilError as exc:
        return Answer("", exc.message, exc.remedy, isinstance(exc, ConfigurationError))


@contextmanager
def workers_of(
    benches: int,
    *,
    listen: str = "",
    keys: Path | None = None,
    silent_s: float = SILENT_S,
    owner: BenchOwner | None = None,
) -> Iterator[Any]:
    """Start a scheduler and ``benches`` workers on this host; yield its client.

    All connections are encrypted, and both sides need the keys.  ``listen`` (``host:port``): where workers of other
    hosts join, with the same ``keys``.  Raises ConfigurationError when Dask is not installed, or the address cannot
    be had.
    """
    dask, distributed = _dask()
    host, _, port = listen.rpartition(":")
    options = {"distributed.scheduler.allowed-failures": 0, "distributed.scheduler.worker-ttl": f"{silent_s:g}s"}
    options |= {"distributed.worker.daemon": False}
    if port and not port.isdigit():
        raise ConfigurationError(f"--listen {listen}: the port is no number", remedy="write host:port")
    with TemporaryDirectory(prefix="hil-trials-") as scratch, dask.config.set({**options, SCRATCH: scratch}):
        try:
            cluster = distributed.LocalCluster(
                n_workers=benches,
                threads_per_worker=1,
                processes=True,
                host=host or "127.0.0.1",
                scheduler_port=int(port or 0),
                dashboard_address="127.0.0.1:0" if has_dashboard() else None,
                security=security_of(keys) if keys else True,
                protocol="tls://",
                resources={BENCH: 1},
                memory_limit=0,
                local_directory=scratch,
                silence_logs=logging.CRITICAL,
            )
        except OSError as exc:
            raise ConfigurationError(f"--listen {listen}: {exc}", remedy="choose an address of this host") from exc
        with cluster, distributed.Client(cluster, set_as_default=False) as client:
            client.register_plugin(_plugin(owner or BenchOwner()), name="bench owner")
            try:
                yield client
            finally:
                client.retire_workers(close_workers=True)  # those of other hosts end too


def make_keys(folder: Path) -> None:
    """Make the certificate and the key that all hosts of a series share; only the owner can read them.

    Raises ConfigurationError when the folder has some already.
    """
    made = _dask()[1].Security.temporary()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, text in ((CERTIFICATE, made.tls_ca_file), (KEY, made.tls_worker_key)):
        try:
            fd = os.open(folder / name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except FileExistsError as exc:
            raise ConfigurationError(f"{folder / name} is there already", remedy="name another folder") from exc
        with os.fdopen(fd, "w") as file:
            file.write(text)


def security_of(keys: Path) -> Any:
    """Return what Dask needs of a folder that :func:`make_keys` made."""
    certificate, key = (keys / name for name in (CERTIFICATE, KEY))
    for path in (certificate, key):
        if not path.is_file():
            raise ConfigurationError(f"{path} does not exist", remedy="make the folder with `hil trials keys FOLDER`")
    if key.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"{key} can be read by others, who could then run programs as root",
            remedy=f"chmod 600 {key}; make new keys if somebody may have read it",
        )
    try:
        ssl.create_default_context().load_cert_chain(certificate, key)
    except OSError as exc:
        raise ConfigurationError(
            f"{keys}: its two files are no certificate with its key: {exc.strerror or exc}",
            remedy="copy the folder anew, or make another one with `hil trials keys FOLDER`",
        ) from exc
    pairs = {f"tls_{role}_cert": str(certificate) for role in ("scheduler", "worker", "client")}
    pairs |= {f"tls_{role}_key": str(key) for role in ("scheduler", "worker", "client")}
    return _dask()[1].Security(tls_ca_file=str(certificate), require_encryption=True, **pairs)


async def serve(address: str, keys: Path, *, lab_file: Path | None = None, name: str = "") -> None:
    """Be a worker with one bench, until the scheduler ends; a worker that dies is started again.

    Raises BenchError when the scheduler cannot be reached.
    """
    distributed = _dask()[1]
    from dask import config

    config.set({"distributed.worker.daemon": False})
    environment = {
        "DASK_LOGGING__DISTRIBUTED": "critical",
        **({LAB_FILE: str(lab_file.absolute())} if lab_file else {}),
    }
    with TemporaryDirectory(prefix="hil-worker-") as scratch:
        config.set({SCRATCH: scratch})
        worker = distributed.Nanny(
            address,
            nthreads=1,
            resources={BENCH: 1},
            memory_limit=0,
            name=name or None,
            security=security_of(keys),
            env=environment,
            local_directory=scratch,
            silence_logs=logging.ERROR,
        )
        try:
            async with worker:
                await worker.finished()
        except (OSError, TimeoutError) as exc:
            raise BenchError(
                f"{address} does not answer: {exc}",
                remedy="begin with `hil trials run --listen HOST:PORT --keys FOLDER`",
            ) from exc


def _plugin(owner: BenchOwner) -> Any:
    from distributed import WorkerPlugin

    class Plugin(WorkerPlugin):
        def setup(self, worker: Any) -> None:
            owner.setup(worker)

        def teardown(self, worker: Any) -> None:
            owner.teardown(worker)

    return Plugin()


def _dask() -> Any:
    try:
        import dask
        import distributed
    except ImportError as exc:
        raise ConfigurationError(
            "several benches need Dask, which is not installed", remedy="pip install 'orbital-hil[workers]'"
        ) from exc
    return dask, distributed


def has_dashboard() -> bool:
    """Return whether what Dask shows its dashboard with is installed."""
    from importlib.util import find_spec

    return find_spec("bokeh") is not None


@dataclass
class _Out:
    """A trial that is out at a worker."""

    following: Following
    worker: str
    future: Any
    sent_s: float = field(default_factory=time.monotonic)


def go_on_at(
    series: Series,
    client: Any,
    *,
    said: Callable[[str], object],
    no_worker_s: float = NO_WORKER_S,
    trial_s: float = TRIAL_S,
) -> Standing:
    """Run trials at all workers until the series is over; write its page after each.  Return how it stands.

    A worker whose trial takes more than ``trial_s``, and the profile's storm and calm, is started anew.

    Raises ConfigurationError when a worker cannot see the series or has another lab; BenchError when there has been
    no worker for ``no_worker_s`` seconds.
    """
    out: list[_Out] = []
    sent, most_sent = 0, 40 + 4 * series.rule.most
    seen_s = time.monotonic()
    trial_s += sum(float(series.facts.profile.get(part, 0.0)) for part in ("storm_s", "calm_s"))
    while True:
        workers = client.scheduler_info(n_workers=-1)["workers"]
        for lost in [each for each in out if each.worker not in workers and not each.future.done()]:
            out.remove(lost)
            lost.future.cancel()
            _lose(series, lost.following, "its worker died or was silent", said)
        for hung in [each for each in out if time.monotonic() > each.sent_s + trial_s and not each.future.done()]:
            out.remove(hung)
            hung.future.cancel()
            del workers[hung.worker]
            client.restart_workers([hung.worker], timeout=RESTART_S, raise_for_error=False)
            _lose(series, hung.following, f"it had not ended after {trial_s:g} s: its worker was started anew", said)
        if workers:
            seen_s = time.monotonic()
        elif time.monotonic() > seen_s + no_worker_s:
            raise BenchError(
                f"no worker has been there for {no_worker_s:g} s", remedy="start one: `hil worker ADDRESS --lab LAB`"
            )
        busy = {each.worker for each in out}
        for address in [w for w, facts in workers.items() if w not in busy and BENCH in facts.get("resources", ())]:
            following = series.next_trial({(each.following.role, each.following.number) for each in out})
            if following is None:
                break
            sent += 1
            if sent > most_sent:
                raise BenchError(f"{sent} trials went to workers, and most did not begin", remedy="see what ends them")
            future = client.submit(
                trial_here,
                str(series.folder),
                tuple(following),
                key=f"{series.facts.id}-{following.role}-{following.number}-{following.attempt}-{sent}",
                workers=[address],
                resources={BENCH: 1},
                pure=False,
                retries=0,
            )
            out.append(_Out(following, address, future))
        if not out and series.next_trial() is None:
            break
        time.sleep(POLL_S)
        for ended in [each for each in out if each.future.done()]:
            out.remove(ended)
            _settle(series, ended, said)
            write_page(series)
    write_page(series)
    return series.standing()


def _settle(series: Series, ended: _Out, said: Callable[[str], object]) -> None:
    if ended.future.status != "finished":
        why = str(ended.future.exception()) if ended.future.status == "error" else ended.future.status
        _lose(series, ended.following, f"its worker was lost: {one_line(why)}", said)
        return
    answer: Answer = ended.future.result()
    if answer.configuration:
        raise ConfigurationError(f"worker {ended.worker}: {answer.refused}", remedy=answer.remedy)
    if answer.refused:
        _lose(series, ended.following, answer.refused, said, begun=True)
    elif series.line(*ended.following[:3]) is None:
        raise ConfigurationError(
            f"worker {ended.worker} wrote its result elsewhere: its {series.folder} is not this one",
            remedy="let all hosts use one store (HIL_STORE), or mount one reports folder at the same path",
        )
    else:
        said(answer.line)


def _lose(
    series: Series, following: Following, why: str, said: Callable[[str], object], *, begun: bool = False
) -> None:
    """Write a trial down as lost, unless it had ended just before, or had not begun."""
    role, number, attempt, seed = following
    if not (begun or attempt in series.begun(number)):
        said(f"{role} {number} had not begun ({why}): it goes out again")
        return
    facts: dict[str, Any] = {"found": {}, "struck": [], "reads": [], "phases_s": {}}
    facts |= {"epoch": None, "converged_s": None, "planted_in": "", "lost": why, "planted": ""}
    verdict = {"verdict": Verdict.INCONCLUSIVE.value, "safe": None, "live": None, "blame": "bench", "reason": why}
    series.add(role, {"number": number, "attempt": attempt, "seed": seed, **verdict, **facts})
    line = series.line(role, number, attempt)
    assert line is not None
    said(f"{role} {number}, attempt {attempt}: {line['verdict']}: {line['reason'] or 'it had ended just before'}")
