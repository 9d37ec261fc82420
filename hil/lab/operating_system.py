"""The section ``os`` of a lab file: how the operating system under test is updated."""

from __future__ import annotations

from hil.lab.yamlfile import Strict


class OsSpec(Strict):
    """How the operating system under test is updated.

    The model of an updater is a subclass with ``adapter: Literal[...]`` and what else it needs, and is named by its
    :class:`hil.rollout.updaters.kinds.UpdaterKind`.
    """

    adapter: str
