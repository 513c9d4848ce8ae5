"""The signals process: `python -m agent.signals.process --channel FD`.

It reads a bus (or a recording of one), or only what the agent tells it, and says what campaigns make of it. It holds no
keys and no spool; of the disk it has the folder of the campaigns' book.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from random import Random
from typing import Any, Final

from agent.signals.capturing import Capturing, Output
from agent.signals.messages import (
    MOST_ITEM_BYTES,
    MOST_ITEMS,
    Admission,
    CampaignCounts,
    Captured,
    Finish,
    Item,
    PicturesWanted,
    SignalsFault,
    SignalsReady,
    SignalsStatus,
    TimeHeard,
    Told,
    ToSignals,
    Values,
    WallTime,
    Wanted,
    Work,
)
from ecu.channel import Advance, ChannelClosed, Done, Message
from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock, SteppingClock, SystemClock
from ecu.disk import state_folder
from ecu.errors import OutriderError, UsageFault
from ecu.process import cpu_ns, enter_child
from telemetry.capture.campaigns.admission import Admitted
from telemetry.capture.campaigns.book import open_book
from telemetry.capture.campaigns.campaign import CampaignsRefused
from telemetry.capture.campaigns.floor import CampaignFloor
from telemetry.privacy.policy import PrivacyPolicy
from telemetry.records import Record, encode_event
from telemetry.signals.conversation import Conversation
from telemetry.signals.framesource import FrameSource, FrameStatus
from telemetry.signals.gnss import GnssSource, GnssStatus, serial_line
from telemetry.signals.nmea import TimeSaid
from telemetry.signals.plan import MAX_PLAN_BYTES, PlanFileRefused, SignalPlan, load_plan
from telemetry.signals.sources import open_frames

TICK_NS: Final = 20 * MILLISECOND_NS
BUS_TICK_NS: Final = 250 * MILLISECOND_NS
"""Where a bus moves time on, and the tick is for when it is silent."""
IDLE_BEHIND_NS: Final = SECOND_NS
"""Of a bus that says nothing, time is taken to have come so far: what it says later may be stamped a little before."""
TOLD_BEHIND_NS: Final = 200 * MILLISECOND_NS
"""Without a bus: what the agent tells is on its way for so long where the computer is busy, and has its own stamp."""
STALL_NS: Final = 200 * MILLISECOND_NS
STATUS_EVERY_NS: Final = SECOND_NS
TIME_EVERY_NS: Final = SECOND_NS
MOST_WAITING_BYTES: Final = 16 * 1024 * 1024
"""Of records; of other messages MOST_WAITING, beside answers, of which none comes unasked."""
MOST_WAITING: Final = 4096


_MAY_BE_LOST: Final = (Values, TimeHeard, PicturesWanted, SignalsStatus)


class SignalProcess:
    """One life: begins with Work, ends when the agent goes (ChannelClosed)."""

    def __init__(self, agent: Conversation[ToSignals], work: Work, clock: Clock, rng: Random) -> None:
        self._agent = agent
        self._work = work
        self._clock = clock
        self._source = open_frames(work.source, clock, rng) if work.source else None
        self._plan = _plan(work.plan) if work.plan else None
        if self._source is not None and self._plan is None:
            raise UsageFault("A bus needs a plan of its signals: [signals] plan, made by outrider signals compile.")
        book = open_book(state_folder(Path(work.folder)), work.from_ns)
        self._capturing = Capturing(
            self._plan,
            PrivacyPolicy.model_validate_json(work.privacy),
            CampaignFloor.model_validate_json(work.floor),
            book,
            work.most_event_bytes,
            work.told,
            has_gnss=bool(work.gnss),
            has_camera=work.has_camera,
        )
        line = serial_line(Path(work.gnss), work.gnss_baud) if work.gnss else None
        self._gnss = GnssSource(line, clock, rng, self._capturing.gnss_group) if line is not None else None
        self._time_due_ns = 0
        self._admitted: Admitted | None = None
        self._wall_s = 0
        # Campaigns begin when the work was given, not when the computer did: a fetch would look for what came at its
        # start. What the agent told while this process began waits in the channel, with stamps since then.
        self._until_ns = work.from_ns - 1
        self._waiting: deque[Message] = deque()
        self._waiting_bytes = 0
        self._unsaid = 0
        self._more = asyncio.Event()

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Raises ChannelClosed once the agent is gone, OutriderError for what it can't go on with."""
        self._say(self._ready())
        if self._source is not None and not self._work.realtime:
            await self._source.begin(self._work.from_ns)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._speak())
                captures = [group.create_task(work) for work in self._captures()]
                t_ns = await self._listen()
                for capture in captures:
                    capture.cancel()
                self._take(self._capturing.close(t_ns), t_ns)
                self._say(Done(t_ns))
                await self._stand_still()
        except* (ChannelClosed, OutriderError) as ended:
            raise _first(ended) from ended

    def _ready(self) -> SignalsReady:
        groups = self._plan.schema.groups if self._plan is not None else ()
        return SignalsReady(len(groups), sum(len(group.signals) for group in groups), self._clock.boot_ns())

    def _captures(self) -> Iterator[Coroutine[Any, Any, None]]:
        """What goes on by itself at real speed."""
        if not self._work.realtime:
            return
        yield self._tick()
        if self._source is not None:
            yield self._follow(self._source)
        if self._gnss is not None:
            yield self._follow_gnss(self._gnss)

    async def _listen(self) -> int:
        """Until the agent says Finish: up to when."""
        while True:
            match await self._agent.receive():
                case Told(t_ns, values):
                    self._capturing.tell(t_ns, values)
                case Wanted(campaigns):
                    self._want(campaigns)
                case WallTime(wall_s):
                    self._wall_s = wall_s
                    self._capturing.set_wall(self._wall_offset_ns())
                case Advance(t_ns):
                    await self._advance(t_ns)
                case Finish(t_ns):
                    return t_ns
                case Work():
                    raise AssertionError("the agent gives Work once")

    async def _stand_still(self) -> None:
        """Until the agent goes. One that was called off while it waited for Done asks again."""
        while True:
            match await self._agent.receive():
                case Finish(t_ns):
                    self._say(Done(t_ns))
                case _:
                    pass

    # --- time ---------------------------------------------------------------------------------------

    async def _follow(self, source: FrameSource) -> None:
        async with contextlib.aclosing(source.batches()) as batches:
            async for frames in batches:
                self._capturing.hear(frames)
                # Another frame of the last one's very instant may come yet.
                self._until(int(frames.t_ns[-1]) - 1)

    async def _follow_gnss(self, gnss: GnssSource) -> None:
        async with contextlib.aclosing(gnss.told()) as told:
            async for heard in told:
                self._capturing.tell_columns(heard.columns)
                for said in heard.times[-1:]:
                    self._say_time(said)

    async def _tick(self) -> None:
        """Time goes on when nothing comes, too."""
        status_ns = self._clock.boot_ns()
        due_ns = self._work.from_ns
        period_ns = TICK_NS if self._source is None else BUS_TICK_NS
        while True:
            due_ns += period_ns
            await self._clock.sleep_until(due_ns)
            now_ns = self._clock.boot_ns()
            if now_ns - due_ns > STALL_NS:
                # The source has a whole period to tell first what it has of the time before.
                due_ns = now_ns
            else:
                self._until(now_ns - (IDLE_BEHIND_NS if self._source is not None else TOLD_BEHIND_NS))
            if now_ns >= status_ns:
                status_ns = now_ns + STATUS_EVERY_NS
                self._say(self._status())

    async def _advance(self, t_ns: int) -> None:
        if self._source is not None:
            self._capturing.hear(await self._source.advance(t_ns))
        self._until(t_ns)
        self._say(Done(t_ns))

    def _until(self, until_ns: int) -> None:
        if until_ns > self._until_ns:
            self._until_ns = until_ns
            self._take(self._capturing.step(until_ns), until_ns)

    # --- out ----------------------------------------------------------------------------------------

    def _want(self, data: bytes) -> None:
        try:
            now_s = float(self._wall_s) if self._wall_s else None
            admitted, output = self._capturing.take(data, self._until_ns, now_s)
        except CampaignsRefused as refused:
            self._say(Admission(0, str(refused)))
            return
        self._admitted = admitted
        self._capturing.set_wall(self._wall_offset_ns())
        self._take(output, self._until_ns)
        self._say(Admission(admitted.revision, "", admitted.cost.ring_bytes, admitted.cost.bytes_per_day))

    def _take(self, output: Output, until_ns: int) -> None:
        if output.values:
            self._say(Values(until_ns, output.values))
        items = [self._item(record) for record in output.records]
        while items:
            batch = _portion(items)
            self._say(Captured(tuple(batch)))
            items = items[len(batch) :]
        for clip in output.clips:
            self._say(PicturesWanted(clip.campaign, clip.number, clip.t_ns, clip.before, clip.after))

    def _say_time(self, said: TimeSaid) -> None:
        if said.t_ns >= self._time_due_ns:
            self._time_due_ns = said.t_ns + TIME_EVERY_NS
            self._say(TimeHeard(said.t_ns, said.wall_ns))

    def _item(self, record: Record) -> Item:
        return Item(
            int(record.lane),
            int(record.purpose),
            record.captured_ns,
            encode_event(record.event),
            record.keep_s or 0,
        )

    def _say(self, message: Message) -> None:
        """In order. What the agent doesn't take in time is bounded, and counted."""
        length = _event_bytes(message)
        if isinstance(message, Captured) and self._waiting_bytes + length > MOST_WAITING_BYTES:
            self._unsaid += len(message.items)
            return
        if len(self._waiting) >= MOST_WAITING and isinstance(message, _MAY_BE_LOST):
            self._unsaid += 1
            return
        self._waiting.append(message)
        self._waiting_bytes += length
        self._more.set()

    async def _speak(self) -> None:
        while True:
            await self._more.wait()
            self._more.clear()
            while self._waiting:
                message = self._waiting.popleft()
                await self._agent.send(message)
                self._waiting_bytes -= _event_bytes(message)

    def _wall_offset_ns(self) -> int | None:
        return self._wall_s * SECOND_NS - self._clock.boot_ns() if self._wall_s else None

    def _status(self) -> SignalsStatus:
        source = self._source.status() if self._source is not None else None
        counts = self._capturing.counts()
        own = {**counts.pop("", {}), "unsaid": self._unsaid}
        if source is not None:
            own |= {name: getattr(source, name) for name in ("received", "missed", "moved", "losses", "errors")}
        gnss = self._gnss.status() if self._gnss is not None else None
        if gnss is not None:
            own |= {f"gnss_{name}": getattr(gnss, name) for name in ("taken", "damaged", "invalid", "losses")}
        campaigns = tuple(self._campaign(name, of) for name, of in counts.items())
        return SignalsStatus(_why_away(source), own, campaigns, cpu_ns(), _why_away(gnss))

    def _campaign(self, name: str, counts: dict[str, int]) -> CampaignCounts:
        task = next((it for it in self._admitted.tasks if it.campaign.name == name), None) if self._admitted else None
        return CampaignCounts(
            name=name,
            revision=task.campaign.revision if task is not None else 0,
            state=self._capturing.idle.get(name, "active"),
            triggers=counts["triggers"],
            records=counts["records"],
            bytes=counts["bytes"],
            bytes_per_day=task.campaign.budget.bytes_per_day if task is not None else 0,
            dropped={key.removeprefix("untold_"): n for key, n in counts.items() if key.startswith("untold_") and n},
        )


def _why_away(source: FrameStatus | GnssStatus | None) -> str:
    return "" if source is None or source.connected else source.reason


def _event_bytes(message: Message) -> int:
    return sum(len(item.event) for item in message.items) if isinstance(message, Captured) else 0


def _portion(items: list[Item]) -> list[Item]:
    """As many as go into one message, one at least."""
    size = 0
    for i, item in enumerate(items[:MOST_ITEMS]):
        size += len(item.event)
        if i and size > MOST_ITEM_BYTES:
            return items[:i]
    return items[:MOST_ITEMS]


def _plan(path: str) -> SignalPlan:
    """Raises PlanFileRefused."""
    try:
        with Path(path).open("rb") as file:
            return load_plan(file.read(MAX_PLAN_BYTES + 1), path)
    except OSError as error:
        raise PlanFileRefused(
            path, f"it can't be read ({error.strerror})", "Make one: outrider signals compile."
        ) from error


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


async def _live(channel_fd: int, clock_for: Callable[[Work], Clock]) -> None:
    agent: Conversation[ToSignals] = Conversation(socket.socket(fileno=channel_fd), ToSignals)
    work = await agent.receive()
    assert isinstance(work, Work), "the agent begins with Work"
    try:
        await SignalProcess(agent, work, clock_for(work), Random(os.urandom(16))).run()
    except OutriderError as fault:
        is_plan = isinstance(fault, PlanFileRefused)
        await agent.send(SignalsFault(str(fault), is_plan or isinstance(fault, UsageFault), is_plan))


def _clock_for(work: Work) -> Clock:
    return SystemClock() if work.realtime else SteppingClock(work.from_ns)


def main() -> None:
    enter_child()
    parser = argparse.ArgumentParser(prog="agent.signals.process")
    parser.add_argument("--channel", type=int, required=True)
    with contextlib.suppress(ChannelClosed):
        asyncio.run(_live(parser.parse_args().channel, _clock_for))


if __name__ == "__main__":
    main()
