"""What the link through AWS IoT Core promises beyond the link's contract: its TLS, its time-outs, shadow and jobs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import weakref
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.pairing import renew
from ecu.clock import SECOND_NS, OffsetClock, SteppingClock, SystemClock
from ecu.keys import MemoryKeyStore
from receiver.listener import listen
from telemetry.links.aws import AwsLink
from telemetry.links.aws.jobs import JobUnderWay, news_of
from telemetry.links.aws.proof import Door
from telemetry.links.link import Acks, ClockUntrusted, Hint, Refused, Throttled, Unauthorized, Unreachable, Untrusted
from telemetry.links.statusreport import StatusReport, UpdateNews, UpdateState, pack_status
from telemetry.records import Lane
from telemetry.wire import MAX_BLOCK_BYTES, up_topic
from tests.contracts.awsworld import AwsWorld, an_aws_world
from tests.contracts.scriptedbroker import HOST, PUBLISH, a_scripted_broker, puback, welcome
from tests.contracts.test_link import WITHOUT_AWS
from tests.receiver.fleet import VEHICLE, make_block, until

with_aws = pytest.mark.skipif(bool(WITHOUT_AWS), reason=WITHOUT_AWS)
YEAR_NS = 365 * 86_400 * SECOND_NS
LOOKS_SOON_S = 3.0
"""Of a broken handshake the SDK says nothing for long; the link looks for itself after a quarter of its time-out."""


async def a_link(world: AwsWorld, **settings: object) -> AwsLink:
    link = await world.link(**settings)  # type: ignore[arg-type]
    assert isinstance(link, AwsLink)
    return link


@contextlib.asynccontextmanager
async def connected(world: AwsWorld, **settings: object) -> AsyncIterator[AwsLink]:
    link = await a_link(world, **settings)
    await link.connect()
    try:
        yield link
    finally:
        await link.close()


async def refusal(link: AwsLink, kind: type[Exception], within_s: float = 11.0) -> str:
    async with asyncio.timeout(within_s):
        with pytest.raises(kind) as caught:
            await link.connect()
    assert type(caught.value) is kind
    await link.close()
    return str(caught.value)


# --- whom it believes, and who believes it ---------------------------------------------------------------------------


@with_aws
async def test_a_broker_of_another_authority_or_name_is_not_trusted(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        other = MemoryKeyStore()
        stranger = await a_link(world, ca_pem=_self_signed(other), timeout_s=LOOKS_SOON_S)
        assert "isn't signed by the authority" in await refusal(stranger, Untrusted)
        elsewhere = await a_link(world, host="127.0.0.1", timeout_s=LOOKS_SOON_S)
        assert "isn't for 127.0.0.1" in await refusal(elsewhere, Untrusted)


@with_aws
async def test_with_a_strangers_or_an_expired_certificate_it_is_unauthorized_in_words(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        keys = MemoryKeyStore()
        _self_signed(keys)
        assert "refused this vehicle's certificate" in await refusal(await a_link(world, keys=keys), Unauthorized)
        old = await _expired(world)
        assert "expired" in (await refusal(await a_link(world, keys=old), Unauthorized)).lower()


@with_aws
async def test_when_the_handshake_fails_for_dates_the_clock_is_what_it_blames(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        # Nobody can be let in with this one, so that the reason is looked for.
        keys = MemoryKeyStore()
        _self_signed(keys)
        future = await a_link(world, keys=keys, clock=OffsetClock(SystemClock(), YEAR_NS))
        assert "expired" in await refusal(future, Untrusted)
        past = await a_link(world, keys=keys, clock=OffsetClock(SystemClock(), -YEAR_NS))
        assert "Get the time first" in await refusal(past, ClockUntrusted)


# --- time and size ---------------------------------------------------------------------------------------------------


@with_aws
async def test_where_nobody_listens_or_answers_it_is_unreachable_in_time(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        assert "Is the receiver running?" in await refusal(await a_link(world, port=1), Unreachable)
        assert "can't be found" in await refusal(await a_link(world, host="nowhere.invalid"), Unreachable)
        with contextlib.closing(listen("127.0.0.1", 0, "a silent port")) as silent:
            port = silent.getsockname()[1]
            assert await refusal(await a_link(world, host="127.0.0.1", port=port, timeout_s=0.4), Unreachable, 3.0)


@with_aws
async def test_with_no_receiver_behind_the_broker_a_block_is_kept(tmp_path: Path) -> None:
    # Its clock stands still: the pause before it dials again comes to no end.
    still = SteppingClock(wall_ns=SystemClock().wall_ns())
    async with an_aws_world(tmp_path, still) as world, connected(world) as link:
        assert world.receiver.behind is not None
        world.broker.cut("outrider-receiver", world.outsider())
        await until(lambda: world.receiver.behind is not None and not world.receiver.behind.ready.is_set())
        with pytest.raises(Throttled, match="no receiver"):
            await link.publish(Lane.P1, make_block())


@with_aws
async def test_a_receiver_that_says_nothing_in_time_is_patience_and_not_a_refusal(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world, connected(world, timeout_s=0.6) as link:
        with world.holding(), pytest.raises(Throttled, match="no receiver answered"):
            await link.publish(Lane.P1, make_block())
        await link.publish(Lane.P1, make_block(3))


@with_aws
@pytest.mark.parametrize("code", [0x80, 0x83, 0x91, 0x99])
async def test_what_the_broker_has_against_a_block_passes_and_the_block_is_kept(tmp_path: Path, code: int) -> None:
    topic = up_topic(VEHICLE, Lane.P1).encode()

    def answer(kind: int, body: bytes) -> bytes | None:
        if kind != PUBLISH:
            return welcome(kind, body)
        return puback(body, code if topic in body else 0)

    async with a_scripted_broker(tmp_path, answer) as broker:
        keys = MemoryKeyStore()
        pending = keys.begin_identity()
        keys.install(pending, broker.authority.issue(pending.csr(VEHICLE), VEHICLE).pem)
        link = AwsLink(HOST, broker.port, VEHICLE, keys, SystemClock(), ca_pem=broker.authority.pem)
        await link.connect()
        with pytest.raises(Throttled, match="didn't take the block"):
            await link.publish(Lane.P1, make_block())
        await link.close()


@with_aws
async def test_what_is_too_large_for_aws_is_refused_by_name_and_the_largest_block_is_not(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world, connected(world, acks=Acks.ACCEPTED) as link:
        with pytest.raises(Refused, match="131072 bytes in a message"):
            await link.publish(Lane.P1, bytes(128 * 1024 + 1))
        await link.publish(Lane.P1, bytes(MAX_BLOCK_BYTES))
        with pytest.raises(Refused, match="no room for a status"):
            await link.report(b'{"x":"' + b"y" * 9000 + b'"}')


@with_aws
async def test_in_accepted_mode_it_waits_for_the_broker_alone(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world, connected(world, acks=Acks.ACCEPTED) as link:
        with world.holding():
            await link.publish(Lane.P1, make_block())


@with_aws
@pytest.mark.parametrize("stopped", [True, False], ids=["stopped", "stopping"])
async def test_a_connection_that_ends_while_it_is_being_opened_is_unreachable_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stopped: bool
) -> None:
    crt = importlib.import_module("telemetry.links.aws.crt")

    class EndsAfterSuback(crt.CrtConnection):  # type: ignore[misc, name-defined]
        async def subscribe(self, topic: str) -> int:
            code: int = await super().subscribe(topic)
            self._events.lost("the broker went")
            if stopped:
                await self.end()
            return code

    async with an_aws_world(tmp_path) as world:
        link = await a_link(world)
        with monkeypatch.context() as patched:
            patched.setattr(crt, "CrtConnection", EndsAfterSuback)
            assert "the broker went" in await refusal(link, Unreachable)
        await link.connect()
        await link.close()


# --- identity --------------------------------------------------------------------------------------------------------


@with_aws
async def test_renewal_with_traffic_running_loses_nothing(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        vehicle = await world.vehicle()
        async with connected(world) as link:
            for n in range(9):
                if n % 3 == 1:
                    await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
                    await link.connect()
                    vehicle.keys.retire_previous()
                await link.publish(Lane.P1, make_block(3 * n))
            assert len(await world.stored()) == 9


@with_aws
async def test_each_identity_makes_its_tls_once_however_often_it_connects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crt = importlib.import_module("telemetry.links.aws.crt")
    make, made = crt.client_tls, []

    def noted(key: bytes, certificate: bytes, door: Door) -> object:
        made.append(certificate)
        return make(key, certificate, door)

    monkeypatch.setattr(crt, "client_tls", noted)
    async with an_aws_world(tmp_path) as world:
        vehicle = await world.vehicle()
        link = await a_link(world)
        await link.connect()
        await link.connect()
        first = vehicle.keys.certificate()
        await asyncio.to_thread(renew, vehicle.paired, vehicle.keys, vehicle.clock)
        await link.connect()
        await link.connect()
        await link.close()
        assert made == [first, vehicle.keys.certificate()]
        assert made[0] != made[1]


@with_aws
async def test_no_client_of_the_sdk_outlives_its_connection(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        link, clients = await a_link(world), []
        for _ in range(3):
            await link.connect()
            assert link._talk is not None
            clients.append(weakref.ref(link._talk.line.live()))
        await link.close()

        def gone() -> bool:
            gc.collect()
            return all(client() is None for client in clients)

        await until(gone)


# --- shadow and jobs -------------------------------------------------------------------------------------------------


def a_status(looks: int, state: UpdateState = UpdateState.SETTLED, words: str = "") -> bytes:
    update = UpdateNews(looks=looks, state=state, title="drive-detect 2.0", digest="sha256:ab", words=words)
    return pack_status(StatusReport(version="1", update=update))


@with_aws
async def test_a_change_of_the_shadow_is_a_hint_once_and_its_difference_goes(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world, connected(world) as link:
        world.aws.desire(VEHICLE, {"look": 7})
        assert await anext(link.hints()) == Hint("shadow")
        await link.report(a_status(1))
        shadow = world.aws.shadows[VEHICLE, "outrider"]
        assert shadow.delta == {}
        assert shadow.reported["update"]["title"] == "drive-detect 2.0"
        await link.report(a_status(2))
        world.aws.desire(VEHICLE, {"look": 8, "rm": "-rf"})
        assert await anext(link.hints()) == Hint("shadow")


@with_aws
@pytest.mark.parametrize(("state", "status"), [(UpdateState.SETTLED, "SUCCEEDED"), (UpdateState.FAILED, "FAILED")])
async def test_a_job_is_in_progress_on_sight_and_ends_by_what_the_vehicle_reports(
    tmp_path: Path, state: UpdateState, status: str
) -> None:
    async with an_aws_world(tmp_path) as world, connected(world) as link:
        await link.report(a_status(3))
        world.aws.create_job(VEHICLE, "job-1", {"anything": "at all"})
        assert await anext(link.hints()) == Hint("job")
        assert world.aws.jobs[VEHICLE, "job-1"].status == "IN_PROGRESS"
        await link.report(a_status(3))  # it hasn't looked since
        await link.report(a_status(4, UpdateState.UNDER_WAY))
        assert world.aws.jobs[VEHICLE, "job-1"].status == "IN_PROGRESS"
        await link.report(a_status(5, state, "words"))
        job = world.aws.jobs[VEHICLE, "job-1"]
        assert job.status == status
        assert job.details == {"title": "drive-detect 2.0", "digest": "sha256:ab", "words": "words"}


@with_aws
async def test_a_job_of_before_the_connection_is_taken_up_and_one_that_was_cancelled_is_let_go(tmp_path: Path) -> None:
    async with an_aws_world(tmp_path) as world:
        await world.vehicle()
        world.aws.create_job(VEHICLE, "early", {})
        async with connected(world) as link:
            assert await anext(link.hints()) == Hint("job")
            world.aws.cancel_job(VEHICLE, "early")
            await link.report(a_status(1))
            world.aws.create_job(VEHICLE, "later", {})
            assert await anext(link.hints()) == Hint("job")
            assert world.aws.jobs[VEHICLE, "early"].status == "CANCELED"


def test_a_job_ends_only_after_a_look_that_came_after_it() -> None:
    for looks_before, looks, state, status in (
        (None, 9, UpdateState.SETTLED, "IN_PROGRESS"),
        (3, 3, UpdateState.SETTLED, "IN_PROGRESS"),
        (3, 4, UpdateState.UNDER_WAY, "IN_PROGRESS"),
        (3, 4, UpdateState.SETTLED, "SUCCEEDED"),
        (3, 4, UpdateState.FAILED, "FAILED"),
    ):
        report = StatusReport(version="1", update=UpdateNews(looks=looks, state=state))
        assert news_of(JobUnderWay("j", 1, looks_before), report).status == status
    assert news_of(JobUnderWay("j", 1, 0), StatusReport(version="1")).status == "FAILED"


def _self_signed(keys: MemoryKeyStore) -> str:
    """An authority of its own, whose only certificate is in `keys` from now on."""
    from tests.ecu.authority import Authority

    authority, pending = Authority(), keys.begin_identity()
    keys.install(pending, authority.certify(pending.csr(VEHICLE)))
    return authority.pem.decode()


async def _expired(world: AwsWorld) -> MemoryKeyStore:
    """A certificate of the receiver's authority that ended a year ago."""
    from ecu.disk import RealDisk
    from receiver.pki import Authority

    disk = RealDisk((await world.vehicle()).disk.root.parent / "receiver")
    authority = Authority(disk, OffsetClock(SystemClock(), -YEAR_NS), 1)
    keys = MemoryKeyStore()
    pending = keys.begin_identity()
    keys.install(pending, authority.issue(pending.csr(VEHICLE), VEHICLE).pem)
    return keys
