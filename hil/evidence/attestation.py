"""A signed statement of what a run showed: in-toto's test result, in a DSSE envelope, with a key kept offline.

Statement: https://in-toto.io/Statement/v1; predicate: https://in-toto.io/attestation/test-result/v0.1.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from hil.core.files import read_text, sha256_of, write_atomic
from hil.errors import ConfigurationError
from hil.evidence.foreign_words import words_of
from hil.evidence.manifest import MANIFEST, STATEMENT
from hil.evidence.model import Verdict
from hil.evidence.record import LAB, PLAN, RESULT, read_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
RECORD = "urn:orbital-hil:run-without-verdict:v1"
"""Of a run that is INCONCLUSIVE or NOT RUN: it says nothing of a bundle, and that it was so is kept."""
WORDS = {verdict.value: word for verdict in Verdict if (word := words_of(verdict).in_toto)}
_KEY_REMEDY = "a private key: openssl genpkey -algorithm ed25519 -out key.pem; its public half: openssl pkey -pubout"


def statement_of(directory: Path) -> dict[str, Any]:
    """Return the statement that fits the files of a run.

    Its subjects are the bundles that the run used (without one, the run itself).  A run without a verdict on them is
    stated as a record of its own kind, which no reader of test results takes for one.  ConfigurationError when the run
    has no manifest or no result.
    """
    result = read_json(directory / RESULT)
    verdict = str(result.get("verdict"))
    if verdict not in set(Verdict):
        raise ConfigurationError(
            f"run {directory.name} has no verdict", remedy=f"`hil runs report {directory.name}` makes it"
        )
    if not (directory / MANIFEST).is_file():
        raise ConfigurationError(
            f"run {directory.name} has no {MANIFEST}", remedy=f"`hil runs report {directory.name}` makes it"
        )
    decided = verdict in WORDS
    manifest = _resource(MANIFEST, sha256_of(directory / MANIFEST))
    tests = {word: [t["id"] for t in result["tests"] if t["verdict"] == ours] for ours, word in WORDS.items()}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [_resource(b["name"], b["sha256"]) for b in (result.get("bundles") or () if decided else ())]
        or [_resource(directory.name, manifest["digest"]["sha256"])],
        "predicateType": TEST_RESULT if decided else RECORD,
        "predicate": {
            "result": WORDS.get(verdict, verdict),
            "configuration": [
                *(_resource(name, sha256_of(directory / name)) for name in (PLAN, LAB) if (directory / name).is_file()),
                {**manifest, "annotations": {"run": directory.name, "fidelity": result.get("fidelity")}},
            ],
            **{f"{word.lower()}Tests": tests[word] for word in WORDS.values()},
        },
    }


def sign(directory: Path, key_file: Path) -> Path:
    """Sign the statement of a run with a private key (PEM), and return the envelope's file."""
    from cryptography.hazmat.primitives.serialization import load_pem_private_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.signer import CryptoSigner

    payload = _payload(statement_of(directory))
    if key_file.is_file() and key_file.stat().st_mode & 0o077:
        raise ConfigurationError(
            f"{key_file} can be read by others, who could sign in your place",
            remedy=f"chmod 600 {key_file}; make a new key if somebody may have read it",
        )
    try:
        signer = CryptoSigner(load_pem_private_key(read_text(key_file, remedy=_KEY_REMEDY).encode(), None))
    except (ValueError, TypeError) as exc:  # TypeError: it has a passphrase
        raise ConfigurationError(
            f"{key_file} is no private key in PEM without a passphrase", remedy=_KEY_REMEDY
        ) from exc
    envelope = Envelope(payload, PAYLOAD_TYPE, {})
    envelope.sign(signer)
    write_atomic(directory / STATEMENT, json.dumps(envelope.to_dict(), indent=2) + "\n")
    return directory / STATEMENT


def wrong_signature(directory: Path, key_file: Path) -> str:
    """Return why a run is not the one that was signed with this key (PEM, public); empty when it is."""
    from cryptography.hazmat.primitives.serialization import load_pem_public_key
    from securesystemslib.dsse import Envelope
    from securesystemslib.exceptions import VerificationError
    from securesystemslib.signer import SSlibKey

    try:
        key = SSlibKey.from_crypto(load_pem_public_key(read_text(key_file, remedy=_KEY_REMEDY).encode()))
    except ValueError as exc:
        raise ConfigurationError(f"{key_file} is no public key in PEM", remedy=_KEY_REMEDY) from exc
    if not (directory / STATEMENT).is_file():
        return f"there is no {STATEMENT}: the run was not signed"
    try:
        written = (directory / STATEMENT).read_bytes()
        envelope = Envelope.from_dict(json.loads(written))
        envelope.verify([key], 1)
    except VerificationError:
        return f"{STATEMENT} was not signed with this key"
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return f"{STATEMENT} cannot be read"
    if (json.dumps(envelope.to_dict(), indent=2) + "\n").encode() != written or envelope.payload_type != PAYLOAD_TYPE:
        return f"{STATEMENT} was changed: it is not as it was written"
    try:
        fits = envelope.payload == _payload(statement_of(directory))
    except (ConfigurationError, KeyError, TypeError):
        fits = False
    return "" if fits else "the run is not the one that was signed: its result or its files differ"


def _payload(statement: dict[str, Any]) -> bytes:
    return json.dumps(statement, sort_keys=True, separators=(",", ":")).encode()


def _resource(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": sha256}}
