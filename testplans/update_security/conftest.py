"""What the rows of the matrix share: the board that is attacked, and the proof that nothing came of it."""

from __future__ import annotations

import json
import os
import threading
from contextlib import contextmanager, suppress

import pytest

from hil.bench.state import disk_dir
from hil.boards.protocol import Via
from hil.errors import HilError
from hil.evidence.model import equals
from hil.images.flight_pki import flight_pki
from hil.onboard.node.flight import Credentials
from hil.rollout.node_client import NodeClient
from hil.rollout.rollout import Rollout
from hil.testing.attacker import loot_of

WORDS = b"the customer's own words, nobody else's. "


@pytest.fixture(scope="session")
def protected(parameters) -> bool:
    """Whether the protections are on."""
    return bool(parameters["protected"])


@pytest.fixture(scope="session")
def guinea_pig(fleet):
    """The board that is attacked: the last one of the other spacecraft."""
    return fleet.members[-1]


@pytest.fixture(scope="session")
def pki(bench):
    """The PKI of the bench's flight network."""
    return flight_pki(disk_dir(bench.name))


@pytest.fixture(scope="session")
def loot(pki, tmp_path_factory):
    """What a neighbour has that was taken over."""
    return loot_of(pki, tmp_path_factory.mktemp("loot"))


@pytest.fixture(scope="session")
def neighbour_credentials(bench, loot):
    """With what a hostile source shows itself; None without flight security."""
    return Credentials(loot.trust, loot.board) if bench.operator is not None else None


@pytest.fixture
def attempt(fleet, guinea_pig, os_adapter, recorder):
    """``attempt(bundle, policy)``: a rollout of one bundle onto the attacked board alone."""

    def of(bundle, policy=None):
        only = fleet.only(guinea_pig.name)
        return Rollout(only, bundle, recorder, policy, adapter=os_adapter(bundle.version))

    return of


@pytest.fixture
def contained(fleet, guinea_pig, verify, watcher):
    """``with contained("name of the attack"): ...``: afterwards nothing may have come of it."""

    def slot_b():
        return next(slot for slot in guinea_pig.boot.state().slots if slot.slot == "B")

    def digest() -> str:
        with guinea_pig.shell(Via.MANAGEMENT) as shell:
            argv = ["openssl", "dgst", "-sha256", "-r", "/dev/mmcblk0p2"]
            answer: str = shell.run(argv, timeout_s=60).stdout
        return answer.split()[0]

    def boots() -> dict[str, str]:
        return {member.name: member.identity().boot_id for member in fleet}

    @contextmanager
    def around(attack):
        before, boot_ids, mixed = digest(), boots(), len(watcher.report().violations)
        yield
        untouched = digest() == before
        verify(f"{attack}: slot B untouched or not bootable", untouched or not slot_b().bootable, limit=equals(True))
        verify(f"{attack}: slot to boot next", guinea_pig.boot.state().active, limit=equals("A"))
        restarted = [name for name, boot_id in boots().items() if boot_id != boot_ids[name]]
        verify(f"{attack}: boards that restarted", len(restarted), limit=equals(0))
        verify(f"{attack}: moments of a mixed cluster", len(watcher.report().violations) - mixed, limit=equals(0))

    return around


@pytest.fixture
def refused(verify):
    """``refused(work, *errors)``: do it, verify that it raised one of the errors, and return what it said."""

    def by(what, work, *errors):
        try:
            work()
        except errors as exc:
            verify(what, True, limit=equals(True))
            return getattr(exc, "message", str(exc))
        verify(what, False, limit=equals(True))
        return ""

    return by


@pytest.fixture
def forget(fleet, guinea_pig):
    """``forget(artefact id)``: the attacked board shall not keep it."""

    def it(artefact_id):
        with suppress(HilError), NodeClient(fleet, guinea_pig.name, Via.MANAGEMENT) as client:
            client.call("DELETE", f"/artefacts/{artefact_id}")

    return it


@pytest.fixture
def small_artefact(tmp_path, request):
    """A file of 2 MB to distribute, whose text is known, and which no board has yet."""
    from hil.images.artefact import Artefact

    file = tmp_path / "scene"
    file.write_bytes(f"{request.node.name} {os.urandom(8).hex()}".encode() + WORDS * 50_000)
    return Artefact.of_file(file, "scene")


@pytest.fixture
def in_background():
    """``in_background(work)``: a thread that works, and what it gave or raised, once it has ended."""

    def start(work):
        out = []

        def run():
            try:
                out.append(work())
            except Exception as exc:
                out.append(exc)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        return thread, out

    return start


@pytest.fixture
def manifest_at(fleet, guinea_pig):
    """``manifest_at(artefact id)``: the manifest that the attacked board has; None when it has none."""

    def ask(artefact_id):
        with NodeClient(fleet, guinea_pig.name, Via.MANAGEMENT) as client:
            status, content = client.raw("GET", f"/artefacts/{artefact_id}/manifest")
        return json.loads(content) if status == 200 else None

    return ask
