"""What the agent believes of a redactor: nothing late, nothing that wasn't asked for, and every picture is counted."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.children import Child
from agent.perception import Supervision
from agent.redactor import PictureSettings, PictureSide
from agent.redactor.messages import (
    MAX_PICTURE_BYTES,
    REMEMBERED,
    Cover,
    Covered,
    Crop,
    Cut,
    Develop,
    Developed,
    Part,
    RedactorFault,
    RedactorReady,
)
from agent.redactor.pictures import ANSWER_WITHIN_S, CLIP_WITHIN_NS, READY_WITHIN_S, Why
from ecu.channel import Message
from ecu.clock import SECOND_NS, Clock, SteppingClock
from ecu.errors import EnvironmentFault
from inference.frames import FrameRing
from inference.messages import CameraHello, Filled, Ring, SeenTrack
from telemetry.privacy.pictures import RedactedCrop, RedactedPicture
from telemetry.records import HardBrake, record_of
from tests.agent.puppets import Puppet, result
from tests.agent.virtualtime import LoopClock, VirtualTimeLoop, in_virtual_time, passes, settled

GEOMETRY = CameraHello(width=8, height=6, period_ns=1)
SETTINGS = PictureSettings(Path("faces"), every=5, before=1, per_hour=1000)
BRAKE = record_of(0, HardBrake(6.0, None, {}))
READY = RedactorReady("faces 1.0")
JPEG = b"a covered picture"


@dataclass
class Table:
    """A PictureSide, the redactors that it started, and what came of both. `held` are frames not given back yet."""

    redactors: list[Puppet] = field(default_factory=list)
    pictures: list[RedactedPicture] = field(default_factory=list)
    crops: list[RedactedCrop] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    developed: int = 0
    refused_starts: int = 0
    side: PictureSide = field(init=False)

    @property
    def redactor(self) -> Puppet:
        return self.redactors[-1]

    def sees(self, frame_id: int, brakes: bool = False, tracks: tuple[SeenTrack, ...] = ()) -> bool:
        """A frame, with an event in it or not; whether the redactor got it."""
        if brakes:
            self.side.note(BRAKE)
        frame = Filled(slot=1, frame_id=frame_id, t_ns=frame_id * 10, fresh=False)
        taken = self.side.saw(frame, GEOMETRY, result(frame_id, *tracks), lambda: self.held.remove(frame_id))
        if taken:
            self.held.append(frame_id)
        return taken

    def says(self, *messages: Message) -> None:
        for message in messages:
            self.redactor.says(message)

    def shows(self, frame_id: int, pictures: int = 1) -> None:
        """The last words over a frame that was covered."""
        self.says(Part(frame_id, len(JPEG), JPEG), Developed(frame_id, pictures))

    async def starts_anew(self) -> None:
        self.redactor.dies()
        await settled()
        self.says(READY)


@asynccontextmanager
async def laid(
    settings: PictureSettings = SETTINGS, refused_starts: int = 0, clock: Clock | None = None
) -> AsyncIterator[Table]:
    table = Table(refused_starts=refused_starts)

    async def start(
        module: str, arguments: Sequence[str], accepts: Any, on_message: Callable[[Child[Any], Any], None],
        on_closed: Callable[[Child[Any]], None], environment: Any,
    ) -> Child[Any]:  # fmt: skip
        if table.refused_starts:
            table.refused_starts -= 1
            raise EnvironmentFault("no processes left")
        table.redactors.append(Puppet(arguments, on_message, on_closed))
        return table.redactors[-1]

    table.side = PictureSide(
        settings, clock or LoopClock(), Supervision(Random(1), {}, LoopClock(), start), table.pictures.append,
        lambda what, detail: table.health.append(detail), table.crops.append,
    )  # fmt: skip
    running = asyncio.create_task(table.side.run())
    try:
        await settled()
        yield table
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    assert table.held == []
    assert table.side.counts().holds


@in_virtual_time
async def test_an_event_gets_its_own_picture_and_the_one_before_as_the_camera_told_of_them() -> None:
    async with laid() as table:
        table.says(READY)
        assert table.sees(5)
        table.says(Covered(5, regions=2))
        assert table.sees(7, brakes=True)
        table.says(Covered(7, regions=3), Part(5, 4, b"ab"), Part(5, 4, b"cd"), Part(7, 2, b"ef"), Developed(7, 2))
        assert [(p.frame_id, p.jpeg, p.covered, p.captured_ns) for p in table.pictures] == [
            (5, b"abcd", 2, 50), (7, b"ef", 3, 70),
        ]  # fmt: skip
        assert {(p.width, p.height, p.reason) for p in table.pictures} == {(8, 6, "hard_brake")}
        counts = table.side.counts()
        assert (counts.wanted, counts.taken, counts.pictures, counts.dropped) == (1, 1, 2, {})


def covers(table: Table, frame_id: int, brakes: bool = False) -> None:
    """A frame, and what an honest redactor that remembers all that it may makes of it."""
    if table.sees(frame_id, brakes):
        table.says(Covered(frame_id, 0))
        develops(table)


def develops(table: Table) -> None:
    """What the redactor was asked to show and hasn't shown yet."""
    held = [cover.frame_id for cover in table.redactor.heard_of(Cover)][-REMEMBERED:]
    for asked in table.redactor.heard_of(Develop)[table.developed :]:
        earlier = [frame_id for frame_id in held if frame_id < asked.frame_id]
        wanted = [*earlier[max(0, len(earlier) - asked.before) :], *({asked.frame_id} & set(held))]
        table.says(*(Part(frame_id, len(JPEG), JPEG) for frame_id in wanted), Developed(asked.frame_id, len(wanted)))
        table.developed += 1


def clip_wanted_behind(frame_id: int, t_ns: int, before: int, after: int, brakes: int) -> list[int]:
    """The frames of a clip whose wish comes behind that frame, of 150 frames of 10 ns; at one of them it brakes."""

    async def play() -> list[int]:
        async with laid() as table:
            table.says(READY)
            for seen in range(150):
                covers(table, seen, brakes=seen == brakes)
                if seen == frame_id:
                    table.side.want_clip("clip", t_ns, before, after)
                    develops(table)
            assert table.side.counts().dropped == {}
            return [picture.frame_id for picture in table.pictures if "clip" in picture.reason]

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(play())


@given(st.integers(200, 500), st.integers(-20, 40), st.integers(0, 3), st.integers(1, 4))
def test_a_clip_is_counted_from_its_triggers_instant_however_late_its_wish_comes(
    t_ns: int, late: int, before: int, after: int
) -> None:
    brakes = 33
    covered = sorted({*range(0, 150, 5), brakes})
    first = next(n for n, frame_id in enumerate(covered) if frame_id * 10 >= t_ns)
    frames = clip_wanted_behind(t_ns // 10 + late, t_ns, before, after, brakes)
    # A brake that shares a picture with it brings the one before that, too.
    asked = covered[max(0, first - before) : first + after]
    assert frames == asked or (brakes in asked and set(frames) == {*asked, covered[covered.index(brakes) - 1]})


@in_virtual_time
async def test_what_a_late_clip_wants_and_nobody_remembers_is_counted_and_nothing_else_is_shown_for_it() -> None:
    async with laid() as table:
        table.says(READY)
        for frame_id in range(0, 5 * (REMEMBERED + 3), 5):
            covers(table, frame_id)
        table.side.want_clip("late", 5 * 10, before=2, after=4)
        develops(table)
        assert [picture.frame_id for picture in table.pictures] == [15, 20]
        counts = table.side.counts()
        assert (counts.wanted, counts.taken, counts.dropped) == (4, 2, {Why.NOT_HELD: 2})
        await table.starts_anew()
        table.side.want_clip("of the one before", 90 * 10, before=2, after=4)
        assert table.side.counts().dropped == {Why.NOT_HELD: 3}
        for frame_id in (95, 100, 105):
            table.sees(frame_id)
            table.says(Covered(frame_id, 0), Part(frame_id, 1, b"j"), Developed(frame_id, 1))
        assert [picture.frame_id for picture in table.pictures[2:]] == [95, 100, 105]


@in_virtual_time
async def test_a_clip_shows_nothing_of_long_after_its_trigger_and_keeps_no_other_from_its_pictures() -> None:
    # Mutations: a camera that was away for hours fills the clips of then; or those leave no room for one of now.
    async with laid() as table:
        table.says(READY)
        for _ in range(4):
            table.side.want_clip("then", 0, before=0, after=16)
        later_ns = CLIP_WITHIN_NS + 10
        table.side.want_clip("now", later_ns, before=0, after=1)
        counts = table.side.counts()
        assert (counts.dropped, counts.waiting) == ({Why.NO_FRAMES: 64}, 1)
        table.side.want_clip("then", 0, before=0, after=3)
        frame_id = 5 * (later_ns // 50 + 1)
        assert table.sees(frame_id)
        assert table.side.counts().dropped == {Why.NO_FRAMES: 67}
        assert table.redactor.heard_of(Develop) == [Develop(frame_id, 0)]


@in_virtual_time
async def test_two_clips_at_once_each_have_all_their_frames() -> None:
    async with laid() as table:
        table.says(READY)
        table.side.want_clip("one", 50, before=0, after=2)
        table.side.want_clip("other", 100, before=0, after=2)
        for frame_id in (5, 10, 15, 20):
            covers(table, frame_id)
        told = [(picture.frame_id, picture.reason) for picture in table.pictures]
        assert told == [(5, "one"), (10, "one, other"), (15, "other")]
        assert table.side.counts().taken == 3


@in_virtual_time
async def test_a_redactor_shows_no_frame_after_the_one_that_a_clip_asks_for() -> None:
    async with laid() as table:
        table.says(READY)
        for frame_id in (5, 10, 15):
            covers(table, frame_id)
        table.side.want_clip("clip", 100, before=1, after=1)
        table.says(Part(15, len(JPEG), JPEG))
        assert table.redactor.was_killed
        assert table.pictures == []


@in_virtual_time
async def test_a_clip_and_an_event_of_one_frame_share_its_picture_and_are_both_told_of() -> None:
    async with laid() as table:
        table.says(READY)
        table.side.note(BRAKE)
        table.side.want_clip("harsh 3", 70, before=0, after=1)
        assert table.sees(7)
        table.says(Covered(7, 0), Part(7, 1, b"j"), Developed(7, 1))
        assert [picture.reason for picture in table.pictures] == ["hard_brake, harsh 3"]


@in_virtual_time
async def test_clips_beyond_what_can_wait_or_the_hourly_allowance_are_dropped_and_counted() -> None:
    async with laid(replace(SETTINGS, per_hour=5)) as table:
        table.says(READY)
        for _ in range(7):
            table.side.want_clip("harsh", 0, before=0, after=16)
        assert table.side.counts().dropped == {Why.TOO_MANY: 3 * 16}


@in_virtual_time
async def test_what_a_redactor_remembered_goes_with_its_process_and_another_takes_its_place() -> None:
    # Mutation: clearing what the agent knows of it only leaves the pictures where they are.
    async with laid() as table:
        table.says(READY)
        assert table.sees(5)
        table.says(Covered(5, regions=0))
        assert table.sees(7, brakes=True)
        first = table.redactor
        table.side.forget()
        assert first.was_killed
        table.says(Covered(7, regions=0), *(Part(7, len(JPEG), JPEG), Developed(7, 1)))
        assert table.pictures == [], "said before it was killed, and read after"
        first.dies()
        await passes(60.0)
        assert len(table.redactors) == 2
        assert table.side.counts().dropped == {"redactor_lost": 1}


LIES: dict[str, tuple[Message, ...]] = {
    "covers another frame": (Covered(6, 1),),
    "shows what it hasn't said to be covered": (Part(7, 2, b"ab"),),
    "is done before it has covered": (Developed(7, 0),),
    "covers twice": (Covered(7, 1), Covered(7, 1)),
    "shows a frame that it never got": (Covered(7, 1), Part(6, 2, b"ab")),
    "shows a later frame": (Covered(7, 1), Part(8, 2, b"ab")),
    "shows a frame twice": (Covered(7, 1), Part(7, 2, b"ab"), Part(7, 2, b"ab")),
    "shows an earlier one after it": (Covered(7, 1), Part(7, 2, b"ab"), Part(5, 2, b"ab")),
    "shows more than was asked for": (
        Covered(7, 1), Part(0, 2, b"ab"), Part(5, 2, b"ab"), Part(7, 2, b"ab"),
    ),
    "tells two at once": (Covered(7, 1), Part(5, 4, b"ab"), Part(7, 4, b"cd")),
    "tells more than it has": (Covered(7, 1), Part(7, 2, b"abc")),
    "tells nothing of nothing": (Covered(7, 1), Part(7, 0, b"")),
    "tells on and on": (Covered(7, 1), Part(7, 2, b"")),
    "tells too much": (Covered(7, 1), Part(7, MAX_PICTURE_BYTES + 1, b"ab")),
    "says that it told more": (Covered(7, 1), Developed(7, 1)),
    "says that it told less": (Covered(7, 1), Part(7, 2, b"ab"), Developed(7, 0)),
    "stops within one": (Covered(7, 1), Part(7, 4, b"ab"), Developed(7, 0)),
    "is done with another": (Covered(7, 1), Developed(5, 0)),
    "is done twice": (Covered(7, 1), Part(7, 2, b"ab"), Developed(7, 1), Developed(7, 1)),
    "is ready again": (READY,),
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES.values(), ids=LIES)
@in_virtual_time
async def test_who_says_what_cant_be_is_killed_and_not_believed_any_more(lie: tuple[Message, ...]) -> None:
    async with laid() as table:
        table.says(READY)
        for frame_id in (0, 5):
            table.sees(frame_id)
            table.says(Covered(frame_id, 0))
        assert table.sees(7, brakes=True)
        table.says(*lie[:-1])
        told = len(table.pictures)
        table.says(lie[-1])
        assert table.redactor.was_killed
        assert table.held == []
        # What it had on its tongue, all of it right by itself.
        table.says(READY, Covered(7, 1), Part(7, 2, b"ab"), Developed(7, 1))
        assert len(table.pictures) == told
        assert not table.sees(10, brakes=True)
        counts = table.side.counts()
        assert counts.holds
        assert counts.waiting == 0
        await settled()
        assert len(table.redactors) == 2
        assert table.health == [table.side.status().fault]


@in_virtual_time
async def test_a_redactor_that_is_silent_over_a_frame_is_killed_and_the_frame_goes_back() -> None:
    async with laid() as table:
        table.says(READY)
        assert table.sees(7, brakes=True)
        await passes(ANSWER_WITHIN_S - 0.001)
        assert table.held == [7]
        await passes(0.002)
        assert table.held == []
        assert table.redactors[0].was_killed
        assert table.side.counts().dropped == {Why.REDACTOR_LOST: 1}
        assert "10 s" in table.health[0]


@in_virtual_time
async def test_where_a_busy_computer_may_take_its_time_so_may_a_redactor() -> None:
    async with laid(replace(SETTINGS, answer_within_s=6 * ANSWER_WITHIN_S)) as table:
        table.says(READY)
        table.sees(7, brakes=True)
        await passes(5 * ANSWER_WITHIN_S)
        assert not table.redactor.was_killed
        await passes(2 * ANSWER_WITHIN_S)
        assert table.redactors[0].was_killed


@in_virtual_time
async def test_pictures_that_dont_come_are_not_waited_for_however_busy_it_is_otherwise() -> None:
    async with laid() as table:
        table.says(READY)
        assert table.sees(7, brakes=True)
        table.says(Covered(7, 1))
        await passes(ANSWER_WITHIN_S / 2)
        assert table.sees(10)
        table.says(Part(7, 4, b"ab"))
        await passes(ANSWER_WITHIN_S / 2)
        assert table.redactors[0].was_killed
        assert table.side.counts().dropped == {Why.REDACTOR_LOST: 1}


@in_virtual_time
async def test_one_that_answers_in_time_may_be_silent_for_as_long_as_nothing_is_asked() -> None:
    async with laid() as table:
        table.says(READY)
        assert table.sees(7, brakes=True)
        table.says(Covered(7, 1))
        table.shows(7)
        await passes(10 * READY_WITHIN_S)
        assert not table.redactor.was_killed
        assert table.side.status().fault == ""


@in_virtual_time
async def test_a_redactor_that_hangs_while_it_loads_is_killed_and_nobody_waits_for_it() -> None:
    async with laid() as table:
        await passes(READY_WITHIN_S - 0.001)
        assert not table.side.settled.is_set()
        await passes(0.002)
        assert table.redactors[0].was_killed
        assert table.side.settled.is_set()
        assert len(table.redactors) == 2


@in_virtual_time
async def test_a_computer_that_cant_start_a_redactor_goes_on_without_pictures_until_it_can() -> None:
    async with laid(refused_starts=3) as table:
        assert table.side.settled.is_set()
        assert table.side.status().fault == "no processes left"
        assert not table.sees(5, brakes=True)
        await passes(60)
        table.says(READY)
        assert table.side.status().fault == ""
        assert table.sees(10)
        assert table.health == ["no processes left"], "once, however often it is tried"
        assert table.side.counts().dropped == {Why.NO_REDACTOR: 1}


@in_virtual_time
async def test_a_picture_that_came_whole_counts_as_taken_although_its_redactor_died_over_the_last_word() -> None:
    async with laid() as table:
        table.says(READY)
        table.sees(7, brakes=True)
        table.says(Covered(7, 1), Part(7, 2, b"ab"))
        await table.starts_anew()
        table.sees(8, brakes=True)
        table.says(Covered(8, 1), Part(8, 2, b"a"))
        await table.starts_anew()
        counts = table.side.counts()
        assert (counts.taken, counts.dropped) == (1, {Why.REDACTOR_LOST: 1})


@in_virtual_time
async def test_what_one_redactor_still_owed_is_not_held_against_the_next() -> None:
    async with laid() as table:
        table.says(READY)
        table.sees(7, brakes=True)
        await passes(ANSWER_WITHIN_S / 2)
        await table.starts_anew()
        await passes(ANSWER_WITHIN_S)
        assert len(table.redactors) == 2
        assert not table.redactor.was_killed


@in_virtual_time
async def test_the_frame_itself_must_be_among_its_pictures_to_count_as_taken() -> None:
    async with laid() as table:
        table.says(READY)
        table.sees(5)
        table.says(Covered(5, 1))
        table.sees(7, brakes=True)
        table.says(Covered(7, 1), Part(5, 2, b"ab"), Developed(7, 1))
        counts = table.side.counts()
        assert (counts.taken, counts.pictures, counts.dropped) == (0, 1, {Why.REDACTOR_LOST: 1})


@in_virtual_time
async def test_what_an_earlier_redactor_covered_is_not_expected_of_the_next() -> None:
    async with laid() as table:
        table.says(READY)
        table.sees(5)
        table.says(Covered(5, 1))
        await table.starts_anew()
        table.sees(7, brakes=True)
        table.says(Covered(7, 1), Part(5, 2, b"ab"))
        assert table.redactors[1].was_killed
        assert table.pictures == []


@pytest.mark.parametrize(("frame_id", "is_remembered"), [(0, False), (5, True)])
@in_virtual_time
async def test_only_the_last_few_covered_frames_can_go_with_an_event(frame_id: int, is_remembered: bool) -> None:
    async with laid() as table:
        table.says(READY)
        for earlier in range(0, 5 * REMEMBERED, 5):
            table.sees(earlier)
            table.says(Covered(earlier, 0))
        table.sees(100, brakes=True)
        table.says(Covered(100, 0), Part(frame_id, 2, b"ab"))
        assert table.redactor.was_killed is not is_remembered
        assert len(table.pictures) == is_remembered


@in_virtual_time
async def test_once_it_is_stopped_no_frame_is_held() -> None:
    async with laid() as table:
        table.says(READY)
        table.sees(5)
        await table.side.stop()
        assert table.held == []
        assert not table.sees(10, brakes=True)


@in_virtual_time
async def test_each_redactor_gets_the_frame_memory_and_is_asked_with_the_frame() -> None:
    async with laid() as table:
        ring = FrameRing(2, 100)
        open_files = os.listdir("/proc/self/fd")
        table.side.show(ring)
        await table.starts_anew()
        assert os.listdir("/proc/self/fd") == open_files, "its end of the memory is its own"
        table.sees(7, brakes=True)
        assert table.redactors[0].heard_of(Ring) == table.redactors[1].heard_of(Ring) == [Ring(2, ring.slot_bytes)]
        assert table.redactor.heard_of(Cover) == [Cover(1, 7, 8, 6, ())]
        assert table.redactor.heard_of(Develop) == [Develop(7, 1)]
        ring.close()


@in_virtual_time
async def test_why_it_gave_up_is_told_and_forgotten_when_the_next_is_ready() -> None:
    async with laid() as table:
        table.says(RedactorFault("no faces in here"))
        table.redactor.dies()
        await settled()
        assert table.health == [table.side.status().fault] == ["no faces in here"]
        for lives in (1, 2):
            table.says(READY)
            assert table.side.status().fault == ""
            table.redactor.dies()
            assert table.side.status().fault
            await settled()
            assert len(table.health) == 1 + lives, "each loss of one that was ready is news"
            await passes(10)


@in_virtual_time
async def test_the_hourly_allowance_comes_back_as_the_hour_goes_by() -> None:
    clock = SteppingClock()
    async with laid(PictureSettings(Path("faces"), every=1000, before=0, per_hour=2), clock=clock) as table:
        table.says(READY)
        for minute, is_taken in ((0, True), (10, True), (20, False), (59.9, False), (60, True), (69.9, False)):
            clock.advance(int(minute * 60) * SECOND_NS)
            frame_id = int(minute * 10) + 1
            assert table.sees(frame_id, brakes=True) is is_taken
            if is_taken:
                table.says(Covered(frame_id, 0))
                table.shows(frame_id)
        assert table.side.counts().dropped == {Why.TOO_MANY: 3}


@in_virtual_time
async def test_a_wish_of_no_event_is_of_the_next_frame_and_counts_against_the_same_allowance() -> None:
    async with laid(replace(SETTINGS, per_hour=1)) as table:
        table.says(READY)
        table.side.want("models_disagree 0.83")
        table.sees(1)
        table.says(Covered(1, 0))
        table.shows(1)
        assert [picture.reason for picture in table.pictures] == ["models_disagree 0.83"]
        table.side.want("models_disagree 1.00")
        assert table.side.counts().dropped == {Why.TOO_MANY: 1}
        assert not table.sees(2)


@in_virtual_time
async def test_two_events_at_once_share_a_picture_and_the_second_waits_for_a_frame_of_its_own() -> None:
    async with laid() as table:
        table.says(READY)
        table.side.note(BRAKE)
        assert table.sees(7, brakes=True)
        assert not table.sees(8, brakes=True)
        assert table.side.counts().waiting == 2
        table.says(Covered(7, 0))
        assert table.sees(9)
        table.shows(7)
        table.says(Covered(9, 0))
        table.shows(9)
        assert table.side.counts().taken == 2


FRAMES = st.integers(0, 12)
SAID = st.one_of(
    st.builds(Covered, FRAMES, st.integers(0, 3)),
    st.builds(Part, FRAMES, st.integers(0, 4), st.binary(max_size=3)),
    st.builds(Developed, FRAMES, st.integers(0, 3)),
    st.just(READY),
    st.just(RedactorFault("broken")),
)
ACTS = st.one_of(
    st.tuples(st.just("frame"), st.booleans()),
    st.tuples(st.just("honest"), st.none()),
    st.tuples(st.just("says"), SAID),
    st.tuples(st.just("clip"), st.integers(1, 16)),
    st.tuples(st.sampled_from(["dies", "purged"]), st.none()),
    st.tuples(st.just("waits"), st.floats(0.1, 20)),
)


@given(st.lists(ACTS, max_size=30))
def test_whatever_a_redactor_says_or_doesnt_every_picture_is_counted_and_every_frame_comes_back(
    acts: list[Any],
) -> None:
    async def play() -> None:
        async with laid() as table:
            seen = set[int]()
            for act, what in acts:
                match act:
                    case "frame":
                        seen |= {len(seen)} if table.sees(len(seen), brakes=what) else set()
                    case "clip":
                        table.side.want_clip("clip", (len(seen) - what) * 10, before=what % 3, after=what)
                    case "honest":
                        honestly(table)
                    case "says":
                        table.says(what)
                    case "dies":
                        table.redactor.dies()
                    case "purged":
                        table.side.forget()
                    case "waits":
                        await passes(what)
                await settled()
                assert table.side.counts().holds
                assert len(table.held) <= 1
            assert {picture.frame_id for picture in table.pictures} <= seen
            assert table.side.counts().pictures == len(table.pictures) >= table.side.counts().taken

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(play())


def honestly(table: Table) -> None:
    """It gets ready, or answers what it was asked last."""
    if table.side.status().model is None:
        table.says(READY)
    elif table.held:
        frame_id = table.held[0]
        table.says(Covered(frame_id, 1))
        if table.side.counts().waiting:
            table.shows(frame_id)


# --- crops --------------------------------------------------------------------------------------------

CUTTING = replace(SETTINGS, crop_px=2)
PIXELS = bytes(range(12))


def track(track_id: int, label: str = "traffic_light", confirmed: bool = True) -> SeenTrack:
    return SeenTrack(track_id, label, 0.9, (0.0, 0.0, 6.0, 6.0), 3, confirmed)


@in_virtual_time
async def test_lights_that_are_tracked_are_cut_out_of_what_was_covered_and_nothing_else_is() -> None:
    async with laid(CUTTING) as table:
        table.says(READY)
        assert table.sees(5, tracks=(track(3), track(4, "car"), track(5, confirmed=False), track(9)))
        (asked,) = table.redactor.heard_of(Cover)
        assert (asked.cuts, asked.crop_px) == (tuple(Cut(n, (0.0, 0.0, 6.0, 6.0)) for n in (3, 9)), 2)
        table.says(Covered(5, 1), Crop(5, 9, 2, PIXELS))
        assert table.crops == [RedactedCrop(PIXELS, 2, 5, 50, 9)]
        assert table.side.status().fault == ""


@in_virtual_time
async def test_where_nobody_learns_nothing_is_cut() -> None:
    async with laid(SETTINGS) as table:
        table.says(READY)
        assert table.sees(5, tracks=(track(3),))
        assert table.redactor.heard_of(Cover)[0].cuts == ()
        table.says(Covered(5, 0))


UNASKED: dict[str, tuple[Message, ...]] = {
    "before it is covered": (Crop(5, 3, 2, PIXELS),),
    "of another frame": (Covered(5, 0), Crop(4, 3, 2, PIXELS)),
    "of another track": (Covered(5, 0), Crop(5, 4, 2, PIXELS)),
    "twice": (Covered(5, 0), Crop(5, 3, 2, PIXELS), Crop(5, 3, 2, PIXELS)),
    "of another size": (Covered(5, 0), Crop(5, 3, 1, PIXELS[:3])),
    "of too few bytes": (Covered(5, 0), Crop(5, 3, 2, PIXELS[:-1])),
}


@pytest.mark.parametrize("said", UNASKED.values(), ids=UNASKED.keys())
@in_virtual_time
async def test_a_redactor_that_tells_a_crop_it_wasnt_asked_for_isnt_believed(said: tuple[Message, ...]) -> None:
    async with laid(CUTTING) as table:
        table.says(READY)
        assert table.sees(5, tracks=(track(3),))
        table.says(*said)
        assert table.redactor.was_killed
        assert len(table.crops) <= 1
