"""A bench that is lost ends the campaign at once, and a bench that was at fault excuses the device."""

from __future__ import annotations

import time

from tests.kits.campaign_folder import HEAD, Campaign

pytest_plugins = ["pytester"]

LOSES = (
    HEAD
    + """
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from hil.core.wait import SYSTEM_CLOCK, wait_until


def lose(request):
    campaign = request.config.pluginmanager.get_plugin("hil-campaign")
    lost = BenchError("the link box is lost: User-Mode Linux is gone")
    threading.Timer(0.3, campaign.lose_bench, ["the link box", lost]).start()


def test_long(request):
    lose(request)
    def work():
        wait_until(lambda: False, what="nothing", deadline_s=600)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(work)
        pool.submit(work)


def test_after():
    time.sleep(600)
"""
)


def test_a_lost_bench_ends_the_test_and_the_run_within_seconds(campaign: Campaign) -> None:
    campaign.write(LOSES)
    begun_s = time.monotonic()
    campaign.run_apart()
    assert time.monotonic() - begun_s < 120  # ten minutes each would be left; a busy host starts slowly
    assert campaign.result["verdict"] == "INCONCLUSIVE"
    assert "the link box is lost: User-Mode Linux is gone" in campaign.result["reason"]
    assert list(campaign.verdicts.values()) == ["INCONCLUSIVE", "NOT RUN"]


def test_a_failure_while_a_part_was_silent_is_inconclusive(campaign: Campaign) -> None:
    campaign.write(
        HEAD
        + """
from hil.evidence.events import BenchPulse


def test_it(recorder):
    recorder.emit(BenchPulse(5.0, {"the keeper of the bench": 9.8}))
    raise DeviceError("b1: timed out")
"""
    )
    campaign.run()
    assert campaign.result["verdict"] == "INCONCLUSIVE"
    assert "the keeper of the bench gave no sign of life for 9.8 s" in campaign.result["reason"]


LOST_BETWEEN = (
    HEAD
    + """
@pytest.fixture
def campaign(request):
    campaign = request.config.pluginmanager.get_plugin("hil-campaign")
    LOST
"""
)


def test_a_lost_bench_is_not_tried_again(campaign: Campaign) -> None:
    campaign.write(
        LOST_BETWEEN.replace("LOST", 'yield; campaign.lose_bench("the keeper", BenchError("the keeper is lost"))')
        + "@pytest.mark.retry_bench(1)\ndef test_it(campaign): raise BenchError('the console cannot be read')\n"
    )
    campaign.run()
    (test,) = campaign.result["tests"]
    assert (test["verdict"], test["retries"]) == ("INCONCLUSIVE", 0)


def test_a_bench_whose_loss_was_heard_between_set_up_and_test_ends_the_test(campaign: Campaign) -> None:
    campaign.write(
        LOST_BETWEEN.replace("LOST", 'campaign._loss.error = BenchError("the keeper is lost")')
        + "def test_it(campaign): raise DeviceError('b1: timed out')\n"
    )
    campaign.run()
    (test,) = campaign.result["tests"]
    assert (test["verdict"], test["message"]) == ("INCONCLUSIVE", "the keeper is lost")


FULL_DISK = (
    HEAD
    + """
import threading
import time
from contextlib import contextmanager, suppress
from hil.evidence.events import BenchPulse


@contextmanager
def full_disk(recorder):
    def append(content):
        raise OSError(28, "No space left on device")
    recorder._append, writes = append, recorder._append
    try:
        yield
    finally:
        recorder._append = writes


def test_it(recorder, request):
    campaign = request.config.pluginmanager.get_plugin("hil-campaign")
    with full_disk(recorder):
        BODY
    raise DeviceError("b1: timed out")
"""
)


def test_a_silence_that_cannot_be_recorded_excuses_the_device_too(campaign: Campaign) -> None:
    emit = 'recorder.emit(BenchPulse(5.0, {"the keeper of the bench": 9.8}))'
    campaign.write(FULL_DISK.replace("BODY", f"with suppress(OSError): {emit}"))
    campaign.run()
    assert campaign.result["verdict"] == "INCONCLUSIVE"
    assert "the keeper of the bench gave no sign of life for 9.8 s" in campaign.result["reason"]


def test_a_loss_that_cannot_be_recorded_ends_the_run_too(campaign: Campaign) -> None:
    lose = 'campaign.lose_bench, ["the link box", BenchError("the link box is lost")]'
    campaign.write(FULL_DISK.replace("BODY", f"threading.Timer(0.1, {lose}).start(); time.sleep(3)"))
    campaign.run_apart()
    assert (campaign.result["verdict"], campaign.result["tests"][0]["message"]) == (
        "INCONCLUSIVE",
        "the link box is lost",
    )


def test_a_thread_that_dies_makes_the_run_inconclusive(campaign: Campaign) -> None:
    campaign.write(
        HEAD
        + """
import threading


@pytest.mark.filterwarnings("ignore")
def test_it():
    thread = threading.Thread(target=lambda: {}["epoch"], name="probe")
    thread.start()
    thread.join()
"""
    )
    campaign.run()
    assert campaign.result["verdict"] == "INCONCLUSIVE"
    assert "thread probe ended early: KeyError" in campaign.result["reason"]


def test_a_failure_after_a_test_that_the_bench_spoiled_is_inconclusive(campaign: Campaign) -> None:
    campaign.write(
        HEAD
        + """
from hil.evidence.events import BenchPulse


def test_power_cut(recorder):
    recorder.emit(BenchPulse(5.0, {"the container engine": 9.8}))
    raise BenchError("the container engine does not answer")


def test_boots():
    raise DeviceError("b3: no answer from sshd")
"""
    )
    campaign.run()
    assert list(campaign.verdicts.values()) == ["INCONCLUSIVE", "INCONCLUSIVE"]


SPOILED = (
    HEAD
    + """
from hil.evidence.events import BenchPulse

tries = []


@pytest.mark.retry_bench(1)
def test_power_cut(recorder):
    tries.append(1)
    if len(tries) == 1:
        recorder.emit(BenchPulse(5.0, {"the container engine": 9.8}))
        raise BenchError("the container engine does not answer")
    SECOND


def test_boots():
    raise DeviceError("b3: no answer from sshd")
"""
)


def test_a_failure_after_an_attempt_that_the_bench_spoiled_is_inconclusive(campaign: Campaign) -> None:
    campaign.write(SPOILED.replace("SECOND", 'raise DeviceError("b3 runs the old slot")'))
    campaign.run()
    assert list(campaign.verdicts.values()) == ["INCONCLUSIVE", "INCONCLUSIVE"]


def test_an_attempt_that_passes_mends_what_the_one_before_has_left(campaign: Campaign) -> None:
    campaign.write(SPOILED.replace("SECOND", "pass"))
    campaign.run()
    assert list(campaign.verdicts.values()) == ["PASS", "FAIL"]
