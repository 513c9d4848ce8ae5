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
from functools import reduce
from pathlib import Path
from typing import Final

from agent.children import Child
from agent.perception.restart import Restarts
from agent.perception.settings import Supervision
from agent.redactor.messages import (
    MOST_CUTS,
    Cover,
    Covered,
    Crop,
    Cut,
    Develop,
    Developed,
    FromRedactor,
    Part,
    RedactorFault,
    RedactorReady,
    Thing,
)
from agent.redactor.orders import Orders, Shot, Untrue
from ecu.channel import Message
from ecu.clock import SECOND_NS, Clock
from ecu.errors import EnvironmentFault
from ecu.urgency import Urgency, may_prefer, prefer
from inference.frames import FrameRing
from inference.messages import CameraHello, Filled, Ring, Seen
from telemetry.privacy.pictures import RedactedCrop, RedactedPicture
from telemetry.records import HardBrake, NewTrack, Record

ANSWER_WITHIN_S: Final = 10.0
READY_WITHIN_S: Final = 60.0
MOST_LATER: Final = 64
"""Pictures of clips that wait for their frames."""
CLIP_WITHIN_NS: Final = 600 * SECOND_NS
"""What is captured later after its trigger shows nothing of it: a camera was away, or covers next to nothing."""
MOST_REASON: Final = 200
LIGHT: Final = "traffic_light"
FORGOTTEN: Final = "What the redactor remembered was purged, with its process; another is started."
ENDED: Final = "The redactor's process ended; there are no pictures until it is back."


class Why(StrEnum):
    """Why a wanted picture was not taken."""

    NO_REDACTOR = "no_redactor"  # its process was down or still loading: nothing uncovered is ever kept
    REDACTOR_LOST = "redactor_lost"  # it died over it, or couldn't be believed
    TOO_MANY = "too_many"  # more than the hourly allowance
    NOT_HELD = "not_held"  # a clip's frame was covered, and is remembered no more
    NO_FRAMES = "no_frames"  # of those that a clip wants none was covered in time


@dataclass(frozen=True, slots=True)
class PictureSettings:
    """`faces` is the face model's package; every `every`-th frame is remembered, covered, and `before` of those go
    with a picture. At most `per_hour` events get one. Each question to the redactor has `answer_within_s` for itself,
    whatever was answered meanwhile. With `crop_px` above 0 traffic lights are cut out of what is covered, so large."""

    faces: Path
    every: int
    before: int
    per_hour: int
    answer_within_s: float = ANSWER_WITHIN_S
    crop_px: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """A picture to take, and up to `before` remembered ones with it."""

    reason: str
    before: int

    def joined(self, other: Wish) -> Wish:
        """One picture that shows both."""
        return Wish(f"{self.reason}, {other.reason}"[:MOST_REASON], max(self.before, other.before))


@dataclass(slots=True, eq=False)
class _Clip:
    """`after` pictures are still to come, of covered frames captured from `t_ns` on; with the first of them `before` of
    those that came before."""

    reason: str
    t_ns: int
    before: int
    after: int

    def next_wish(self) -> Wish:
        wish = Wish(self.reason, self.before)
        self.before = 0
        self.after -= 1
        return wish


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
    """An Onlooker of the perception. `on_picture` gets every covered picture that goes with an event, `on_crop` every
    traffic light that was cut out of one."""

    def __init__(
        self,
        settings: PictureSettings,
        clock: Clock,
        supervision: Supervision,
        on_picture: Callable[[RedactedPicture], None],
        on_health: Callable[[str, str], None],
        on_crop: Callable[[RedactedCrop], None] | None = None,
    ) -> None:
        self._settings = settings
        self._on_crop = on_crop
        self._clock = clock
        self._environment = supervision.environment
        self._start_child = supervision.start
        self._restarts = Restarts(supervision.clock, supervision.rng)
        self._on_picture = on_picture
        self._on_health = on_health
        self._ring: FrameRing | None = None
        self._child: Child[FromRedactor] | None = None
        self._is_believed = False
        self._ready: RedactorReady | None = None
        self._gone = asyncio.Event()
        self.settled = asyncio.Event()
        """Set once the first redactor is ready, or ended: lockstep waits for it, or pictures would hang on chance."""
        self._fault = ""
        self._complained = ""  # of what was told last: one that never gets ready is told of once
        self._wanted_next: Wish | None = None
        self._clips: list[_Clip] = []
        self._orders = Orders()
        self._done: Callable[[], None] | None = None
        self._deadlines: deque[asyncio.TimerHandle] = deque()
        self._granted_ns: deque[int] = deque()
        self.lights_left_out = 0
        """Traffic lights beyond those that are cut out of one frame."""
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
        self._let_go()
        if self._child is not None:
            await self._child.stop()

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
        waiting = (self._wanted_next is not None) + self._wanted_later + self._orders.pictures_waiting
        return PictureCounts(self._wanted, self._taken, self._pictures, dict(+self._dropped), waiting)

    async def _live_once(self) -> None:
        self._restarts.begins()
        self._gone.clear()
        try:
            child = self._child = await self._start_child(
                "agent.redactor.process", ["--faces", str(self._settings.faces)], FromRedactor, self._told,
                self._closed, self._environment,
            )  # fmt: skip
        except EnvironmentFault as error:
            # Whatever the computer is short of: records and perception go on without pictures.
            self._fault = str(error)
            self.settled.set()
        else:
            self._believe(child)
            await self._gone.wait()
            await child.reaped()
        if self._fault != self._complained:
            self._complained = self._fault
            self._on_health("redactor_lost", self._fault)

    def _believe(self, child: Child[FromRedactor]) -> None:
        """Until it is caught lying, or late."""
        self._is_believed = True
        self._set_deadline(READY_WITHIN_S)
        if may_prefer():
            prefer(child.pid, Urgency.PATIENT)
        if self._ring is not None:
            self._show_ring(child, self._ring)

    # --- what is wanted ---------------------------------------------------------------------------

    def note(self, record: Record) -> None:
        """An event that a picture belongs to: of the frame that is being told, or of the next one."""
        match record.event:
            case NewTrack():
                self.want("new_track")
            case HardBrake():
                self.want("hard_brake")
            case _:
                pass

    def want_clip(self, reason: str, t_ns: int, before: int, after: int) -> None:
        """Of the frames that are covered anyway the first `after` captured from `t_ns` on, and the last `before` from
        before, whenever this is asked. One event of the hourly allowance."""
        self._give_up_clips(t_ns)
        if not self._want_more(after):
            return
        gone = min(after, self._orders.gone_since(t_ns))
        self._dropped[Why.NOT_HELD] += gone
        clip = _Clip(reason[:MOST_REASON], t_ns, before, after - gone)
        for shot in self._orders.held_since(t_ns)[: clip.after]:
            self._develop(shot.frame_id, clip.next_wish())
        if clip.after:
            self._clips.append(clip)

    def _give_up_clips(self, t_ns: int) -> None:
        """What is captured from then on is too late for some."""
        late = [clip for clip in self._clips if t_ns - clip.t_ns > CLIP_WITHIN_NS]
        self._dropped[Why.NO_FRAMES] += sum(clip.after for clip in late)
        self._clips = [clip for clip in self._clips if clip not in late]

    @property
    def _wanted_later(self) -> int:
        """Pictures of clips that wait for their frames."""
        return sum(clip.after for clip in self._clips)

    def _want_more(self, pictures: int) -> bool:
        """Whether that many may be taken; they are counted either way."""
        self._wanted += pictures
        if self._wanted_later + pictures <= MOST_LATER and self._allowed():
            return True
        self._dropped[Why.TOO_MANY] += pictures
        return False

    def want(self, reason: str) -> None:
        """A picture of the frame that is being told, or of the next one."""
        if self._wanted_next is not None:
            return  # one picture shows both
        if self._want_more(1):
            self._wanted_next = Wish(reason, self._settings.before)

    def _allowed(self) -> bool:
        now_ns = self._clock.boot_ns()
        while self._granted_ns and self._granted_ns[0] <= now_ns - 3600 * SECOND_NS:
            self._granted_ns.popleft()
        if len(self._granted_ns) >= self._settings.per_hour:
            return False
        self._granted_ns.append(now_ns)
        return True

    def forget(self) -> None:
        """What was covered and is remembered goes with the process that remembers it; another one follows."""
        if self._child is not None and self._child.alive:
            self._fault = FORGOTTEN
            self._child.kill()
            self._let_go()

    # --- as an Onlooker ---------------------------------------------------------------------------

    def show(self, ring: FrameRing) -> None:
        self._ring = ring
        if self._child is not None:
            self._show_ring(self._child, ring)

    def saw(self, frame: Filled, geometry: CameraHello, seen: Seen, done: Callable[[], None]) -> bool:
        self._give_up_clips(frame.t_ns)
        if self._wanted_next is None and frame.frame_id % self._settings.every:
            return False
        if self._ready is None:
            self._dropped[Why.NO_REDACTOR] += len(self._taken_wishes(frame.t_ns))
            return False
        if self._orders.is_covering:
            return False  # what is wanted waits for the next frame, which shows nearly the same
        tracked = (Thing(track.label, track.box) for track in seen.tracks)
        things = (*tracked, *(Thing(glimpse.label, glimpse.box, tracked=False) for glimpse in seen.glimpses))
        self._done = done
        cuts, crop_px = self._cuts(seen), self._settings.crop_px
        shot = Shot(frame.frame_id, frame.t_ns, geometry.width, geometry.height)
        self._orders.cover(shot, frozenset(cut.track_id for cut in cuts), crop_px)
        self._ask(Cover(frame.slot, frame.frame_id, geometry.width, geometry.height, things, cuts, crop_px))
        if wishes := self._taken_wishes(frame.t_ns):
            self._wanted -= len(wishes) - 1  # one picture shows them all
            self._develop(frame.frame_id, reduce(Wish.joined, wishes))
        return True

    def _taken_wishes(self, t_ns: int) -> list[Wish]:
        """What is wanted of the frame captured then, and from now on not any more."""
        event, self._wanted_next = self._wanted_next, None
        wishes = [] if event is None else [event]
        wishes += [clip.next_wish() for clip in self._clips if clip.t_ns <= t_ns]
        self._clips = [clip for clip in self._clips if clip.after]
        return wishes

    def _develop(self, frame_id: int, wish: Wish) -> None:
        self._orders.develop(frame_id, wish.before, wish.reason)
        self._ask(Develop(frame_id, wish.before))

    def _cuts(self, seen: Seen) -> tuple[Cut, ...]:
        if not self._settings.crop_px:
            return ()
        lights = [track for track in seen.tracks if track.label == LIGHT and track.confirmed]
        self.lights_left_out += len(lights[MOST_CUTS:])
        return tuple(Cut(track.track_id, track.box) for track in lights[:MOST_CUTS])

    def _ask(self, question: Message) -> None:
        assert self._child is not None
        self._set_deadline(self._settings.answer_within_s)
        self._child.send(question)

    # --- what the redactor tells ------------------------------------------------------------------

    def _told(self, child: Child[FromRedactor], message: FromRedactor) -> None:
        if not self._is_believed:
            return  # said before it was killed, and read after
        try:
            self._heed(message)
        except Untrue as error:
            self._give_up(str(error))

    def _heed(self, message: FromRedactor) -> None:
        """Raises Untrue."""
        match message:
            case RedactorReady():
                if self._ready is not None:
                    raise Untrue("The redactor got ready twice.")
                self._answered()
                self._ready, self._fault, self._complained = message, "", ""
                self.settled.set()
            case Covered():
                self._orders.covered(message)
                self._answered()
                self._release()
            case Crop():
                crop = self._orders.crop(message)
                if self._on_crop is not None:
                    self._on_crop(crop)
            case Part():
                if (picture := self._orders.part(message)) is not None:
                    self._pictures += 1
                    self._on_picture(picture)
            case Developed():
                has_come = self._orders.developed(message)
                self._answered()
                self._count(has_come)
            case RedactorFault(reason):
                self._fault = reason

    def _count(self, has_come: bool) -> None:
        if has_come:
            self._taken += 1
        else:
            self._dropped[Why.REDACTOR_LOST] += 1

    def _give_up(self, why: str) -> None:
        assert self._child is not None
        self._fault = f"{why} It was killed, and another is started."
        self._child.kill()
        self._let_go()

    def _closed(self, child: Child[FromRedactor]) -> None:
        self._fault = self._fault or ENDED
        self._let_go()
        self._gone.set()

    def _let_go(self) -> None:
        """Nobody covers anything any more: the frame goes back, the picture is lost and counted."""
        self._is_believed = False
        self._ready = None
        while self._deadlines:
            self._answered()
        orders, self._orders = self._orders, Orders(self._orders.times_ns)
        for has_come in orders.unfinished():
            self._count(has_come)
        self._release()
        self.settled.set()

    def _release(self) -> None:
        done, self._done = self._done, None
        if done is not None:
            done()

    def _show_ring(self, child: Child[FromRedactor], ring: FrameRing) -> None:
        reader = ring.reader_fd()
        child.send(Ring(ring.slots, ring.slot_bytes), [reader])
        os.close(reader)

    def _set_deadline(self, within_s: float) -> None:
        late = f"The redactor didn't answer within {within_s:g} s."
        self._deadlines.append(asyncio.get_running_loop().call_later(within_s, self._give_up, late))

    def _answered(self) -> None:
        """The oldest question was: answers come in the questions' order."""
        self._deadlines.popleft().cancel()
