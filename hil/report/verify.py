"""Is a run what was recorded?  Manifest, chain of evidence, verdict, index and signature, each compared."""

from __future__ import annotations

from pathlib import Path

from hil.evidence.attestation import wrong_signature
from hil.evidence.manifest import differences
from hil.evidence.readback import RunRecord
from hil.evidence.record import RESULT, read_json
from hil.evidence.store import RunStore
from hil.report.analysis import UNVERIFIABLE, Analysis


def changes_of(directory: Path, store: RunStore | None = None, key: Path | None = None) -> list[str]:
    """Return what of a finished run is not as it was made, a sentence each; empty when all is.

    ``store`` is the index to compare with; ``key`` a public key with which the run must be signed.
    """
    found = differences(directory)
    run = RunRecord.load(directory)
    analysis, result = Analysis(run), read_json(directory / RESULT)
    found += [UNVERIFIABLE] if run.unverifiable else []
    found += analysis.changes
    if not run.result_is_written():
        found.append(f"{RESULT} is not the file that was written")
    if result.get("verdict") != analysis.verdict.value:
        found.append(f"{RESULT} says {result.get('verdict')}; the evidence gives {analysis.verdict}")
    if store is not None:
        found += store.differences(directory)
    if key is not None and (wrong := wrong_signature(directory, key)):
        found.append(wrong)
    return list(dict.fromkeys(found))
