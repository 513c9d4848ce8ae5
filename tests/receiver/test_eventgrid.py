"""What Event Grid pushes, and what anybody else might: stored, refused, or turned away, and never believed too much."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import sqlite3
import threading
from collections.abc import AsyncIterator, Collection
from pathlib import Path
from random import Random
from typing import Any

import pytest

from ecu.clock import SteppingClock, SystemClock
from ecu.errors import UsageFault
from receiver.config import HubSection, ReceiverConfig
from receiver.counters import Counters
from receiver.eventgrid import EVENTS_PATH, MAX_PUSH_BYTES
from receiver.hub import (
    LEFT_ALONE_NS,
    RANGES_KEPT,
    REFUSALS_KEPT,
    HubDesk,
    HubRefused,
    HubService,
    NoAnswer,
    Waiting,
    sas_token,
    status_of,
)
from receiver.service import Receiver
from receiver.store import FILE
from receiver.tables import inbox
from simulator.clouds.azure import Azure, running_azure
from simulator.clouds.eventgrid import NotValidated, Subscriber, event_data
from simulator.clouds.hub import Telemetry
from telemetry.links.azure.messages import MAX_METHOD_BYTES, properties_of, unpack_answers
from telemetry.records import Lane
from telemetry.wire import MAX_REFUSAL_CHARACTERS, Decision, Receipt, Refusal
from tests.receiver.fleet import EPOCH, VEHICLE, a_receiver, a_vehicle, make_block, until
from tests.receiver.test_api import ask


@contextlib.asynccontextmanager
async def behind_a_hub(folder: Path, **settings: object) -> AsyncIterator[tuple[Receiver, Azure]]:
    async with running_azure(folder / "azure", SystemClock(), Random()) as azure:
        settings["hub"] = azure.receiver_section
        async with a_receiver(folder, None, **settings) as receiver:
            await a_vehicle(receiver, folder)
            yield receiver, azure


def telemetry(block: bytes = b"", device: str = VEHICLE, lane: Lane = Lane.P1) -> dict[str, Any]:
    return dict(event_data(Telemetry(device, block or make_block(), properties_of(lane))))


def event(data: Any, kind: str = "Microsoft.Devices.DeviceTelemetry") -> dict[str, Any]:
    return {"eventType": kind, "data": data}


async def push(receiver: Receiver, azure: Azure, events: Any, code: str | None = None) -> tuple[int, Any]:
    body = events if isinstance(events, bytes) else json.dumps(events).encode()
    path = f"{EVENTS_PATH}?code={azure.code if code is None else code}"
    status, answer, _ = await asyncio.to_thread(ask, receiver, "POST", path, body)
    return status, answer


async def stored(receiver: Receiver) -> list[tuple[str, bytes]]:
    rows = await receiver.store.transact(lambda connection: connection.execute(inbox.select()).all())
    return [(row.vehicle, row.block) for row in rows]


# --- who pushes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ["", "wrong", "%C3%A9", "0" * 64])
async def test_without_the_code_nothing_is_stored_nor_validated(tmp_path: Path, code: str) -> None:
    async with behind_a_hub(tmp_path) as (receiver, azure):
        validation = event({"validationCode": "x"}, "Microsoft.EventGrid.SubscriptionValidationEvent")
        for events in ([event(telemetry())], [validation]):
            status, answer = await push(receiver, azure, events, code)
            assert status == 401
            assert "validationResponse" not in answer
        assert await stored(receiver) == []
        assert receiver.counters.hub_pushes_refused == 2


async def test_a_subscription_is_validated_by_its_code(tmp_path: Path) -> None:
    async with behind_a_hub(tmp_path) as (receiver, azure):
        await azure.join("localhost", receiver.address.https_port, receiver.authority.pem)
        with pytest.raises(NotValidated, match="401"):
            await azure.grid.subscribe(other_code(azure))


def other_code(azure: Azure) -> Subscriber:
    known = azure.grid.subscriber
    assert known is not None
    return Subscriber(known.host, known.port, f"{EVENTS_PATH}?code=other", known.context)


async def test_without_a_hub_there_is_no_such_address(tmp_path: Path) -> None:
    async with a_receiver(tmp_path) as receiver:
        status, _, _ = await asyncio.to_thread(ask, receiver, "POST", f"{EVENTS_PATH}?code=", b"[]")
        assert status == 404


# --- what is pushed --------------------------------------------------------------------------------------------------


async def test_the_vehicle_is_who_the_hub_says_whatever_the_message_says(tmp_path: Path) -> None:
    async with behind_a_hub(tmp_path) as (receiver, azure):
        data = telemetry()
        data["properties"] |= {"iothub-connection-device-id": "veh-666", "vehicle": "veh-666"}
        assert await push(receiver, azure, [event(data) | {"subject": "devices/veh-666"}]) == (200, {"messages": 1})
        assert await stored(receiver) == [(VEHICLE, make_block())]


async def test_a_batch_is_stored_whole_and_pushed_again_changes_nothing(tmp_path: Path) -> None:
    async with behind_a_hub(tmp_path) as (receiver, azure):
        batch = [event(telemetry(make_block(3 * n))) for n in range(8)]
        for _ in range(2):
            assert await push(receiver, azure, batch) == (200, {"messages": 8})
        assert len(await stored(receiver)) == 8
        assert receiver.counters.blocks_duplicate == 8


async def test_what_makes_no_sense_is_counted_and_costs_its_batch_nothing(tmp_path: Path) -> None:
    bad = [
        telemetry() | {"body": {"a": "json body"}},
        telemetry() | {"body": "no base64!"},
        telemetry() | {"body": None},
        telemetry() | {"systemProperties": {}},
        telemetry() | {"systemProperties": None},
        telemetry() | {"properties": 7},
        "no object",
        telemetry() | {"systemProperties": {"iothub-connection-device-id": 7}},
        telemetry(device="../veh"),
    ]
    async with behind_a_hub(tmp_path) as (receiver, azure):
        other = event({}, "Microsoft.Devices.DeviceConnected")
        assert await push(receiver, azure, [*map(event, bad), other, event(telemetry())]) == (200, {"messages": 1})
        assert receiver.counters.hub_events_ignored == len(bad)
        assert len(await stored(receiver)) == 1


@pytest.mark.parametrize("body", [b"", b"{}", b"[1]", b"\xff", b"[" * 4000, b'[{"eventType":"x"}]'])
async def test_a_body_that_is_no_batch_is_refused(tmp_path: Path, body: bytes) -> None:
    async with behind_a_hub(tmp_path) as (receiver, azure):
        status, answer = await push(receiver, azure, body)
        assert status == 400
        assert "no batch" in answer["error"]


async def test_a_push_that_is_too_large_is_refused(tmp_path: Path) -> None:
    async with behind_a_hub(tmp_path) as (receiver, azure):
        assert (await push(receiver, azure, b" " * (MAX_PUSH_BYTES + 1)))[0] == 413


async def test_blocks_that_are_none_are_refused_one_by_one(tmp_path: Path) -> None:
    whole, no_lane = make_block(), telemetry()
    no_lane["properties"] = {}
    bad = [telemetry(b"junk"), telemetry(whole[:-1]), telemetry(make_block(lane=Lane.P3)), no_lane]
    async with behind_a_hub(tmp_path) as (receiver, azure):
        assert (await push(receiver, azure, list(map(event, bad))))[0] == 200
        assert receiver.counters.blocks_bad == len(bad)
        assert await stored(receiver) == []


async def test_vehicles_that_nobody_enrolled_or_that_are_revoked_store_nothing(tmp_path: Path) -> None:
    async with behind_a_hub(tmp_path) as (receiver, azure):
        await receiver.operator.revoke(VEHICLE)
        batch = [event(telemetry()), event(telemetry(device="veh-stranger"))]
        assert (await push(receiver, azure, batch))[0] == 200
        assert await stored(receiver) == []
        assert receiver.counters.not_admitted == 2
        await until(lambda: receiver.counters.hub_calls_failed == 1)  # the revoked one is told; it isn't connected


async def test_a_store_out_of_order_brings_the_batch_again(tmp_path: Path) -> None:
    async with behind_a_hub(tmp_path) as (receiver, azure):
        with contextlib.closing(sqlite3.connect(tmp_path / "receiver" / FILE, isolation_level=None)) as breaker:
            breaker.execute("alter table credential rename to hidden")
            assert (await push(receiver, azure, [event(telemetry())]))[0] == 503
            breaker.execute("alter table hidden rename to credential")
        assert (await push(receiver, azure, [event(telemetry())]))[0] == 200
        assert len(await stored(receiver)) == 1


async def test_a_receiver_that_stops_leaves_nothing_half_taken(tmp_path: Path) -> None:
    async with behind_a_hub(tmp_path) as (receiver, azure):
        holder = sqlite3.connect(tmp_path / "receiver" / FILE, isolation_level=None)
        holder.execute("begin immediate")
        pushing = asyncio.ensure_future(push(receiver, azure, [event(telemetry())]))
        pushing.add_done_callback(lambda _: holder.close())  # until then the receiver's store can't close
        await until(lambda: receiver.counters.hub_messages == 1)
    assert (await pushing)[0] == 503


# --- what the hub is asked -------------------------------------------------------------------------------------------


def test_a_signature_is_what_openssl_makes_of_it() -> None:
    """Of "fleet.azure-devices.net\\n1800000000": openssl dgst -sha256 -mac HMAC -macopt hexkey:... -binary | base64"""
    key = base64.b64encode(b"a key of thirty-two bytes, no mo").decode()
    assert sas_token("fleet.azure-devices.net", "service", key, 1_800_000_000) == (
        "SharedAccessSignature sr=fleet.azure-devices.net&sig=FWsUh7GKTTWhZVS1OiljTT%2FrBVkepnn4tJ3c3pDoBgU%3D"
        "&se=1800000000&skn=service"
    )


async def test_a_wrong_key_a_silent_hub_and_a_missing_device_are_told_apart(tmp_path: Path) -> None:
    async with behind_a_hub(tmp_path) as (_, azure):
        config = HubSection.model_validate(azure.receiver_section)
        right = HubService(config, SystemClock())
        with pytest.raises(HubRefused, match="404"):
            await asyncio.to_thread(right.call, VEHICLE, "hint", "x")
        (tmp_path / "azure" / "service.key").write_text(base64.b64encode(b"another").decode())
        with pytest.raises(HubRefused, match="401"):
            await asyncio.to_thread(HubService(config, SystemClock()).call, VEHICLE, "hint", "x")
        azure.service.status = 429
        with pytest.raises(HubRefused, match="429"):
            await asyncio.to_thread(right.call, VEHICLE, "hint", "x")
    with pytest.raises(HubRefused, match="can't be asked"):
        await asyncio.to_thread(right.call, VEHICLE, "hint", "x")


class SlowService:
    """Calls that return when they are let go; `mute` vehicles never answer."""

    def __init__(self, mute: Collection[str] = ()) -> None:
        self._mute = mute
        self.made: list[tuple[str, str, Any]] = []
        self.let_go = threading.Semaphore(0)

    def call(self, vehicle: str, method: str, payload: Any) -> int:
        self.made.append((vehicle, method, payload))
        if vehicle in self._mute:
            raise NoAnswer("not in time")
        assert self.let_go.acquire(timeout=10)
        return 200


async def test_a_vehicle_is_called_once_at_a_time_and_what_comes_meanwhile_goes_together() -> None:
    service, counters = SlowService(), Counters()
    async with asyncio.TaskGroup() as tasks:
        desk = HubDesk(service, SystemClock(), counters, tasks)
        for vehicle in (VEHICLE, "veh-002"):
            desk.heard(vehicle)
        for n in range(20):
            desk.deliver(VEHICLE, Receipt(Lane.P1, EPOCH, ((3 * n, 3 * n + 3),)))
            await until(lambda: len(service.made) == 1)
        desk.refuse(VEHICLE, Refusal(bytes(16), Decision.REFUSED, "no"))
        desk.deliver("veh-002", Receipt(Lane.P1, EPOCH, ((0, 3),)))
        await until(lambda: len(service.made) == 2)  # another vehicle waits for nobody
        desk.deliver("veh-stranger", Receipt(Lane.P1, EPOCH, ((0, 3),)))
        service.let_go.release(3)
        await until(lambda: counters.hub_calls == 3)
        await desk.close()
    (first, second) = [unpack_answers(payload) for vehicle, _, payload in service.made if vehicle == VEHICLE]
    assert first == ([Receipt(Lane.P1, EPOCH, ((0, 3),))], [])
    assert second == ([Receipt(Lane.P1, EPOCH, ((3, 60),))], [Refusal(bytes(16), Decision.REFUSED, "no")])


async def test_a_vehicle_that_never_answers_is_left_alone_for_a_while_and_holds_up_no_other() -> None:
    service, counters, clock = SlowService(mute=(VEHICLE,)), Counters(), SteppingClock()
    service.let_go.release(100)
    async with asyncio.TaskGroup() as tasks:
        desk = HubDesk(service, clock, counters, tasks)
        for vehicle in (VEHICLE, "veh-002"):
            desk.heard(vehicle)
            assert desk.hint(vehicle, "first")
        await until(lambda: (counters.hub_calls, counters.hub_calls_failed) == (1, 1))
        desk.hint(VEHICLE, "second")
        desk.hint("veh-002", "second")
        await until(lambda: counters.hub_calls == 2)
        assert len(service.made) == 3
        clock.advance(clock.boot_ns() + LEFT_ALONE_NS)
        await until(lambda: counters.hub_calls_failed == 2)
        await desk.close()


@pytest.mark.parametrize(
    "answer",
    [
        b'{"status": 200, "payload": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b'{"status": 200, "payload": ' + b"[" * 50_000,
        b'{"status": 1e999}',
        b'{"status": "200"}',
        b'{"payload": 1}',
        b"[200]",
        b"\xff",
        b"",
    ],
)
def test_an_answer_without_a_status_is_a_call_that_failed_whatever_a_vehicle_put_into_it(answer: bytes) -> None:
    with pytest.raises(HubRefused, match="no status"):
        status_of(answer)


def test_what_a_vehicle_answers_beside_its_status_is_nothing_to_us() -> None:
    assert status_of(b'{"status": 200, "payload": {"deep": [[[1e999]]]}}') == 200


class BrokenService:
    """Its first call fails as nobody expected."""

    def __init__(self) -> None:
        self.calls = 0

    def call(self, vehicle: str, method: str, payload: object) -> int:
        self.calls += 1
        if self.calls == 1:
            raise RecursionError("a bug")
        return 200


async def test_a_call_that_fails_as_nobody_expected_costs_one_vehicle_one_answer_and_nobody_the_receiver() -> None:
    counters = Counters()
    async with asyncio.TaskGroup() as tasks:
        desk = HubDesk(BrokenService(), SystemClock(), counters, tasks)
        desk.heard(VEHICLE)
        desk.hint(VEHICLE, "first")
        await until(lambda: counters.hub_calls_failed == 1)
        desk.hint(VEHICLE, "second")
        await until(lambda: counters.hub_calls == 1)
        await desk.close()


def test_the_most_that_waits_for_a_vehicle_fits_one_call() -> None:
    waiting, number = Waiting(), 0
    while waiting.add(Receipt(Lane.P1, number.to_bytes(16, "big"), ((1 << 62, (1 << 62) + 1),))):
        number += 1
    while waiting.refuse(Refusal(bytes(16), Decision.REFUSED, "w" * MAX_REFUSAL_CHARACTERS)):
        pass
    ((method, payload),) = waiting.calls()
    assert method == "receipt"
    assert len(json.dumps(payload)) < MAX_METHOD_BYTES
    receipts, refusals = unpack_answers(payload)
    assert (len(receipts), len(refusals)) == (RANGES_KEPT, REFUSALS_KEPT)


def test_a_key_that_is_none_and_an_authority_that_is_none_are_said_at_the_start(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("not base64!")
    with pytest.raises(UsageFault, match="holds no key"):
        HubService(HubSection(host="x", key_file=str(file)), SystemClock())
    file.write_text("a2V5")
    for ca in (str(file), str(tmp_path / "nowhere")):
        with pytest.raises(UsageFault, match="ca_file"):
            HubService(HubSection(host="x", key_file=str(file), ca_file=ca), SystemClock())


def test_a_secret_that_is_not_there_is_said_with_its_key(tmp_path: Path) -> None:
    for text in (None, "", "\n"):
        file = tmp_path / "key"
        file.unlink(missing_ok=True)
        if text is not None:
            file.write_text(text)
        with pytest.raises(UsageFault, match=r"\[receiver\.hub\] key_file"):
            HubService(HubSection(host="x", key_file=str(file)), SystemClock())
    assert ReceiverConfig().hub.host == ""
