"""`hil trials`: many trials of a rollout under faults, and what they prove."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hil.cli.output import JSON_OPTION, lab_option, print_json, print_result, print_rows, say
from hil.cli.select_bench import bench_option
from hil.errors import BenchError, ConfigurationError
from hil.monitor.exporter import host_and_port

if TYPE_CHECKING:
    from hil.trials.run import Runner
    from hil.trials.series import Series, Standing

OUT = click.option(
    "--out", type=click.Path(file_okay=False, path_type=Path), help="Reports folder (default: reports/out)."
)


def several_benches(command: Any) -> Any:
    """Add the options that say at which benches a series runs."""
    options = (
        click.option("--benches", type=click.IntRange(0), default=1, show_default=True, help="Benches here, at once."),
        click.option("--listen", default="", metavar="HOST:PORT", help="Where `hil worker` of other hosts joins."),
        click.option("--keys", type=click.Path(path_type=Path), help="Folder made by `hil trials keys`, for --listen."),
    )
    for option in reversed(options):
        command = option(command)
    return command


@dataclass(frozen=True)
class _Where:
    """At which benches a series runs."""

    bench: str | None
    benches: int
    listen: str
    keys: Path | None

    def __post_init__(self) -> None:
        if self.bench and (self.benches != 1 or self.listen):
            raise ConfigurationError("--bench names the one bench: leave out --benches and --listen")
        if not (self.benches or self.listen):
            raise ConfigurationError("--benches 0 needs workers of other hosts", remedy="add --listen HOST:PORT")
        if bool(self.listen) != bool(self.keys):
            raise ConfigurationError(
                "--listen and --keys belong together", remedy="`hil trials keys FOLDER` makes keys"
            )
        if self.listen:
            host_and_port(self.listen)


@click.group()
def trials() -> None:
    """Repeat a rollout under faults, and say what was shown. Unattended; the error of the rule used is printed."""


@trials.command("run")
@lab_option("Lab file, or the name of a shipped lab.")
@bench_option("Use this bench, which is up, and leave it up.")
@click.option("--faults", default="default", show_default=True, help="Fault profile: a file, or a shipped one.")
@click.option("--trials", "count", type=click.IntRange(1), help="Run so many counted trials.")
@click.option("--until", help="Run until this is shown, or cannot be: R=0.95,C=0.90 or 0.95@90%.")
@click.option("--rule", help="Stopping rule for --until: fixed (default), sprt or anytime.")
@click.option("--failures", type=click.IntRange(0), default=0, help="Failures that the fixed rule allows.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of all draws.")
@click.option("--planted", default="", help="Plant a bug in every trial, to test the series itself.")
@click.option("--no-canary", is_flag=True, help="Leave out the trial with a planted bug, which checks the series.")
@click.option("--no-corpus", is_flag=True, help="Do not begin with seeds that failed before.")
@several_benches
@click.option("--id", "series_id", help="Name of the series (default: made from the time).")
@OUT
@JSON_OPTION
def run_series(
    lab_path: Path | None,
    bench_name: str | None,
    faults: str,
    count: int | None,
    until: str | None,
    rule: str | None,
    failures: int,
    seed: int,
    planted: str,
    no_canary: bool,
    no_corpus: bool,
    benches: int,
    listen: str,
    keys: Path | None,
    series_id: str | None,
    out: Path | None,
    as_json: bool,
) -> None:
    """Begin a series and run it to its end. The rule is fixed before the first trial, and its true error printed."""
    from hil.core.files import sha256_of
    from hil.core.paths import is_folder_name
    from hil.evidence.environment import git_facts
    from hil.evidence.record import write_json
    from hil.trials.planted_bugs import known_bugs
    from hil.trials.profile import load_profile
    from hil.trials.series import Series, SeriesFacts, corpus_of, series_folder
    from hil.trials.stopping_rules import Goal, rule_of

    where = _Where(bench_name, benches, listen, keys)
    if (count is None) == (until is None):
        raise ConfigurationError("how many trials?", remedy="give either --trials N or --until R=0.95,C=0.90")
    if until is None and (rule or failures):
        raise ConfigurationError("--rule and --failures are for --until")
    if planted and planted not in (bugs := known_bugs()):
        raise ConfigurationError(f"there is no bug {planted!r} to plant", remedy=f"there are: {', '.join(bugs)}")
    lab = _lab(lab_path, bench_name)
    profile = load_profile(faults)
    goal = Goal.parse(until) if until else None
    chosen = rule_of(rule or "fixed", goal, failures=failures) if goal else None
    moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    facts = SeriesFacts(
        id=series_id or f"{moment}-{profile.name}-{seed}",
        started_utc=moment,
        seed=seed,
        lab=lab.name,
        lab_sha256=sha256_of(lab.file),
        commit=str(git_facts(lab.file.parent).get("commit") or ""),
        rule=chosen.name if chosen else "count",
        most=chosen.most if chosen else int(count or 0),
        goal=(goal.reliability, goal.confidence) if goal else None,
        failures=failures,
        profile={**profile.model_dump(mode="json", by_alias=True), "lab_file": str(lab.file)},
        canary=not no_canary,
        planted=planted,
    )
    if not is_folder_name(facts.id):
        raise ConfigurationError(f"--id {facts.id}: must be a plain folder name")
    corpus = [] if no_corpus or planted else corpus_of(profile.name, facts.lab_sha256, out)
    series = Series.create(series_folder(out) / facts.id, facts)
    if corpus:
        write_json(series.folder / "corpus.json", {"seeds": corpus})
    _play(series, where, as_json)


@trials.command()
@click.argument("name", default="last")
@bench_option("Use this bench, which is up, and leave it up.")
@several_benches
@OUT
@JSON_OPTION
def resume(
    name: str, bench_name: str | None, benches: int, listen: str, keys: Path | None, out: Path | None, as_json: bool
) -> None:
    """Go on with a series that was interrupted: no counted trial is lost or repeated."""
    from hil.trials.series import get_series

    _play(get_series(name, out), _Where(bench_name, benches, listen, keys), as_json)


@trials.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@JSON_OPTION
def keys(folder: Path, as_json: bool) -> None:
    """Make the keys with which workers of several hosts know each other; copy the folder to all of them.

    A holder of these keys can run programs as root there.
    """
    from hil.trials.workers import make_keys

    make_keys(folder)
    text = f"{folder}: keys made; copy the folder to each host, readable by root only"
    print_result(as_json, {"folder": str(folder)}, text)


@trials.command("list")
@OUT
@JSON_OPTION
def list_series(out: Path | None, as_json: bool) -> None:
    """List all series, newest first."""
    from hil.trials.page import summary
    from hil.trials.series import all_series

    known = all_series(out)
    if as_json:
        print_json([summary(series) for series in known])
        return
    print_rows(
        [(series, series.standing()) for series in known],
        {
            "series": lambda row: row[0].facts.id,
            "lab": lambda row: row[0].facts.lab,
            "k": lambda row: row[1].passes,
            "n": lambda row: row[1].trials,
            "inconclusive": lambda row: row[1].inconclusive,
            "verdict": lambda row: row[1].verdict or "goes on",
        },
        empty="no series yet: `hil trials run --lab virtual --trials 5`",
    )


@trials.command()
@click.argument("name", default="last")
@OUT
@JSON_OPTION
def status(name: str, out: Path | None, as_json: bool) -> None:
    """Show how a series stands: k, n, bound, what is left; also while it runs."""
    from hil.trials.page import summary
    from hil.trials.series import get_series

    series = get_series(name, out)
    print_result(as_json, summary(series), _text(series))


@trials.command()
@click.argument("name", default="last")
@OUT
@JSON_OPTION
def show(name: str, out: Path | None, as_json: bool) -> None:
    """Show every trial of a series, and write its page anew."""
    from hil.trials.page import write_page
    from hil.trials.series import get_series

    series = get_series(name, out)
    lines = series.lines()
    if as_json:
        print_json(lines)
        return
    print_rows(
        lines,
        {
            "trial": lambda line: line["number"] if line["role"] == "counted" else f"{line['role']} {line['number']}",
            "attempt": lambda line: line["attempt"],
            "verdict": lambda line: line["verdict"],
            "seed": lambda line: line["seed"],
            "seconds": lambda line: f"{sum(line['phases_s'].values()):.1f}",
            "faults": lambda line: ", ".join(s["strike"]["fault"] for s in line["struck"]) or "-",
            "reason": lambda line: line["reason"][:100],
        },
        empty="no trial has ended yet",
        optional=["seed", "seconds"],
    )
    say(f"page: {write_page(series)}")


@trials.command()
@click.argument("name")
@click.argument("number", type=int)
@bench_option("Use this bench, which is up, and leave it up.")
@click.option("--times", type=click.IntRange(1), default=1, help="Run it so often.")
@OUT
@JSON_OPTION
def replay(name: str, number: int, bench_name: str | None, times: int, out: Path | None, as_json: bool) -> None:
    """Run trial NUMBER of series NAME again, with the same faults; nothing is counted."""
    from hil.trials.run import fails_again
    from hil.trials.series import get_series

    series = get_series(name, out)
    line = _trial(series, number)
    folder = series.folder / "replays" / f"{number:04d}"
    with _runner(series, bench_name) as runner:
        k, n = fails_again(
            runner, line["seed"], _strikes(line), folder, planted=line["planted"], times=times, needed=times + 1
        )
    _must_be_conclusive(n, folder)
    print_result(as_json, {"failed": k, "of": n, "folder": str(folder)}, f"failed in {k} of {n} runs: {folder}")


@trials.command()
@click.argument("name")
@click.argument("number", type=int)
@bench_option("Use this bench, which is up, and leave it up.")
@click.option("--times", type=click.IntRange(1), default=2, show_default=True, help="Runs of each part.")
@OUT
@JSON_OPTION
def explain(name: str, number: int, bench_name: str | None, times: int, out: Path | None, as_json: bool) -> None:
    """Find the fewest faults with which trial NUMBER of series NAME still fails (delta debugging)."""
    from hil.trials.run import explain as reduce
    from hil.trials.series import get_series

    series = get_series(name, out)
    line = _trial(series, number)
    folder = series.folder / "explained" / f"{number:04d}"
    with _runner(series, bench_name) as runner:
        kept, k, n = reduce(
            runner, line["seed"], _strikes(line), folder, planted=line["planted"], times=times, said=say
        )
    _must_be_conclusive(n, folder)
    document = {"faults": [strike.document() for strike in kept], "failed": k, "of": n, "folder": str(folder)}
    what = "\n".join(f"  {strike}" for strike in kept) or "  none: it fails without any fault"
    print_result(as_json, document, f"the fewest faults with which it fails, in {k} of {n} runs:\n{what}")


@trials.command()
@click.argument("first")
@click.argument("second")
@OUT
@JSON_OPTION
def compare(first: str, second: str, out: Path | None, as_json: bool) -> None:
    """Compare the pass rates of two series, such as of two builds (Fisher's exact test, two-sided)."""
    from hil.trials.comparison import compare as fisher
    from hil.trials.series import get_series

    chosen = [get_series(name, out) for name in (first, second)]
    a, b = (series.standing() for series in chosen)
    if not (a.trials and b.trials):
        raise ConfigurationError("a series without counted trials cannot be compared", remedy="let it run first")
    result = fisher(a.passes, a.trials, b.passes, b.trials)
    document = {
        "series": [
            {"id": series.facts.id, "commit": series.facts.commit, "passes": each.passes, "trials": each.trials}
            for series, each in zip(chosen, (a, b), strict=True)
        ],
        "p_value": result.p_value,
        "same_profile": chosen[0].facts.profile == chosen[1].facts.profile,
        "same_lab": chosen[0].facts.lab_sha256 == chosen[1].facts.lab_sha256,
    }
    lines = [f"{s.facts.id}: {e.passes} of {e.trials} passed" for s, e in zip(chosen, (a, b), strict=True)]
    lines.append(f"a difference this large or larger has the probability {result.p_value:.3f} when there is none")
    if not (document["same_profile"] and document["same_lab"]):
        lines.append("they ran under different profiles or labs: the difference may come from that")
    print_result(as_json, document, "\n".join(lines))


def _lab(lab_path: Path | None, bench_name: str | None) -> Any:
    from hil.bench.state import require_state
    from hil.lab.model import load_lab

    if lab_path is None and bench_name is None:
        raise ConfigurationError("which lab?", remedy="add --lab FILE (or --lab virtual), or --bench NAME")
    return load_lab(lab_path or Path(require_state(str(bench_name)).lab_path))


def _must_be_conclusive(runs: int, folder: Path) -> None:
    if not runs:
        raise BenchError("none of its runs was conclusive, so nothing was shown", remedy=f"see {folder}")


def _runner(series: Series, bench_name: str | None) -> Runner:
    from hil.trials.run import Runner

    return Runner.of(series, kept=bench_name or "", tell=say)


def _play(series: Series, where: _Where, as_json: bool) -> None:
    from hil.evidence.model import EXIT_CODE
    from hil.trials.page import summary
    from hil.trials.run import go_on
    from hil.trials.stopping_rules import true_error

    error = true_error(series.rule)
    said = f"; its true error is {error:.2%}" if error is not None else ""
    say(f"series {series.facts.id}: {series.rule.describe()}{said}")
    if where.benches == 1 and not where.listen:
        with _runner(series, where.bench) as runner:
            standing = go_on(series, runner, said=say)
    else:
        standing = _play_at_workers(series, where)
    print_result(as_json, summary(series), _text(series))
    if standing.verdict is not None:
        raise SystemExit(EXIT_CODE[standing.verdict])


def _play_at_workers(series: Series, where: _Where) -> Standing:
    from hil.trials.workers import go_on_at, has_dashboard, workers_of

    with workers_of(where.benches, listen=where.listen, keys=where.keys) as client:
        shown = client.dashboard_link if has_dashboard() else "none (pip install bokeh)"
        say(f"scheduler {client.cluster.scheduler_address}; dashboard: {shown}")
        return go_on_at(series, client, said=say)


def _text(series: Series) -> str:
    from hil.trials.page import PAGE, at_most_left, facts
    from hil.trials.stopping_rules import true_error

    standing = series.standing()
    left, mean_s = at_most_left(series), facts(series)["mean_s"]
    error = true_error(series.rule)
    lines = [
        f"series {series.facts.id}: {standing.verdict or 'goes on'}: {standing.reason}",
        f"k = {standing.passes}, n = {standing.trials}, INCONCLUSIVE {standing.inconclusive}, "
        f"canary {standing.canary or 'has not run'}",
        f"rule: {series.rule.describe()}" + (f"; true error {error:.2%}" if error is not None else ""),
        f"lower bound at 90 %: {standing.bound():.4f}; at any time: {standing.bound_at_any_time():.4f}",
        f"page: {series.folder / PAGE}",
    ]
    if left:
        about = f", about {left * mean_s / 60:.0f} min" if mean_s else ""
        lines.insert(3, f"at most {left} more trials{about}")
    return "\n".join(lines)


def _trial(series: Series, number: int) -> dict[str, Any]:
    lines = [line for line in series.lines() if line["number"] == number]
    if not lines:
        raise ConfigurationError(f"series {series.facts.id} has no trial {number}", remedy="see `hil trials show`")
    return lines[-1]


def _strikes(line: dict[str, Any]) -> list[Any]:
    from hil.trials.schedule import Strike

    return [Strike.read(struck["strike"]) for struck in line["struck"]]
