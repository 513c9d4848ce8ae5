"""Objects from a vehicle to a real receiver: whole or not at all, whoever is cut, killed or short of room."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from agent.objectlink import HttpsObjectLink, understood
from ecu.clock import SECOND_NS, OffsetClock, SystemClock
from receiver import journal
from simulator.faults.net import FaultProxy, Flow
from telemetry.links.link import ClockUntrusted, LinkError, Refused, Throttled, Unauthorized, Unreachable
from telemetry.objects.link import Mismatch
from telemetry.objects.status import ObjectUplinkState
from telemetry.objects.wire import ByteRange, Have
from tests.agent.objects import SLICE, Car, link_of, named, send_all
from tests.receiver.fleet import VEHICLE, a_receiver, a_vehicle, until
from tests.receiver.test_service import a_child

PICTURE = os.urandom(100_000)


async def test_a_picture_arrives_as_it_was_taken_and_its_file_is_found(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        car, vehicle = Car(tmp_path / "objects"), await a_vehicle(receiver, tmp_path)
        pictures = [os.urandom(size) for size in (1, SLICE, SLICE + 1, 100_000)]
        for data in pictures:
            await car.take(data)
        async with car.sending(link_of(vehicle)):
            await car.emptied()
        listed = await receiver.operator.objects()
        assert {line.sha256 for line in listed} == {named(data) for data in pictures}
        assert {Path(line.path).read_bytes() for line in listed} == set(pictures)
        assert (car.store.counts().stored, receiver.counters.objects_stored) == (4, 4)
        # What it has isn't sent again.
        link = link_of(vehicle)
        assert await asyncio.to_thread(link.look, named(PICTURE)) == Have(0, stored=False)
        assert await asyncio.to_thread(link.look, named(pictures[0])) == Have(1, stored=True)
        again = await asyncio.to_thread(link.send, named(pictures[0]), ByteRange(0, 1, 1), pictures[0])
        assert (again, receiver.counters.objects_known) == (Have(1, stored=True), 1)
        link.close()


async def test_only_the_next_bytes_are_taken_and_every_other_slice_learns_which_those_are(tmp_path: Path) -> None:
    # Mutation: taking a slice wherever it says it belongs makes a picture with a hole, or grows it twice.
    async with a_receiver(tmp_path) as receiver:
        link, sha256 = link_of(await a_vehicle(receiver, tmp_path)), named(PICTURE)

        def send(start: int, end: int, total: int = len(PICTURE)) -> Have:
            return link.send(sha256, ByteRange(start, end, total), PICTURE[start:end])

        def exchange() -> None:
            assert send(500, 1000) == Have(0, stored=False), "a gap"
            assert send(0, 1000) == Have(1000, stored=False)
            assert send(0, 1000) == Have(1000, stored=False), "an overlap"
            assert send(999, 2000) == Have(1000, stored=False), "a small overlap"
            assert send(1001, 2000) == Have(1000, stored=False), "a small gap"
            assert link.look(sha256) == Have(1000, stored=False)
            assert send(1000, 50_000) == Have(50_000, stored=False)
            assert send(50_000, 100_000) == Have(100_000, stored=True)

        await asyncio.to_thread(exchange)
        assert receiver.counters.object_slices == 3
        assert receiver.counters.object_slices_misplaced == 4
        link.close()


async def test_whichever_byte_a_connection_is_cut_at_the_picture_arrives_and_little_is_sent_twice(
    tmp_path: Path,
) -> None:
    # Mutation: appending what came of a slice before it is whole; believing the sender's offset.
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        async with FaultProxy("127.0.0.1", receiver.address.https_port) as proxy:
            for number in range(12):
                car = Car(tmp_path / f"objects-{number}")
                data = os.urandom(90_000)
                await car.take(data)
                proxy.shape(up=Flow(bytes_per_s=2_000_000))
                began = proxy.counters.up_bytes
                async with car.sending(link_of(vehicle, proxy.port)) as uplink:
                    at = began + 500 + number * 7_500
                    await until(lambda at=at: proxy.counters.up_bytes >= at)  # type: ignore[misc]
                    proxy.cut()
                    proxy.restore()
                    await car.emptied()
                    # One slice lost with its answer, and the handshakes of a few connections.
                    assert uplink.status().counts.bytes_sent <= 90_000 + SLICE
                assert proxy.counters.up_bytes - began <= 90_000 + 2 * SLICE + 30_000
                assert Path((await receiver.operator.objects())[0].path).read_bytes() in data
        assert len(await receiver.operator.objects()) == 12
        assert receiver.counters.objects_mismatched == 0
        assert receiver.counters.objects_refused == receiver.counters.objects_throttled == 0


async def test_a_connection_that_stands_still_is_given_up_in_time(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        async with FaultProxy("127.0.0.1", receiver.address.https_port) as proxy:
            paired = vehicle.paired
            link = HttpsObjectLink(paired.host, proxy.port, vehicle.context(), SystemClock(), timeout_s=0.3)
            assert await asyncio.to_thread(link.look, named(PICTURE)) == Have(0, stored=False)
            proxy.blackhole()
            with pytest.raises(Unreachable, match="in time"):
                await asyncio.to_thread(link.look, named(PICTURE))
            proxy.restore()
            assert await asyncio.to_thread(link.look, named(PICTURE)) == Have(0, stored=False)
            link.close()


async def test_a_connection_that_the_receiver_closed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        async with FaultProxy("127.0.0.1", receiver.address.https_port) as proxy:
            link = link_of(vehicle, proxy.port)
            for _ in range(3):
                # No failure is told: only a connection lay there, dead.
                assert await asyncio.to_thread(link.look, named(PICTURE)) == Have(0, stored=False)
                proxy.cut()
                proxy.restore()
            assert proxy.counters.accepted == 3
            link.close()


async def test_an_interrupted_wait_ends_at_once(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        async with FaultProxy("127.0.0.1", receiver.address.https_port) as proxy:
            link = link_of(vehicle, proxy.port)
            await asyncio.to_thread(link.look, named(PICTURE))
            proxy.shape(down=Flow(stalled=True))
            asked = proxy.counters.up_bytes
            waiting = asyncio.create_task(asyncio.to_thread(link.look, named(PICTURE)))
            await until(lambda: proxy.counters.up_bytes > asked)
            link.interrupt()
            async with asyncio.timeout(2):
                with pytest.raises(Unreachable):
                    await waiting
            link.close()


async def test_a_receiver_that_comes_back_is_gone_on_with_where_it_was(tmp_path: Path) -> None:
    car = Car(tmp_path / "objects")
    await car.take(PICTURE)
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        link, sha256 = link_of(vehicle), named(PICTURE)
        await asyncio.to_thread(link.send, sha256, ByteRange(0, 60_000, 100_000), PICTURE[:60_000])
        ports: dict[str, Any] = {"mqtt_port": receiver.address.mqtt_port, "https_port": receiver.address.https_port}
        link.close()
    async with car.sending(link_of(vehicle)) as uplink:
        await until(lambda: uplink.status().counts.failures > 1)
        assert car.store.counts().kept == 1
        async with a_receiver(tmp_path, **ports) as receiver:
            await car.emptied()
            assert uplink.status().counts.bytes_sent == 40_000
            (line,) = await receiver.operator.objects()
            assert Path(line.path).read_bytes() == PICTURE


async def test_an_agent_that_starts_again_goes_on_where_it_was(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        car = Car(tmp_path / "objects", config=Car(tmp_path / "other").config.model_copy(update={"bytes_per_s": 2e5}))
        await car.take(PICTURE)
        async with car.sending(link_of(vehicle)):
            await until(lambda: receiver.counters.object_slices >= 2)
        sent = receiver.counters.object_slices
        assert car.store.counts().kept == 1
        again = Car(tmp_path / "objects", keys=car.keys)
        async with again.sending(link_of(vehicle)) as uplink:
            await again.emptied()
            assert uplink.status().counts.bytes_sent == 100_000 - sent * SLICE
        assert again.store.counts().stored == 1


async def test_a_receiver_killed_at_any_moment_has_all_that_it_said_it_stored(tmp_path: Path) -> None:
    # Mutation: saying "stored" before the row is committed; committing it before the file has its name.
    pictures = {named(data): data for data in (os.urandom(40_000) for _ in range(30))}
    said: set[str] = set()
    async with a_child(tmp_path) as child:
        vehicle = await child.vehicle(tmp_path)
        link = link_of(vehicle)

        def bring() -> None:
            for sha256, data in pictures.items():
                if send_all(link, data).stored:
                    said.add(sha256)

        bringing = asyncio.create_task(asyncio.to_thread(bring))
        await until(lambda: len(said) >= 12)
        assert await child.end(signal.SIGKILL) == -signal.SIGKILL
        with pytest.raises(Unreachable):
            await bringing
        link.close()
    async with a_child(tmp_path) as child:
        stored = {line.sha256: Path(line.path) for line in await asyncio.to_thread(child.operator.objects, VEHICLE)}
        assert 12 <= len(said) <= len(stored) < 30
        assert said <= stored.keys()
        port = child.ready["https_port"]
        assert isinstance(port, int)
        link = link_of(vehicle, port)
        for data in pictures.values():
            await asyncio.to_thread(send_all, link, data)
        link.close()
        stored = {line.sha256: Path(line.path) for line in await asyncio.to_thread(child.operator.objects)}
        assert {sha256: path.read_bytes() for sha256, path in stored.items()} == pictures


async def test_other_bytes_than_were_named_are_thrown_away_and_told_of(tmp_path: Path) -> None:
    # Mutation: storing without comparing the digest.
    async with a_receiver(tmp_path) as receiver:
        link, sha256 = link_of(await a_vehicle(receiver, tmp_path)), named(PICTURE)
        wrong = PICTURE[:-1] + bytes([PICTURE[-1] ^ 1])
        with pytest.raises(Mismatch, match="thrown away"):
            await asyncio.to_thread(send_all, link, wrong, sha256)
        assert await asyncio.to_thread(link.look, sha256) == Have(0, stored=False)
        assert await receiver.operator.objects() == []
        assert receiver.counters.objects_mismatched == 1
        (entry,) = await receiver.store.transact(journal.tail, 1)
        assert (entry.event, entry.subject) == ("object_mismatch", VEHICLE)
        assert (await asyncio.to_thread(send_all, link, PICTURE)).stored
        link.close()


async def test_a_partial_file_that_rotted_costs_one_more_try_and_no_picture(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, car = await a_vehicle(receiver, tmp_path), Car(tmp_path / "objects")
        link, pictures = link_of(vehicle), [os.urandom(100_000) for _ in range(3)]
        # Half of it is zeros; all of it is there, and is other bytes; there is more than there should be.
        for data, come, total in zip(pictures, (60_000, 100_000, 160_000), (100_000, 200_000, 200_000), strict=True):
            rotten = data[:1000] + bytes(come - 1000)
            await asyncio.to_thread(link.send, named(data), ByteRange(0, come, total), rotten)
            await car.take(data)
        async with car.sending(link_of(vehicle)) as uplink:
            await car.emptied()
            assert uplink.status().counts.mismatches == 1
        link.close()
        assert {Path(line.path).read_bytes() for line in await receiver.operator.objects()} == set(pictures)
        assert car.store.counts().stored == 3


async def test_what_is_too_large_for_the_receiver_is_given_up_and_what_has_no_room_waits(tmp_path: Path) -> None:
    async with a_receiver(tmp_path, object_bytes=50_000, vehicle_object_bytes=80_000) as receiver:
        vehicle, car = await a_vehicle(receiver, tmp_path), Car(tmp_path / "objects")
        large, first, second = os.urandom(50_001), os.urandom(50_000), os.urandom(30_001)
        for data in (large, first, second):
            await car.take(data)
        async with car.sending(link_of(vehicle)) as uplink:
            await until(lambda: receiver.counters.objects_no_room > 1)
            counts = car.store.counts()
            assert (counts.refused, counts.stored, counts.kept) == (1, 1, 1)
            await until(lambda: "no more room" in uplink.status().reason)
            assert "50001" in (counts.last_refusal or "")
        assert [line.sha256 for line in await receiver.operator.objects()] == [named(first)]
        other = link_of(await a_vehicle(receiver, tmp_path, name="veh-002"))
        assert (await asyncio.to_thread(send_all, other, second)).stored, "another vehicle has its own room"
        other.close()


async def test_a_revoked_vehicle_is_let_in_no_more_and_keeps_what_it_has(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle, car = await a_vehicle(receiver, tmp_path), Car(tmp_path / "objects")
        link = link_of(vehicle)
        await asyncio.to_thread(link.send, named(PICTURE), ByteRange(0, 1000, 100_000), PICTURE[:1000])
        await receiver.operator.revoke(VEHICLE)
        with pytest.raises(Unauthorized, match="revoked"):
            await asyncio.to_thread(link.send, named(PICTURE), ByteRange(1000, 2000, 100_000), PICTURE[1000:2000])
        with pytest.raises(Unauthorized):
            await asyncio.to_thread(link.look, named(PICTURE))
        link.close()
        await car.take(PICTURE)
        async with car.sending(link_of(vehicle)) as uplink:
            await until(lambda: uplink.status().state is ObjectUplinkState.UNAUTHORIZED)
        assert car.store.counts().kept == 1


async def test_a_renewed_certificate_is_shown_at_the_next_question_after_a_refusal(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        context, paired = vehicle.context(), vehicle.paired
        link = HttpsObjectLink(paired.host, paired.https_port, context, SystemClock(), timeout_s=10)
        assert await asyncio.to_thread(link.look, named(PICTURE)) == Have(0, stored=False)
        await receiver.operator.revoke(VEHICLE)
        with pytest.raises(Unauthorized):
            await asyncio.to_thread(link.look, named(PICTURE))
        (await a_vehicle(receiver, tmp_path, name="veh-002")).keys.load_identity(context)
        assert await asyncio.to_thread(link.look, named(PICTURE)) == Have(0, stored=False)
        link.close()


async def test_two_vehicles_with_one_picture_have_it_each_and_neither_sees_the_others(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        links = [link_of(await a_vehicle(receiver, tmp_path, name=name)) for name in ("veh-001", "veh-002")]
        assert (await asyncio.to_thread(send_all, links[0], PICTURE)).stored
        assert await asyncio.to_thread(links[1].look, named(PICTURE)) == Have(0, stored=False)
        await asyncio.to_thread(links[1].send, named(PICTURE), ByteRange(0, 10, 100_000), PICTURE[:10])
        assert (await asyncio.to_thread(send_all, links[1], PICTURE)).stored
        assert [len(await receiver.operator.objects(name)) for name in ("veh-001", "veh-002")] == [1, 1]
        paths = {line.path for line in await receiver.operator.objects()}
        assert len(paths) == 2
        assert all(Path(path).read_bytes() == PICTURE for path in paths)
        for link in links:
            link.close()


async def test_a_clock_that_is_wrong_is_said_before_anything_is_sent(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        link = link_of(vehicle, clock=OffsetClock(SystemClock(), -365 * 86_400 * SECOND_NS))
        with pytest.raises(ClockUntrusted):
            await asyncio.to_thread(link.look, named(PICTURE))


async def test_a_stranger_is_not_believed_and_gets_no_byte(tmp_path: Path) -> None:
    async with a_receiver(tmp_path / "ours") as ours, a_receiver(tmp_path / "theirs") as theirs:
        vehicle = await a_vehicle(ours, tmp_path)
        link = link_of(vehicle, theirs.address.https_port)
        with pytest.raises(Unreachable, match="authority"):
            await asyncio.to_thread(link.send, named(PICTURE), ByteRange(0, 100, 100), PICTURE[:100])


@pytest.mark.parametrize(
    ("status", "headers", "meant"),
    [
        (200, {"x-outrider-have": "5", "x-outrider-state": "stored"}, Have(5, stored=True)),
        (202, {"x-outrider-have": "5", "x-outrider-state": "partial"}, Have(5, stored=False)),
        (409, {"x-outrider-have": "0", "x-outrider-state": "partial"}, Have(0, stored=False)),
        (200, {}, Unreachable),
        (200, {"x-outrider-have": "many", "x-outrider-state": "stored"}, Unreachable),
        (301, {}, Unreachable),
        (400, {}, Refused),
        (413, {}, Refused),
        (422, {}, Mismatch),
        (403, {}, Unauthorized),
        (404, {}, Throttled),
        (429, {"retry-after": "7"}, Throttled),
        (507, {"retry-after": "-1"}, Throttled),
        (500, {}, Unreachable),
        (503, {}, Unreachable),
    ],
)
def test_each_answer_is_one_decision(status: int, headers: dict[str, str], meant: Have | type[LinkError]) -> None:
    if isinstance(meant, Have):
        assert understood(status, headers, b"", "receiver") == meant
        return
    with pytest.raises(LinkError) as error:
        understood(status, headers, b'{"error":"why"}', "receiver")
    assert type(error.value) is meant
    if isinstance(error.value, Throttled):
        assert error.value.after_s == {429: 7.0, 507: 60.0, 404: 3600.0}[status]
