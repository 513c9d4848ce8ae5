"""AWS's double, as the SDK's own service clients find it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ecu.keys import MemoryKeyStore
from simulator.clouds.awsjobs import Execution, JobRefused, next_of, started, told
from simulator.clouds.awsshadow import Shadow, ShadowRefused, deleted, difference, updated
from tests.contracts.test_link import WITHOUT_AWS

if not WITHOUT_AWS:
    from awscrt import mqtt_request_response
    from awsiot import ServiceStreamOptions, V2ServiceException, iotidentity, iotjobs, iotshadow

    from tests.contracts.awsworld import TEMPLATE, AwsWorld, an_aws_world

with_aws = pytest.mark.skipif(bool(WITHOUT_AWS), reason=WITHOUT_AWS)
THING = "veh-001"
SHADOW = "outrider"


@contextlib.asynccontextmanager
async def a_client(folder: Path) -> AsyncIterator[tuple[AwsWorld, Any, Any]]:
    """The world, the SDK's MQTT client in it, and the options of its service clients."""
    async with an_aws_world(folder) as world:
        link = await world.link()
        await link.connect()
        talk = link._talk  # type: ignore[attr-defined]
        yield world, talk.line.live(), mqtt_request_response.ClientOptions(8, 4, 5)
        await link.close()


async def refused(promise: Any) -> Any:
    with pytest.raises(V2ServiceException) as caught:
        await asyncio.wrap_future(promise)
    return caught.value.modeled_error


class Told:
    """The events of one of the SDK's streams."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self._open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._loop = asyncio.get_running_loop()
        self._stream: Any = None

    async def of(self, create: Any, request: Any) -> Told:
        self._stream = create(
            request,
            ServiceStreamOptions(
                incoming_event_listener=lambda event: self._soon(self.events.put_nowait, event),
                subscription_status_listener=lambda _: self._soon(self._settled),
            ),
        )
        self._stream.open()
        await self._open
        return self

    def _soon(self, act: Callable[..., None], *what: Any) -> None:
        # The SDK's threads tell of the end of a stream when its client is collected, in whatever test that is.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(act, *what)

    def _settled(self) -> None:
        if not self._open.done():
            self._open.set_result(None)


def a_shadow_request(kind: str, **more: Any) -> Any:
    return getattr(iotshadow, f"{kind}NamedShadowRequest")(thing_name=THING, shadow_name=SHADOW, **more)


@with_aws
async def test_the_sdks_shadow_client_gets_updates_hears_deltas_and_deletes(tmp_path: Path) -> None:
    async with a_client(tmp_path) as (_, client, options):
        shadows = iotshadow.IotShadowClientV2(client, options)
        assert (await refused(shadows.get_named_shadow(a_shadow_request("Get")))).code == 404
        request = iotshadow.NamedShadowDeltaUpdatedSubscriptionRequest(thing_name=THING, shadow_name=SHADOW)
        deltas = await Told().of(shadows.create_named_shadow_delta_updated_stream, request)
        state = iotshadow.ShadowState(desired={"model": "b", "fps": 10}, reported={"model": "a", "fps": 10})
        done = await asyncio.wrap_future(shadows.update_named_shadow(a_shadow_request("Update", state=state)))
        assert (await deltas.events.get()).state == {"model": "b"}
        got = await asyncio.wrap_future(shadows.get_named_shadow(a_shadow_request("Get")))
        assert (got.version, got.state.delta) == (done.version, {"model": "b"})
        stale = a_shadow_request("Update", state=state, version=done.version - 1)
        assert (await refused(shadows.update_named_shadow(stale))).code == 409
        await asyncio.wrap_future(shadows.delete_named_shadow(a_shadow_request("Delete")))
        assert (await refused(shadows.get_named_shadow(a_shadow_request("Get")))).code == 404


@with_aws
async def test_the_sdks_jobs_client_begins_tells_and_ends_executions_by_version(tmp_path: Path) -> None:
    async with a_client(tmp_path) as (world, client, options):
        jobs = iotjobs.IotJobsClientV2(client, options)
        request = iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name=THING)
        following = await Told().of(jobs.create_next_job_execution_changed_stream, request)
        world.aws.create_job(THING, "one", {"look": 1})
        world.aws.create_job(THING, "two", {"look": 2})
        assert (await following.events.get()).execution.job_id == "one"
        begin = iotjobs.StartNextPendingJobExecutionRequest(thing_name=THING)
        execution = (await asyncio.wrap_future(jobs.start_next_pending_job_execution(begin))).execution
        assert (execution.job_id, execution.status, execution.version_number) == ("one", "IN_PROGRESS", 2)
        listed = await asyncio.wrap_future(
            jobs.get_pending_job_executions(iotjobs.GetPendingJobExecutionsRequest(thing_name=THING))
        )
        assert [job.job_id for job in listed.in_progress_jobs] == ["one"]
        assert [job.job_id for job in listed.queued_jobs] == ["two"]

        def update(**more: Any) -> Any:
            return jobs.update_job_execution(iotjobs.UpdateJobExecutionRequest(thing_name=THING, job_id="one", **more))

        assert (await refused(update(status="SUCCEEDED", expected_version=7))).code == "VersionMismatch"
        await asyncio.wrap_future(update(status="SUCCEEDED", expected_version=2, status_details={"slot": "b"}))
        assert (await following.events.get()).execution.job_id == "two"
        assert (await refused(update(status="FAILED"))).code == "InvalidStateTransition"
        describe = iotjobs.DescribeJobExecutionRequest(thing_name=THING, job_id="one")
        described = (await asyncio.wrap_future(jobs.describe_job_execution(describe))).execution
        assert (described.status, described.status_details) == ("SUCCEEDED", {"slot": "b"})


@with_aws
async def test_the_sdks_identity_client_has_a_token_taken_once(tmp_path: Path) -> None:
    async with a_client(tmp_path) as (world, _, options):
        claim = await claim_line(world)
        identities = iotidentity.IotIdentityClientV2(claim, options)
        csr = MemoryKeyStore().begin_identity().csr("veh-007").decode()
        ask = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=csr)
        issued = await asyncio.wrap_future(identities.create_certificate_from_csr(ask))

        def register(**more: Any) -> Any:
            given = {"template_name": TEMPLATE, "parameters": {"SerialNumber": "veh-007"}} | more
            token = issued.certificate_ownership_token
            return identities.register_thing(
                iotidentity.RegisterThingRequest(certificate_ownership_token=token, **given)
            )

        assert (await refused(register(template_name="other"))).status_code == 404
        assert (await refused(register(parameters={}))).status_code == 400
        assert (await asyncio.wrap_future(register())).thing_name == "veh-007"
        assert (await refused(register())).error_code == "InvalidCertificateOwnershipToken"
        bad = iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request="junk")
        assert (await refused(identities.create_certificate_from_csr(bad))).status_code == 400


async def claim_line(world: AwsWorld) -> Any:
    """The SDK's MQTT client, by the claim's certificate."""
    from telemetry.links.aws.crt import CrtConnection, Peer, client_tls
    from telemetry.links.aws.proof import Door
    from telemetry.links.aws.provisioning import _Greeting
    from tests.agent.test_aws import a_claim

    file, events = a_claim(world), _Greeting()
    door = Door(file.endpoint, file.port, file.ca)
    tls = client_tls(file.claim_key.encode(), file.claim_certificate.encode(), door)
    line = CrtConnection(Peer(file.endpoint, file.port, "claim", tls), 5.0, True, events)
    line.start()
    assert await events.greeting is None
    return line.live()


# --- its services, without a wire ------------------------------------------------------------------------------------


def test_a_shadows_version_never_comes_twice() -> None:
    shadow = updated(Shadow(), {"state": {"desired": {"a": 1}}})
    assert deleted(shadow).version > shadow.version
    assert updated(deleted(shadow), {"state": {"reported": {}}}).version > shadow.version + 1


def test_null_takes_away_and_what_is_too_large_is_refused() -> None:
    shadow = updated(Shadow(), {"state": {"desired": {"a": {"b": 1, "c": 2}}}})
    shadow = updated(shadow, {"state": {"desired": {"a": {"b": None}}}})
    assert shadow.desired == {"a": {"c": 2}}
    for request, code in (({"state": {"reported": {"x": "y" * 9000}}}, 413), ({"state": 7}, 400), ({}, 400)):
        with pytest.raises(ShadowRefused) as caught:
            updated(shadow, request)
        assert caught.value.code == code


def test_a_delta_is_what_is_wanted_and_is_not_so() -> None:
    assert difference({"a": 1, "b": {"c": 1, "d": 2}}, {"a": 1, "b": {"c": 1}}) == {"b": {"d": 2}}
    assert difference({"a": 1}, {"a": 1, "z": 3}) == {}


def test_what_was_begun_is_next_before_what_is_queued_and_the_ended_is_never() -> None:
    old, new = Execution("old", THING, {}, 1), started(Execution("new", THING, {}, 2), 3)
    assert next_of([old, new]) is new
    ended = told(new, {"status": "FAILED", "expectedVersion": "2"}, 4)
    assert next_of([old, ended]) is old
    with pytest.raises(JobRefused, match="It is FAILED"):
        told(ended, {"status": "SUCCEEDED"}, 5)
    with pytest.raises(JobRefused, match="no such job"):
        told(None, {"status": "SUCCEEDED"}, 5)
