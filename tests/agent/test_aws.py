"""A vehicle's place at AWS IoT Core or behind a plain broker: provisioning by a claim, and the whole vehicle."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import pytest
from cryptography import x509
from typer.testing import CliRunner

from agent.aws import (
    FORMAT,
    ClaimFile,
    ProvisionedThing,
    load_thing,
    open_aws_link,
    open_thing_keys,
    provision,
    read_claim_file,
)
from agent.cloud import CloudSide
from agent.config import LinkSection
from agent.links import Trust, open_link
from agent.paircli import app as pair_app
from agent.pairing import KEYS_FOLDER, pair
from ecu.clock import OffsetClock, SystemClock
from ecu.disk import RealDisk, state_folder
from ecu.errors import UsageFault
from ecu.keys import FileKeyStore, MemoryKeyStore
from simulator.clouds.mosquitto import HOST
from telemetry.links.link import Refused, Unauthorized, Unreachable, Untrusted
from telemetry.records import Lane
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.memory import MemoryBacklog
from telemetry.uplink.status import UplinkState
from tests.agent.test_cloud import running
from tests.contracts.awsworld import TEMPLATE, AwsWorld, an_aws_world
from tests.contracts.brokerworld import BrokerWorld, a_broker_world
from tests.contracts.test_aws_link import LOOKS_SOON_S
from tests.contracts.test_link import WITHOUT_AWS, WITHOUT_BROKER
from tests.receiver.fleet import VEHICLE, make_block, until

QUICK = UplinkConfig(backoff_base_s=0.02, backoff_cap_s=0.1, unauthorized_pause_s=30.0)

with_aws = pytest.mark.skipif(bool(WITHOUT_AWS), reason=WITHOUT_AWS)
with_broker = pytest.mark.skipif(bool(WITHOUT_BROKER), reason=WITHOUT_BROKER)


def a_claim(world: AwsWorld, **changes: object) -> ClaimFile:
    """As an operator makes it: of a certificate that may only ask for another."""
    key, certificate = world.aws.claim()
    given = {
        "format": FORMAT,
        "endpoint": HOST,
        "port": world.broker.port,
        "template": TEMPLATE,
        "claim_certificate": certificate,
        "claim_key": key,
        "ca": world.receiver.authority.pem,
    }
    return read_claim_file(msgspec.json.encode(given | changes))


async def provisioned(
    world: AwsWorld, folder: Path, *, timeout_s: float = 10.0, **changes: object
) -> tuple[ProvisionedThing, FileKeyStore]:
    vehicle = await world.vehicle()
    # A refusal's traceback may hold the keys, and with them their lock, until the collector comes by.
    gc.collect()
    keys, disk = open_thing_keys(vehicle.disk.root), vehicle.disk
    return await provision(a_claim(world, **changes), vehicle.paired, keys, disk, vehicle.clock, timeout_s), keys


# --- provisioning ----------------------------------------------------------------------------------------------------


@with_aws
async def test_a_claim_gives_a_vehicle_a_certificate_for_a_key_that_it_made(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        thing, keys = await provisioned(world, tmp_path)
        assert thing == load_thing((await world.vehicle()).disk)
        assert thing.thing == VEHICLE
        first = keys.certificate()
        assert first is not None
        assert x509.load_pem_x509_certificate(first).subject.rfc4514_string() == f"CN={VEHICLE}"
        assert first != (await world.vehicle()).keys.certificate()
        assert list(world.aws.provisioning.things) == [VEHICLE]


@with_aws
async def test_provisioning_may_be_repeated_and_leaves_one_identity(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        _, keys = await provisioned(world, tmp_path)
        first = keys.certificate()
        vehicle = await world.vehicle()
        await provision(a_claim(world), vehicle.paired, keys, vehicle.disk, vehicle.clock, 10.0)
        assert keys.certificate() != first
        assert keys.previous_certificate() is None


@with_aws
async def test_a_template_serial_or_claim_that_is_not_for_this_vehicle_is_refused_by_name(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path / "ours") as world, an_aws_world(tmp_path / "theirs") as theirs:
        with pytest.raises(UsageFault, match="paired as veh-001"):
            await provisioned(world, tmp_path, serial="veh-002")
        with pytest.raises(Refused, match="no template elsewhere"):
            await provisioned(world, tmp_path, template="elsewhere")
        stranger = a_claim(theirs)
        with pytest.raises(Unauthorized, match="refused this vehicle's certificate"):
            await provisioned(
                world, tmp_path, claim_certificate=stranger.claim_certificate, claim_key=stranger.claim_key,
                timeout_s=LOOKS_SOON_S,
            )  # fmt: skip
        with pytest.raises(Untrusted, match="isn't signed by the authority"):
            await provisioned(world, tmp_path, ca=theirs.receiver.authority.pem, timeout_s=LOOKS_SOON_S)
        assert load_thing((await world.vehicle()).disk) is None


@with_aws
async def test_an_endpoint_that_is_not_there_is_unreachable_in_time(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        with pytest.raises(Unreachable):
            await provisioned(world, tmp_path, port=1)


@with_aws
async def test_pair_takes_a_claim_file_of_a_paired_vehicle(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        state, file = tmp_path / "state", tmp_path / "claim.json"
        disk, keys = state_folder(state), FileKeyStore.open(state / KEYS_FOLDER)
        await asyncio.to_thread(pair, await world.receiver.operator.enrol(VEHICLE), keys, disk, SystemClock())
        del keys
        file.write_bytes(msgspec.json.encode(a_claim(world)))
        told = await asyncio.to_thread(CliRunner().invoke, pair_app, [str(file), "--state", str(state), "--json"])
        assert told.exception is None, told.output
        assert msgspec.json.decode(told.stdout) == {"vehicle": VEHICLE, "endpoint": HOST}
        assert open_thing_keys(state).certificate() is not None


def test_a_file_that_is_no_claim_is_refused_with_what_is_wrong() -> None:
    for data in (b"", b"{}", b'{"format":"outrider-pairing-1"}', b'{"format":"outrider-aws-1","endpoint":"e"}'):
        with pytest.raises(UsageFault, match=r"docs/clouds\.md"):
            read_claim_file(data)


# --- the whole vehicle -----------------------------------------------------------------------------------------------


async def side_of(world: BrokerWorld, backlog: MemoryBacklog, link: LinkSection, uplink: UplinkConfig) -> CloudSide:
    vehicle = await world.vehicle()
    trust = Trust(vehicle.paired, vehicle.keys, OffsetClock(SystemClock()), vehicle.disk)
    return CloudSide(trust, backlog, SystemClock(), Random(7), link, uplink)


async def sends_everything(world: BrokerWorld, link: LinkSection) -> None:
    backlog = MemoryBacklog()
    for n in range(20):
        backlog.add(make_block(3 * n))
    side = await side_of(world, backlog, link, QUICK)
    async with running(side):
        await until(lambda: backlog.freed == 60)
        status = side.status()
        assert status.link == link.kind
        assert status.uplink is not None
        assert status.uplink.state is UplinkState.CONNECTED
        assert status.uplink.law6_held
    assert len(await world.stored()) == 20


@with_broker
async def test_a_vehicle_behind_a_broker_sends_everything_and_frees_only_what_is_stored(tmp_path: Path) -> None:
    async with a_broker_world(tmp_path) as world:
        await sends_everything(world, LinkSection(broker=True, host=HOST, port=world.broker.port))


@with_aws
async def test_a_vehicle_at_aws_sends_everything_with_either_certificate(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        ca = tmp_path / "ca.pem"
        ca.write_text(world.receiver.authority.pem)
        link = LinkSection(kind="aws", host=HOST, port=world.broker.port, ca_file=str(ca))
        await sends_everything(world, link)
    async with an_aws_world(tmp_path / "again") as world:
        _, keys = await provisioned(world, tmp_path)
        del keys
        await sends_everything(world, LinkSection(kind="aws"))


@with_broker
async def test_in_accepted_mode_the_status_says_that_law_6_is_not_held(tmp_path: Path) -> None:
    async with a_broker_world(tmp_path) as world:
        backlog = MemoryBacklog()
        link = LinkSection(broker=True, host=HOST, port=world.broker.port, acks="accepted")
        with pytest.raises(UsageFault, match="free_on_acceptance"):
            await side_of(world, backlog, link, QUICK)
        side = await side_of(world, backlog, link, QUICK.model_copy(update={"free_on_acceptance": True}))
        backlog.add(make_block())
        with world.holding():
            async with running(side):
                await until(lambda: backlog.freed == 3)
                status = side.status().uplink
                assert status is not None
                assert not status.law6_held


# --- configuration ---------------------------------------------------------------------------------------------------


@with_broker
@pytest.mark.parametrize(
    ("link", "words"),
    [
        (LinkSection(acks="accepted"), "the receiver itself says what is stored"),
        (LinkSection(broker=True), "needs a .link. host"),
        (LinkSection(broker=True, host="h", ca_file="/no/such.pem"), "can't be read"),
    ],
)
async def test_a_link_that_cannot_be_had_says_what_to_set(tmp_path: Path, link: LinkSection, words: str) -> None:
    async with a_broker_world(tmp_path) as world:
        vehicle = await world.vehicle()
        trust = Trust(vehicle.paired, vehicle.keys, OffsetClock(SystemClock()), vehicle.disk)
        with pytest.raises(UsageFault, match=words):
            await open_link(link, QUICK, trust, vehicle.context()).connect()


@with_broker
async def test_an_authoritys_file_that_goes_after_the_start_ends_nothing(tmp_path: Path) -> None:
    async with a_broker_world(tmp_path) as world:
        vehicle, ca = await world.vehicle(), tmp_path / "ca.pem"
        trust = Trust(vehicle.paired, vehicle.keys, OffsetClock(SystemClock()), vehicle.disk)
        section = LinkSection(broker=True, host=HOST, port=world.broker.port, ca_file=str(ca))
        ca.write_text("-----BEGIN CERTIFICATE-----\nMIIB")
        with pytest.raises(UsageFault, match="ca_file"):
            open_link(section, QUICK, trust, vehicle.context())
        ca.write_text(world.receiver.authority.pem)
        link = open_link(section, QUICK, trust, vehicle.context())
        for _ in range(2):
            await link.connect()
            ca.unlink(missing_ok=True)
        await link.publish(Lane.P1, make_block())
        await link.close()


@with_aws
def test_aws_without_an_endpoint_says_where_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="describe-endpoint"):
        open_aws_link(LinkSection(kind="aws"), QUICK, VEHICLE, MemoryKeyStore(), SystemClock(), RealDisk(tmp_path))


def test_no_agent_loads_a_clouds_sdk_before_it_connects() -> None:
    sdks = ("awscrt", "awsiot", "azure")
    program = f"import agent.daemon, sys; print([m for m in sys.modules if m.split('.')[0] in {sdks}])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert told.stdout.strip() == "[]"
