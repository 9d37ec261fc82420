"""An older bundle is offered: the updater's answer is the proof, and evidence whatever it was."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from hil.boards.protocol import Fidelity
from hil.evidence.events import OlderBundle
from hil.faults import update_kinds
from hil.faults.fault import Injection, Outcome
from hil.faults.update_kinds import OlderBundleOffered
from hil.lab.model import load_lab
from hil.rollout.updaters.protocol import RefusedBundle
from hil.testing.fakes import ListSink
from tests.kits.fake_bench import LAB

BUNDLE = SimpleNamespace(path="older.raucb", version="0.9.0", sha256="aa")


class Updater:
    """A board and its updater in one."""

    name, fidelity, os_version = "b1", Fidelity.VIRTUAL, "2.0.0"

    def __init__(self, refuses: str, holds: str) -> None:
        self.refuses = refuses
        self.other = SimpleNamespace(version=holds)

    def shell(self) -> Updater:
        return self

    def __enter__(self) -> Updater:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def push(self, *files: object) -> None: ...

    def close(self) -> None: ...

    def run(self, argv: list[str], **options: Any) -> Any:
        return SimpleNamespace(stdout="")

    def identity(self) -> Updater:
        return self

    def status(self) -> Updater:
        return self

    def install(self, path: str, *, sha256: str, timeout_s: float) -> None:
        if self.refuses:
            raise RefusedBundle("b1: refused", reason=self.refuses)


def _offered(updater: Updater, monkeypatch: pytest.MonkeyPatch) -> tuple[Outcome, list[OlderBundle]]:
    monkeypatch.setattr(update_kinds, "adapter_of", lambda lab, version: lambda board: board)
    images = SimpleNamespace(bundles=SimpleNamespace(bundle=lambda kind: BUNDLE))
    parts = {"lab": load_lab(LAB), "boards": {"b1": updater}, "images": images, "sink": ListSink()}
    bench: Any = SimpleNamespace(name="test", orbit=None, **parts)
    outcome = Injection("older-bundle", bench, "b1", {}).begin().outcome
    return outcome, bench.sink.of(OlderBundle)


def test_a_refusal_and_an_installation_are_both_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = OlderBundle("b1", "2.0.0", "0.9.0", "it is older")
    assert _offered(Updater("it is older", "1.0.0"), monkeypatch) == (Outcome.CONFIRMED, [refused])
    taken = OlderBundle("b1", "2.0.0", "0.9.0")
    assert _offered(Updater("", "0.9.0"), monkeypatch) == (Outcome.CONFIRMED, [taken])


def test_an_updater_that_was_not_asked_or_did_not_do_what_it_said_proves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert _offered(Updater("", "1.0.0"), monkeypatch) == (Outcome.MISMATCH, [])
    monkeypatch.setattr(OlderBundleOffered, "bite", lambda self, adapter, bundle: None)
    assert _offered(Updater("it is older", "1.0.0"), monkeypatch) == (Outcome.MISMATCH, [])
