"""A series: fixed before it begins, resumed after SIGKILL at any moment, with a canary that must fail."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from hil.errors import ConfigurationError
from hil.evidence.model import Verdict
from hil.trials.history import Struck
from hil.trials.page import PAGE, causes, strata, summary, write_page
from hil.trials.series import CANARY, CORPUS, COUNTED, Series, SeriesFacts, corpus_of, get_series, series_folder
from tests.kits.fake_trials import counted_series
from tests.kits.trial_histories import strike

FACTS = SeriesFacts(
    id="s1",
    started_utc="20261129T120000Z",
    seed=7,
    lab="virtual",
    lab_sha256="abc",
    commit="0123456789abcdef",
    rule="count",
    most=3,
    goal=None,
    failures=0,
    profile={"name": "links"},
)


def document(series: Series, verdict: str = "PASS", **changes: Any) -> dict[str, Any]:
    """Return what a trial would write, for the next one of a series."""
    following = series.next_trial()
    assert following is not None
    _, number, attempt, seed = following
    struck = Struck(strike(), 1.0, 2.0, "confirmed", "seen").document()
    base = {
        **{"number": number, "attempt": attempt, "seed": seed, "planted": "", "verdict": verdict},
        **{"safe": True, "live": verdict == "PASS", "blame": "", "reason": "", "lost": "", "planted_in": ""},
        "found": {"converged": ["b1 runs 1.0.0 at the end"]} if verdict == "FAIL" else {},
        **{"struck": [struck], "reads": [], "epoch": 1, "phases_s": {"storm": 3.0, "calm": 1.0}, "converged_s": 0.5},
    }
    return {**base, **changes}


def play(series: Series, *verdicts: str) -> None:
    """Add trials with these verdicts, in the order in which they would run."""
    for verdict in verdicts:
        following = series.next_trial()
        assert following is not None
        series.add(following[0], document(series, verdict))


@pytest.fixture
def series(tmp_path: Path) -> Series:
    return Series.create(series_folder(tmp_path) / "s1", FACTS)


def test_the_canary_runs_first_and_then_the_trials_with_seeds_of_their_own(series: Series) -> None:
    assert series.next_trial() == (CANARY, 0, 1, series.seed_of(0))
    play(series, "FAIL", "PASS", "PASS")
    role, number, attempt, seed = series.next_trial() or ("", 0, 0, 0)
    assert (role, number, attempt) == (COUNTED, 3, 1) and seed == series.seed_of(3) != series.seed_of(2)
    play(series, "PASS")
    assert series.next_trial() is None
    standing = series.standing()
    assert (standing.passes, standing.trials, standing.verdict) == (3, 3, Verdict.PASS)


def test_a_canary_that_does_not_fail_makes_the_series_inconclusive(series: Series) -> None:
    play(series, "PASS")
    assert series.next_trial() is None
    assert series.standing().verdict is Verdict.INCONCLUSIVE and "canary" in series.standing().reason


def test_a_canary_that_the_bench_spoiled_is_tried_once_more(series: Series) -> None:
    play(series, "INCONCLUSIVE")
    assert series.next_trial() == (CANARY, 0, 2, series.seed_of(0))
    play(series, "INCONCLUSIVE")
    assert series.standing().verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("verdict", "many"), [(Verdict.PASS, 22), (Verdict.FAIL, 1)])
def test_a_series_that_is_decided_waits_for_its_canary(tmp_path: Path, verdict: Verdict, many: int) -> None:
    """Counted trials run beside the canary when there are several benches."""
    series = Series.create(series_folder(tmp_path) / "s1", replace(FACTS, rule="fixed", goal=(0.9, 0.9)))
    for number in range(1, many + 1):
        series.add(COUNTED, {"number": number, "attempt": 1, "verdict": verdict.value})
    assert series.next_trial({(CANARY, 0)}) is None, "no counted trial more"
    series.add(CANARY, {"number": 0, "attempt": 1, "verdict": "INCONCLUSIVE"})
    assert (series.standing().verdict, series.standing().reason) == (None, "waits for its canary")
    assert series.next_trial() == (CANARY, 0, 2, series.seed_of(0))
    series.add(CANARY, {"number": 0, "attempt": 2, "verdict": "FAIL"})
    assert series.standing().verdict is verdict


def test_an_inconclusive_trial_is_shown_not_counted_and_repeated_once_with_its_seed(series: Series) -> None:
    play(series, "FAIL", "INCONCLUSIVE")
    assert series.next_trial() == (COUNTED, 1, 2, series.seed_of(1))
    play(series, "INCONCLUSIVE")
    assert series.next_trial() == (COUNTED, 2, 1, series.seed_of(2))
    standing = series.standing()
    assert (standing.trials, standing.inconclusive, standing.verdict) == (0, 2, None)


def test_an_attempt_that_was_killed_is_fenced_by_the_next_number_and_a_late_line_counts_for_nothing(
    series: Series,
) -> None:
    play(series, "FAIL")
    for name in ("0001-1", "0001-1.bak"):
        (series.folder / "trials" / name).mkdir()
    assert series.next_trial() == (COUNTED, 1, 2, series.seed_of(1))
    late = document(series, "FAIL", attempt=2)
    series.add(COUNTED, document(series, "PASS", attempt=2))
    series.add(COUNTED, late)
    assert (series.standing().passes, series.standing().trials) == (1, 1)


@pytest.mark.parametrize("cut", range(1, 40, 6))
def test_half_a_line_of_a_killed_process_is_left_out_and_its_trial_runs_again(series: Series, cut: int) -> None:
    play(series, "FAIL", "PASS", "PASS")
    lines = series.folder / "trials.jsonl"
    content = lines.read_bytes()
    lines.write_bytes(content[:-cut])
    again = Series(series.folder)
    if cut > 1:
        assert again.standing().trials == 1
        assert again.next_trial() == (COUNTED, 2, 1, series.seed_of(2))
        play(again, "PASS")
    assert again.standing().trials == 2
    assert all(json.loads(line) for line in lines.read_text().splitlines()[-1:])


def test_a_goal_is_shown_or_not_by_the_rule_that_was_fixed(tmp_path: Path) -> None:
    facts = replace(FACTS, id="goal", rule="fixed", most=22, goal=(0.9, 0.9))
    series = Series.create(series_folder(tmp_path) / "goal", facts)
    play(series, "FAIL", *["PASS"] * 22)
    assert series.standing().verdict is Verdict.PASS and "shown" in series.standing().reason
    other = Series.create(series_folder(tmp_path) / "other", replace(facts, id="other"))
    play(other, "FAIL", "PASS", "FAIL")
    assert other.standing().verdict is Verdict.FAIL and other.next_trial() is None


def test_seeds_that_failed_run_first_in_the_next_series_and_do_not_count(tmp_path: Path, series: Series) -> None:
    play(series, "FAIL", "PASS", "FAIL", "PASS")
    assert corpus_of("links", "abc", tmp_path) == [series.seed_of(2)]
    assert corpus_of("links", "other", tmp_path) == corpus_of("default", "abc", tmp_path) == []
    following = Series.create(series_folder(tmp_path) / "s2", replace(FACTS, id="s2"))
    (following.folder / "corpus.json").write_text(json.dumps({"seeds": [series.seed_of(2)]}))
    play(following, "FAIL")
    role, number, _, seed = following.next_trial() or ("", 0, 0, 0)
    assert (role, seed) == (CORPUS, series.seed_of(2)) and number >= 9000
    play(following, "FAIL", "PASS")
    assert (following.standing().passes, following.standing().trials) == (1, 1)


def test_the_page_and_the_figures_say_what_was_counted_what_failed_and_what_was_left_out(series: Series) -> None:
    play(series, "FAIL", "PASS", "INCONCLUSIVE", "INCONCLUSIVE", "FAIL", "PASS")
    page = write_page(series).read_text("utf-8")
    figures = summary(series)
    assert (figures["passes"], figures["trials"], figures["inconclusive"]) == (2, 3, 2)
    assert figures["verdict"] == "FAIL" and figures["page"].endswith(PAGE)
    for words in ("link-cut at isl-ab: confirmed", "What this does not say", "canary", "runs # at the end"):
        assert words in page
    (cause,) = causes(series.lines())
    assert cause.checker == "converged" and cause.faults == (("link-cut", 1),)
    (row,) = strata(series.lines(), "fault")
    assert (row.name, row.passes, row.trials) == ("link-cut", 2, 3) and row.low < 2 / 3 < row.high
    assert "isl-ab" in str([asdict(each) for each in strata(series.lines(), "target")])


@pytest.mark.parametrize(
    "spoil", [lambda folder: None, lambda folder: (folder / "series.json").write_text("{}")], ids=["absent", "empty"]
)
def test_what_is_no_series_is_refused_in_words(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    folder = series_folder(tmp_path) / "x"
    folder.mkdir(parents=True)
    spoil(folder)
    with pytest.raises(ConfigurationError):
        Series(folder)
    with pytest.raises(ConfigurationError, match="no series yet"):
        get_series("x", tmp_path)


def test_what_a_lost_worker_still_says_does_not_count(tmp_path: Path) -> None:
    """Both orders: the line of the client first, and that of the worker first."""
    series = counted_series(tmp_path, 2)
    series.add("counted", {"number": 1, "attempt": 1, "verdict": "INCONCLUSIVE"})
    series.add("counted", {"number": 1, "attempt": 1, "verdict": "FAIL"})
    series.add("counted", {"number": 1, "attempt": 2, "verdict": "PASS"})
    series.add("counted", {"number": 2, "attempt": 1, "verdict": "PASS"})
    series.add("counted", {"number": 2, "attempt": 1, "verdict": "INCONCLUSIVE"})
    standing = series.standing()
    assert (standing.passes, standing.trials, standing.inconclusive) == (2, 2, 1)


def test_trials_count_in_the_order_of_their_numbers_and_none_after_the_decision(tmp_path: Path) -> None:
    """The failure of trial 1 ends late; trials 2 and 3 must not be a success of 2 in the meantime."""
    series = counted_series(tmp_path, 2)
    for number in (2, 3):
        series.add("counted", {"number": number, "attempt": 1, "verdict": "PASS"})
    assert series.standing().trials == 0 and series.standing().verdict is None
    series.add("counted", {"number": 1, "attempt": 1, "verdict": "FAIL"})
    standing = series.standing()
    assert (standing.passes, standing.trials, standing.verdict) == (1, 2, Verdict.FAIL)


def test_no_more_trials_go_out_than_the_rule_can_still_need(tmp_path: Path) -> None:
    series = counted_series(tmp_path, 3)
    out: set[tuple[str, int]] = set()
    while (following := series.next_trial(out)) is not None:
        out.add(following[:2])
    assert out == {("counted", 1), ("counted", 2), ("counted", 3)}
    for number in (2, 3):
        series.add("counted", {"number": number, "attempt": 1, "verdict": "PASS"})
    assert series.next_trial({("counted", 1)}) is None
