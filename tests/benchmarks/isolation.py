"""Eighteen tenants on the forty boards of lab kepler: every ordered pair tries to reach, command and starve the other.

    python -m tests.benchmarks.isolation [--tenants 18] [--out DIR] [--without-rules]

Boards are network namespaces on the real routers, switches and links of a bench.  Of each pair of tenants every board
tries every board: TCP to the node's port (reach, read, command), a packet with the address of one of the other's own
boards (forge), a hundred packets with its own (starve).  Writes
``isolation.json``, and a run whose report has the matrix as a picture.  Exit code 1
when anything succeeds between two tenants, or a tenant does not reach its own boards.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import permutations
from pathlib import Path

from hil.bench import isolation
from hil.campaign.run import CampaignRecorder, CampaignRun
from hil.core import paths
from hil.evidence.events import CollectedTest, TestEnded, TestStarted
from hil.evidence.model import Verdict, equals
from hil.lab.model import Lab, load_lab
from hil.lab.tenant import TenantSpec
from tests.kits.bare_boards import TRIES, BareBoards

TITLE = "No tenant gets at another"
PLAN = """\
schema: 1
id: isolation
title: Eighteen tenants on forty boards, every ordered pair
purpose: Can one customer on a shared constellation reach, read, command or starve another?
article: nftables of the spacecraft's routers and switches
reliability_goal: 0.90
confidence: 0.90
requirements:
  - id: TEN-010
    text: No tenant reaches, forges or starves another's boards.
    method: T
    level: system
    fidelity_needed: virtual
"""


def shared(lab: Lab, tenants: int) -> Lab:
    """Give the lab's boards to so many tenants, in turns, two each: the two are on different spacecraft."""
    names = [board.name for board in lab.boards]
    specs = [
        TenantSpec.model_validate({"name": f"t{n + 1:02}", "boards": [names[n], names[n + tenants]]})
        for n in range(tenants)
    ]
    return lab.model_copy(update={"tenants": tuple(specs)})


@contextmanager
def recorded(out: Path) -> Iterator[CampaignRecorder]:
    """Make a run of what the block records, with evidence and report; what its limits say is its verdict."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "plan.yaml").write_text(PLAN, "utf-8")
        run = CampaignRun.check(Path(folder), out=out)
        test = CollectedTest("isolation", TITLE, step="isolation", requirements=("TEN-010",))
        recorder = run.begin([test])
        begun_s = time.monotonic()
        with recorder.scope(test=test.test):
            recorder.emit(TestStarted(title=TITLE))
            yield recorder
            verdict = Verdict.PASS if all(taken.ok for taken in recorder.taken) else Verdict.FAIL
            recorder.emit(TestEnded(verdict.value, duration_s=round(time.monotonic() - begun_s, 1)))
        run.finish()
        print(f"report: {run.report}", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=18)
    parser.add_argument("--out", type=Path, default=paths.reports_out())
    parser.add_argument("--without-rules", action="store_true", help="to see that the attempts can succeed")
    options = parser.parse_args()
    if options.without_rules:
        isolation.keep_apart = lambda namespace, script: None
    lab = shared(load_lab(Path("kepler")), options.tenants)
    begun_s = time.monotonic()
    with recorded(options.out) as recorder:
        with tempfile.TemporaryDirectory() as directory, BareBoards("hiltmatrix", lab, Path(directory)) as boards:
            succeeded = boards.attempts()
        found = isolation.attempts_by_tenant(lab, succeeded, TRIES, recorder)
        own = [pair for tenant in lab.tenants for pair in permutations(tenant.boards, 2)]
        lonely = [pair for pair in own if "reach" not in succeeded.get(pair, ())]
        unheard = [board.name for board in lab.boards if "reach" not in succeeded.get(("ground", board.name), ())]
        recorder.measure("pairs of which something succeeded", len(found), limit=equals(0))
        recorder.measure("own boards not reached", len(lonely), limit=equals(0))
        recorder.measure("boards that the ground does not reach", len(unheard), limit=equals(0))
    pairs = options.tenants * (options.tenants - 1)
    result = {
        "tenants": options.tenants,
        "boards": len(lab.boards),
        "pairs": pairs,
        "pairs_that_succeeded": len(found),
        "what_succeeded": {f"{here} on {there}": words for (here, there), words in found.items()},
        "own_boards_not_reached": lonely,
        "boards_the_ground_does_not_reach": unheard,
        "took_s": round(time.monotonic() - begun_s, 1),
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "isolation.json").write_text(json.dumps(result, indent=1), "utf-8")
    print(json.dumps({name: value for name, value in result.items() if name != "what_succeeded"}, indent=1))
    return int(bool(found or lonely or unheard))


if __name__ == "__main__":
    sys.exit(main())
