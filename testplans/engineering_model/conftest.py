"""The operation file and the model's file beside these tests, and the operation on that model."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

import pytest

from hil.core.wait import duration_s
from hil.errors import ConfigurationError, HilError
from hil.evidence.model import at_most
from hil.operation.campaign import MODEL_FILE
from hil.operation.engineering_model import check_model, load_engineering_model
from hil.operation.model import load_operation
from hil.operation.on_model import OnModel


@pytest.fixture(scope="session")
def operation():
    """The file that `hil operation run` put here."""
    return load_operation(Path(__file__).with_name("operation.yaml"))


@pytest.fixture(scope="session")
def engineering_model():
    """The file of the model. ConfigurationError where `hil operation run --model` has put none."""
    file = Path(__file__).with_name(MODEL_FILE)
    if not file.is_file():
        raise ConfigurationError(f"{file}: no such file", remedy="run `hil operation run OPERATION --model FILE`")
    return load_engineering_model(file)


@pytest.fixture(scope="session")
def reckoned(operation, engineering_model):
    """The preview."""
    return check_model(operation, engineering_model)


@pytest.fixture(scope="session")
def there(operation, engineering_model, recorder, tell, request):
    """The operation on the model; what it brought there is removed at the end."""
    recorder.update_meta(engine=f"engineering model {engineering_model.name}", fidelity="virtual")
    payload = request.getfixturevalue("payload") if operation.steps.run else None
    placed = OnModel(operation, engineering_model, payload, tell)
    yield placed
    try:
        placed.clear()
    except HilError as exc:
        tell(f"left on the engineering model: {exc.message}")


@pytest.fixture
def within(measure):
    """``with within("upload", step):`` measures how long the block takes, and compares it with the step's deadline."""

    @contextmanager
    def timed(name, step):
        begin_s = time.monotonic()
        yield duration_s(step.deadline)
        measure(f"time of {name}", round(time.monotonic() - begin_s, 3), "s", limit=at_most(duration_s(step.deadline)))

    return timed
