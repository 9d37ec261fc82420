"""A fault of the bench is tried again visibly; the device under test gets no second try."""

from __future__ import annotations

import json

from tests.kits.campaign_folder import HEAD, Campaign

pytest_plugins = ["pytester"]

RETRIES = (
    HEAD
    + """
tries, sessions = [], []

@pytest.fixture(scope="session")
def bench():
    sessions.append(1)
    return "bench"

@pytest.fixture
def flaky(bench):
    tries.append(1)
    if len(tries) < 3:
        raise BenchError(f"flaky {len(tries)}")

@pytest.mark.retry_bench(2)
def test_it(flaky, measure):
    measure("tries", len(tries))

def test_bench_was_kept(bench, verify):
    verify("set up", len(sessions), limit=equals(1))
"""
)


def test_a_bench_error_is_retried_visibly_and_the_bench_is_kept(campaign: Campaign) -> None:
    campaign.write(RETRIES)
    outcome = campaign.run("-v")
    assert campaign.verdicts == {"It": "PASS", "Bench was kept": "PASS"}
    assert campaign.result["tests"][0]["retries"] == 2
    assert [m["value"] for m in campaign.result["tests"][0]["measurements"]] == [3]
    outcome.stdout.fnmatch_lines(["*BENCH RETRY*", "*repeated because the bench was at fault: 2*"])
    lines = [json.loads(x) for x in (campaign.directory() / "evidence.jsonl").read_text("utf-8").splitlines()]
    assert [e["error"] for e in lines if e["kind"] == "bench.retry"] == ["flaky 1", "flaky 2"]
    assert outcome.ret == 3  # DEM-1 is named by no test


def test_a_retry_that_also_fails_is_inconclusive(campaign: Campaign) -> None:
    campaign.write(RETRIES.replace("retry_bench(2)", "retry_bench(1)"))
    campaign.run()
    assert campaign.verdicts["It"] == "INCONCLUSIVE"
    assert campaign.result["tests"][0]["retries"] == 1


BRING_UP = (
    HEAD
    + """
tries = []

@pytest.fixture(scope="session")
def bench():
    tries.append(1)
    if len(tries) < 2:
        raise BenchError("no bench yet")
    return "bench"

@pytest.fixture(scope="session")
def boards(bench):
    return [bench]

@pytest.mark.retry_bench(1)
def test_boards(boards):
    assert boards == ["bench"]
"""
)


def test_a_bench_that_does_not_come_up_is_tried_again(campaign: Campaign) -> None:
    campaign.write(BRING_UP)
    campaign.run()
    assert campaign.verdicts == {"Boards": "PASS"}
    assert campaign.result["tests"][0]["retries"] == 1


def test_a_bench_that_never_comes_up_is_not_blamed_on_the_device(campaign: Campaign) -> None:
    campaign.write(BRING_UP.replace("len(tries) < 2", "True"))
    assert campaign.run().ret == 3
    (test,) = campaign.result["tests"]
    assert (test["verdict"], test["blame"], test["message"]) == ("INCONCLUSIVE", "bench", "no bench yet")


def test_what_the_device_does_is_never_retried(campaign: Campaign) -> None:
    campaign.write(
        HEAD
        + "tries = []\n@pytest.mark.retry_bench(5)\ndef test_it():\n    tries.append(1)\n    assert len(tries) > 1\n"
    )
    assert campaign.run().ret == 1
    assert campaign.result["tests"][0]["retries"] == 0
