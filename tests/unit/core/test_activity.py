"""What the threads of this process say that they do."""

from __future__ import annotations

import threading

from hil.core import activity
from hil.core.activity import doing
from hil.core.wait import poll_until, wait_until


def test_a_wait_says_what_for_and_until_when() -> None:
    seen: list[str] = []

    def poll() -> bool:
        seen.extend(activity.now())
        return True

    wait_until(poll, what="the boards", deadline_s=20)
    assert seen == ["waits for the boards, 0 of 20 s"]
    assert activity.now() == []


def test_a_step_takes_the_deadline_of_the_wait_inside_of_it_and_hides_its_commands() -> None:
    with doing("b1: boot"), doing("b1: uname", deadline_s=3, minor=True):
        for _ in poll_until(40):
            assert activity.now() == ["b1: boot, 0 of 40 s"]
            break
        assert activity.now() == ["b1: boot, 0 of 3 s"]
    with doing("b1: uname", deadline_s=3, minor=True):
        assert activity.now() == ["b1: uname, 0 of 3 s"]


def test_every_thread_says_its_own_and_how_far_it_is() -> None:
    inside, leave = threading.Event(), threading.Event()

    def work() -> None:
        with doing("b2: relay", whole=31_000_000) as it:
            it.done = 12_500_000
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=work)
    with doing("a1: upload"):
        thread.start()
        inside.wait(5)
        assert activity.now() == ["b2: relay: 12.5 of 31.0 MB", "a1: upload"]
        leave.set()
        thread.join()
        assert activity.now() == ["a1: upload"]
