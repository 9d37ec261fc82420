"""What an earlier run left on the boards of a bench that is kept up, and its removal."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from hil.boards.protocol import Via
from hil.errors import HilError
from hil.rollout.fleet import Fleet
from hil.rollout.node_client import NodeClient, NodeRefused, NodeSilent

LIST_S = 5.0


def earlier_uploads(fleet: Fleet) -> dict[str, str]:
    """Return, in words, what the nodes of boards have of an earlier run; boards that do not answer are left out."""
    with ThreadPoolExecutor(len(fleet)) as pool:
        said = pool.map(lambda name: _left_on(fleet, name), fleet.names)
        return {name: words for name, words in zip(fleet.names, said, strict=True) if words}


def clear(fleet: Fleet, artefacts: Iterable[str]) -> dict[str, int]:
    """Remove artefacts (by their sha256) from all boards; return how many of them each board had.

    DeviceError when a node refuses, NodeSilent when it does not answer.
    """
    ids = list(artefacts)

    def one(name: str) -> int:
        with NodeClient(fleet, name, Via.MANAGEMENT, timeout_s=LIST_S) as client:
            held = [each for each in ids if client.artefact(each) is not None]
            for each in held:
                client.call("DELETE", f"/artefacts/{each}")
            return len(held)

    with ThreadPoolExecutor(len(fleet)) as pool:
        return dict(zip(fleet.names, pool.map(one, fleet.names), strict=True))


def _left_on(fleet: Fleet, name: str) -> str:
    try:
        with NodeClient(fleet, name, Via.MANAGEMENT, timeout_s=LIST_S) as client:
            artefacts = client.call("GET", "/artefacts").get("artefacts")
            epoch = client.health().committed
    except (NodeSilent, NodeRefused, HilError):
        return ""
    count = len(artefacts) if isinstance(artefacts, list) else 0
    found = [f"{count} artefact{'s' if count > 1 else ''}"] if count else []
    found += [f"configuration epoch {epoch}"] if epoch else []
    return f"has {' and '.join(found)} of an earlier run" if found else ""
