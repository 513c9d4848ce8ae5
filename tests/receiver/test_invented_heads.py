"""A vehicle that makes heads up accuses nobody: neither at once, nor in what is verified later."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from sqlalchemy import Connection, update

from agent.checkpoints import load_seen
from agent.pairing import PairingRefused, countersign, pair
from ecu.checkpoints import Head, message
from ecu.clock import SystemClock
from receiver import checkpoints, journal
from receiver.service import Receiver
from receiver.tables import audit
from telemetry.links.checkpoints import CheckpointAnswer, CheckpointRequest
from tests.receiver.fleet import Vehicle, a_receiver, a_vehicle
from tests.receiver.test_checkpoints import both_signed, exchanged, happens

NOTHING = Head()
INVENTED = Head(10**6, "ab" * 32)


async def signed_by_itself(
    vehicle: Vehicle,
    head: Head,
    seen: Head,
    told_for: Head = NOTHING,
    told_signature: str = "",
) -> CheckpointAnswer:
    """All right but for what it says that it has seen."""
    signature = vehicle.keys.sign(message(vehicle.name, head, seen)).hex()
    asked = CheckpointRequest(head, seen, signature, told_for, told_signature)
    return await asyncio.to_thread(countersign, vehicle.paired, vehicle.keys, vehicle.clock, asked)


async def alarms(receiver: Receiver) -> list[str]:
    entries = await receiver.store.transact(journal.tail, 100)
    return [entry.detail for entry in entries if entry.event == checkpoints.CONTRADICTED]


async def test_a_head_that_the_receiver_never_signed_is_refused_at_once_and_costs_a_share(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, other = await a_vehicle(receiver, tmp_path), await a_vehicle(receiver, tmp_path, "veh-002")
        await both_signed(receiver, vehicle)
        await exchanged(other)
        (mine, *_), (theirs,) = load_seen(vehicle.disk), load_seen(other.disk)
        refused = [
            (INVENTED, Head(), ""),
            (INVENTED, mine.head, mine.signature),
            (theirs.receiver, theirs.head, theirs.signature),
            (Head(0, "ab" * 32), Head(), ""),
        ]
        for seen, told_for, signature in refused:
            with pytest.raises(PairingRefused, match="isn't signed by it"):
                await signed_by_itself(vehicle, mine.head, seen, told_for, signature)
        assert receiver.counters.pairing_refused == len(refused)
        assert await alarms(receiver) == []
        assert (await receiver.operator.verify_audit([])).findings == []


async def test_nothing_but_a_number_and_a_digest_is_signed_as_a_head(tmp_path: Path) -> None:
    # What is signed is text: with lines in a digest it would also say that the receiver's head is the invented one.
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        two_meanings = Head(3, f"aa\n{INVENTED.seq}\n{INVENTED.digest}")
        assert message("v", two_meanings, Head(17, "bb")) == message(
            "v", Head(3, "aa"), Head(10**6, f"{'ab' * 32}\n17\nbb")
        )
        for head in (two_meanings, Head(1, "AB" * 32), Head(1 << 63, "ab" * 32), Head(-1), Head(1, "ab" * 32 + "\n")):
            with pytest.raises(PairingRefused):
                await signed_by_itself(vehicle, head, Head())
        assert receiver.counters.audit_checkpoints == 0


async def test_one_alarm_stands_whatever_a_vehicle_says_next(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        for seq in (9, 3, 8, 2, 7, 2):
            await signed_by_itself(vehicle, Head(seq, f"{seq:064x}"), Head())
        assert await alarms(receiver) == ["its audit ends at entry 3, and ended at 9 before"]
        long_ago = update(audit).values(wall_ns=audit.c.wall_ns - checkpoints.STANDS_NS)
        await receiver.store.transact(lambda connection: connection.execute(long_ago) and None)
        await signed_by_itself(vehicle, Head(1, f"{1:064x}"), Head())
        assert len(await alarms(receiver)) == 2


async def test_a_vehicle_with_many_findings_hides_no_other_one(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        many, one = await a_vehicle(receiver, tmp_path), await a_vehicle(receiver, tmp_path, "veh-002")
        for vehicle in (many, one):
            await both_signed(receiver, vehicle)
        for number in range(3):
            await happens(receiver, f"event {number}")
            await exchanged(many)
        await receiver.store.transact(all_forged)
        findings = (await receiver.operator.verify_audit([])).findings
        assert [name for finding in findings for name in (many.name, one.name) if f"by {name}" in finding] == [
            many.name
        ]
        assert [name for finding in findings for name in (many.name, one.name) if f"as {name} " in finding] == [
            many.name,
            one.name,
        ]


def all_forged(connection: Connection) -> None:
    connection.execute(update(audit).values(digest=b"\x07" * 32))


async def test_what_another_receiver_told_before_isnt_told_to_this_one(tmp_path: Path) -> None:
    async with a_receiver(tmp_path / "first") as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await both_signed(receiver, vehicle)
    async with a_receiver(tmp_path / "second") as receiver:
        file = await receiver.operator.enrol(vehicle.name)
        paired = await asyncio.to_thread(pair, file, vehicle.keys, vehicle.disk, SystemClock())
        again = Vehicle(paired, vehicle.keys, vehicle.clock, vehicle.disk)
        for _ in range(2):
            await exchanged(again)
        assert await alarms(receiver) == []
        assert receiver.counters.audit_checkpoints == 2
