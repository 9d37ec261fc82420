"""Stands in for `hil` in the tests of a night: leaves what a campaign or a series leaves, as its name says."""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path

VERDICTS = {0: "PASS", 1: "FAIL", 3: "INCONCLUSIVE"}


def main() -> int:
    words = sys.argv[1:]
    option = dict(pairwise(words))
    print("fake", *words, flush=True)
    if words[0] == "trials":
        return trial(words, option)
    run_id, out = option["--run-id"], Path(option["-o"])
    directory = out / "runs" / run_id
    directory.mkdir(parents=True)
    behave = option.get("--behave", "0")
    if behave == "hang":
        (out / "hangs").touch()
        time.sleep(60)
    if behave == "once-hang" and not (out / "hung").exists():
        (out / "hung").touch()
        time.sleep(60)
    if behave in ("meet", "alone"):
        return at_work(directory, out / "at-work", alone=behave == "alone")
    attempt = int(run_id.rpartition("-")[2])
    code = {"flaky-bench": 3 if attempt == 1 else 0, "hang": 0, "once-hang": 0}.get(behave)
    code = int(behave) if code is None else code
    if code == 2:
        return 2
    (directory / "report.html").write_text("page")
    result = {"verdict": VERDICTS[code], "reason": f"<b>it</b> ended with {code}"}
    (directory / "result.json").write_text(json.dumps(result))
    return code


def at_work(directory: Path, folder: Path, *, alone: bool) -> int:
    """End with PASS when another job was (not) at work meanwhile."""
    folder.mkdir(exist_ok=True)
    mark, until = folder / directory.name, time.monotonic() + (0.3 if alone else 10.0)
    mark.touch()
    met = False
    while time.monotonic() < until and not met:
        met = len(list(folder.iterdir())) > 1
        time.sleep(0.02)
    if alone:
        mark.unlink()
    (directory / "result.json").write_text(json.dumps({"verdict": "FAIL" if met is alone else "PASS", "reason": "x"}))
    return int(met is alone)


def trial(words: list[str], option: dict[str, str]) -> int:
    name = option.get("--id") or words[2]
    folder = Path(option["--out"]) / "series" / name
    if words[1] == "run":
        (folder / "trials").mkdir(parents=True)
        facts = {
            **{"id": name, "started_utc": "x", "seed": int(option["--seed"]), "lab": "virtual", "lab_sha256": ""},
            **{"commit": "", "rule": "count", "most": 1, "goal": None, "failures": 0, "profile": {"name": "default"}},
            "canary": False,
        }
        (folder / "series.json").write_text(json.dumps(facts))
        if option.get("--behave") == "once-hang":
            time.sleep(60)
    line = {"role": "counted", "number": 1, "attempt": 1, "verdict": "PASS"}
    (folder / "trials.jsonl").write_text(json.dumps(line) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
