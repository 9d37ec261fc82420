"""A small run as a campaign leaves it, chained, sealed and in the store; and a pair of keys to sign it with."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from cryptography.hazmat.primitives import serialization as pem
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hil.core.files import sha256_of
from hil.evidence.event import Event
from hil.evidence.events import BundleUsed, CollectedTest, RunCollected, RunEnded, TestEnded, TestStarted
from hil.evidence.record import RECORDED, Recorder, write_json
from hil.report.make import finish_run
from tests.kits.synthetic_run import meta, plan_document


def make(
    out: Path, run_id: str = "run-1", *, passes: bool = True, verdict: str = "", more: Iterable[Event] = ()
) -> Path:
    """Write a finished run into a reports folder, with more events before its end."""
    directory = out / "runs" / run_id
    plan = plan_document()
    plan["requirements"], plan["criteria"], plan["risks"] = plan["requirements"][:1], [], []
    with Recorder.create(directory, {**meta(run_id), "tests_sha256": "11" * 32}) as recorder:
        write_json(directory / "plan.json", plan)
        write_json(directory / "history.json", {"runs": []})
        (directory / "lab.yaml").write_text("name: virtual\n", "utf-8")
        recorder.emit(RunCollected((CollectedTest("t", "Links", requirements=("SIX-010",)),)))
        recorder.artefact_bytes("a1.console.log", b"boot\n", kind="console", board="a1")
        recorder.emit(BundleUsed("os-2.0.0.raucb", "2.0.0", "ab" * 32, 50_165_098))
        with recorder.scope(test="t"):
            recorder.emit(TestStarted())
            blame = "bench" if verdict else "" if passes else "device under test"
            recorder.emit(TestEnded(verdict or ("PASS" if passes else "FAIL"), blame=blame))
        for event in more:
            recorder.emit(event)
        recorder.emit(RunEnded(files={name: sha256_of(directory / name) for name in RECORDED}))
    finish_run(directory, out)
    return directory


def key_pair(folder: Path) -> tuple[Path, Path]:
    """Write a private and a public key into a folder."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.NoEncryption())
    public = key.public_key().public_bytes(pem.Encoding.PEM, pem.PublicFormat.SubjectPublicKeyInfo)
    (folder / "key.pem").write_bytes(private)
    (folder / "key.pem").chmod(0o600)
    (folder / "key.pub").write_bytes(public)
    return folder / "key.pem", folder / "key.pub"
