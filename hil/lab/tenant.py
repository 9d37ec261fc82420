"""The tenants of a lab file: customers that share its boards and links."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Annotated

from pydantic import Field

from hil.lab.link_spec import Name
from hil.lab.yamlfile import Strict, fault

MAX_TENANTS = 64
Percent = Annotated[int, Field(ge=1, le=100)]


class QuotaSpec(Strict):
    """What a tenant may use; what is left out has no quota."""

    cpu_cores: float | None = Field(default=None, gt=0, le=64, description="cores of each board")
    memory_bytes: int | None = Field(default=None, ge=1, description="memory of each board")
    storage_bytes: int | None = Field(default=None, ge=1, description="data partition of each board")
    bus_bytes_per_day: int | None = Field(default=None, ge=1, description="over crosslinks, all its boards together")
    downlink_bytes_per_day: int | None = Field(default=None, ge=1, description="to the ground, all its boards together")


class TenantSpec(Strict):
    """One customer: its boards, its shares of links, its quotas. A board has one tenant at most."""

    name: Name
    boards: tuple[Name, ...] = Field(
        min_length=1, strict=False, description="its boards; the first one is its gateway, which hears the ground"
    )
    shares: dict[str, Percent] = Field(
        default_factory=dict,
        description="links by name, each with the percent of its rate that the tenant gets when others want it, "
        "too: 1 to 100, of one link at most 100 together. What others leave it may use",
    )
    quotas: QuotaSpec = QuotaSpec()


def check_tenants(tenants: Sequence[TenantSpec], boards: Collection[str], links: Collection[str]) -> None:
    """Refuse names that are not there, a board of two tenants, and shares of a link above 100 percent."""
    names = Counter(tenant.name for tenant in tenants)
    if twice := [name for name, count in names.items() if count > 1]:
        raise fault("tenants", twice[0], f"the tenant {twice[0]} is there twice; names of tenants are unique")
    owner: dict[str, str] = {}
    total: dict[str, int] = {}
    for tenant in tenants:
        for board in tenant.boards:
            key = f"tenants.{tenant.name}.boards"
            if board not in boards:
                raise fault(key, board, f"{board} is not a board; boards: {', '.join(boards)}")
            if board in owner:
                raise fault(key, board, f"{board} is {owner[board]}'s already; a board has one tenant")
            owner[board] = tenant.name
        for link, percent in tenant.shares.items():
            key = f"tenants.{tenant.name}.shares"
            if link not in links:
                raise fault(key, link, f"{link} is not a link; links: {', '.join(links)}")
            total[link] = total.get(link, 0) + percent
            if total[link] > 100:
                raise fault(
                    f"{key}.{link}", str(percent), f"the shares of {link} are {total[link]} percent; at most 100"
                )
