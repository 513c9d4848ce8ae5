"""The vehicle takes the first answer to an object for its receipt, and forgets what was never sent."""

from __future__ import annotations

from typing import Any

from tests.sabotage.afterimport import after, put

CLAIM = "every picture told of is at the receiver once, its hash right"


@after("telemetry.objects.uplink")
def asked_is_as_good_as_stored(uplink: Any) -> None:
    async def deliver(self: Any, ref: Any) -> None:
        hand = self._hands[0]
        await self._ask(hand, ref, hand.link.look, ref.sha256)
        await self._objects.stored(ref)

    put(uplink.ObjectUplink, "_deliver", deliver)
