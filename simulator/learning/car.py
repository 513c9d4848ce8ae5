"""A vehicle of the fleet that learns, without its agent: an identity, a link, and updates as records in blocks."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from typing import Final

import msgspec

from agent.pairing import Paired, tls_context
from ecu.clock import Clock
from ecu.errors import EnvironmentFault
from ecu.keys import KeyStore
from telemetry.federated.update import ModelUpdate
from telemetry.links.link import LinkError
from telemetry.links.mqtt import MqttLink
from telemetry.records import PLACES, Learned, Stored, encode_event
from telemetry.wire import CODEC_RECORDS_ZSTD, NO_DICTIONARY, BlockHeader, pack_block, pack_body

STORED_WITHIN_S: Final = 40.0
AGAIN_S: Final = 0.5
_LANE, _PURPOSE = PLACES[Learned]


@dataclass(slots=True)
class FleetCar:
    """It counts its records as a spool does: one stream, from 0."""

    paired: Paired
    keys: KeyStore
    clock: Clock
    epoch: bytes = field(default_factory=lambda: os.urandom(16))
    seq: int = 0

    async def tell(self, *updates: ModelUpdate) -> None:
        """Each as a record; returns when all are stored. Raises EnvironmentFault when nobody says so in time."""
        block = self._block(updates)
        self.seq += len(updates)
        try:
            async with asyncio.timeout(STORED_WITHIN_S):
                while not await self._is_stored(block):
                    await asyncio.sleep(AGAIN_S)
        except TimeoutError:
            raise EnvironmentFault(
                f"Nobody stored an update of {self.paired.vehicle} within {STORED_WITHIN_S:.0f} s. Look whether the "
                "receiver runs."
            ) from None

    async def _is_stored(self, block: bytes) -> bool:
        """False when it has to be tried again: the receiver may just be restarting."""
        paired = self.paired
        context = tls_context(paired, self.keys)
        link = MqttLink(paired.host, paired.mqtt_port, paired.vehicle, context, self.clock)
        try:
            await link.connect()
            await link.publish(_LANE, block)
            async for receipt in link.receipts():
                if receipt.epoch == self.epoch and any(start < self.seq <= end for start, end in receipt.ranges):
                    return True
        except LinkError:
            return False
        finally:
            await link.close()
        return False

    def _block(self, updates: tuple[ModelUpdate, ...]) -> bytes:
        wall_ns, boot_ns = self.clock.wall_ns(), self.clock.boot_ns()
        body = pack_body([Stored(boot_ns, wall_ns, msgspec.Raw(encode_event(Learned(one)))) for one in updates])
        header = BlockHeader(
            _LANE, _PURPOSE, self.epoch, self.seq, len(updates), CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body)
        )
        return pack_block(header, body)
