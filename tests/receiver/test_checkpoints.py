"""Two audits, each signed by the other side: what one has seen the other can't rewrite."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, delete, insert, select, update
from typer.testing import CliRunner

from agent import cli as agent_cli
from agent.checkpoints import SEEN_FILE, Contradicted, checkpoint, load_seen, verify
from agent.pairing import PairingRefused, countersign
from ecu.audit import Entry, link
from ecu.checkpoints import Head, head_of, message
from ecu.disk import FolderDisk, replace_file
from ecu.errors import OutriderError
from ota.audit import Audit
from receiver import journal
from receiver.service import Receiver
from receiver.tables import audit, audit_checkpoint
from telemetry.links.checkpoints import CheckpointAnswer, CheckpointRequest
from tests.receiver.fleet import Vehicle, a_receiver, a_vehicle


async def exchanged(vehicle: Vehicle) -> CheckpointAnswer:
    return await asyncio.to_thread(checkpoint, vehicle.paired, vehicle.keys, vehicle.clock, vehicle.disk)


def own_audit(vehicle: Vehicle) -> Audit:
    vehicle.disk.make_folder("updates")
    return Audit(FolderDisk(vehicle.disk, "updates"), vehicle.clock, vehicle.name)


async def happens(receiver: Receiver, *events: str) -> None:
    for event in events:
        await receiver.store.transact(journal.append, 1, event)


async def both_signed(receiver: Receiver, vehicle: Vehicle) -> None:
    own_audit(vehicle).add("kept", "a release")
    await happens(receiver, "first", "second")
    await exchanged(vehicle)
    await exchanged(vehicle)  # the vehicle signs what it was told before


def entries_of(connection: Connection) -> list[Entry]:
    return [Entry(**row._mapping) for row in connection.execute(select(audit).order_by(audit.c.seq))]


def chained_anew(connection: Connection, keep: Callable[[list[Entry]], list[Entry]]) -> None:
    """A forger with the database: every digest is right again."""
    entries, last = keep(entries_of(connection)), None
    connection.execute(delete(audit))
    for entry in entries:
        last = link(last, entry.wall_ns, entry.event, entry.subject, entry.detail)
        connection.execute(insert(audit).values({name: getattr(last, name) for name in Entry.__slots__}))


def rewritten(connection: Connection) -> None:
    chained_anew(connection, lambda all_: [*all_[:-1], link(all_[-2], 1, "forged", "", "")])


def truncated(connection: Connection) -> None:
    chained_anew(connection, lambda all_: all_[:-1])


def reordered(connection: Connection) -> None:
    chained_anew(connection, lambda all_: [*all_[:-2], all_[-1], all_[-2]])


def changed_in_place(connection: Connection) -> None:
    connection.execute(update(audit).where(audit.c.event == "first").values(event="nothing"))


FORGERIES = [rewritten, truncated, reordered, changed_in_place]


async def test_what_was_changed_by_nobody_holds(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await both_signed(receiver, vehicle)
        await happens(receiver, "third")
        verdict = await receiver.operator.verify_audit(load_seen(vehicle.disk))
        assert verdict.findings == []
        assert verdict.checkpoints == 3
        assert own_audit(vehicle).entries()[-1].digest.hex() == load_seen(vehicle.disk)[-1].head.digest


@pytest.mark.parametrize("forge", FORGERIES)
async def test_a_forged_audit_is_found_by_what_vehicles_signed(
    tmp_path: Path, forge: Callable[[Connection], None]
) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await both_signed(receiver, vehicle)
        await receiver.store.transact(forge)
        assert (await receiver.operator.verify_audit([])).findings
        if forge is not changed_in_place:
            assert await journal.broken_at(receiver.store) is None, "in itself the chain holds"


@pytest.mark.parametrize("forge", FORGERIES)
async def test_without_the_receivers_checkpoints_the_vehicles_own_copy_finds_it(
    tmp_path: Path, forge: Callable[[Connection], None]
) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await both_signed(receiver, vehicle)
        await receiver.store.transact(forge)
        await receiver.store.transact(lambda connection: connection.execute(delete(audit_checkpoint)) and None)
        assert (await receiver.operator.verify_audit(load_seen(vehicle.disk))).findings


async def test_a_vehicle_notices_itself_that_the_receivers_audit_went_back(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await both_signed(receiver, vehicle)
        await receiver.store.transact(lambda connection: chained_anew(connection, lambda all_: all_[:1]))
        with pytest.raises(Contradicted, match="ended at"):
            await exchanged(vehicle)
        assert "audit_contradicted" in {entry.event for entry in await receiver.store.transact(journal.tail, 9)}


async def test_a_vehicle_that_rewrites_its_own_audit_is_noticed_on_both_sides(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await both_signed(receiver, vehicle)
        vehicle.disk.remove("updates/audit")
        own_audit(vehicle).add("kept", "nothing at all")
        with pytest.raises(Contradicted, match="this vehicle's audit"):
            await exchanged(vehicle)
        vehicle.disk.remove(SEEN_FILE)
        await exchanged(vehicle)
        (alarm,) = [e for e in await receiver.store.transact(journal.tail, 9) if e.event == "audit_contradicted"]
        assert "another entry" in alarm.detail


def lines_of(vehicle: Vehicle) -> list[bytes]:
    return vehicle.disk.read("updates/audit").splitlines(keepends=True)


def put(vehicle: Vehicle, lines: Sequence[bytes]) -> None:
    replace_file(vehicle.disk, "updates/audit", b"".join(lines))


def put_chained(vehicle: Vehicle, events: Sequence[str]) -> None:
    """A forger with the vehicle's disk: every digest is right."""
    vehicle.disk.remove("updates/audit")
    for event in events:
        own_audit(vehicle).add(event, "a release")


OWN_FORGERIES: dict[str, Callable[[Vehicle], None]] = {
    "a line changed": lambda car: put(car, [lines_of(car)[0].replace(b"first", b"worst"), *lines_of(car)[1:]]),
    "a line out": lambda car: put(car, [lines_of(car)[0], *lines_of(car)[2:]]),
    "two lines swapped": lambda car: put(car, [lines_of(car)[1], lines_of(car)[0], *lines_of(car)[2:]]),
    "the first taken out": lambda car: put(car, lines_of(car)[1:]),
    "cut off": lambda car: put(car, lines_of(car)[:-1]),
    "all gone": lambda car: car.disk.remove("updates/audit"),
    "rewritten": lambda car: put_chained(car, ["first", "second", "forged"]),
    "rewritten in another order": lambda car: put_chained(car, ["second", "first", "third"]),
    "rewritten without one": lambda car: put_chained(car, ["first", "third"]),
}


async def a_signed_vehicle(receiver: Receiver, folder: Path) -> Vehicle:
    vehicle = await a_vehicle(receiver, folder)
    for event in ("first", "second", "third"):
        own_audit(vehicle).add(event, "a release")
    await exchanged(vehicle)
    return vehicle


def verdict_of(vehicle: Vehicle, seen: list[CheckpointAnswer] | None = None) -> list[str]:
    return verify(vehicle.paired, vehicle.clock, vehicle.disk, seen).findings


async def test_a_vehicles_audit_that_nobody_changed_holds_and_so_does_what_was_added_since(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_signed_vehicle(receiver, tmp_path)
        own_audit(vehicle).add("fourth", "a release")
        verdict = verify(vehicle.paired, vehicle.clock, vehicle.disk)
        assert (verdict.entries, verdict.checkpoints, verdict.findings) == (4, 1, [])


async def test_what_was_changed_of_a_vehicles_audit_is_found_by_what_the_receiver_signed(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_signed_vehicle(receiver, tmp_path)
        whole, seen = lines_of(vehicle), load_seen(vehicle.disk)
        vehicle.disk.remove(SEEN_FILE)
        for name, forge in OWN_FORGERIES.items():
            put(vehicle, whole)
            forge(vehicle)
            assert verdict_of(vehicle, seen), name
            if "rewritten" in name:
                assert verdict_of(vehicle) == [], "in itself the chain holds"
        put(vehicle, whole)
        assert verdict_of(vehicle, seen) == []


async def test_a_file_that_was_full_may_be_gone_with_its_entries(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_signed_vehicle(receiver, tmp_path)
        for _ in range(6):
            own_audit(vehicle).add("long", "x" * 400_000)
        assert own_audit(vehicle).kept()[0].seq > 1
        assert verdict_of(vehicle) == []
        await exchanged(vehicle)
        assert verdict_of(vehicle) == []


async def test_checkpoints_that_the_receiver_didnt_sign_for_this_vehicle_vouch_for_nothing(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_signed_vehicle(receiver, tmp_path)
        (held,) = load_seen(vehicle.disk)
        put_chained(vehicle, ["first", "forged"])
        head = head_of(own_audit(vehicle).entries()[-1])
        lies = (
            msgspec.structs.replace(held, head=head),
            msgspec.structs.replace(held, vehicle="veh-002"),
            msgspec.structs.replace(held, signature="no hex"),
        )
        for lie in lies:
            assert "isn't signed" in verdict_of(vehicle, [lie])[0]


async def test_the_verb_says_what_it_found_and_ends_with_no(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_signed_vehicle(receiver, tmp_path)
        at = ["audit", "verify", "--state", str(tmp_path / vehicle.name)]
        assert "3 entries, 1 checkpoints" in CliRunner().invoke(agent_cli.app, at).output
        put_chained(vehicle, ["first"])
        refused = CliRunner().invoke(agent_cli.app, at)
        assert isinstance(refused.exception, OutriderError)
        assert "entry 3 is gone" in str(refused.exception)


async def test_a_checkpoint_counts_only_by_the_key_of_its_vehicle(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        asked = CheckpointRequest(Head(9, "aa" * 32), Head(), vehicle.keys.sign(b"something else").hex())
        with pytest.raises(PairingRefused, match="isn't signed"):
            await asyncio.to_thread(countersign, vehicle.paired, vehicle.keys, vehicle.clock, asked)
        assert receiver.counters.audit_checkpoints == 0


async def test_a_checkpoint_that_was_changed_in_the_database_or_by_a_vehicle_is_none(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        await both_signed(receiver, vehicle)
        (held, *_) = load_seen(vehicle.disk)
        lie = msgspec.structs.replace(held, receiver=Head(1, "bb" * 32))
        assert "isn't signed" in (await receiver.operator.verify_audit([lie])).findings[0]
        forged = update(audit_checkpoint).values(seen_seq=1)
        await receiver.store.transact(lambda connection: connection.execute(forged) and None)
        assert "isn't what it signed" in (await receiver.operator.verify_audit([])).findings[0]


def test_an_empty_chain_has_a_head() -> None:
    assert head_of(None) == Head()
    assert head_of(link(None, 1, "a", "", "")).seq == 1


def test_what_is_signed_is_as_the_page_has_it() -> None:
    page = (Path(__file__).parents[2] / "docs/formats/audit.md").read_text()
    signed = message("car-1", Head(3, "aa"), Head(17, "bb"))
    assert f"{len(signed)} bytes" in page
    assert hashlib.sha256(signed).hexdigest() in page
