"""The receiver behind a broker: whom it believes, what it says to whom, and how it comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ecu.clock import SECOND_NS, SteppingClock, SystemClock
from ecu.disk import RealDisk
from ecu.errors import UsageFault
from receiver.behind import AGAIN_CAP_S, MOST_WAITING, Behind, Broker
from receiver.config import ReceiverConfig, broker_address
from receiver.counters import Counters
from receiver.inbox import Verdict
from receiver.pki import Authority
from receiver.service import Receiver
from receiver.store import Store, sqlite_url
from receiver.unsettled import MESSAGE_COST_BYTES, WAITING_PER_VEHICLE
from simulator.clouds.mosquitto import HOST, running_mosquitto
from telemetry.links.link import Hint, Refused, Throttled, Unauthorized
from telemetry.links.mqtt import MqttLink
from telemetry.links.pahoclient import PahoConnection, TlsDialer
from telemetry.records import Lane
from telemetry.wire import Decision, block_name, down_topic, status_topic, unpack_refusal, up_topic
from tests.contracts.brokerworld import BrokerWorld, a_broker, a_broker_world
from tests.contracts.scriptedbroker import (
    CONNECT,
    PUBLISH,
    SUBSCRIBE,
    Answer,
    ScriptedBroker,
    a_scripted_broker,
    connack,
    puback,
    receive_maximum,
    welcome,
)
from tests.contracts.test_link import WITHOUT_BROKER
from tests.receiver.fleet import VEHICLE, a_receiver, make_block, until

pytestmark = pytest.mark.skipif(bool(WITHOUT_BROKER), reason=WITHOUT_BROKER)

STRANGER = "veh-999"


class Raw:
    """A client of the broker that publishes what it likes (pahoclient.Events)."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
        self.acknowledged_with: asyncio.Queue[int] = asyncio.Queue()
        self._up: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._listening: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def dial(self, world: BrokerWorld, name: str, context: Any) -> None:
        self.line = PahoConnection(name, TlsDialer(context, 5.0, lambda _: None), 100, self)
        await asyncio.to_thread(self.line.open, HOST, world.broker.port, 30)
        await self._up
        self.line.subscribe(down_topic(name, "#"))
        await self._listening

    def connected(self, *_: Any) -> None:
        self._up.set_result(None)

    def subscribed(self, *_: Any) -> None:
        self._listening.set_result(None)

    def acknowledged(self, packet_id: int, code: int, words: str) -> None:
        self.acknowledged_with.put_nowait(code)

    def arrived(self, topic: str, payload: bytes) -> None:
        self.heard.put_nowait((topic, payload))

    def lost(self, words: str) -> None: ...


@contextlib.asynccontextmanager
async def raw(world: BrokerWorld, name: str, context: Any = None) -> AsyncIterator[Raw]:
    client = Raw()
    context = context or world.receiver.authority.client_context(name, world.receiver.authority.pem)
    await client.dial(world, name, context)
    yield client
    await asyncio.to_thread(client.line.end)


@contextlib.asynccontextmanager
async def connected(world: BrokerWorld, **settings: object) -> AsyncIterator[MqttLink]:
    link = await world.link(**settings)  # type: ignore[arg-type]
    assert isinstance(link, MqttLink)
    await link.connect()
    yield link
    await link.close()


async def test_a_name_that_nobody_paired_stores_nothing_and_is_told_so(tmp_path: Path) -> None:
    async with a_broker_world(tmp_path) as world, raw(world, STRANGER) as stranger:
        stranger.line.publish(up_topic(STRANGER, Lane.P1), make_block())
        topic, payload = await stranger.heard.get()
        assert topic == down_topic(STRANGER, "refusal")
        refusal = unpack_refusal(payload)
        assert (refusal.name, refusal.decision) == (block_name(make_block()), Decision.UNAUTHORIZED)
        assert await world.stored(STRANGER) == []
        assert world.receiver.counters.not_admitted == 1


async def test_no_vehicle_publishes_or_hears_under_another_name(tmp_path: Path) -> None:
    async with a_broker_world(tmp_path) as world, raw(world, STRANGER) as stranger, connected(world) as link:
        for topic in (up_topic(VEHICLE, Lane.P1), down_topic(VEHICLE, "receipt"), status_topic(VEHICLE)):
            stranger.line.publish(topic, make_block())
            assert await stranger.acknowledged_with.get() == 0x87
        await link.publish(Lane.P1, make_block(30))
        assert await world.stored() == [make_block(30)]
        assert stranger.heard.empty()


async def test_a_revoked_vehicle_is_unauthorized_with_its_next_block_although_the_broker_lets_it_in(
    tmp_path: Path,
) -> None:
    async with a_broker_world(tmp_path) as world, connected(world) as link:
        await link.publish(Lane.P1, make_block())
        await world.receiver.operator.revoke(VEHICLE)
        with pytest.raises(Unauthorized, match="Enrol and pair it again"):
            await link.publish(Lane.P1, make_block(3))
        assert len(await world.stored()) == 1


async def test_topics_that_mean_nothing_are_counted_and_nothing_else(tmp_path: Path) -> None:
    async with a_broker_world(tmp_path) as world, connected(world) as link:
        await link.publish(Lane.P1, make_block())
        vehicle = await world.vehicle()
        await link.close()
        async with raw(world, VEHICLE, vehicle.context()) as odd:
            for tail in ("p9", "p1/more", "STATUS", ""):
                odd.line.publish(f"outrider/v1/{VEHICLE}/up/{tail}", b"x")
            await until(lambda: world.receiver.counters.broker_ignored == 4)


async def test_what_waits_for_the_store_is_bounded_and_counted(tmp_path: Path) -> None:
    async with a_broker_world(tmp_path) as world:
        vehicle = await world.vehicle()
        async with raw(world, VEHICLE, vehicle.context()) as flood:
            with world.holding():
                for n in range(WAITING_PER_VEHICLE + 20):
                    flood.line.publish(up_topic(VEHICLE, Lane.P1), make_block(3 * n))
                await until(lambda: world.receiver.counters.broker_dropped == 20)
            await until(lambda: world.receiver.counters.blocks_stored == WAITING_PER_VEHICLE)


async def test_the_bytes_of_all_that_waits_for_the_store_are_bounded_and_what_falls_out_is_counted(
    tmp_path: Path,
) -> None:
    block = make_block(count=200)
    room = 2 * 128 * 1024
    async with a_broker_world(tmp_path, queue_bytes=room) as world:
        names = [f"veh-{n:03d}" for n in range(1, 21)]
        async with contextlib.AsyncExitStack() as clients:
            fleet = [await clients.enter_async_context(raw(world, name)) for name in names]
            with world.holding():
                for client, name in zip(fleet, names, strict=True):
                    for _ in range(50):
                        client.line.publish(up_topic(name, Lane.P1), block)
                await until(lambda: world.receiver.counters.broker_messages == 1000)
                fits = room // (len(block) + MESSAGE_COST_BYTES)
                assert world.receiver.counters.broker_dropped == 1000 - fits


async def test_no_more_is_told_at_once_than_the_broker_takes_and_the_rest_follows(tmp_path: Path) -> None:
    unacknowledged: list[bytes] = []
    heard = most = 0

    def answer(kind: int, body: bytes) -> bytes | None:
        nonlocal heard, most
        if kind == CONNECT:
            return connack(receive_maximum(3))
        if kind == PUBLISH:
            unacknowledged.append(body)
            heard, most = heard + 1, max(most, len(unacknowledged))
        return welcome(kind, body)

    async with behind_a_scripted_broker(tmp_path, answer) as (broker, receiver, behind):
        for n in range(50):
            assert behind.hint(VEHICLE, f"look-{n}")
        while heard < 50:
            await until(lambda: bool(unacknowledged))
            broker.say(puback(unacknowledged.pop(0)))
        assert most == 3
        assert receiver.counters.broker_dropped == 0


async def test_what_a_broker_doesnt_take_waits_up_to_a_bound_and_what_falls_out_is_counted(tmp_path: Path) -> None:
    def answer(kind: int, body: bytes) -> bytes | None:
        return connack(receive_maximum(3)) if kind == CONNECT else welcome(kind, body)

    async with behind_a_scripted_broker(tmp_path, answer) as (broker, receiver, behind):
        told = sum(behind.hint(VEHICLE, "look") for _ in range(MOST_WAITING + 10))
        assert (told, receiver.counters.broker_dropped) == (MOST_WAITING + 3, 7)
        broker.hang_up()
        await until(lambda: receiver.counters.broker_dropped == MOST_WAITING + 7)


class Impatient(SteppingClock):
    """Sleeps through at once, and notes for how long."""

    def __init__(self) -> None:
        super().__init__(wall_ns=SystemClock().wall_ns())
        self.slept: list[float] = []

    async def sleep_until(self, boot_ns: int) -> None:
        self.slept.append((boot_ns - self.boot_ns()) / SECOND_NS)
        self.advance(max(boot_ns, self.boot_ns()))
        await asyncio.sleep(0)


class Longest(Random):
    def uniform(self, a: float, b: float) -> float:
        return b


async def test_a_broker_that_lets_it_in_and_out_again_is_left_alone_longer_and_longer(tmp_path: Path) -> None:
    clock, connections = Impatient(), 8

    def answer(kind: int, body: bytes) -> bytes | None:
        if kind == SUBSCRIBE and broker.connections < connections:
            asyncio.get_running_loop().call_soon(broker.hang_up)  # after this answer
        return welcome(kind, body)

    async with a_scripted_broker(tmp_path, answer) as broker:
        address = Broker(HOST, broker.port, lambda: broker.context("outrider-receiver"), "outrider-receiver")
        store = Store(sqlite_url(RealDisk(tmp_path)))
        behind = Behind(address, store, Nobody(), clock, Longest(), Counters(), 1)
        running = asyncio.create_task(behind.run())
        await until(lambda: broker.connections == connections and behind.ready.is_set())
        assert clock.slept == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
        # One that lasted was no failure.
        clock.advance(clock.boot_ns() + int(AGAIN_CAP_S * SECOND_NS) + 1)
        broker.hang_up()
        await until(lambda: len(clock.slept) == connections)
        assert clock.slept[-1] == 0.5
        running.cancel()
        await asyncio.wait({running})


class Nobody:
    """To whom nothing comes (receiver.behind.Desk)."""

    def submit(self, vehicle: str, lane: Lane, block: bytes) -> asyncio.Future[Verdict]:
        raise AssertionError

    def report(self, vehicle: str, status: bytes) -> asyncio.Future[Verdict]:
        raise AssertionError


@contextlib.asynccontextmanager
async def behind_a_scripted_broker(
    folder: Path, answer: Answer
) -> AsyncIterator[tuple[ScriptedBroker, Receiver, Behind]]:
    disk = RealDisk(folder / "receiver")
    disk.make_folder("")
    authority = await asyncio.to_thread(Authority, disk, SystemClock(), 14)
    async with (
        a_scripted_broker(folder, answer, authority) as broker,
        a_receiver(folder, broker=f"mqtts://{HOST}:{broker.port}") as receiver,
    ):
        assert receiver.behind is not None
        await receiver.behind.ready.wait()
        yield broker, receiver, receiver.behind


async def test_it_comes_back_to_a_broker_that_was_away(tmp_path: Path) -> None:
    async with a_broker(tmp_path) as broker:
        port = broker.port
        async with a_receiver(tmp_path, broker=broker.url) as receiver:
            assert receiver.behind is not None
            await receiver.behind.ready.wait()
            await broker.stop()
            await until(lambda: receiver.behind is not None and not receiver.behind.ready.is_set())
            authority = (tmp_path / "receiver" / "authority" / "ca.pem").read_bytes()
            server = tmp_path / "broker" / "server.pem"
            async with running_mosquitto(tmp_path / "again", authority, server, port=port) as again:
                await receiver.behind.ready.wait()
                world = BrokerWorld(again, receiver, tmp_path, None)
                async with connected(world) as link:
                    await link.publish(Lane.P1, make_block())
                assert len(await world.stored()) == 1


async def test_without_a_receiver_the_vehicle_keeps_its_block_and_knows_why(tmp_path: Path) -> None:
    async with a_broker_world(tmp_path) as world, connected(world) as link:
        world.broker.cut("outrider-receiver", world.outsider())
        await until(lambda: world.receiver.behind is not None and not world.receiver.behind.ready.is_set())
        with pytest.raises(Throttled, match="no receiver"):
            await link.publish(Lane.P1, make_block())


async def test_the_endpoint_beside_it_goes_on_and_a_hint_finds_the_vehicle_on_either(tmp_path: Path) -> None:
    async with a_broker_world(tmp_path) as world:
        direct = (await world.vehicle("veh-002")).link()
        await direct.connect()
        await direct.publish(Lane.P1, make_block())
        async with connected(world) as link:
            assert world.receiver.operator.hint(VEHICLE, "look")
            assert await anext(link.hints()) == Hint("look")
            with pytest.raises(Refused):
                await link.publish(Lane.P1, b"junk")
        assert world.receiver.operator.hint("veh-002", "look-too")
        assert await anext(direct.hints()) == Hint("look-too")
        await direct.close()


def test_a_broker_is_named_by_host_and_port_and_nothing_else() -> None:
    assert broker_address("mqtts://b.example:8883") == ("b.example", 8883)
    assert broker_address("mqtts://[::1]:1") == ("::1", 1)
    for url in ("mqtt://b:1", "mqtts://b", "b:8883", "mqtts://b:8883/x", "mqtts://u:p@b:1"):
        with pytest.raises(ValueError, match="isn't mqtts"):
            ReceiverConfig(broker=url)


@pytest.mark.parametrize("key", ["broker_ca", "broker_identity"])
async def test_a_file_that_cannot_be_used_ends_the_receiver_in_words(tmp_path: Path, key: str) -> None:
    settings: dict[str, Any] = {"broker": "mqtts://localhost:1", key: str(tmp_path / "none.pem")}
    with pytest.raises(UsageFault, match=key):
        async with a_receiver(tmp_path, **settings):
            pass
