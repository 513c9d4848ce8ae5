"""A vehicle as a thing of AWS IoT Core: its named shadow and its jobs, through the SDK's own service clients.

Neither tells the vehicle what to do. A change of the shadow's desired part and a job are hints to go and look; what
comes of it is in the shadow's reported part and in the job's status.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import msgspec
import structlog
from awscrt import mqtt_request_response
from awsiot import ServiceStreamOptions, iotjobs, iotshadow

from telemetry.links.aws.crt import words_of
from telemetry.links.aws.jobs import JobNews, JobUnderWay, news_of
from telemetry.links.aws.services import done
from telemetry.links.link import LinkError, Refused, Unauthorized
from telemetry.links.statusreport import MAX_STATUS_BYTES, StatusReport, read_status

SHADOW: Final = "outrider"
ASKED: Final = "look"
"""The one key of the desired part: its value means nothing, and is reported back so that the difference goes."""
_REQUESTS: Final = 8
_STREAMS: Final = 4

log = structlog.get_logger()


class Thing:
    """On one connection; `hinted` is called in the event loop's thread."""

    def __init__(self, client: Any, name: str, timeout_s: float, hinted: Callable[[str], None]) -> None:
        options = mqtt_request_response.ClientOptions(_REQUESTS, _STREAMS, max(1, round(timeout_s)))
        self._loop = asyncio.get_running_loop()
        self._name = name
        self._hinted = hinted
        self._shadows = iotshadow.IotShadowClientV2(client, options)
        self._jobs = iotjobs.IotJobsClientV2(client, options)
        self._streams: list[Any] = []
        self._looking: set[asyncio.Task[None]] = set()
        self._job: JobUnderWay | None = None
        self._last: StatusReport | None = None
        self._asked: Any = None

    async def open(self) -> None:
        """Hears of shadow and jobs from now on. Raises LinkError."""
        delta = iotshadow.NamedShadowDeltaUpdatedSubscriptionRequest(thing_name=self._name, shadow_name=SHADOW)
        following = iotjobs.NextJobExecutionChangedSubscriptionRequest(thing_name=self._name)
        await asyncio.gather(
            self._listen(self._shadows.create_named_shadow_delta_updated_stream, delta, self._on_delta),
            self._listen(self._jobs.create_next_job_execution_changed_stream, following, self._on_next_job),
        )
        self._look_at_jobs()

    async def report(self, status: bytes) -> None:
        """The shadow's reported part, and the status of the job under way. Raises LinkError."""
        if len(status) > MAX_STATUS_BYTES:
            raise Refused(f"A shadow has no room for a status of {len(status)} bytes; {MAX_STATUS_BYTES} fit.")
        reported = {**_object(status), **({ASKED: self._asked} if self._asked is not None else {})}
        state = iotshadow.ShadowState(reported=reported)
        await done(
            self._shadows.update_named_shadow(
                iotshadow.UpdateNamedShadowRequest(thing_name=self._name, shadow_name=SHADOW, state=state)
            )
        )
        if (report := read_status(status)) is not None:
            self._last = report
            await self._tell_job(report)

    def close(self) -> None:
        """Nothing is heard any more."""
        for task in self._looking:
            task.cancel()
        self._streams.clear()

    # --- hints ------------------------------------------------------------------------------------

    async def _listen(self, create: Callable[..., Any], request: Any, on_event: Callable[[Any], None]) -> None:
        heard: asyncio.Future[Exception | None] = self._loop.create_future()

        def settle(error: Exception | None) -> None:
            if not heard.done():
                heard.set_result(error)

        stream = create(
            request,
            ServiceStreamOptions(
                incoming_event_listener=lambda event: self._soon(on_event, event),
                subscription_status_listener=lambda status: self._soon(settle, status.error),
            ),
        )
        self._streams.append(stream)
        stream.open()
        if (error := await heard) is not None:
            raise Unauthorized(
                f"{self._name} may not hear its own shadow or jobs ({words_of(error)}). Look at the policy of its "
                "certificate: docs/clouds.md."
            )

    def _soon(self, act: Callable[[Any], None], what: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the event loop is gone, and with it whoever wanted to know
            self._loop.call_soon_threadsafe(act, what)

    def _on_delta(self, event: Any) -> None:
        asked = (event.state or {}).get(ASKED)
        if asked is not None and asked != self._asked:
            self._asked = asked
            self._hinted("shadow")

    def _on_next_job(self, event: Any) -> None:
        if event.execution is not None:
            self._look_at_jobs()

    def _look_at_jobs(self) -> None:
        task = self._loop.create_task(self._begin_job())
        self._looking.add(task)
        task.add_done_callback(self._looking.discard)

    # --- jobs -------------------------------------------------------------------------------------

    async def _begin_job(self) -> None:
        """Takes up the next job: it is IN_PROGRESS from here on, also one begun before a restart."""
        request = iotjobs.StartNextPendingJobExecutionRequest(thing_name=self._name)
        try:
            execution = (await done(self._jobs.start_next_pending_job_execution(request))).execution
        except LinkError as error:
            log.warning("jobs_unknown", thing=self._name, reason=str(error))
            return
        if execution is None or (self._job is not None and self._job.job_id == execution.job_id):
            return
        looks = self._last.update.looks if self._last is not None and self._last.update is not None else None
        self._job = JobUnderWay(execution.job_id, execution.version_number, looks)
        self._hinted("job")

    async def _tell_job(self, report: StatusReport) -> None:
        if (job := self._job) is None:
            return
        news = news_of(job, report)
        if job.looks_before is None and report.update is not None:
            job = self._job = replace(job, looks_before=report.update.looks)
        if await self._update(job, news) and news.status != "IN_PROGRESS":
            self._job = None
            self._look_at_jobs()

    async def _update(self, job: JobUnderWay, news: JobNews) -> bool:
        """Whether the execution was ours to tell: an operator may have cancelled it."""
        request = iotjobs.UpdateJobExecutionRequest(
            thing_name=self._name,
            job_id=job.job_id,
            status=news.status,
            status_details=news.details,
            expected_version=job.version,
        )
        try:
            await done(self._jobs.update_job_execution(request))
        except Refused as refusal:
            log.warning("job_not_ours", job=job.job_id, reason=str(refusal))
            self._job = None
            self._look_at_jobs()
            return False
        self._job = replace(job, version=job.version + 1)
        return True


def _object(status: bytes) -> dict[str, Any]:
    try:
        return msgspec.json.decode(status, type=dict[str, Any])
    except ValueError as error:
        raise Refused(f"A status is a JSON object: {error}.") from error
