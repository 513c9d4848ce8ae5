"""A system's life when the power goes: at any instant something starts, what starts is what our record says or what it
is about to be, and nothing that was found worse is kept.

The bootloader's own state is durable at once, ours is not: each of its changes is a mark between the disk's calls.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import pytest

from agent.updates import Attempt, Booted, TrialRules
from agent.updates.conduct import TICK_NS, Ground
from ecu.clock import SECOND_NS, Clock, SteppingClock
from ecu.crashdisk import CrashDisk, CrashState
from ecu.disk import Disk
from ota.denied import Denied
from ota.errors import TrustError
from ota.facts import Budgets
from ota.floors import Floors
from ota.kinds import Kind
from ota.machine import RESTS, WAYS, Event, State, can_happen
from ota.slots import BootRecord, Installed, Slots
from ota.system.memory import STARTS, MemorySystem, NothingStarts, memory_bundle
from ota.system.placed import Placements
from ota.system.port import Marking, Percent
from ota.trial import Step, Trial

T = TypeVar("T")
RULES = TrialRules(poll_ns=SECOND_NS, shadow_frames=1, prove_frames=1, prove_ns=2 * SECOND_NS)
TICKS = 12
"""Enough for any trial to come to its end, or to where it waits for a start."""


class MarkedSystem(MemorySystem):
    """Remembers each state of the bootloader, and marks it on the disk."""

    def __init__(self, disk: CrashDisk) -> None:
        super().__init__()
        self._disk = disk
        self.history: list[MemorySystem] = []
        self.note()

    def note(self) -> None:
        self._disk.mark(f"bootloader {len(self.history)}")
        self.history.append(self.copy())

    async def install(self, bundle: Path, watch: Percent) -> None:
        def noted(percent: int, what: str) -> None:
            self.note()
            watch(percent, what)

        await super().install(bundle, noted)

    async def mark(self, marking: Marking, slot: str) -> None:
        await super().mark(marking, slot)
        self.note()

    def power_on(self) -> str:
        slot = super().power_on()
        self.note()
        return slot


class Around:
    def __init__(self, well: str = "all is well") -> None:
        self.well = well

    def may_restart(self) -> str:
        return "parked"

    def is_well(self) -> str:
        return self.well

    def has_network(self) -> bool:
        return True


class Start:
    """One start of the agent, as its `Ground`: the steps that UpdateSide takes, one after the other."""

    rules = RULES

    conductor: type[Booted] = Booted

    def __init__(
        self, disk: Disk, system: MemorySystem, bundles: Path, boot_id: str, well: str = "all is well"
    ) -> None:
        self.clock: Clock = SteppingClock()
        self.slots, self.floors, self.denied = Slots(disk, Kind.SYSTEM), Floors(disk), Denied(disk)
        self.trial = Trial(self.slots, self.floors, self.denied, Kind.SYSTEM)
        self.placements = Placements(disk)
        self.asked_to_reboot = False
        self._bundles = bundles
        self._conductor = self.conductor(system, self.placements, Around(well), boot_id, self._reboot)
        self._told: asyncio.Queue[tuple[Attempt, Event, str]] = asyncio.Queue()
        self._attempt: Attempt | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, release: int = 0, ticks: int = TICKS) -> None:
        """Until nothing more comes of it, or the computer is to restart. A new release is staged first."""
        _, step = self.trial.begin()
        await self._act(step)
        self.spawn(self._conductor.start(self))
        if release and self.trial.state in RESTS:
            await self._act(self.stage(release))
        for _ in range(ticks):
            await self._tick()
            if self.asked_to_reboot:
                break
        for task in self._tasks:
            task.cancel()

    def stage(self, release: int) -> Step:
        slot = self.slots.record.spare
        self.slots.empty(slot)
        return self.trial.stage(slot, Installed(digest(release), release, f"system {release}"))

    async def _tick(self) -> None:
        assert isinstance(self.clock, SteppingClock)
        self.clock.advance(self.clock.boot_ns() + TICK_NS)
        for _ in range(6):
            await asyncio.sleep(0)
            while not self._told.empty():
                attempt, event, words = self._told.get_nowait()
                if attempt is self._attempt and can_happen(WAYS[Kind.SYSTEM], self.trial.state, event):
                    await self._act(self.trial.handle(event, words))
        if self.trial.state not in RESTS:
            seen = self._conductor.seen(self, self.trial.state)
            if seen is not None:
                await self._act(self.trial.handle(*seen))

    async def _act(self, step: Step | None) -> None:
        for effect in step.effects if step is not None else ():
            if effect != "report":
                await self._conductor.act(self, Kind.SYSTEM, effect)

    async def _reboot(self) -> None:
        self.asked_to_reboot = True

    # --- as a Ground ------------------------------------------------------------------------------

    def begin(self, kind: Kind) -> Attempt:
        self._attempt = Attempt(kind, self._told)
        return self._attempt

    def over(self) -> None:
        self._attempt = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(lambda done: None if done.cancelled() else done.result())
        return task

    async def do(self, act: Callable[..., T], *arguments: object) -> T:
        return act(*arguments)

    async def tell(self, kind: Kind, what: str, words: str) -> None: ...

    async def refused(self, kind: Kind, refusal: TrustError) -> None: ...

    async def fell_back(self, kind: Kind, digest: str | None, words: str) -> None: ...

    def record(self, kind: Kind) -> BootRecord:
        return self.slots.record

    def trial_package(self, kind: Kind) -> Path:
        assert self.trial.release is not None
        return self._bundles / f"{self.trial.release.release}"

    def live_package(self, kind: Kind) -> Path:
        raise AssertionError

    def budgets(self, kind: Kind) -> Budgets:
        return Budgets()

    def evaluation(self, kind: Kind) -> Path | None:
        raise AssertionError


def digest(release: int) -> str:
    return hashlib.sha256(payload(release)).hexdigest()


def payload(release: int) -> bytes:
    return f"system {release}".encode()


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles, which lie in a folder that no cut reaches: tests/crash/test_updates.py is about those."""
    folder = tmp_path_factory.mktemp("bundles")
    for release in (1, 2, 3):
        (folder / f"{release}").mkdir()
        (folder / f"{release}" / "system.raucb").write_bytes(memory_bundle(payload(release)))
    return folder


async def life(disk: CrashDisk, system: MarkedSystem, bundles: Path) -> None:
    """1 is kept at its last start, 2 never comes to itself and is denied, 3 never works and is left."""
    system.power_on()
    await Start(disk, system, bundles, "1").run(release=1)
    for _ in range(STARTS - 1):
        system.power_on()
        await Start(disk, system, bundles, "2").run(ticks=2)
    system.power_on()
    await Start(disk, system, bundles, "2").run()
    disk.mark("kept 1")
    await Start(disk, system, bundles, "2").run(release=2)
    for _ in range(STARTS + 1):
        system.power_on()
    await Start(disk, system, bundles, "3").run()
    disk.mark("denied 2")
    await Start(disk, system, bundles, "3").run(release=3)
    system.power_on()
    start = Start(disk, system, bundles, "4", well="")
    await start.run(ticks=4)
    assert start.trial.state is State.TRIAL
    await start._act(start.trial.handle(Event.EXPIRED, "it never worked"))
    await start.run(ticks=3)
    disk.mark("left 3")
    system.power_on()
    await Start(disk, system, bundles, "5").run()


async def release_in(system: MemorySystem) -> int:
    """What runs, by what was written there; 0 for what was delivered."""
    slot = next(slot for slot in (await system.read()).slots if slot.runs)
    contents = {hashlib.sha256(payload(release)).hexdigest(): release for release in (1, 2, 3)}
    return contents.get(slot.sha256, 0)


async def recovered(state: CrashState, history: list[MemorySystem], bundles: Path) -> tuple[MemorySystem, Start]:
    """The computer comes back, and is restarted as often as it asks to be."""
    number = max(int(mark.split()[1]) for mark in state.acknowledged if mark.startswith("bootloader"))
    system = history[number].copy()
    for boot in range(8):
        system.power_on()
        start = Start(state.disk, system, bundles, f"after {boot}")
        await start.run()
        if not start.asked_to_reboot:
            return system, start
    raise AssertionError("it restarts for ever")


async def something_right_starts(state: CrashState, history: list[MemorySystem], bundles: Path) -> None:
    try:
        system, start = await recovered(state, history, bundles)
        runs = await release_in(system)
        for boot in range(STARTS + 2):
            system.power_on()
            await Start(state.disk, system, bundles, f"later {boot}").run(ticks=2)
            assert await release_in(system) == runs, "it stays what it is"
    except NothingStarts as brick:
        raise AssertionError("a brick") from brick
    record = start.record(Kind.SYSTEM)
    good = record.installed(record.good)
    assert record.state in RESTS
    assert runs == (good.release if good is not None else 0), "what runs is what was kept"
    assert digest(runs) not in start.denied
    assert start.floors.release(Kind.SYSTEM) == runs
    assert runs >= ("kept 1" in state.acknowledged)
    assert (digest(2) in start.denied) or "denied 2" not in state.acknowledged
    assert digest(3) not in start.denied
    assert not (runs == 3 and "left 3" in state.acknowledged)


async def violations(bundles: Path, each: int) -> tuple[int, str]:
    """How many states were asked, and the first "no"."""
    disk = CrashDisk()
    system = MarkedSystem(disk)
    await life(disk, system, bundles)
    asked = 0
    for state in islice(disk.after_crash(), 0, None, each):
        if any(mark.startswith("bootloader") for mark in state.acknowledged):
            asked += 1
            try:
                await something_right_starts(state, system.history, bundles)
            except AssertionError as no:
                return asked, f"{state.describe}: {no}"
    return asked, ""


@pytest.mark.parametrize("each", [3, pytest.param(1, marks=pytest.mark.soak)])
async def test_at_any_instant_something_right_starts(bundles: Path, each: int) -> None:
    asked, no = await violations(bundles, each)
    assert not no
    assert asked > 150 // each


class KeptBeforeItIsCalledGood(Booted):
    async def _call_good(self, ground: Ground, attempt: Attempt, proof: str) -> None:
        attempt.tell(Event.PROVEN, proof)


class NeverCalledGoodAgain(Booted):
    async def _mark(self, marks: tuple[tuple[Marking, str], ...]) -> None:
        await super()._mark(tuple(its for its in marks if its[0] is not Marking.GOOD))


@pytest.mark.parametrize("fault", [KeptBeforeItIsCalledGood, NeverCalledGoodAgain])
async def test_a_planted_fault_is_noticed(bundles: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Booted]) -> None:
    monkeypatch.setattr(Start, "conductor", fault)
    try:
        no = (await violations(bundles, each=1))[1]
    except (AssertionError, NothingStarts) as ended:
        no = str(ended) or "its life ended"
    assert no
