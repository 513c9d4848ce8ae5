"""The Link contract: every implementation, one suite. Those with a wire meet a real receiver over real TLS.

The same suite runs again, in processes of their own, with what installing a cloud's extra gives: test_resolutions.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import importlib.util
import os
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import pytest

from agent.azure import demand_sdk
from agent.pairing import renew
from ecu.clock import SECOND_NS, OffsetClock, SteppingClock, SystemClock
from ecu.errors import UsageFault
from receiver.listener import listen
from simulator.clouds.mosquitto import find_mosquitto
from telemetry.links.link import (
    Accepted,
    Acks,
    ClockUntrusted,
    Hint,
    Link,
    Refused,
    Throttled,
    Unauthorized,
    Unreachable,
    Untrusted,
)
from telemetry.links.mqtt import MqttLink
from telemetry.links.tls import NO_CHECK_TIME
from telemetry.records import Lane
from telemetry.wire import Receipt, unpack_block
from tests.contracts.awsworld import an_aws_world
from tests.contracts.azureworld import an_azure_world
from tests.contracts.brokerworld import a_broker_world
from tests.contracts.scriptedbroker import HOST, PUBLISH, a_scripted_broker, puback, welcome
from tests.contracts.watched import Watched
from tests.contracts.worlds import MemoryWorld, MqttWorld, World
from tests.receiver.fleet import EPOCH, VEHICLE, Vehicle, a_receiver, a_vehicle, cost_of, make_block, todays_clock

OTHER = "veh-002"
YEAR_NS = 365 * 86_400 * SECOND_NS
PAHO = importlib.metadata.version("paho-mqtt")
EXPECTED_PAHO = "OUTRIDER_PAHO_EXPECTED"


@contextlib.asynccontextmanager
async def a_world(kind: str, folder: Path, strict: bool = False) -> AsyncIterator[World]:
    clock, settings = None, dict[str, object]()
    if strict:
        clock, settings = (
            todays_clock(),
            {"vehicle_burst_bytes": 1.5 * cost_of(make_block()), "vehicle_bytes_per_s": 1e5},
        )
    match kind:
        case "memory":
            yield MemoryWorld(strict)
        case "mqtt":
            async with a_receiver(folder, clock, **settings) as receiver:
                yield MqttWorld(receiver, folder, clock)
        case "broker":
            async with a_broker_world(folder, clock, **settings) as world:
                yield world
        case "aws":
            async with an_aws_world(folder, clock, **settings) as world:
                yield world
        case "azure":
            async with an_azure_world(folder, clock, **settings) as world:
                yield world


@contextlib.asynccontextmanager
async def a_mqtt_world(folder: Path, **settings: object) -> AsyncIterator[MqttWorld]:
    async with a_receiver(folder, None, **settings) as receiver:
        yield MqttWorld(receiver, folder)


@contextlib.asynccontextmanager
async def connected(world: World, vehicle: str = VEHICLE) -> AsyncIterator[Link]:
    """Under watch: laws 1 and 6 are held to at its end."""
    link = Watched(await world.link(vehicle))
    await link.connect()
    try:
        yield link
    finally:
        await link.close()
    await link.hold(world, vehicle)


try:
    demand_sdk()
    WITHOUT_AZURE = ""
except UsageFault as fault:
    WITHOUT_AZURE = f"{fault} Beside this environment: test_resolutions.py."


WITHOUT_BROKER = "" if find_mosquitto() is not None else "mosquitto isn't installed: apt-get install mosquitto"


WITHOUT_AWS = WITHOUT_BROKER
if importlib.util.find_spec("awscrt") is None:
    WITHOUT_AWS = "awsiotsdk isn't installed: pip install 'outrider[aws]'"

KINDS = [
    "memory",
    "mqtt",
    *([] if WITHOUT_BROKER else ["broker"]),
    *([] if WITHOUT_AWS else ["aws"]),
    *([] if WITHOUT_AZURE else ["azure"]),
]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("missing", [WITHOUT_BROKER, WITHOUT_AWS], ids=["broker", "aws"])
def test_a_broker_and_aws_are_held_to_it_here(missing: str) -> None:
    if missing:
        pytest.skip(missing)


def test_azure_is_held_to_it_here() -> None:
    if WITHOUT_AZURE:
        pytest.skip(WITHOUT_AZURE)


async def next_receipt(link: Link) -> Receipt:
    async with asyncio.timeout(10):
        return await anext(link.receipts())


def has_arrived(waiting: asyncio.Future[Receipt]) -> bool:
    return waiting.done()


# --- blocks and receipts ---------------------------------------------------------------------------------------------


async def test_a_block_is_accepted_stored_and_receipted_for_exactly_its_records(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        assert link.acks is Acks.STORED
        assert await link.publish(Lane.P1, make_block(5, 3)) == Accepted()
        assert await next_receipt(link) == Receipt(Lane.P1, EPOCH, ((5, 8),))
        assert await world.stored() == [make_block(5, 3)]


async def test_a_receipt_comes_after_the_commit_and_never_before(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        await link.publish(Lane.P1, make_block(100))  # whoever takes its blocks knows it from now on
        await next_receipt(link)
        receipt = asyncio.ensure_future(next_receipt(link))
        with world.holding():
            publishing = asyncio.ensure_future(link.publish(Lane.P1, make_block()))
            await asyncio.sleep(0)
            # Refused without the store: a premature receipt would have come before this answer.
            with pytest.raises(Refused):
                await link.publish(Lane.P1, b"junk")
            assert not receipt.done()
        await publishing
        assert (await receipt).ranges == ((0, 3),)
        assert len(await world.stored()) == 2


async def test_the_same_block_again_changes_nothing_and_has_its_receipt_again(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        for _ in range(3):
            await link.publish(Lane.P1, make_block())
            assert (await next_receipt(link)).ranges == ((0, 3),)
        assert len(await world.stored()) == 1


async def test_other_bytes_under_stored_numbers_are_refused_and_have_no_receipt(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        await link.publish(Lane.P1, make_block())
        await next_receipt(link)
        for other in (make_block(note="forged"), make_block(1, 1), make_block(2, 5)):
            with pytest.raises(Refused):
                await link.publish(Lane.P1, other)
        await link.publish(Lane.P1, make_block(10))
        assert (await next_receipt(link)).ranges == ((10, 13),)
        assert await world.stored() == [make_block(), make_block(10)]


async def test_a_refused_block_is_seen_as_refused_and_the_next_one_is_taken(tmp_path: Path, kind: str) -> None:
    whole = make_block()
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        for bad in (b"", b"junk", whole[:-1], whole[:-1] + b"?", make_block(lane=Lane.P3)):
            with pytest.raises(Refused):
                await link.publish(Lane.P1, bad)
        assert await link.publish(Lane.P1, whole) == Accepted()
        assert len(await world.stored()) == 1


async def test_throttled_is_told_apart_from_refused_and_passes(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path, strict=True) as world, connected(world) as link:
        blocks = [make_block(3 * n) for n in range(3)]
        # All of them are over: one still under way would take what is granted next.
        answers = await asyncio.gather(*(link.publish(Lane.P1, block) for block in blocks), return_exceptions=True)
        throttled = [answer for answer in answers if isinstance(answer, Throttled)]
        assert throttled
        assert all(answer.after_s > 0 for answer in throttled)
        assert set(answers) - set(throttled) <= {Accepted()}
        world.relent()
        assert await link.publish(Lane.P1, make_block(30)) == Accepted()


@pytest.mark.parametrize("blocks", [25, pytest.param(200, marks=pytest.mark.soak)])
async def test_receipts_never_go_beyond_what_was_sent_and_vehicles_do_not_meet(
    tmp_path: Path, kind: str, blocks: int
) -> None:
    rng, sent = Random(7), {VEHICLE: set[int](), OTHER: set[int]()}
    async with a_world(kind, tmp_path) as world, connected(world) as one, connected(world, OTHER) as two:
        told = {VEHICLE: set[int](), OTHER: set[int]()}
        for _ in range(blocks):
            name, link = rng.choice([(VEHICLE, one), (OTHER, two)])
            block = make_block(rng.randrange(40), rng.randrange(1, 5), note=name)
            header, _ = unpack_block(block)
            sent[name] |= set(range(header.base_seq, header.end_seq))
            with contextlib.suppress(Refused):
                await link.publish(Lane.P1, block)
                for start, end in (await next_receipt(link)).ranges:
                    told[name] |= set(range(start, end))
            assert told[name] <= sent[name]
        for name in (VEHICLE, OTHER):
            headers = [unpack_block(block)[0] for block in await world.stored(name)]
            stored = {seq for header in headers for seq in range(header.base_seq, header.end_seq)}
            assert told[name] == stored
            assert stored


async def test_more_blocks_at_once_than_may_be_in_flight_all_arrive(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        await asyncio.gather(*(link.publish(Lane.P1, make_block(3 * n)) for n in range(100)))
        assert len(await world.stored()) == 100


# --- connections -----------------------------------------------------------------------------------------------------


async def test_without_a_connection_everything_is_unreachable(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world:
        link = await world.link()
        for attempt in (
            link.publish(Lane.P1, make_block()),
            link.report(b"{}"),
            anext(link.receipts()),
            anext(link.hints()),
        ):
            with pytest.raises(Unreachable):
                await attempt
        await link.close()


async def test_a_broken_connection_ends_everything_that_waits_and_the_next_one_works(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        waiting = [asyncio.ensure_future(anext(link.receipts())), asyncio.ensure_future(anext(link.hints()))]
        await asyncio.sleep(0)
        world.sever(VEHICLE)
        for ended in waiting:
            with pytest.raises(Unreachable):
                await ended
        with pytest.raises(Unreachable):
            await link.publish(Lane.P1, make_block())
        await link.connect()
        await link.publish(Lane.P1, make_block())
        assert (await next_receipt(link)).ranges == ((0, 3),)


async def test_a_second_connect_replaces_the_connection(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        former = link.receipts()
        await link.connect()
        with pytest.raises(Unreachable):
            await anext(former)
        await link.publish(Lane.P1, make_block())
        assert (await next_receipt(link)).ranges == ((0, 3),)


async def test_close_wakes_whoever_waits_and_may_be_called_again(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        waiting = asyncio.ensure_future(anext(link.receipts()))
        await asyncio.sleep(0)
        await link.close()
        await link.close()
        with pytest.raises(Unreachable):
            await waiting
        with pytest.raises(Unreachable):
            await link.publish(Lane.P1, make_block())


async def test_revocation_cuts_a_live_session_and_lets_no_new_one_in(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link, connected(world, OTHER) as bystander:
        waiting = asyncio.ensure_future(anext(link.receipts()))
        await asyncio.sleep(0)
        await world.revoke(VEHICLE)
        with pytest.raises(Unreachable):
            await waiting
        with pytest.raises(Unauthorized, match=r"[Ee]nrol and pair|[Pp]air (it|the vehicle)"):
            await link.connect()
        await bystander.publish(Lane.P1, make_block())
        assert (len(await world.stored()), len(await world.stored(OTHER))) == (0, 1)


async def test_hints_arrive_and_only_the_newest_few_are_kept(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        for n in range(50):
            world.hint(VEHICLE, f"look-{n}")
        await link.report(b"{}")  # an answer to these comes after all of them
        await link.publish(Lane.P1, make_block())
        hints = link.hints()
        assert await anext(hints) == Hint("look-42")
        for _ in range(6):
            await anext(hints)
        assert await anext(hints) == Hint("look-49")


async def test_the_last_report_is_kept(tmp_path: Path, kind: str) -> None:
    async with a_world(kind, tmp_path) as world, connected(world) as link:
        await link.report(b'{"n":1}')
        await link.report(b'{"n":2}')
        assert await world.last_report() == b'{"n":2}'


# --- TLS and time: links that have a wire ----------------------------------------------------------------------------


def mqtt_link(paired: Vehicle, /, **changes: object) -> MqttLink:
    given: dict[str, object] = {
        "host": paired.paired.host,
        "port": paired.paired.mqtt_port,
        "vehicle": paired.name,
        "context": paired.context(),
        "clock": paired.clock,
    }
    return MqttLink(**(given | changes))  # type: ignore[arg-type]


async def refusal(link: MqttLink, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        await link.connect()
    assert type(caught.value) is kind
    await link.close()
    return str(caught.value)


async def test_mqtt_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path / "ours") as ours, a_receiver(tmp_path / "theirs") as theirs:
        vehicle = await ours.vehicle()
        words = await refusal(mqtt_link(vehicle, port=theirs.address.mqtt_port), Untrusted)
        assert "isn't signed by the authority" in words


async def test_mqtt_of_another_host_is_not_trusted(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path, hosts=("localhost",)) as world:
        assert "isn't for 127.0.0.1" in await refusal(mqtt_link(await world.vehicle(), host="127.0.0.1"), Untrusted)


async def test_mqtt_dates_are_judged_by_the_clock_that_was_given(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path) as world:
        vehicle = await world.vehicle()
        future = mqtt_link(vehicle, clock=OffsetClock(SystemClock(), YEAR_NS))
        assert "expired" in await refusal(future, Untrusted)
        past = OffsetClock(SystemClock(), -YEAR_NS)
        link = mqtt_link(vehicle, clock=past)
        assert "Get the time first" in await refusal(link, ClockUntrusted)
        past.correct(SystemClock().wall_ns())
        await link.connect()
        await link.close()


async def test_mqtt_dates_may_be_left_to_openssl(tmp_path: Path) -> None:
    context_of = {}
    for name, offset_ns in (("past", -YEAR_NS), ("future", YEAR_NS)):
        clock = SteppingClock(wall_ns=SystemClock().wall_ns() + offset_ns)
        async with a_receiver(tmp_path / name, clock) as receiver:
            vehicle = await a_vehicle(receiver, tmp_path / name, clock=clock)
            context = vehicle.context()
            context.verify_flags &= ~NO_CHECK_TIME
            context_of[name] = context
            kind = Untrusted if name == "past" else ClockUntrusted
            assert "clock" in await refusal(mqtt_link(vehicle, context=context), kind)


async def test_mqtt_with_a_strangers_certificate_gets_nowhere(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path / "ours") as ours, a_mqtt_world(tmp_path / "theirs") as theirs:
        vehicle, stranger = await ours.vehicle(), await theirs.vehicle()
        context = stranger.context()
        context.load_verify_locations(cadata=vehicle.paired.ca)
        words = await refusal(mqtt_link(vehicle, context=context), Unauthorized)
        assert "refused this vehicle's certificate" in words
        assert ours.receiver.counters.sessions == 0


async def test_mqtt_as_another_vehicle_is_unauthorized(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path) as world:
        await world.vehicle(OTHER)
        link = mqtt_link(await world.vehicle(), vehicle=OTHER)
        assert "hear its own receipts" in await refusal(link, Unauthorized)


async def test_mqtt_with_an_expired_certificate_is_unauthorized_in_words(tmp_path: Path) -> None:
    clock = todays_clock()
    async with a_receiver(tmp_path, clock, certificate_days=1) as receiver:
        vehicle = await a_vehicle(receiver, tmp_path)
        clock.advance(2 * 86_400 * SECOND_NS)
        assert "has expired" in await refusal(mqtt_link(vehicle), Unauthorized)


async def test_mqtt_where_nobody_listens_or_answers_is_unreachable_in_time(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path) as world:
        vehicle = await world.vehicle()
    assert "Is the receiver running?" in await refusal(mqtt_link(vehicle), Unreachable)
    assert "can't be found" in await refusal(mqtt_link(vehicle, host="nowhere.invalid"), Unreachable)
    with contextlib.closing(listen("127.0.0.1", 0, "a silent port")) as silent:
        link = mqtt_link(vehicle, host="127.0.0.1", port=silent.getsockname()[1], timeout_s=0.3)
        assert await refusal(link, Unreachable)


async def test_mqtt_without_an_acknowledgement_in_time_is_unreachable(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path) as world:
        link = mqtt_link(await world.vehicle(), timeout_s=0.5)
        await link.connect()
        with world.holding():
            with pytest.raises(Unreachable, match="didn't acknowledge"):
                await link.publish(Lane.P1, make_block())
            with pytest.raises(Unreachable):
                await anext(link.receipts())
        await link.close()


async def test_mqtt_in_flight_respects_the_receivers_maximum(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path, receive_maximum=2) as world:
        link = mqtt_link(await world.vehicle(), in_flight=64)
        await link.connect()
        await asyncio.gather(*(link.publish(Lane.P1, make_block(3 * n)) for n in range(40)))
        assert world.receiver.counters.protocol_violations == 0
        await link.close()


async def test_mqtt_a_publish_given_up_leaves_the_link_in_order(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path) as world, connected(world) as link:
        with world.holding():
            given_up = asyncio.ensure_future(link.publish(Lane.P1, make_block()))
            with pytest.raises(Refused):
                await link.publish(Lane.P1, b"junk")
            given_up.cancel()
        for n in range(40):
            await link.publish(Lane.P1, make_block(3 * n))
        assert len(await world.stored()) == 40


async def test_mqtt_renewal_with_traffic_running_loses_nothing(tmp_path: Path) -> None:
    async with a_mqtt_world(tmp_path) as world:
        vehicle, context = await world.vehicle(), (await world.vehicle()).context()
        link = mqtt_link(vehicle, context=context)
        await link.connect()
        for n in range(30):
            if n % 10 == 5:
                await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
                vehicle.keys.load_identity(context)
                await link.connect()
                vehicle.keys.retire_previous()
            await link.publish(Lane.P1, make_block(3 * n))
        assert len(await world.stored()) == 30
        assert world.receiver.counters.renewed == 3
        await link.close()


# --- a broker in between: what it says itself ------------------------------------------------------------------------


@pytest.mark.parametrize("code", [0x80, 0x83, 0x90, 0x91, 0x99])
async def test_mqtt_what_a_broker_has_against_a_block_passes_and_the_block_is_kept(tmp_path: Path, code: int) -> None:
    def answer(kind: int, body: bytes) -> bytes | None:
        return puback(body, code) if kind == PUBLISH else welcome(kind, body)

    async with a_scripted_broker(tmp_path, answer) as broker:
        context, clock = broker.context(VEHICLE), SystemClock()
        for is_broker, kind in ((True, Throttled), (False, Refused)):
            link = MqttLink(HOST, broker.port, VEHICLE, context, clock, broker=is_broker)
            await link.connect()
            with pytest.raises(kind):
                await link.publish(Lane.P1, make_block())
            await link.close()


# --- which paho ------------------------------------------------------------------------------------------------------


def test_mqtt_runs_on_the_paho_that_was_asked_for() -> None:
    assert os.environ.get(EXPECTED_PAHO, PAHO) == PAHO
