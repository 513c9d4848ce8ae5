"""A perception whose camera and workers do what the test says: no processes, no pixels, and no waiting.

The keepers, the account and its ledgers are the real ones. `Puppet` stands in for `agent.children.Child`;
test_puppets.py holds both to what the keepers rely on.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any, TypeVar

from agent.children import Child
from agent.frames import FrameAccount, FrameCounts
from agent.perception import Agreement, Perception, PerceptionSettings, Supervision
from agent.perception.settings import StartsChildren
from ecu.channel import Done, Message
from ecu.clock import MILLISECOND_NS, SECOND_NS, boot_id
from ecu.ledger import Ledger
from inference.camera import LEDGER_NAMES
from inference.messages import (
    CameraHello,
    Filled,
    Lease,
    Look,
    Seen,
    SeenTrack,
    Skipped,
    SourceFault,
    Start,
    WorkerReady,
)
from tests.agent.virtualtime import LONGEST_S, LoopClock, settled

In = TypeVar("In")
M = TypeVar("M", bound=Message)

PERIOD_NS = 40 * MILLISECOND_NS
PERIOD_S = PERIOD_NS / SECOND_NS
HELLO = CameraHello(width=64, height=48, period_ns=PERIOD_NS)
READY = WorkerReady("puppet", "1.0", "0" * 64, "plain", "no runtime")
SLOTS = 4
HANG_S = 0.5
NOBODY = 1 << 22
"""No process ever has this number or one above it (proc(5), pid_max)."""


class Puppet(Child[Any]):
    """Says what the test has it say, and ends when it is told to or killed."""

    def __init__(
        self,
        arguments: Sequence[str],
        on_message: Callable[[Child[Any], Any], None],
        on_closed: Callable[[Child[Any]], None],
        pid: int = NOBODY,
    ) -> None:
        self.pid = pid
        self.alive = True
        self.heard: list[Message] = []
        self.was_killed = False
        self.stops_within_s = 0.0
        self._is_heard = True
        self.born_s = asyncio.get_running_loop().time()
        self.died_s: float | None = None
        self._on_message = on_message
        self._on_closed = on_closed
        self._reaped = asyncio.Event()

    def says(self, message: Message) -> None:
        if self._is_heard:
            self._on_message(self, message)

    def hangs(self) -> None:
        """Nothing comes of it any more."""

    def dies(self) -> None:
        if self.alive and self._is_heard and not self.is_reaped:
            self.alive = False
            self.died_s = asyncio.get_running_loop().time()
            self._on_closed(self)
            self._bury()

    def heard_of(self, kind: type[M]) -> list[M]:
        return [message for message in self.heard if isinstance(message, kind)]

    # --- as a Child --------------------------------------------------------------------------------

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        if self.alive:
            self.heard.append(message)
        return self.alive

    def kill(self) -> None:
        self.was_killed = True
        asyncio.get_running_loop().call_soon(self.dies)

    async def stop(self) -> None:
        self._is_heard = False
        if self.stops_within_s:
            await asyncio.sleep(self.stops_within_s)
        self._bury()

    @property
    def is_reaped(self) -> bool:
        return self._reaped.is_set()

    async def reaped(self) -> None:
        await self._reaped.wait()

    def _bury(self) -> None:
        self._reaped.set()


class PuppetCamera(Puppet):
    """Counts what it captures in its ledger, as a camera's process does."""

    def __init__(self, arguments: Sequence[str], *others: Any) -> None:
        super().__init__(arguments, *others)
        given = dict(zip(arguments[::2], arguments[1::2], strict=True))
        self._ledger = Ledger.open(Path(given["--ledger"]), LEDGER_NAMES, boot_id().encode())
        self.next_id = int(given["--first-frame-id"])
        self.leases: list[int] = []

    def opens(self) -> None:
        self.says(HELLO)

    def says_done(self, t_ns: int) -> None:
        """Lockstep: nothing more is due up to that instant."""
        self.says(Done(t_ns))

    def comes_back_larger(self) -> None:
        self.says(CameraHello(HELLO.width * 2, HELLO.height, HELLO.period_ns))

    def captures(self, fresh: bool = False) -> None:
        """A frame, into a slot if it has one."""
        frame_id, t_ns = self.captures_untold(), LoopClock().boot_ns()
        self.says(Filled(self.leases.pop(0), frame_id, t_ns, fresh) if self.leases else Skipped(frame_id, t_ns))

    def captures_untold(self) -> int:
        frame_id, self.next_id = self.next_id, self.next_id + 1
        self._ledger.add(captured=1)
        return frame_id

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        if isinstance(message, Lease):
            self.leases.append(message.slot)
        return super().send(message, descriptors)

    def _bury(self) -> None:
        # Before it is reaped: a ledger has one writer, and the next camera is it.
        if not self.is_reaped:
            self._ledger.close()
        super()._bury()


class PuppetWorker(Puppet):
    """Numbers what it sees from where its latest Start says."""

    def __init__(self, arguments: Sequence[str], *others: Any) -> None:
        super().__init__(arguments, *others)
        self.package = Path(arguments[arguments.index("--package") + 1])
        self.states = Path(arguments[arguments.index("--states") + 1]) if "--states" in arguments else None
        self._objects = 0
        self._answers = 0

    def loads(self) -> None:
        self.says(READY)

    @property
    def asked(self) -> Look:
        """What it was asked last."""
        return self.heard_of(Look)[-1]

    @property
    def owes(self) -> bool:
        """Whether it was asked, and hasn't answered."""
        return self._answers < len(self.heard_of(Look))

    def sees(self, objects: int = 0) -> None:
        """Answers, with so many objects that were never seen before."""
        first = self.heard_of(Start)[-1].first_track_id + self._objects
        self._objects += objects
        self._answers += 1
        tracks = (SeenTrack(first + n, "car", 0.9, (0.0, 0.0, 9.0, 9.0), 1, True) for n in range(objects))
        self.says(result(self.asked.frame_id, *tracks))

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        if isinstance(message, Start):
            self._objects = 0
        return super().send(message, descriptors)


def result(frame_id: int, *tracks: SeenTrack) -> Seen:
    return Seen(frame_id, t_ns=0, tracks=tracks, spent_ns=1, model_ns=1, fingerprint=b"")


def says_its_source_is(reason: str, usage: bool = True) -> Callable[[PuppetCamera], None]:
    """A camera whose source can't go on."""

    def act(camera: PuppetCamera) -> None:
        camera.says(SourceFault(reason, usage))
        camera.dies()

    return act


class Watch:
    """What whoever tries a model was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.agreements: list[tuple[Agreement, Agreement]] = []

    def loaded(self) -> None:
        self.told.append("loaded")

    def unfit(self, words: str) -> None:
        self.told.append("unfit")

    def crashed(self, words: str) -> None:
        self.told.append("crashed")

    def hindered(self, words: str) -> None:
        self.told.append(f"hindered: {words}")

    def compared(self, newest: Agreement, whole: Agreement) -> None:
        self.agreements.append((newest, whole))


CameraAct = Callable[[PuppetCamera], None]
WorkerAct = Callable[[PuppetWorker], None]


@dataclass
class Stage:
    """What was started, and what the perception told. `cameras` and `workers` are in the order of their births.

    Instead of another worker being born, `stillborn` is raised.
    """

    cameras: list[PuppetCamera] = field(default_factory=list)
    workers: list[PuppetWorker] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    health: list[str] = field(default_factory=list)
    stillborn: Exception | None = None
    perception: Perception = field(init=False)

    @property
    def camera(self) -> PuppetCamera:
        return self.cameras[-1]

    @property
    def live(self) -> PuppetWorker:
        return self._numbered(self.perception.status().live_pid)

    @property
    def standby(self) -> PuppetWorker:
        return self._numbered(self.perception.status().standby_pid)

    @property
    def frames(self) -> FrameCounts:
        return self.perception.status().frames

    def _numbered(self, pid: int | None) -> PuppetWorker:
        return next(worker for worker in self.workers if worker.pid == pid)


@asynccontextmanager
async def on_stage(
    folder: Path,
    cameras: Sequence[CameraAct] = (PuppetCamera.opens,),
    workers: Sequence[WorkerAct] = (PuppetWorker.loads,),
    lockstep: bool = False,
    from_ns: int = 0,
    stall_s: int = 2 * int(LONGEST_S),
    pids: Iterator[int] | None = None,
) -> AsyncIterator[Stage]:
    """`cameras` and `workers` say what each of them does first; all the later ones do as the last. A camera hangs that
    says nothing for `stall_s`."""
    stage = Stage()
    start = _starts(stage, _and_so_on(cameras), _and_so_on(workers), pids or itertools.count(NOBODY))
    settings = PerceptionSettings(
        source="video:nowhere.mp4", camera="front", package=folder, slots=SLOTS, hang_ns=int(HANG_S * SECOND_NS),
        lockstep=lockstep, stall_ns=stall_s * SECOND_NS,
    )  # fmt: skip
    account = FrameAccount(folder / "camera.ledger", folder / "frames.ledger")
    stage.perception = Perception(
        settings, account, LoopClock(), Supervision(Random(5), {}, LoopClock(), start),
        lambda seen, latency_ns: stage.seen.append(seen), lambda what, detail: stage.health.append(what), from_ns,
    )  # fmt: skip
    try:
        await stage.perception.start()
        await settled()
        yield stage
    finally:
        await stage.perception.stop()
    assert account.counts().holds


def _starts(
    stage: Stage, camera_acts: Iterator[CameraAct], worker_acts: Iterator[WorkerAct], numbers: Iterator[int]
) -> StartsChildren:
    """Puppets in the children's place, each of which begins its act at once."""

    async def start(
        module: str,
        arguments: Sequence[str],
        accepts: Any,
        on_message: Callable[[Child[In], In], None],
        on_closed: Callable[[Child[In]], None],
        environment: Mapping[str, str],
    ) -> Child[In]:
        loop = asyncio.get_running_loop()
        if module == "inference.camera":
            camera = PuppetCamera(arguments, on_message, on_closed, next(numbers))
            stage.cameras.append(camera)
            loop.call_soon(next(camera_acts), camera)
            return camera
        if stage.stillborn is not None:
            raise stage.stillborn
        worker = PuppetWorker(arguments, on_message, on_closed, next(numbers))
        stage.workers.append(worker)
        loop.call_soon(next(worker_acts), worker)
        return worker

    return start


def _and_so_on(acts: Sequence[Any]) -> Iterator[Any]:
    return itertools.chain(acts, itertools.repeat(acts[-1]))
