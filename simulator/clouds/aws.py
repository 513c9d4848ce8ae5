"""AWS IoT Core as far as a vehicle meets it: a double beside a broker, that answers on the reserved `$aws` topics.

The broker is real (mosquitto.py) and its ACL is the policy. Here are shadows, jobs and fleet provisioning, as the SDK's
own service clients expect them.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import msgspec

from ecu.clock import SECOND_NS, Clock
from simulator.clouds import awsjobs, awsshadow
from simulator.clouds.awsjobs import Execution, JobRefused
from simulator.clouds.awsprovisioning import Provisioning, ProvisioningRefused
from simulator.clouds.awsshadow import Shadow, ShadowRefused
from telemetry.links.pahoclient import PahoConnection, TlsDialer

SERVICES: Final = "aws-services"
"""The common name of the double's certificate, with its ACL lines for running_mosquitto."""
SERVICES_RULES: Final = "topic readwrite $aws/#\n"
CLAIM: Final = "fleet-claim"
CLAIM_RULES: Final = """\
topic write $aws/certificates/create-from-csr/json
topic read $aws/certificates/create-from-csr/json/+
topic write $aws/provisioning-templates/+/provision/json
topic read $aws/provisioning-templates/+/provision/json/+
"""
START_WITHIN_S: Final = 10.0
_FILTERS: Final = (
    "$aws/things/+/shadow/#",
    "$aws/things/+/jobs/#",
    "$aws/certificates/create-from-csr/json",
    "$aws/provisioning-templates/+/provision/json",
)
_THING: Final = r"\$aws/things/([^/]+)"

Answer = Mapping[str, Any]


class AwsDouble:
    """Lives on one broker. What an operator does in AWS's console, its methods do."""

    def __init__(self, provisioning: Provisioning, clock: Clock) -> None:
        self.shadows: dict[tuple[str, str], Shadow] = {}
        self.jobs: dict[tuple[str, str], Execution] = {}
        self.provisioning = provisioning
        self._clock = clock
        self._line: PahoConnection | None = None
        self._ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._granted = 0
        self._routes: tuple[tuple[re.Pattern[str], Callable[..., None]], ...] = (
            (re.compile(rf"{_THING}/shadow(?:/name/([^/]+))?/(get|update|delete)"), self._on_shadow),
            (re.compile(rf"{_THING}/jobs/get"), self._on_list),
            (re.compile(rf"{_THING}/jobs/start-next"), self._on_start_next),
            (re.compile(rf"{_THING}/jobs/([^/]+)/get"), self._on_describe),
            (re.compile(rf"{_THING}/jobs/([^/]+)/update"), self._on_update),
            (re.compile(r"\$aws/certificates/create-from-csr/json"), self._on_csr),
            (re.compile(r"\$aws/provisioning-templates/([^/]+)/provision/json"), self._on_register),
        )

    # --- what an operator does --------------------------------------------------------------------

    def desire(self, thing: str, state: Mapping[str, Any], name: str = "outrider") -> None:
        """Changes the desired part of a shadow."""
        self._update_shadow(thing, name, {"state": {"desired": dict(state)}}, {})

    def create_job(self, thing: str, job_id: str, document: Mapping[str, Any]) -> None:
        before = self._next(thing)
        self.jobs[thing, job_id] = Execution(job_id, thing, document, self._now_s())
        self._notify(thing, before)

    def cancel_job(self, thing: str, job_id: str) -> None:
        before = self._next(thing)
        execution = self.jobs[thing, job_id]
        self.jobs[thing, job_id] = replace(execution, status="CANCELED", version=execution.version + 1)
        self._notify(thing, before)

    # --- on the wire (pahoclient.Events) ----------------------------------------------------------

    async def join(self, host: str, port: int, context: ssl.SSLContext) -> None:
        """Answers from now on."""
        self._line = PahoConnection(SERVICES, TlsDialer(context, START_WITHIN_S, lambda _: None), 1000, self)
        await asyncio.to_thread(self._line.open, host, port, 30)
        async with asyncio.timeout(START_WITHIN_S):
            await self._ready

    async def leave(self) -> None:
        if self._line is not None:
            await asyncio.to_thread(self._line.end)

    def connected(self, code: int, words: str, receive_maximum: int) -> None:
        assert self._line is not None
        for topic in _FILTERS:
            self._line.subscribe(topic)

    def subscribed(self, codes: list[int]) -> None:
        self._granted += 1
        if self._granted == len(_FILTERS):
            self._ready.set_result(None)

    def acknowledged(self, packet_id: int, code: int, words: str) -> None: ...

    def lost(self, words: str) -> None:
        if not self._ready.done():
            self._ready.set_exception(ConnectionError(words))

    def arrived(self, topic: str, payload: bytes) -> None:
        for pattern, act in self._routes:
            if (found := pattern.fullmatch(topic)) is not None:
                try:
                    request = msgspec.json.decode(payload or b"{}", type=dict[str, Any])
                except ValueError:
                    self._say(f"{topic}/rejected", {"code": 400, "message": "Payload contains invalid json"})
                    return
                act(topic, request, *found.groups())
                return

    def _say(self, topic: str, message: Answer) -> None:
        assert self._line is not None
        self._line.publish(topic, msgspec.json.encode(message))

    def _now_s(self) -> int:
        return self._clock.wall_ns() // SECOND_NS

    # --- shadows ----------------------------------------------------------------------------------

    def _on_shadow(self, topic: str, request: Answer, thing: str, name: str | None, act: str) -> None:
        key, token = (thing, name or ""), _token(request)
        shadow = self.shadows.get(key, Shadow())
        try:
            match act:
                case "get":
                    answer = awsshadow.got(shadow, self._now_s())
                case "delete":
                    self.shadows[key] = awsshadow.deleted(shadow)
                    answer = {"version": shadow.version, "timestamp": self._now_s()}
                case _:
                    self._update_shadow(thing, name or "", request, token)
                    return
        except ShadowRefused as refusal:
            self._refuse_shadow(topic, refusal, token)
        else:
            self._say(f"{topic}/accepted", {**answer, **token})

    def _update_shadow(self, thing: str, name: str, request: Answer, token: Answer) -> None:
        base = f"$aws/things/{thing}/shadow" + (f"/name/{name}" if name else "")
        before = self.shadows.get((thing, name), Shadow())
        try:
            shadow = self.shadows[thing, name] = awsshadow.updated(before, request)
        except ShadowRefused as refusal:
            self._refuse_shadow(f"{base}/update", refusal, token)
            return
        stamp = {"version": shadow.version, "timestamp": self._now_s()}
        self._say(f"{base}/update/accepted", {"state": request["state"], **stamp, **token})
        if shadow.delta:
            self._say(f"{base}/update/delta", {"state": shadow.delta, **stamp, **token})

    def _refuse_shadow(self, topic: str, refusal: ShadowRefused, token: Answer) -> None:
        told = {"code": refusal.code, "message": str(refusal), "timestamp": self._now_s()}
        self._say(f"{topic}/rejected", {**told, **token})

    # --- jobs -------------------------------------------------------------------------------------

    def _of(self, thing: str) -> list[Execution]:
        return [execution for (name, _), execution in self.jobs.items() if name == thing]

    def _next(self, thing: str) -> Execution | None:
        return awsjobs.next_of(self._of(thing))

    def _on_list(self, topic: str, request: Answer, thing: str) -> None:
        pending = [execution for execution in self._of(thing) if not execution.has_ended]
        queued = [execution.summary() for execution in pending if execution.status == "QUEUED"]
        begun = [execution.summary() for execution in pending if execution.status != "QUEUED"]
        self._accept(topic, request, {"queuedJobs": queued, "inProgressJobs": begun})

    def _on_start_next(self, topic: str, request: Answer, thing: str) -> None:
        execution = self._next(thing)
        if execution is not None:
            execution = self.jobs[thing, execution.job_id] = awsjobs.started(execution, self._now_s())
        self._accept(topic, request, {} if execution is None else {"execution": execution.as_dict()})

    def _on_describe(self, topic: str, request: Answer, thing: str, job_id: str) -> None:
        execution = self._next(thing) if job_id == "$next" else self.jobs.get((thing, job_id))
        if execution is None and job_id != "$next":
            self._refuse_job(topic, request, JobRefused("ResourceNotFound", "There is no such job execution"))
        else:
            self._accept(topic, request, {} if execution is None else {"execution": execution.as_dict()})

    def _on_update(self, topic: str, request: Answer, thing: str, job_id: str) -> None:
        before = self._next(thing)
        try:
            execution = awsjobs.told(self.jobs.get((thing, job_id)), request, self._now_s())
        except JobRefused as refusal:
            self._refuse_job(topic, request, refusal)
            return
        self.jobs[thing, job_id] = execution
        self._accept(topic, request, {"executionState": execution.state()})
        self._notify(thing, before)

    def _notify(self, thing: str, before: Execution | None) -> None:
        """Only when another execution is next than was."""
        after = self._next(thing)
        if (before and before.job_id) != (after and after.job_id):
            told = {} if after is None else {"execution": after.as_dict()}
            self._say(f"$aws/things/{thing}/jobs/notify-next", {"timestamp": self._now_s(), **told})

    def _accept(self, topic: str, request: Answer, answer: Answer) -> None:
        self._say(f"{topic}/accepted", {**answer, "timestamp": self._now_s(), **_token(request)})

    def _refuse_job(self, topic: str, request: Answer, refusal: JobRefused) -> None:
        state = {"executionState": refusal.execution.state()} if refusal.execution is not None else {}
        told = {"code": refusal.code, "message": str(refusal), "timestamp": self._now_s(), **state}
        self._say(f"{topic}/rejected", {**told, **_token(request)})

    # --- fleet provisioning -----------------------------------------------------------------------

    def _on_csr(self, topic: str, request: Answer) -> None:
        self._provision(topic, lambda: self.provisioning.certify(request, self._now_s()))

    def _on_register(self, topic: str, request: Answer, template: str) -> None:
        self._provision(topic, lambda: self.provisioning.register(template, request))

    def _provision(self, topic: str, act: Callable[[], Answer]) -> None:
        try:
            self._say(f"{topic}/accepted", act())
        except ProvisioningRefused as refusal:
            told = {"statusCode": refusal.status, "errorCode": refusal.code, "errorMessage": str(refusal)}
            self._say(f"{topic}/rejected", told)


def _token(request: Answer) -> Answer:
    return {"clientToken": request["clientToken"]} if "clientToken" in request else {}


@contextlib.asynccontextmanager
async def running_aws(
    host: str, port: int, context: ssl.SSLContext, provisioning: Provisioning, clock: Clock
) -> AsyncIterator[AwsDouble]:
    """On a broker that runs, as whom `context` proves (SERVICES)."""
    double = AwsDouble(provisioning, clock)
    try:
        await double.join(host, port, context)
        yield double
    finally:
        await double.leave()
