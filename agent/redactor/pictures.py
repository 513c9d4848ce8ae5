"""Pictures of what was noticed: asked for by events, made by the redactor's process, given on only when covered.

It fails closed: without a redactor there are no pictures, and every one that was wanted is counted for what became of
it: wanted = taken + dropped(reason) + waiting.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from agent.children import Child
from agent.perception.restart import Restarts
from agent.perception.settings import Supervision
from agent.redactor.messages import (
    MAX_PICTURE_BYTES,
    Cover,
    Covered,
    Develop,
    Developed,
    FromRedactor,
    Part,
    RedactorFault,
    RedactorReady,
    Thing,
)
from ecu.clock import SECOND_NS, Clock
from ecu.urgency import Urgency, may_prefer, prefer
from inference.frames import FrameRing
from inference.messages import CameraHello, Filled, Ring, Seen
from telemetry.privacy.pictures import RedactedPicture
from telemetry.records import HardBrake, NewTrack, Record

ANSWER_WITHIN_S: Final = 10.0


class Why(StrEnum):
    """Why a wanted picture was not taken."""

    NO_REDACTOR = "no_redactor"  # its process was down or still loading: nothing uncovered is ever kept
    REDACTOR_LOST = "redactor_lost"  # it died over it
    TOO_MANY = "too_many"  # more than the hourly allowance


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """`faces` is the face model's package; every `every`-th frame is remembered, covered, and `before` of those go
    with a picture. At most `per_hour` events get one."""

    faces: Path
    every: int
    before: int
    per_hour: int


@dataclass(frozen=True, slots=True)
class PictureCounts:
    """Law: wanted = taken + dropped + waiting. `pictures` also counts those from before an event."""

    wanted: int
    taken: int
    pictures: int
    dropped: Mapping[str, int]
    waiting: int

    @property
    def holds(self) -> bool:
        return self.wanted == self.taken + sum(self.dropped.values()) + self.waiting


@dataclass(frozen=True, slots=True)
class PictureStatus:
    """A reading for status and doctor. `fault` is why there are no pictures, empty when there are."""

    pid: int | None
    model: str | None
    counts: PictureCounts
    fault: str
    replaced: int


class PictureSide:
    """An Onlooker of the perception. `on_picture` gets every covered picture that goes with an event."""

    def __init__(
        self,
        settings: PictureSettings,
        clock: Clock,
        supervision: Supervision,
        on_picture: Callable[[RedactedPicture], None],
        on_health: Callable[[str, str], None],
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._environment = supervision.environment
        self._restarts = Restarts(supervision.clock, supervision.rng)
        self._on_picture = on_picture
        self._on_health = on_health
        self._ring: FrameRing | None = None
        self._child: Child[FromRedactor] | None = None
        self._ready: RedactorReady | None = None
        self._gone = asyncio.Event()
        self.settled = asyncio.Event()
        """Set once the first redactor is ready, or ended: lockstep waits for it, or pictures would hang on chance."""
        self._fault = ""
        self._wanted_next: str | None = None
        self._covering: tuple[int, Callable[[], None]] | None = None
        self._developing: deque[tuple[int, str]] = deque()
        self._parts: dict[int, bytearray] = {}
        self._alarm: asyncio.TimerHandle | None = None
        self._granted_ns: deque[int] = deque()
        self._wanted = 0
        self._taken = 0
        self._pictures = 0
        self._dropped: Counter[str] = Counter()

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keeps a redactor going until cancelled."""
        try:
            while True:
                await self._live_once()
                await self._restarts.pause()
        finally:
            await self.stop()

    async def stop(self) -> None:
        if self._child is not None:
            await self._child.stop()
        self._let_go()

    def status(self) -> PictureStatus:
        child = self._child
        return PictureStatus(
            pid=child.pid if child is not None and child.alive else None,
            model=self._ready.model if self._ready is not None else None,
            counts=self.counts(),
            fault=self._fault,
            replaced=max(0, self._restarts.started - 1),
        )

    def counts(self) -> PictureCounts:
        waiting = (self._wanted_next is not None) + len(self._developing)
        return PictureCounts(self._wanted, self._taken, self._pictures, dict(self._dropped), waiting)

    async def _live_once(self) -> None:
        self._restarts.begins()
        self._gone.clear()
        self._child = await Child.start(
            "agent.redactor.process", ["--faces", str(self._settings.faces)], FromRedactor, self._told, self._closed,
            self._environment,
        )  # fmt: skip
        if may_prefer():
            prefer(self._child.pid, Urgency.PATIENT)
        if self._ring is not None:
            self._show_ring(self._ring)
        await self._gone.wait()
        await self._child.reaped()
        self._on_health("redactor_lost", self._fault or "its process ended; there are no pictures until it is back")

    # --- what is wanted ---------------------------------------------------------------------------

    def note(self, record: Record) -> None:
        """An event that a picture belongs to: of the frame that is being told, or of the next one."""
        match record.event:
            case NewTrack():
                self._want("new_track")
            case HardBrake():
                self._want("hard_brake")
            case _:
                pass

    def _want(self, reason: str) -> None:
        if self._wanted_next is not None:
            return  # one picture shows both
        self._wanted += 1
        if self._allowed():
            self._wanted_next = reason
        else:
            self._dropped[Why.TOO_MANY] += 1

    def _allowed(self) -> bool:
        now_ns = self._clock.boot_ns()
        while self._granted_ns and self._granted_ns[0] <= now_ns - 3600 * SECOND_NS:
            self._granted_ns.popleft()
        if len(self._granted_ns) >= self._settings.per_hour:
            return False
        self._granted_ns.append(now_ns)
        return True

    # --- as an Onlooker ---------------------------------------------------------------------------

    def show(self, ring: FrameRing) -> None:
        self._ring = ring
        if self._child is not None and self._child.alive:
            self._show_ring(ring)

    def saw(self, frame: Filled, geometry: CameraHello, seen: Seen, done: Callable[[], None]) -> bool:
        wanted = self._wanted_next
        if wanted is None and frame.frame_id % self._settings.every:
            return False
        if self._ready is None or self._child is None:
            self._drop_wanted(Why.NO_REDACTOR)
            return False
        if self._covering is not None:
            return False  # what is wanted waits for the next frame, which shows nearly the same
        tracked = (Thing(track.label, track.box) for track in seen.tracks)
        things = (*tracked, *(Thing(glimpse.label, glimpse.box, tracked=False) for glimpse in seen.glimpses))
        self._covering = frame.frame_id, done
        self._wanted_next = None
        if wanted is not None:
            self._developing.append((frame.frame_id, wanted))
        self._set_alarm()
        self._child.send(Cover(frame.slot, frame.frame_id, frame.t_ns, geometry.width, geometry.height, things))
        if wanted is not None:
            self._child.send(Develop(frame.frame_id, self._settings.before))
        return True

    def _drop_wanted(self, why: Why) -> None:
        if self._wanted_next is not None:
            self._wanted_next = None
            self._dropped[why] += 1

    # --- what the redactor tells ------------------------------------------------------------------

    def _told(self, child: Child[FromRedactor], message: FromRedactor) -> None:
        match message:
            case RedactorReady():
                self._ready, self._fault = message, ""
                self.settled.set()
            case Covered(frame_id) if self._covering is not None and self._covering[0] == frame_id:
                self._release()
            case Part() if self._developing and message.whole <= MAX_PICTURE_BYTES:
                self._take_part(message)
            case Developed(frame_id) if self._developing and self._developing[0][0] == frame_id:
                self._finish(message.pictures)
            case RedactorFault(reason):
                self._fault = reason
            case _:
                # An answer to nothing asked: what it says can't be trusted to show nobody.
                child.kill()

    def _take_part(self, part: Part) -> None:
        whole = self._parts.setdefault(part.frame_id, bytearray())
        whole += part.data
        if len(whole) >= part.whole:
            del self._parts[part.frame_id]
            self._pictures += 1
            self._on_picture(
                RedactedPicture(
                    jpeg=bytes(whole),
                    width=part.width,
                    height=part.height,
                    frame_id=part.frame_id,
                    captured_ns=part.t_ns,
                    covered=part.regions,
                    reason=self._developing[0][1],
                )
            )

    def _finish(self, pictures: int) -> None:
        self._developing.popleft()
        self._rest()
        if pictures:
            self._taken += 1
        else:
            self._dropped[Why.REDACTOR_LOST] += 1

    def _closed(self, child: Child[FromRedactor]) -> None:
        self._ready = None
        self._let_go()
        self.settled.set()
        self._gone.set()

    def _let_go(self) -> None:
        """Nobody covers anything any more: the frame goes back, the picture is lost and counted."""
        self._release()
        self._clear_alarm()
        self._parts.clear()
        if self._developing:
            self._dropped[Why.REDACTOR_LOST] += len(self._developing)
            self._developing.clear()

    def _release(self) -> None:
        covering, self._covering = self._covering, None
        if covering is not None:
            covering[1]()
        self._rest()

    def _rest(self) -> None:
        """Nothing is owed: it may be silent for as long as it likes."""
        if self._covering is None and not self._developing:
            self._clear_alarm()

    def _show_ring(self, ring: FrameRing) -> None:
        assert self._child is not None
        reader = ring.reader_fd()
        self._child.send(Ring(ring.slots, ring.slot_bytes), [reader])
        os.close(reader)

    def _set_alarm(self) -> None:
        assert self._child is not None
        self._clear_alarm()
        self._alarm = asyncio.get_running_loop().call_later(ANSWER_WITHIN_S, self._child.kill)

    def _clear_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
