"""Switching a board to another OS: restart, health checks, confirm, or back to the old one."""

from __future__ import annotations

from typing import NoReturn

from hil.errors import DeviceError, HilError
from hil.evidence.events import RestartOrdered
from hil.images.artefact import BundleFacts
from hil.onboard.node.contract import Health
from hil.rollout.node_client import NodeRefused, NodeSilent
from hil.rollout.steps import Context
from hil.rollout.updaters.protocol import OsAdapter, OsStatus

SSH_AFTER_S = 2.0
"""From here on SSH is asked too, because a board whose node service is broken answers nowhere else."""
SSH_EVERY_S = 1.0


class FellBack(DeviceError):
    """The board runs the old OS again: the new one did not boot, or was unhealthy and was taken back."""


def runs(health: Health, bundle: BundleFacts) -> bool:
    """Return whether a board runs the bundle's image."""
    return health.os_version == bundle.version and health.image_sha256 in (None, bundle.image_sha256)


def holds(status: OsStatus, bundle: BundleFacts) -> bool:
    """Return whether the slot that is not running has the bundle's image, completely."""
    return status.other.complete and status.other.image_sha256 == bundle.image_sha256


def activate(
    context: Context, board: str, bundle: BundleFacts, adapter: OsAdapter, known: OsStatus | None = None
) -> None:
    """Restart a board into the bundle and confirm it, unless that is done already.

    ``known`` is what the updater said when it had just installed; without it the updater is asked.  FellBack when
    the board runs the old OS afterwards; DeviceError when the bundle is not installed or it does not come back.
    """
    health = before = context.health(board, deadline_s=context.policy.boot_deadline_s)
    if not runs(before, bundle):
        if not holds(known or adapter.status(), bundle):
            raise DeviceError(f"{board}: {bundle.version} is not installed", remedy="install it first")
        with context.step("boot", board) as facts:
            context.sink.emit(RestartOrdered(board, "activate"))
            adapter.activate()
            try:
                health = wait_restarted(context, board, before.boot_id, adapter)
            except _NodeNeverCame as exc:
                _take_back(context, board, adapter, str(exc))
            facts.update(os_version=health.os_version, slot=health.slot)
            if not runs(health, bundle):
                raise FellBack(
                    f"{board}: {bundle.version} did not come up; it runs {health.os_version} in slot "
                    f"{health.slot} again{_last_reset(adapter)}",
                    remedy=f"see the boots of {bundle.version} in `hil board console {board}`",
                )
    confirm(context, board, adapter, health)


def confirm(context: Context, board: str, adapter: OsAdapter, health: Health) -> None:
    """Mark the running slot good after its health checks; FellBack when it is unhealthy."""
    if health.healthy and health.confirmed:
        return
    with context.step("confirm", board) as facts:
        limit = context.policy.health_deadline_s
        for _ in context.polling(limit):
            if health.healthy:
                break
            health = context.health(board, deadline_s=limit)
        else:
            _take_back(context, board, adapter, "; ".join(health.problems))
        adapter.confirm()
        if not any(context.health(board, deadline_s=limit).confirmed for _ in context.polling(limit)):
            raise DeviceError(f"{board}: the updater confirmed the slot, but the board does not know of it")
        facts.update(os_version=health.os_version, slot=health.slot)


def roll_back(context: Context, board: str, adapter: OsAdapter) -> None:
    """Restart a board into its previous slot and confirm it there. DeviceError when there is nothing to go back to."""
    before = context.health(board, deadline_s=context.policy.boot_deadline_s)
    with context.step("roll back", board) as facts:
        context.sink.emit(RestartOrdered(board, "roll back"))
        adapter.roll_back()
        try:
            after = wait_restarted(context, board, before.boot_id, adapter)
        except _NodeNeverCame as exc:
            raise DeviceError(f"{board}: after the roll-back {exc}") from exc
        facts.update(os_version=after.os_version, slot=after.slot)
        if after.slot == before.slot:
            raise DeviceError(f"{board}: it came back in slot {after.slot} again")
    confirm(context, board, adapter, after)


class _NodeNeverCame(Exception):
    """The board restarted and answers SSH, but its node service does not."""


def wait_restarted(context: Context, board: str, boot_id: str, adapter: OsAdapter) -> Health:
    """Return the board's health once its boot id is another one.

    DeviceError at the boot deadline; _NodeNeverCame when only SSH answers for ``node_deadline_s``.
    """
    limit = context.policy.boot_deadline_s
    next_ssh, ssh_since = SSH_AFTER_S, None
    last: Exception | None = None
    with context.client(board, timeout_s=1.0) as client:
        for now in context.polling(limit):
            try:
                health = client.health()
                if health.boot_id != boot_id:
                    return health
            except (NodeSilent, NodeRefused) as exc:
                last = exc
            if now >= next_ssh:
                next_ssh = now + SSH_EVERY_S
                if ssh_since is None and _restarted_by_ssh(adapter, boot_id):
                    ssh_since = now
            if ssh_since is not None and now - ssh_since >= context.policy.node_deadline_s:
                raise _NodeNeverCame(f"its node service does not answer for {now - ssh_since:.0f} s")
    raise context.silence(board, f"come back within {limit:g} s of its restart", last)


def _last_reset(adapter: OsAdapter) -> str:
    """Return why the board came back in the other slot, where it tells: a watchdog, a panic, a power-on."""
    try:
        why = adapter.health().facts.get("last_reset")
    except (HilError, OSError, EOFError):
        return ""
    return f"; last reset: {why}" if why else ""


def _restarted_by_ssh(adapter: OsAdapter, boot_id: str) -> bool:
    try:
        report = adapter.health()
    except (HilError, OSError, EOFError):
        return False
    return report.healthy and report.facts.get("boot_id") not in (None, boot_id)


def _take_back(context: Context, board: str, adapter: OsAdapter, why: str) -> NoReturn:
    """Restart an unhealthy board into its old slot; raises FellBack once it runs there."""
    boot_id = str(adapter.health().facts.get("boot_id", ""))
    context.sink.emit(RestartOrdered(board, "take back"))
    adapter.roll_back()
    try:
        after = wait_restarted(context, board, boot_id, adapter)
    except _NodeNeverCame as exc:
        raise DeviceError(f"{board}: unhealthy ({why}), and so is the old OS: {exc}") from exc
    raise FellBack(f"{board}: the new OS was unhealthy ({why}); it runs {after.os_version} again")
