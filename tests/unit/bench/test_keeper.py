"""The keeper of a bench is asked to end."""

from __future__ import annotations

import asyncio

import pytest

from hil.bench.keeper import Stop


def test_an_order_to_end_passes_through_an_event_loop() -> None:
    """Netlink is done in one; where it kept the order to itself, the keeper of a killed owner waited for ever."""

    def asked() -> None:
        raise Stop

    async def answer_that_never_comes() -> None:
        asyncio.get_running_loop().call_soon(asked)
        await asyncio.sleep(1.0)

    with pytest.raises(Stop):
        asyncio.run(answer_that_never_comes())
