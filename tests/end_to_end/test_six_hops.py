"""One camera frame, followed by its id through all six hops: slot, result, record, flash, link, receiver.

The link is cut while the car drives, so that what is on its way can be looked at where it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pytest

from simulator.demo.observer import Sighting
from telemetry.confirmations import Confirmation
from telemetry.records import Lane, NewTrack, decode_event, record_digest
from telemetry.wire import unpack_block, unpack_body
from tests.end_to_end.world import World, a_world, until


@dataclass(frozen=True, slots=True)
class Told:
    """A new track's record, in the block that carries it."""

    block: bytes
    name: Confirmation
    event: NewTrack


def new_tracks(blocks: Iterable[bytes]) -> Iterator[Told]:
    for block in blocks:
        header, body = unpack_block(block)
        for seq, record in enumerate(unpack_body(header, body), header.base_seq):
            event = decode_event(bytes(record.event))
            if isinstance(event, NewTrack):
                yield Told(block, Confirmation(int(header.lane), header.epoch, seq, record_digest(record)), event)


def heard_durable(world: World) -> bool:
    return any(entry.confirmation.lane == Lane.P1 for entry in world.testimony())


def the_sighting(world: World, frame_id: int) -> Sighting:
    (found,) = (sighting for sighting in world.seen.sightings if sighting.frame_id == frame_id)
    return found


@pytest.mark.timeout(90)
async def test_one_frame_goes_through_all_six_hops() -> None:
    async with a_world() as world:
        world.link.cut()
        await world.stage.start_agent()
        await until(lambda: heard_durable(world))
        await world.stage.stop("agent")

        told = next(new_tracks(world.blocks_on_flash()))
        frame_id = told.event.frame_id

        # 1: the camera's own process counted it, in its order, when its slot was filled.
        assert world.frames().captured > frame_id
        assert world.frames().holds

        # 2: a worker looked at it, and saw what the record tells.
        sighting = the_sighting(world, frame_id)
        boxes = {box.track_id: box for box in sighting.boxes}
        assert boxes[told.event.track_id].label == told.event.label
        assert boxes[told.event.track_id].box == pytest.approx(told.event.box)

        # 3 and 4: the record is on flash, and its durability was confirmed with its own bytes.
        assert told.name in [entry.confirmation for entry in world.testimony()]
        assert world.spool().counts.lanes[Lane.P1].spooled > 0

        # Not yet 5: nothing has left the vehicle.
        assert world.blocks_stored() == []

        world.link.restore()
        await world.drain()

        # 5: the link carried the block as it lay on flash.
        assert told.block in world.blocks_stored()
        assert world.link.counters.up_bytes > len(told.block)

        # 6: the receiver has the record once, and on its receipt the spool freed it.
        assert [record.confirmation for record in world.stored()].count(told.name) == 1
        lane = world.spool().counts.lanes[Lane.P1]
        assert (lane.spooled, lane.pending) == (0, 0)
        assert lane.acknowledged == sum(record.lane == Lane.P1 for record in world.stored())
        assert told.block not in await asyncio.to_thread(lambda: list(world.blocks_on_flash()))
