"""The payload on the model."""

from __future__ import annotations

import pytest

from hil.errors import BenchError
from hil.evidence.model import at_least, equals
from hil.operation.on_model import number


@pytest.mark.requirement("OPE-070")
@pytest.mark.step("run")
@pytest.mark.needs("configure")
def test_the_payload_runs_for_its_time(operation, there, measure):
    """Tile after tile of the scene. Heat, power and charge of the model are its operator's."""
    done = there.run()
    tiles, compared, seconds = (number(done, key) for key in ("tiles", "compared", "seconds"))
    measure("time of run", round(seconds, 3), "s", limit=at_least(operation.running_s))
    measure("tiles", tiles, limit=at_least(1))
    if not compared:
        raise BenchError("no tile came twice, so no answer was compared", remedy="give steps.run a longer duration")
    measure("answers compared with an earlier one", compared)
    measure("answers that differ", number(done, "differ"), limit=equals(0))
