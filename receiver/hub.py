"""What the receiver tells vehicles behind an IoT hub: receipts, refusals and hints, as direct methods over the hub's
REST API.

One call at a time a vehicle; what comes meanwhile goes together with the next. None is tried twice: a vehicle that
didn't hear sends its blocks again, and gets its receipts then.
"""

from __future__ import annotations

import asyncio
import base64
import functools
import hashlib
import hmac
import http.client
import json
import ssl
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote

import msgspec
import structlog

from ecu.clock import SECOND_NS, Clock
from ecu.errors import UsageFault
from receiver.config import HubSection
from receiver.counters import Counters
from telemetry.links.azure.messages import HINT_METHOD, RECEIPT_METHOD, pack_answers
from telemetry.records import Lane
from telemetry.spool.intervals import IntervalSet
from telemetry.wire import Receipt, Refusal

API_VERSION: Final = "2021-04-12"
TOKEN_S: Final = 3600
METHOD_S: Final = 5
"""How long the vehicle has to answer; the hub takes no less."""
TIMEOUT_S: Final = 15.0
CALLS_AT_ONCE: Final = 64
LEFT_ALONE_NS: Final = 30 * SECOND_NS
"""Who is connected and doesn't answer takes up one of these calls each time: not again so soon."""
VEHICLES_KEPT: Final = 10_000
REFUSALS_KEPT: Final = 128
RANGES_KEPT: Final = 1024
HINTS_KEPT: Final = 8
_MAX_ANSWER_BYTES: Final = 128 * 1024

log = structlog.get_logger()


class HubRefused(Exception):
    """The hub didn't carry out a call. Whoever made it goes on without."""


class NoAnswer(HubRefused):
    """The vehicle is there and didn't answer in time."""


class _Answer(msgspec.Struct, frozen=True):
    """What the hub says of a call; what the vehicle itself put into it isn't kept."""

    status: int


_answer = msgspec.json.Decoder(_Answer)


def status_of(answer: bytes) -> int:
    """Raises HubRefused for an answer that has none: half of it is the vehicle's own, and may be anything."""
    try:
        return _answer.decode(answer).status
    except (ValueError, RecursionError) as error:  # msgspec's own errors are ValueErrors
        raise HubRefused(f"The hub's answer to a call has no status: {error}") from error


def sas_token(host: str, policy: str, key_base64: str, ends_s: int) -> str:
    """A shared access signature for the hub's service API: HMAC-SHA-256 over the resource and when it ends."""
    resource = quote(host, safe="")
    digest = hmac.new(base64.b64decode(key_base64), f"{resource}\n{ends_s}".encode(), hashlib.sha256).digest()
    signature = quote(base64.b64encode(digest).decode(), safe="")
    return f"SharedAccessSignature sr={resource}&sig={signature}&se={ends_s}&skn={policy}"


class Service(Protocol):
    """Who calls vehicles."""

    def call(self, vehicle: str, method: str, payload: object) -> int:
        """What the vehicle answered. Blocks. Raises HubRefused."""
        ...


class HubService:
    """The hub's service API, one request a connection, each within its time-out."""

    def __init__(self, config: HubSection, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        self._key = read_secret(config.key_file, "[receiver.hub] key_file")
        _demand_base64(self._key)
        self._context = _trusting(config.ca_file)

    def call(self, vehicle: str, method: str, payload: object) -> int:
        """What the vehicle answered. Blocks. Raises HubRefused."""
        body = {
            "methodName": method,
            "payload": payload,
            "responseTimeoutInSeconds": METHOD_S,
            "connectTimeoutInSeconds": 0,
        }
        path = f"/twins/{quote(vehicle, safe='')}/methods?api-version={API_VERSION}"
        status, answer = self._ask("POST", path, json.dumps(body).encode())
        if status == 504:
            raise NoAnswer(f"{vehicle} didn't answer {method} within {METHOD_S} s")
        if status != 200:
            raise HubRefused(f"{self._config.host} answered {status} to {method}: {answer[:200]!r}")
        return status_of(answer)

    def _ask(self, verb: str, path: str, body: bytes) -> tuple[int, bytes]:
        config = self._config
        ends_s = self._clock.wall_ns() // SECOND_NS + TOKEN_S
        headers = {
            "authorization": sas_token(config.host, config.policy, self._key, ends_s),
            "content-type": "application/json",
        }
        line = http.client.HTTPSConnection(config.host, config.port, timeout=TIMEOUT_S, context=self._context)
        try:
            line.request(verb, path, body, headers)
            response = line.getresponse()
            return response.status, response.read(_MAX_ANSWER_BYTES)
        except (OSError, UnicodeError, http.client.HTTPException) as error:  # UnicodeError: no name of a host
            raise HubRefused(f"{config.host} can't be asked: {error}") from error
        finally:
            line.close()


@dataclass(slots=True)
class Waiting:
    """What one vehicle is to be told, bounded: what falls out is said again when the vehicle sends again."""

    stored: dict[tuple[Lane, bytes], IntervalSet] = field(default_factory=dict)
    refusals: list[Refusal] = field(default_factory=list)
    hints: list[str] = field(default_factory=list)

    def add(self, receipt: Receipt) -> bool:
        if sum(len(known) for known in self.stored.values()) + len(receipt.ranges) > RANGES_KEPT:
            return False
        ranges = self.stored.setdefault((receipt.lane, receipt.epoch), IntervalSet())
        for start, end in receipt.ranges:
            ranges.add(start, end)
        return True

    def refuse(self, refusal: Refusal) -> bool:
        if len(self.refusals) >= REFUSALS_KEPT:
            return False
        self.refusals.append(refusal)
        return True

    def calls(self) -> list[tuple[str, Any]]:
        """Method and payload, in the order in which they are made."""
        receipts = [Receipt(lane, epoch, tuple(known)) for (lane, epoch), known in self.stored.items()]
        answers = [(RECEIPT_METHOD, pack_answers(receipts, self.refusals))] if receipts or self.refusals else []
        return [*answers, *((HINT_METHOD, kind) for kind in self.hints)]


class HubDesk:
    """Who is behind the hub, and what each is to be told."""

    def __init__(self, service: Service, clock: Clock, counters: Counters, tasks: asyncio.TaskGroup) -> None:
        self._service = service
        self._clock = clock
        self._counters = counters
        self._tasks = tasks
        self._behind: OrderedDict[str, None] = OrderedDict()  # heard last, last
        self._waiting: dict[str, Waiting] = {}
        self._talks: dict[str, asyncio.Task[None]] = {}
        self._is_over = False
        self._threads = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="hub")

    def heard(self, vehicle: str) -> None:
        """Something of this vehicle came through the hub: that is where it is told."""
        self._behind[vehicle] = None
        self._behind.move_to_end(vehicle)
        if len(self._behind) > VEHICLES_KEPT:
            self._waiting.pop(self._behind.popitem(last=False)[0], None)

    def deliver(self, vehicle: str, receipt: Receipt) -> None:
        if vehicle in self._behind:
            self._counters.hub_dropped += not self._of(vehicle).add(receipt)
            self._stir(vehicle)

    def refuse(self, vehicle: str, refusal: Refusal) -> None:
        self._counters.hub_dropped += not self._of(vehicle).refuse(refusal)
        self._stir(vehicle)

    def hint(self, vehicle: str, kind: str) -> bool:
        """Whether the vehicle is one that the hub could tell."""
        if vehicle not in self._behind:
            return False
        waiting = self._of(vehicle)
        waiting.hints = [*waiting.hints, kind][-HINTS_KEPT:]
        self._stir(vehicle)
        return True

    async def close(self) -> None:
        """Forgets what nobody has been told; calls under way end by themselves."""
        self._is_over = True
        for talk in self._talks.values():
            talk.cancel()
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)

    def _of(self, vehicle: str) -> Waiting:
        return self._waiting.setdefault(vehicle, Waiting())

    def _stir(self, vehicle: str) -> None:
        if vehicle not in self._talks:
            self._talks[vehicle] = talk = self._tasks.create_task(self._talk(vehicle))
            talk.add_done_callback(lambda _: self._talked(vehicle))

    def _talked(self, vehicle: str) -> None:
        del self._talks[vehicle]
        # Between its last look and this turn of the loop more may have come.
        if vehicle in self._waiting and not self._is_over:
            self._stir(vehicle)

    async def _talk(self, vehicle: str) -> None:
        while (waiting := self._waiting.pop(vehicle, None)) is not None:
            for method, payload in waiting.calls():
                try:
                    await self._call(vehicle, method, payload)
                except HubRefused as error:
                    self._counters.hub_calls_failed += 1
                    log.warning("hub_call_failed", vehicle=vehicle, method=method, reason=str(error))
                    if isinstance(error, NoAnswer):
                        await self._clock.sleep_until(self._clock.boot_ns() + LEFT_ALONE_NS)
                except Exception:  # else what one vehicle made us stumble over would end the receiver for all
                    self._counters.hub_calls_failed += 1
                    log.exception("hub_call_broke", vehicle=vehicle, method=method)

    async def _call(self, vehicle: str, method: str, payload: object) -> None:
        act = functools.partial(self._service.call, vehicle, method, payload)
        status = await asyncio.get_running_loop().run_in_executor(self._threads, act)
        self._counters.hub_calls += 1
        if status != 200:
            log.warning("hub_call_not_understood", vehicle=vehicle, method=method, status=status)


def read_secret(path: str, key: str) -> str:
    """One line of a file. Raises UsageFault."""
    try:
        secret = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(
            f"{key} = {path!r} can't be read: {error}. Give a file with the secret in one line."
        ) from error
    if not secret:
        raise UsageFault(f"{key} = {path!r} is empty. Put the secret into it, in one line.")
    return secret


def _demand_base64(key: str) -> None:
    try:
        base64.b64decode(key, validate=True)
    except ValueError as error:
        raise UsageFault(
            f"[receiver.hub] key_file holds no key: {error}. `az iot hub policy show` prints it, base64."
        ) from error


def _trusting(ca_file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file or None)
    except OSError as error:  # ssl.SSLError is one
        raise UsageFault(f"[receiver.hub] ca_file = {ca_file!r} can't be used: {error}. Name a PEM file.") from error
