"""What the link through IoT Hub promises beyond the link's contract: its TLS, its time-outs, the hub's own refusals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random

import mqtt5
import pytest

from agent.azure import proving
from agent.pairing import renew
from ecu.clock import SECOND_NS, OffsetClock, SystemClock
from ecu.disk import RealDisk
from receiver.pki import Authority
from simulator.clouds.hub import PORT, listen_anywhere, running_hub
from telemetry.links.azure import HubLink
from telemetry.links.link import (
    Acks,
    ClockUntrusted,
    Hint,
    Refused,
    Throttled,
    Unauthorized,
    Unreachable,
    Untrusted,
)
from telemetry.records import Lane
from telemetry.wire import Receipt, pack_receipt
from tests.contracts.azureworld import AzureWorld, an_azure_world
from tests.contracts.test_link import WITHOUT_AZURE
from tests.receiver.fleet import EPOCH, VEHICLE, RawVehicle, make_block, until

if WITHOUT_AZURE:
    pytest.skip(WITHOUT_AZURE, allow_module_level=True)

OTHER = "veh-002"
YEAR_NS = 365 * 86_400 * SECOND_NS


@contextlib.asynccontextmanager
async def connected(world: AzureWorld, **settings: object) -> AsyncIterator[HubLink]:
    link = await world.link(**settings)  # type: ignore[arg-type]
    await link.connect()
    try:
        yield link
    finally:
        await link.close()


async def refusal(link: HubLink, kind: type[Exception]) -> str:
    with pytest.raises(kind) as caught:
        await link.connect()
    assert type(caught.value) is kind
    await link.close()
    return str(caught.value)


# --- whom it believes, and who believes it ---------------------------------------------------------------------------


async def test_a_hub_of_another_authority_is_not_trusted(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, running_hub(tmp_path / "b", SystemClock(), Random(1)) as other:
        assert "isn't signed by the authority" in await refusal(await world.link(host=other.host), Untrusted)


async def test_a_hub_of_another_name_is_not_trusted(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        context = world.azure.hub.server_context()
        with contextlib.closing(listen_anywhere(PORT, Random(2))) as listening:
            host = listening.getsockname()[0]
            server = await asyncio.start_server(lambda *_: None, sock=listening, ssl=context)
            async with server:
                assert f"isn't for {host}" in await refusal(await world.link(host=host), Untrusted)


async def test_a_hubs_dates_are_judged_by_the_clock_that_was_given(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        assert "expired" in await refusal(await world.link(clock=OffsetClock(SystemClock(), YEAR_NS)), Untrusted)
        past = OffsetClock(SystemClock(), -YEAR_NS)
        link = await world.link(clock=past)
        assert "Get the time first" in await refusal(link, ClockUntrusted)
        past.correct(SystemClock().wall_ns())
        await link.connect()
        await link.close()


async def test_a_strangers_certificate_gets_nowhere_and_is_told_so(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path / "ours") as ours, an_azure_world(tmp_path / "theirs") as theirs:
        stranger = await theirs.vehicle()
        ca = ours.azure.hub.ca_pem
        link = await ours.link(context=lambda: proving(stranger.keys, ca))
        assert "refused this vehicle's certificate" in await refusal(link, Unauthorized)


async def test_a_device_that_the_hub_does_not_know_or_has_disabled_is_unauthorized(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        link = await world.link()
        del world.azure.hub.devices[VEHICLE]
        assert "doesn't let this vehicle in" in await refusal(link, Unauthorized)
        world.azure.hub.enrol(VEHICLE).enabled = False
        assert "Enrol and pair the vehicle again" in await refusal(link, Unauthorized)


async def test_nobody_connects_as_another_device(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        await world.link(OTHER)
        assert await refusal(await world.link(device=OTHER), Unauthorized)
        assert not world.azure.hub.is_connected(OTHER)


# --- time ------------------------------------------------------------------------------------------------------------


async def test_where_nobody_listens_the_hub_is_unreachable(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        with contextlib.closing(listen_anywhere(PORT, Random(3))) as free:
            host = free.getsockname()[0]
        assert "can't be reached" in await refusal(await world.link(host=host), Unreachable)
        assert "can't be found" in await refusal(await world.link(host="nowhere.invalid"), Unreachable)


async def test_a_hub_that_hangs_is_given_up_in_time_and_holds_up_no_other_connection(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        with contextlib.closing(listen_anywhere(PORT, Random(4))) as silent:
            host = silent.getsockname()[0]
            async with asyncio.timeout(5):
                assert "took too long" in await refusal(await world.link(host=host, timeout_s=0.3), Unreachable)
                async with connected(world) as link:
                    await link.publish(Lane.P1, make_block())


async def test_a_hub_that_never_greets_is_given_up_in_time(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        world.azure.hub.greets = False
        async with asyncio.timeout(5):
            assert "took too long" in await refusal(await world.link(timeout_s=0.5), Unreachable)
            world.azure.hub.greets = True
            async with connected(world) as link:
                await link.publish(Lane.P1, make_block())


async def test_without_an_acknowledgement_in_time_the_connection_is_over(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world, timeout_s=0.5) as link:
        world.azure.hub.devices[VEHICLE].acknowledges = False
        with pytest.raises(Unreachable, match="didn't acknowledge"):
            await link.publish(Lane.P1, make_block())
        with pytest.raises(Unreachable):
            await anext(link.receipts())
        world.azure.hub.devices[VEHICLE].acknowledges = True
        await link.connect()
        await link.publish(Lane.P1, make_block())
        assert len(await world.stored()) == 1


async def test_a_receiver_that_does_not_answer_leaves_the_block_with_the_vehicle(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world, timeout_s=0.5) as link:
        world.azure.service.status = 503
        with pytest.raises(Throttled, match="no receiver answered"):
            await link.publish(Lane.P1, make_block())
        assert len(await world.stored()) == 1
        world.azure.service.status = 0
        await link.publish(Lane.P1, make_block())  # sent again, as the uplink does after a while
        assert await anext(link.receipts()) == Receipt(Lane.P1, EPOCH, ((0, 3),))
        assert len(await world.stored()) == 1


async def test_a_publish_given_up_leaves_the_link_in_order(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world) as link:
        with world.holding():
            given_up = asyncio.ensure_future(link.publish(Lane.P1, make_block()))
            with pytest.raises(Refused):
                await link.publish(Lane.P1, b"junk")
            given_up.cancel()
        for n in range(20):
            await link.publish(Lane.P1, make_block(3 * n))
        assert len(await world.stored()) == 20


# --- what the hub refuses --------------------------------------------------------------------------------------------


async def test_an_oversize_message_is_refused_by_name_and_never_sent(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world) as link:
        with pytest.raises(Refused, match="more than the hub's 262144"):
            await link.publish(Lane.P1, bytes(256 * 1024))
        await link.publish(Lane.P1, make_block())
        assert world.azure.hub.is_connected(VEHICLE)


async def test_a_hub_over_its_quota_keeps_the_block_with_the_vehicle(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world) as link:
        world.azure.hub.devices[VEHICLE].over_quota = True
        with pytest.raises(Unreachable):
            await link.publish(Lane.P1, make_block())
        assert await world.stored() == []
        world.azure.hub.devices[VEHICLE].over_quota = False
        await link.connect()
        await link.publish(Lane.P1, make_block())
        assert len(await world.stored()) == 1


@pytest.mark.parametrize(
    ("status", "kind"), [(429, Throttled), (413, Refused), (403, Unauthorized), (503, Unreachable)]
)
async def test_a_twins_refusals_are_told_apart(tmp_path: Path, status: int, kind: type[Exception]) -> None:
    async with an_azure_world(tmp_path) as world, connected(world) as link:
        world.azure.hub.devices[VEHICLE].twin_status = status
        with pytest.raises(kind, match=str(status)) as caught:
            await link.report(b'{"n":1}')
        assert type(caught.value) is kind
        world.azure.hub.devices[VEHICLE].twin_status = 204
        await link.report(b'{"n":2}')


# --- what comes down -------------------------------------------------------------------------------------------------


async def test_calls_that_make_no_sense_are_answered_so_and_counted(tmp_path: Path) -> None:
    packed = pack_receipt(Receipt(Lane.P1, EPOCH, ((0, 3),))).hex()
    async with an_azure_world(tmp_path) as world, connected(world) as link:
        hub, nonsense = world.azure.hub, [None, 7, "receipt", {"receipts": [packed]}, {"receipts": ["!"]}, {"x": 1}]
        for payload in nonsense:
            assert (await hub.invoke(VEHICLE, "receipt", payload, 5))[0] == 400
        assert (await hub.invoke(VEHICLE, "hint", "", 5))[0] == 400
        assert (await hub.invoke(VEHICLE, "reboot", {}, 5))[0] == 404
        assert link.ignored == len(nonsense) + 2
        await link.publish(Lane.P1, make_block())
        assert await anext(link.receipts()) == Receipt(Lane.P1, EPOCH, ((0, 3),))


async def test_hints_come_by_method_and_by_twin_and_only_ours(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world) as link:
        await link.publish(Lane.P1, make_block())  # from here on the receiver knows where to tell it
        assert world.receiver.operator.hint(VEHICLE, "updates")
        assert await anext(link.hints()) == Hint("updates")
        world.azure.hub.desire(VEHICLE, {"somebody": "else's"})
        world.azure.hub.desire(VEHICLE, {"outrider": {"anything": 1}})
        assert await anext(link.hints()) == Hint("twin")
        assert not world.receiver.operator.hint(OTHER, "updates")


async def test_devices_do_not_hear_each_other(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world) as one:
        other = await world.link(OTHER)
        await other.connect()
        world.azure.hub.desire(OTHER, {"outrider": {"hint": "for-two"}})
        world.azure.hub.desire(VEHICLE, {"outrider": {"hint": "for-one"}})
        assert (await anext(one.hints()), await anext(other.hints())) == (Hint("for-one"), Hint("for-two"))
        await other.close()


async def test_renewal_with_traffic_running_loses_nothing(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world) as link:
        vehicle = await world.vehicle()
        for n in range(15):
            if n % 5 == 2:
                await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
                await link.connect()
                vehicle.keys.retire_previous()
            await link.publish(Lane.P1, make_block(3 * n))
        assert len(await world.stored()) == 15
        assert world.receiver.counters.renewed == 3


# --- without a receiver behind ---------------------------------------------------------------------------------------


async def test_in_accepted_mode_the_hubs_word_is_enough(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world, acks=Acks.ACCEPTED) as link:
        assert link.acks is Acks.ACCEPTED
        with world.holding():
            await asyncio.gather(*(link.publish(Lane.P1, make_block(3 * n)) for n in range(40)))
        await link.publish(Lane.P1, b"junk")  # nobody behind the hub says no in time
        assert len(await world.stored()) == 40


async def test_in_accepted_mode_connections_end_and_begin_as_ever(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, connected(world, acks=Acks.ACCEPTED) as link:
        for end in (lambda: world.sever(VEHICLE), link.connect, link.close):
            waiting = asyncio.ensure_future(anext(link.receipts()))
            await asyncio.sleep(0)
            if (ending := end()) is not None:
                await ending
            with pytest.raises(Unreachable):
                await waiting
            await link.connect()
            await link.publish(Lane.P1, make_block())
        await world.revoke(VEHICLE)
        with pytest.raises(Unreachable):
            await anext(link.hints())
        with pytest.raises(Unauthorized):
            await link.connect()
        assert await world.stored() == [make_block()]


async def test_no_session_outlives_a_connection(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world:
        for _ in range(2):
            async with connected(world):
                pass
        await until(lambda: not world.azure.hub.is_connected(VEHICLE))
        assert world.azure.hub.sessions_asked_for == 0


def test_nobody_loads_the_sdk_but_who_connects() -> None:
    look = (
        "import agent.daemon, agent.links, telemetry.links.azure, sys; print('azure.iot' in str(sorted(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", look], check=True, capture_output=True, text=True).stdout
    assert out.strip() == "False"


# --- a broker that is no hub -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def a_mosquitto(folder: Path, world: AzureWorld) -> AsyncIterator[str]:
    """Debian's broker on an address of its own; it trusts the receiver's authority, and shows the hub's certificate."""
    if (program := shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin")) is None:
        pytest.skip("mosquitto isn't installed: apt-get install mosquitto")
    with contextlib.closing(listen_anywhere(PORT, Random())) as free:
        host = free.getsockname()[0]
    folder.mkdir()
    disk = RealDisk(folder)
    authority = Authority(disk, SystemClock(), 1)
    files = {"ca": world.receiver.authority.pem, "hub-ca": authority.pem}
    for name, text in files.items():
        (folder / f"{name}.pem").write_text(text)
    served = authority.server_file((host,))
    (folder / "mosquitto.conf").write_text(
        f"user root\nlog_dest stderr\nallow_anonymous false\nlistener {PORT} {host}\ncafile {folder}/ca.pem\n"
        f"certfile {served}\nkeyfile {served}\nrequire_certificate true\nuse_identity_as_username true\n"
    )
    process = await asyncio.create_subprocess_exec(
        program, "-c", str(folder / "mosquitto.conf"), stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    try:
        async with asyncio.timeout(10):
            while b"running" not in (line := await process.stderr.readline()):
                assert line, "mosquitto ended at once"
        yield host
    finally:
        process.terminate()
        await process.wait()


async def test_a_plain_broker_takes_telemetry_in_accepted_mode(tmp_path: Path) -> None:
    async with an_azure_world(tmp_path) as world, a_mosquitto(tmp_path / "broker", world) as host:
        vehicle, listener = await world.vehicle(), await world.vehicle(OTHER)
        ca = (tmp_path / "broker" / "hub-ca.pem").read_text()
        hearing = RawVehicle(*await asyncio.open_connection(host, PORT, ssl=proving(listener.keys, ca)))
        await hearing.ask(mqtt5.ConnectPacket("hearing", clean_start=True))
        await hearing.ask(mqtt5.SubscribePacket(1, [mqtt5.TopicFilter(f"devices/{VEHICLE}/messages/events/#")]))
        context = proving(vehicle.keys, ca)
        async with connected(world, host=host, context=lambda: context, acks=Acks.ACCEPTED) as link:
            for n in range(5):
                await link.publish(Lane.P2, make_block(3 * n, lane=Lane.P2))
                heard = await hearing.receive()
                assert isinstance(heard, mqtt5.PublishPacket)
                assert bytes(heard.payload or b"") == make_block(3 * n, lane=Lane.P2)
                assert "lane=p2" in heard.topic
        await hearing.close()
