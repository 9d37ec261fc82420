"""Two-phase configuration from the ground: propose at the gateway, commit there, wait until the members serve."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hil.errors import DeviceError
from hil.onboard.node.answers import Proposal
from hil.rollout.fleet import ClusterConfig
from hil.rollout.node_client import NodeRefused, NodeSilent
from hil.rollout.serving import serving_together
from hil.rollout.steps import Context

EpochHook = Callable[[int], None]


def configure(
    context: Context,
    config: ClusterConfig,
    *,
    wait_for: Iterable[str] | None = None,
    between_phases: EpochHook | None = None,
    after_commit: EpochHook | None = None,
    fresh: bool = False,
) -> int:
    """Bring a configuration into force; its epoch.  The same document twice is the same epoch unless ``fresh``.

    DeviceError when a member cannot be prepared, or when not all claim at one moment in time, with their own reasons.
    """
    gateway = context.fleet.gateway
    with context.step("configure", gateway) as facts:
        epoch, done = _prepare(context, config, fresh)
        facts["epoch"] = epoch
        if not done:
            if between_phases is not None:
                between_phases(epoch)
            while not _commit(context, epoch):  # the gateway restarted and asks for the acknowledgements again
                again, done = _prepare(context, config, fresh=False)
                if again != epoch:
                    raise DeviceError(f"epoch {epoch} became {again} between the phases: does someone else configure?")
                if done:
                    break
            if after_commit is not None:
                after_commit(epoch)
    boards = list(context.fleet.names if wait_for is None else wait_for)
    serving_together(context, epoch, boards, deadline_s=context.policy.configure_deadline_s)
    return epoch


def _prepare(context: Context, config: ClusterConfig, fresh: bool) -> tuple[int, bool]:
    """(epoch, whether it was committed before): asked again until every member has stored the document."""
    body = {"document": config.document(), "fresh": fresh}
    last: Exception | None = None
    limit = context.policy.configure_deadline_s
    with context.client(context.fleet.gateway, timeout_s=10.0) as client:
        for _ in context.polling(limit):
            try:
                answer = client.ask(Proposal, "POST", "/cluster/propose", body)
                body["fresh"] = False  # asking again must not make another epoch
                if not answer.missing:
                    return answer.epoch, answer.committed
                reasons = "; ".join(f"{board}: {why}" for board, why in answer.missing.items())
                last = DeviceError(f"epoch {answer.epoch} is not prepared on all boards: {reasons}")
            except NodeSilent as exc:
                last = exc
    raise context.silence(context.fleet.gateway, f"prepare all members within {limit:g} s", last) from last


def _commit(context: Context, epoch: int) -> bool:
    """False when the gateway no longer knows that all members have prepared the epoch."""
    last: Exception | None = None
    with context.client(context.fleet.gateway, timeout_s=5.0) as client:
        for _ in context.polling(context.policy.configure_deadline_s):
            try:
                client.call("POST", "/cluster/commit", {"epoch": epoch})
                return True
            except NodeRefused as exc:
                if exc.facts.get("missing"):
                    return False
                raise
            except NodeSilent as exc:  # committing twice is committing once
                last = exc
    raise context.silence(context.fleet.gateway, f"commit epoch {epoch}", last) from last
