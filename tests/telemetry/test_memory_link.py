"""The memory link fails on command; what it has in common with the others is in tests/contracts/test_link.py."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from telemetry.links.link import Accepted, Refused, Throttled, Unreachable
from telemetry.links.memory import MemoryLink, MemoryReceiver
from telemetry.records import Lane
from telemetry.wire import pack_block, unpack_block
from tests.receiver.fleet import make_block


async def test_each_publish_meets_the_next_failure_and_nothing_of_it_is_stored() -> None:
    receiver = MemoryReceiver()
    link = MemoryLink(receiver, failures=[Throttled("busy", 3.0), None, Refused("no")])
    await link.connect()
    with pytest.raises(Throttled):
        await link.publish(Lane.P1, make_block())
    assert await link.publish(Lane.P1, make_block()) == Accepted()
    with pytest.raises(Refused):
        await link.publish(Lane.P1, make_block(3))
    link.fail_next(Unreachable("tunnel"))
    with pytest.raises(Unreachable, match="tunnel"):
        await link.publish(Lane.P1, make_block(3))
    with pytest.raises(Unreachable, match="Connect again"):
        await link.publish(Lane.P1, make_block(3))
    await link.connect()
    assert await link.publish(Lane.P1, make_block(3)) == Accepted()
    assert receiver.stored("memory") == [make_block(), make_block(3)]


async def test_a_block_of_a_dictionary_to_come_is_to_be_sent_later() -> None:
    header, body = unpack_block(make_block())
    link = MemoryLink(MemoryReceiver())
    await link.connect()
    with pytest.raises(Throttled, match="dictionary 9 is unknown"):
        await link.publish(Lane.P1, pack_block(replace(header, dictionary=9), body))
    assert await link.publish(Lane.P1, make_block()) == Accepted()


async def test_connecting_meets_its_own_failures_and_a_receiver_out_of_reach() -> None:
    receiver = MemoryReceiver()
    link = MemoryLink(receiver, connect_failures=[Unreachable("tunnel")])
    with pytest.raises(Unreachable, match="tunnel"):
        await link.connect()
    await link.connect()
    receiver.reachable = False
    with pytest.raises(Unreachable):
        await link.publish(Lane.P1, make_block())
    with pytest.raises(Unreachable):
        await link.connect()
    receiver.reachable = True
    await link.connect()
    await link.report(b"{}")
    assert receiver.reports == {"memory": b"{}"}


async def test_between_accepted_and_stored_there_is_no_receipt() -> None:
    receiver = MemoryReceiver(commits_at_once=False)
    link = MemoryLink(receiver)
    await link.connect()
    await link.publish(Lane.P1, make_block())
    assert receiver.stored("memory") == []
    receiver.commit()
    assert (await anext(link.receipts())).ranges == ((0, 3),)
