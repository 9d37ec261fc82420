"""The netem message of pyroute2, completed.

The netem options of pyroute2 0.9.7 lack Gilbert-Elliott loss, 64-bit latency and rate, and the seed; the subclass below
adds them without touching pyroute2's own plugin table.
"""

from __future__ import annotations

from typing import Any

from pyroute2.netlink import nla
from pyroute2.netlink.rtnl.tcmsg import sched_netem, tcmsg


class _Loss(nla):  # type: ignore[misc]  # pyroute2 is untyped
    nla_map = (("NETEM_LOSS_UNSPEC", "none"), ("NETEM_LOSS_GI", "hex"), ("NETEM_LOSS_GE", "ge"))

    class ge(nla):  # type: ignore[misc]  # pyroute2 is untyped; the class name is the one in nla_map
        # struct tc_netem_gemodel: h is the share that *passes* in the bad state, k1 the share lost in the good
        fields = (("p", "I"), ("r", "I"), ("h", "I"), ("k1", "I"))


class _Options(sched_netem.options):  # type: ignore[misc]  # pyroute2 is untyped
    nla_map = (
        *((kind, name, form) for kind, (name, form) in enumerate(sched_netem.options.nla_map)),
        (2, "TCA_NETEM_DELAY_DIST", "cdata"),
        (5, "TCA_NETEM_LOSS", "netem_loss"),
        (8, "TCA_NETEM_RATE64", "uint64"),
        (10, "TCA_NETEM_LATENCY64", "int64"),
        (11, "TCA_NETEM_JITTER64", "int64"),
        (14, "TCA_NETEM_PRNG_SEED", "uint64"),
    )
    netem_loss = _Loss


class NetemMessage(tcmsg):  # type: ignore[misc]  # pyroute2 is untyped
    """A qdisc message whose netem options are the extended ones."""

    def get_plugin(self, plug: str, *argv: Any, **kwarg: Any) -> Any:
        if plug == "options" and self.get_attr("TCA_KIND") == "netem":
            return _Options
        return super().get_plugin(plug, *argv, **kwarg)
