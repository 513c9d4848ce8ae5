"""A link through Azure IoT Hub to the receiver behind it, or, in `accepted` mode, to the hub alone.

The hub says that it took a block; whether it was stored only our receiver can say, by a direct method. So `publish`
waits for both (links/answers.py): a block that the receiver refuses is seen as refused here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final

from ecu.clock import Clock
from telemetry.links.answers import Answers
from telemetry.links.azure.messages import (
    HINT_METHOD,
    RECEIPT_METHOD,
    hint_of,
    hint_of_desired,
    properties_of,
    reported_of,
    unpack_answers,
)
from telemetry.links.azure.tls import HubDialer
from telemetry.links.link import Accepted, Acks, Hint, LinkError, Unreachable
from telemetry.links.stream import Stream, ended
from telemetry.records import Lane
from telemetry.wire import BadBlock, Receipt, Refusal

if TYPE_CHECKING:
    from telemetry.links.azure.engine import HubConnection

RECEIPTS_KEPT: Final = 1024
HINTS_KEPT: Final = 8
# What a direct method is answered.
_DONE: Final = 200
_MALFORMED: Final = 400
_NO_SUCH_METHOD: Final = 404


class HubLink:
    """`context` makes the TLS that proves who this vehicle is (tls.hub_context), anew for each `connect`: so a renewed
    identity takes effect. Up to `in_flight` blocks travel at once; further callers wait."""

    def __init__(
        self,
        host: str,
        device: str,
        context: Callable[[], ssl.SSLContext],
        clock: Clock,
        *,
        timeout_s: float = 10.0,
        in_flight: int = 16,
        acks: Acks = Acks.STORED,
    ) -> None:
        self.acks = acks
        self.ignored = 0  # what came down and made no sense
        self._host = host
        self._device = device
        self._context = context
        self._clock = clock
        self._timeout_s = timeout_s
        self._in_flight = in_flight
        self._talk: _Talk | None = None

    async def connect(self) -> None:
        await self.close()
        # Only here: an agent that speaks to no hub never loads the SDK.
        engine = await asyncio.to_thread(_engine)
        context = await asyncio.to_thread(self._context)
        dialer = HubDialer(context, self._clock, self._host, self._timeout_s)
        talk = _Talk(self, lambda events: engine.HubConnection(self._host, self._device, dialer, events))
        try:
            async with asyncio.timeout(self._timeout_s):
                await talk.line.connect()
        except TimeoutError as error:
            talk.line.abandon()
            raise Unreachable(f"{self._host} took too long to answer. Check the network.") from error
        except BaseException:
            talk.line.abandon()
            raise
        self._talk = talk

    async def publish(self, lane: Lane, block: bytes) -> Accepted:
        talk = self._talking()
        async with talk.slots:
            sending = self._in_time(talk, talk.line.send(block, properties_of(lane)))
            if self.acks is Acks.STORED:
                await talk.answers.settled(block, sending, self._timeout_s)
            else:
                await sending
        return Accepted()

    def receipts(self) -> AsyncIterator[Receipt]:
        return self._talk.receipts if self._talk else ended("there is no connection")

    def hints(self) -> AsyncIterator[Hint]:
        return self._talk.hints if self._talk else ended("there is no connection")

    async def report(self, status: bytes) -> None:
        talk = self._talking()
        await self._in_time(talk, talk.line.report(reported_of(status)))

    async def close(self) -> None:
        talk, self._talk = self._talk, None
        if talk is not None:
            talk.lost("this side closed the link")
            await talk.line.end()

    def _talking(self) -> _Talk:
        if self._talk is None or self._talk.over is not None:
            raise Unreachable(f"There is no connection to {self._host}. Connect again.")
        return self._talk

    async def _in_time(self, talk: _Talk, answer: Coroutine[Any, Any, None]) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await answer
        except TimeoutError as error:
            words = f"{self._host} didn't acknowledge within {self._timeout_s:g} s"
            talk.lost(words)
            talk.line.abandon()
            raise Unreachable(f"{words}. Connect again.") from error


def _engine() -> ModuleType:
    return importlib.import_module("telemetry.links.azure.engine")


class _Talk:
    """What was said on one connection, in the event loop's thread (engine.Events)."""

    def __init__(self, link: HubLink, dial: Callable[[_Talk], HubConnection]) -> None:
        self.receipts: Stream[Receipt] = Stream(RECEIPTS_KEPT)
        self.hints: Stream[Hint] = Stream(HINTS_KEPT)
        self.answers = Answers()
        self.slots = asyncio.Semaphore(link._in_flight)
        self.over: str | None = None
        self.line = dial(self)
        self._link = link
        self._replies: set[asyncio.Task[None]] = set()

    def called(self, method: str, payload: object, request_id: str) -> None:
        try:
            status = self._act(method, payload)
        except BadBlock:
            self._link.ignored += 1
            status = _MALFORMED
        reply = asyncio.get_running_loop().create_task(self._reply(request_id, status))
        self._replies.add(reply)
        reply.add_done_callback(self._replies.discard)

    def desired(self, patch: object) -> None:
        if (hint := hint_of_desired(patch)) is not None:
            self.hints.put(hint)

    def lost(self, words: str) -> None:
        if self.over is None:
            self.over = words
            self.receipts.end(words)
            self.hints.end(words)
            self.answers.end(words)

    def _act(self, method: str, payload: object) -> int:
        if method == RECEIPT_METHOD:
            self._settle(*unpack_answers(payload))
        elif method == HINT_METHOD:
            self.hints.put(hint_of(payload))
        else:
            self._link.ignored += 1
            return _NO_SUCH_METHOD
        return _DONE

    def _settle(self, receipts: list[Receipt], refusals: list[Refusal]) -> None:
        for refusal in refusals:
            self.answers.refused(refusal)
        for receipt in receipts:
            self.receipts.put(receipt)
            self.answers.stored(receipt)

    async def _reply(self, request_id: str, status: int) -> None:
        # Who called sees a time-out instead: it is told nothing that it could not do without.
        with contextlib.suppress(LinkError, TimeoutError):
            async with asyncio.timeout(self._link._timeout_s):
                await self.line.answer(request_id, status)
