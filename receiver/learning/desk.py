"""Learning at the receiver: stored updates are judged, full buffers become candidates, behind all that receipts need.

Every step is written down before the next begins, and begins again after a kill: receiver/learning/lines.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

import inference
from ecu.clock import SECOND_NS, Clock
from ecu.disk import RealDisk
from ecu.errors import OutriderError, UsageFault
from receiver.counters import Counters
from receiver.learning import books, lines, overview, work
from receiver.learning.answers import BeginRequest, Claimed, LearningStatus, PlanLine
from receiver.learning.books import Overtaken
from receiver.learning.candidates import FOLDER, put_candidate
from receiver.learning.jobs import Jobs
from receiver.learning.judging import judge_blocks
from receiver.learning.order import Rule, Workbench
from receiver.store import Store, StoreError
from telemetry.federated.plan import parse_plan
from telemetry.records import PLACES, Learned
from telemetry.wire import Receipt

log = structlog.get_logger()

DEFAULT_CROPS: Final = Path(inference.__file__).parent / "evaluations" / "lights-1.0"
BLOCKS_AT_ONCE: Final = 4
_AGAIN_NS: Final = 5 * SECOND_NS


@dataclass(frozen=True, slots=True)
class LearningRules:
    """`buffer`: vehicles in an aggregate; after `again_s` what failed for want of something is begun again."""

    buffer: int
    rule: Rule
    again_s: float


class LearningDesk:
    """`look` when blocks were stored; `run` does the rest."""

    def __init__(
        self,
        store: Store,
        disk: RealDisk,
        clock: Clock,
        counters: Counters,
        jobs: Jobs,
        bench: Workbench,
        rules: LearningRules,
    ) -> None:
        self._store = store
        self._disk = disk
        self._clock = clock
        self._counters = counters
        self._jobs = jobs
        self._bench = bench
        self._rules = rules
        self._news = asyncio.Event()
        self._due = asyncio.Event()
        self._judging = asyncio.Lock()
        self._held_up: dict[str, tuple[str, int]] = {}

    # --- the operator's ---------------------------------------------------------------------------

    async def begin(self, asked: BeginRequest) -> PlanLine:
        """Raises LearningRefused, NotBegun or PlanRefused, and JobFailed when the package can't be looked at now."""
        plan = parse_plan(asked.plan.encode())
        package, crops = _folder(asked.package), _folder(asked.crops or str(DEFAULT_CROPS))
        surface = await self._jobs.run(work.look, plan, package, crops, self._bench)
        async with self._judging:
            await self._store.transact(lines.begin, plan, surface, package, crops, self._clock.wall_ns())
        log.info("learning_begun", plan=plan.name, package=surface.title, base=plan.base)
        return next(line for line in await self.plans() if line.plan == plan.name)

    async def close(self, plan: str) -> Claimed:
        """The buffer as it is becomes an aggregate; where one is held up, that is begun again instead. Raises
        LearningRefused."""
        if self._held_up.pop(plan, None) is not None:
            attempt = await self._store.transact(lines.last_attempt, plan)
        else:
            async with self._judging:
                attempt = await self._store.transact(lines.claim, plan, 1, self._clock.wall_ns())
        self._due.set()
        return Claimed(plan, attempt)

    async def plans(self) -> list[PlanLine]:
        return await self._store.transact(overview.plans)

    async def status(self) -> LearningStatus:
        held_up = {plan: words for plan, (words, _) in self._held_up.items()}
        candidates = self._disk.root / FOLDER
        return await self._store.transact(overview.status, candidates, self._rules.buffer, held_up)

    # --- what happens by itself -------------------------------------------------------------------

    def look(self) -> None:
        """Blocks may have been stored that hold updates."""
        self._news.set()

    def deliver(self, vehicle: str, receipt: Receipt) -> None:
        """A receipt for the lane that updates travel in says so."""
        if receipt.lane is PLACES[Learned][0]:
            self.look()

    async def run(self) -> None:
        """Until cancelled."""
        self._news.set()
        self._due.set()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._keep_doing(self.judge_some, self._news))
            tasks.create_task(self._keep_doing(self.step, self._due))
            tasks.create_task(self._remind())

    async def judge_some(self) -> bool:
        """The next blocks of the queue; False when there are none."""
        async with self._judging:
            read = await self._store.transact(books.page, BLOCKS_AT_ONCE)
            if not read.blocks:
                return False
            judged = await asyncio.to_thread(judge_blocks, read.blocks, read.ledger)
            await self._store.transact(books.write, read, judged, self._clock.wall_ns())
        names = Counter(one.name for one in judged)
        for name, count in names.items():
            self._counters.add(f"learned_{name}", count)
        log.info("updates_judged", blocks=len(read.blocks), **names)
        self._due.set()
        return True

    async def step(self) -> bool:
        """One step towards a candidate, made durable; False when there is none to take now."""
        return await self._shelve() or await self._work() or await self._claim()

    async def _shelve(self) -> bool:
        held = [plan for plan in self._held_up if self._is_held(plan)]
        candidate = await self._store.transact(lines.shelved, held)
        if candidate is None:
            return False
        try:
            await asyncio.to_thread(put_candidate, self._disk, candidate.name, candidate.files, candidate.told)
        except OutriderError as error:
            self._hold(candidate.plan, str(error))
            return True
        await self._store.transact(lines.put, candidate)
        self._held_up.pop(candidate.plan, None)
        self._counters.learning_candidates += 1
        log.info("candidate_ready", plan=candidate.plan, name=candidate.name)
        return True

    async def _work(self) -> bool:
        plans = await self._store.transact(lines.unfinished)
        plan = next((plan for plan in plans if not self._is_held(plan)), None)
        if plan is None:
            return False
        order = await self._store.transact(lines.order_of, plan)
        try:
            made = await self._jobs.run(work.make, order, self._rules.rule, self._bench)
        except OutriderError as error:
            self._hold(plan, str(error))
            return True
        async with self._judging:
            await self._store.transact(lines.settle, order, made, self._clock.wall_ns())
        self._held_up.pop(plan, None)
        self._counters.add(f"aggregates_{made.told.outcome}")
        log.info(
            "aggregate_judged", plan=plan, attempt=order.attempt, outcome=made.told.outcome, reason=made.told.words
        )
        return True

    async def _claim(self) -> bool:
        async with self._judging:
            plans = await self._store.transact(lines.due, self._rules.buffer)
            for plan in plans:
                await self._store.transact(lines.claim, plan, self._rules.buffer, self._clock.wall_ns())
        return bool(plans)

    # --- patience ---------------------------------------------------------------------------------

    async def _keep_doing(self, act: Callable[[], Awaitable[bool]], when: asyncio.Event) -> None:
        while True:
            await when.wait()
            when.clear()
            try:
                while await act():
                    pass
            except (StoreError, Overtaken) as error:
                self._counters.store_failures += 1
                log.error("learning_put_off", reason=str(error))
            except Exception:
                # A bug of learning's own: receipts and updates go on without it.
                self._counters.learning_faults += 1
                log.exception("learning_fault")
            else:
                continue
            when.set()
            await self._clock.sleep_until(self._clock.boot_ns() + _AGAIN_NS)

    async def _remind(self) -> None:
        """What is held up is begun again some time."""
        while True:
            await self._clock.sleep_until(self._clock.boot_ns() + int(self._rules.again_s * SECOND_NS))
            self._due.set()

    def _hold(self, plan: str, words: str) -> None:
        until_ns = self._clock.boot_ns() + int(self._rules.again_s * SECOND_NS)
        self._held_up[plan] = words, until_ns
        self._counters.learning_held_up += 1
        log.error("learning_held_up", plan=plan, reason=words)

    def _is_held(self, plan: str) -> bool:
        return plan in self._held_up and self._clock.boot_ns() < self._held_up[plan][1]


def _folder(path: str) -> str:
    if not Path(path).is_absolute():
        raise UsageFault(f"{path!r} isn't a folder's whole path on the receiver's computer.")
    return path
