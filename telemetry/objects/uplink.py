"""Drains the object store over an ObjectLink: the oldest first, in its turn beside the records, at its rate."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Final, ParamSpec, Protocol, TypeVar

from ecu.clock import SECOND_NS, Clock
from ecu.disk import DiskError
from telemetry.links.link import LinkError, Refused, Unauthorized, Unreachable
from telemetry.objects.config import ObjectsConfig
from telemetry.objects.errors import ObjectGone
from telemetry.objects.format import ObjectRef
from telemetry.objects.link import Mismatch, ObjectLink
from telemetry.objects.status import Board, ObjectUplinkState, ObjectUplinkStatus
from telemetry.objects.wire import ByteRange, Have
from telemetry.records import Lane
from telemetry.uplink.away import Away
from telemetry.uplink.config import UplinkConfig
from telemetry.uplink.meter import Meter, Passage

EXCHANGE_S: Final = 120.0
"""One question and its answer, all in all: what a time-out for each piece of it doesn't bound."""

P = ParamSpec("P")
T = TypeVar("T")


class Objects(Protocol):
    """What is to be brought to the receiver: `telemetry.objects.keeper`."""

    def oldest(self) -> ObjectRef | None: ...

    async def wait(self) -> None:
        """Until the next object came, or others may go."""
        ...

    async def read(self, ref: ObjectRef, offset: int, length: int) -> bytes:
        """Raises ObjectGone: go on with the next. Raises DiskError: try later."""
        ...

    def may_go(self, ref: ObjectRef) -> bool:
        """Asked from any thread, right before anything of it is handed to a link: not what has left, or is about to."""
        ...

    async def stored(self, ref: ObjectRef) -> bool: ...

    async def refused(self, ref: ObjectRef, reason: str) -> bool: ...


class _Hand:
    """A link and the thread that uses it. `is_connected` says that its last question was answered."""

    def __init__(self, link: ObjectLink) -> None:
        self.link = link
        self.is_connected = False
        self.network = ThreadPoolExecutor(1, thread_name_prefix="object-link")

    def end(self) -> None:
        """At once; a call on the network ends by itself, in its thread."""
        self.link.interrupt()
        self.network.submit(self.link.close)
        self.network.shutdown(wait=False)


class ObjectUplink:
    """Brings objects to the receiver for as long as `run` runs; what it can't bring stays where it is.

    `meter` says when a slice may go and how long it is: P0 never waits for more than one, and other records that want
    the line have most of it. Its waits are those of [uplink].
    """

    def __init__(
        self,
        link: ObjectLink,
        objects: Objects,
        clock: Clock,
        rng: Random,
        config: ObjectsConfig | None = None,
        waits: UplinkConfig | None = None,
        meter: Meter | None = None,
        exchange_s: float = EXCHANGE_S,
        second: ObjectLink | None = None,
    ) -> None:
        self._hands = deque(_Hand(each) for each in (link, second) if each is not None)
        self._objects = objects
        self._clock = clock
        self._away = Away(clock, rng, waits or UplinkConfig())
        self._config = config or ObjectsConfig()
        self._meter = meter or Meter(clock)
        self._patience = 0
        self._exchange_s = exchange_s
        self._board = Board(since_ns=clock.boot_ns())
        self._free_ns = clock.boot_ns()
        self._mismatched: ObjectRef | None = None

    def status(self) -> ObjectUplinkStatus:
        return self._board.status()

    def nudge(self) -> None:
        """Something changed for the better (a network, a certificate): try again now."""
        self._away.nudge()

    async def run(self) -> None:
        """Until cancelled, which ends it at once: a call on the network ends by itself, in its thread."""
        try:
            while True:
                if (ref := self._objects.oldest()) is None:
                    self._enter(ObjectUplinkState.IDLE)
                    await self._objects.wait()
                else:
                    await self._try(ref)
        finally:
            self._enter(ObjectUplinkState.STOPPED, "stopped")
            for hand in self._hands:
                hand.end()

    # --- one object ---

    async def _try(self, ref: ObjectRef) -> None:
        self._away.forget_nudge()
        self._board.sending, self._board.there = ref, 0
        try:
            await self._deliver(ref)
        except ObjectGone:
            return
        except Mismatch as error:
            await self._mismatch(ref, error)
        except Refused as error:
            await self._refuse(ref, error)
        except (LinkError, DiskError) as error:
            self._board.count(failures=1)
            await self._stay_away(error)
        finally:
            self._board.sending = None

    async def _deliver(self, ref: ObjectRef) -> None:
        """Returns when the receiver has stored it and the store has forgotten it."""
        have = self._noted(await self._look(ref))
        self._patience = _most_bytes(ref, self._config.slice_bytes)
        while self._patience > 0:
            if have.stored:
                self._demand_whole(ref, have)
                await self._objects.stored(ref)
                self._away.attempt = 0
                self._board.count(stored=1)
                return
            have = await self._bring(ref, have.bytes if have.bytes < ref.bytes else 0)
        raise Unreachable(
            f"The receiver takes object {ref.sha256} again and again and never has it. It is tried later."
        )

    async def _bring(self, ref: ObjectRef, start: int) -> Have:
        """Slice after slice, for as long as the receiver goes along; what it has then. The next begins over the other
        link when the one before has left the line, so that nobody waits for an answer with the line empty."""
        under_way: deque[asyncio.Task[Have]] = deque()
        try:
            while start < ref.bytes and self._patience > 0:
                passage = await self._turn(ref.bytes - start)
                part = ByteRange(start, start + passage.size, ref.bytes)
                self._hands.rotate(1)
                under_way.append(self._send_off(ref, part, passage))
                start = part.end
                if len(under_way) == len(self._hands):
                    expected = start - passage.size if len(self._hands) > 1 else start
                    have = await under_way.popleft()
                    if have.stored or have.bytes != expected:
                        break
            while under_way:
                have = await under_way.popleft()
            return have
        finally:
            for task in under_way:
                task.cancel()
            await asyncio.gather(*under_way, return_exceptions=True)

    def _send_off(self, ref: ObjectRef, part: ByteRange, passage: Passage) -> asyncio.Task[Have]:
        task = asyncio.create_task(self._carry(ref, part, passage, self._hands[0]))
        # Also of one that is cancelled before its first step, and so never gets to say it itself.
        task.add_done_callback(lambda _: self._meter.failed(passage))
        return task

    async def _carry(self, ref: ObjectRef, part: ByteRange, passage: Passage, hand: _Hand) -> Have:
        # Only now: what was erased while it waited its turn must not be in our hands.
        data = await self._objects.read(ref, part.start, part.size)
        await self._meter.written()
        have = self._noted(await self._ask(hand, ref, hand.link.send, ref.sha256, part, data))
        self._meter.ended(passage)
        self._board.count(slices_sent=1, bytes_sent=part.size)
        if have.stored or have.bytes > part.start:
            self._away.attempt = 0
        return have

    async def _look(self, ref: ObjectRef) -> Have:
        await self._until_let()
        self._enter(ObjectUplinkState.SENDING)
        have = await self._question(ref)
        if not self._meter.knows_round_trip:
            have = await self._question(ref)  # how long that takes says how much may be sent at once
        return have

    async def _question(self, ref: ObjectRef) -> Have:
        hand = self._hands[0]
        was_connected = hand.is_connected
        passage = self._meter.begin_question()
        try:
            have = await self._ask(hand, ref, hand.link.look, ref.sha256)
        except BaseException:
            self._meter.failed(passage)
            raise
        # A first question has a handshake before it, and says nothing of the network's round trip.
        (self._meter.ended if was_connected else self._meter.failed)(passage)
        return have

    async def _turn(self, rest: int) -> Passage:
        """Waits until the network may be used for a slice: at its rate, and when it is its turn."""
        await self._clock.sleep_until(self._free_ns)
        while True:
            await self._until_let()
            behind = self._meter.has_records_waiting
            self._enter(ObjectUplinkState.BEHIND_RECORDS if behind else ObjectUplinkState.SENDING)
            passage = await self._meter.slice_turn(min(rest, self._config.slice_bytes))
            if passage is not None:
                self._enter(ObjectUplinkState.SENDING)
                self._patience -= passage.size
                self._free_ns = self._clock.boot_ns() + int(passage.size / self._config.bytes_per_s * SECOND_NS)
                return passage

    async def _until_let(self) -> None:
        """While another network or another day has to come, it waits here, and says so."""
        while (held := self._meter.held(Lane.P3)) is not None:
            self._enter(ObjectUplinkState.HELD_BACK, held.words)
            await self._meter.until_news(held.until_ns)

    def _demand_whole(self, ref: ObjectRef, have: Have) -> None:
        """Nothing is forgotten for a word that can't be true."""
        if have.bytes != ref.bytes:
            raise Unreachable(
                f"The receiver says that it has stored {have.bytes} bytes of {ref.sha256}, an object of {ref.bytes}."
                " That can't be: nothing is forgotten, and it is asked again later."
            )

    def _noted(self, have: Have) -> Have:
        self._board.there = have.bytes
        return have

    # --- what goes wrong ---

    async def _mismatch(self, ref: ObjectRef, error: Mismatch) -> None:
        """The store has checked what it gave, so it went wrong beyond it: once more, and then it is refused."""
        self._board.count(mismatches=1)
        if self._mismatched == ref:
            await self._refuse(ref, error)
        else:
            self._mismatched = ref
            await self._stay_away(error)

    async def _refuse(self, ref: ObjectRef, error: Refused) -> None:
        try:
            await self._objects.refused(ref, str(error))
        except DiskError as trouble:
            await self._stay_away(trouble)
        else:
            self._board.count(refused=1)

    async def _stay_away(self, error: LinkError | DiskError) -> None:
        state = ObjectUplinkState.UNAUTHORIZED if isinstance(error, Unauthorized) else ObjectUplinkState.WAITING
        self._enter(state, str(error))
        await self._away.after(error)

    async def _ask(self, hand: _Hand, ref: ObjectRef, act: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """In the link's own thread, bounded as a whole. Raises ObjectGone for what left while it waited for that."""

        def ask() -> T:
            if not self._objects.may_go(ref):
                raise ObjectGone(f"Object {ref.sha256} left while it was in hand.")
            return act(*args, **kwargs)

        was_connected, hand.is_connected = hand.is_connected, False
        call = asyncio.get_running_loop().run_in_executor(hand.network, ask)
        failure: LinkError | None = None
        try:
            async with asyncio.timeout(self._exchange_s):
                answer = await call
            hand.is_connected = True
            return answer
        except TimeoutError as error:
            failure = Unreachable(f"No answer within {self._exchange_s:g} s. The receiver is asked again.")
            raise failure from error
        except LinkError as error:
            failure = error
            raise
        finally:
            if call.cancelled():
                hand.link.interrupt()
            if not was_connected:
                self._meter.attempted(failure)

    def _enter(self, state: ObjectUplinkState, reason: str = "") -> None:
        self._board.enter(state, reason, self._clock.boot_ns())


def _most_bytes(ref: ObjectRef, slice_bytes: int) -> int:
    """Twice the object, and a few slices to find the place: beyond that somebody leads us in a circle."""
    return 2 * ref.bytes + 4 * min(slice_bytes, ref.bytes)
