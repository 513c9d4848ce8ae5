"""Learning on the vehicle: a signed plan, the vehicle's own floor, gates, a trainer's process, one durable update.

Nothing leaves but the update: it, what it owes and its place in the budget become durable in one write, and then it is
offered to the spool until that has it durably. A cut at any instant: it is told once, or never.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from random import Random
from typing import Final, ParamSpec, TypeVar

import msgspec
import structlog

from agent.gates import Gate, GateRules, World, closed
from agent.labels import Labels
from agent.trainer import Fault, NotTaught, Taught, Train, Trainer
from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock
from ecu.disk import DiskError
from ecu.keys import KeyStoreError
from telemetry.federated.book import BudgetSpent, LearningBook
from telemetry.federated.examples import Example, ExampleCounts, ExampleStore, Now
from telemetry.federated.plan import MAX_PLAN_BYTES, LearningFloor, Plan, PlanRefused, demand_allowed, parse_plan
from telemetry.federated.update import ModelUpdate, signed_part
from telemetry.records import Learned, Record
from telemetry.spool import SpoolKeeper

LOOK_NS: Final = SECOND_NS
WATCH_NS: Final = 20 * MILLISECOND_NS
"""How often the gates are looked at while something is learned."""
OFFER_AGAIN_NS: Final = 60 * SECOND_NS
EXPIRE_NS: Final = 600 * SECOND_NS
MOST_PARAMETERS: Final = 40_000
"""What is owed has a place of its own on flash (telemetry/federated/book.py): four bytes a parameter."""
DAY_S: Final = 24 * 3600

log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")


class Run(StrEnum):
    """What became of a run."""

    TOLD = "told"
    ABORTED = "aborted"  # a gate closed while it learned
    FAILED = "failed"  # the trainer, or flash, didn't manage
    SUPERSEDED = "superseded"  # another plan, or none, took its place meanwhile, or a purge


@dataclass(frozen=True, slots=True)
class LearningStatus:
    """A reading for status and doctor. `plan` is the admitted one; `closed` names the gates that are shut, `refusal`
    says in words why else nothing is learned now, `fault` what flash or the trainer last did wrong; empty when there is
    nothing. `told` counts the updates of the last 30 days, `runs` what became of runs since the start."""

    plan: str | None
    closed: tuple[str, ...]
    refusal: str
    fault: str
    source: str
    source_fault: str
    is_learning: bool
    examples: Mapping[str, int]
    store: ExampleCounts | None
    unconfirmed: Mapping[str, int]
    runs: Mapping[str, int]
    told: int
    waiting: bool
    first_loss: float | None
    last_loss: float | None
    last_cpu_ns: int | None


def not_learning(source: str, fault: str) -> LearningStatus:
    """Of a vehicle whose learning can't be opened."""
    return LearningStatus(
        plan=None, closed=(), refusal="", fault=fault, source=source, source_fault="", is_learning=False, examples={},
        store=None, unconfirmed={}, runs={}, told=0, waiting=False, first_loss=None, last_loss=None, last_cpu_ns=None,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Ports:
    """What the side needs of the rest. `plan` and `package` say where they lie now, None while there is none; `world`
    says how things are; `sign` is the identity's; `private` is the privacy stage; `keep` is true once the record is
    durable in the spool; `may` is the owner's consent. `clock` is real time."""

    plan: Callable[[], Path | None]
    package: Callable[[], Path | None]
    world: Callable[[], World]
    sign: Callable[[bytes], bytes]
    private: Callable[[Learned], list[Record]]
    keep: Callable[[Record], Awaitable[bool]]
    may: Callable[[], bool]
    clock: Clock
    boot: str
    rng: Random


@dataclass(slots=True)
class _Board:
    """What status reads."""

    plan: str | None = None
    closed: tuple[Gate, ...] = ()
    refusal: str = ""
    fault: str = ""
    runs: Counter[Run] = field(default_factory=Counter)
    last: Taught | None = None
    told: int = 0


class LearningSide:
    """`take`, `look` and `status` never wait; what waits for flash does so in a thread of its own."""

    def __init__(
        self,
        floor: LearningFloor,
        rules: GateRules,
        book: LearningBook,
        store: ExampleStore,
        trainer: Trainer,
        labels: Labels,
        ports: Ports,
    ) -> None:
        self._floor = floor
        self._rules = rules
        self._book = book
        self._store = store
        self._trainer = trainer
        self._labels = labels
        self._ports = ports
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="learning")
        self._board = _Board()
        self._stirred = asyncio.Event()
        self._running: Plan | None = None
        self._began_ns: int | None = None
        self._ended_ns: int | None = None
        self._offer_ns = 0
        self._expire_ns = 0
        self._parsed: tuple[bytes, Plan | PlanRefused] | None = None
        self._given_up: tuple[Plan, str] | None = None
        self._cut: tuple[Gate, ...] = ()
        """The gates that ended the run under way, whatever opened again since."""
        self._shown = store.by_class(), store.counts()
        self._keeping: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._purges = 0

    # --- life -------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Until cancelled. Whatever goes wrong, nothing is learned for now, and status says why."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._labels.run(self.take))
            group.create_task(self._look_again_and_again())

    async def close(self, within_s: float) -> None:
        """What was confirmed becomes durable, if flash manages in time; a run under way comes to nothing."""
        self._is_over = True
        self._trainer.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                if self._keeping:
                    await asyncio.wait(self._keeping)
        self._thread.shutdown(wait=False, cancel_futures=True)

    def take(self, example: Example) -> None:
        """An example that was confirmed."""
        if self._is_over or not self._ports.may():
            return
        task = asyncio.get_running_loop().create_task(self._keep_example(example, self._purges))
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)

    def look(self) -> None:
        """Something may have changed: a gate that is closed now ends what is being learned, at once."""
        if self._running is not None and (shut := self._gates(self._running)):
            self._cut = shut
            self._trainer.kill()
            self._stirred.set()

    async def purge(self) -> None:
        """All that was kept to learn from or is owed is unreadable when this returns; what was told stays counted.
        Raises DiskError: say it again."""
        self._purges += 1
        self._trainer.kill()
        await self._stored(self._store.purge)
        await self._do(self._book.forget)

    def status(self) -> LearningStatus:
        board, taught = self._board, self._board.last
        return LearningStatus(
            plan=board.plan,
            closed=tuple(gate.value for gate in board.closed),
            refusal=board.refusal,
            fault=board.fault,
            source=self._labels.name,
            source_fault=self._labels.fault,
            is_learning=self._running is not None,
            examples=self._shown[0],
            store=self._shown[1],
            unconfirmed=dict(self._labels.dropped()),
            runs={run.value: number for run, number in board.runs.items()},
            told=board.told,
            waiting=self._book.waiting is not None,
            first_loss=taught.losses[0] if taught is not None else None,
            last_loss=taught.losses[-1] if taught is not None else None,
            last_cpu_ns=taught.cpu_ns if taught is not None else None,
        )

    # --- deciding ---------------------------------------------------------------------------------

    async def _look_again_and_again(self) -> None:
        while True:
            self._stirred.clear()
            try:
                await self._consider()
            except (DiskError, KeyStoreError) as trouble:
                self._fails(str(trouble))
            await self._sleep(LOOK_NS)

    async def _consider(self) -> None:
        """One look: what waits is handed on; otherwise a plan that may be is learned by."""
        now_ns = self._ports.clock.boot_ns()
        if now_ns >= self._expire_ns:
            self._expire_ns = now_ns + EXPIRE_NS
            await self._stored(self._store.expire, self._now())
        if self._book.waiting is not None:
            await self._hand_on(self._book.waiting)
            return
        plan = self._admitted()
        self._board.plan = plan.name if plan is not None else None
        self._board.closed = self._gates(plan) if plan is not None else ()
        if plan is not None and not self._board.closed:
            await self._learn(plan)

    def _admitted(self) -> Plan | None:
        """The plan that this vehicle learns by, if any; otherwise the board has the reason."""
        self._board.refusal = ""
        trusted_s = self._ports.world().trusted_s
        try:
            plan = self._plan()
            if plan is None:
                return None
            demand_allowed(plan, self._floor, trusted_s if trusted_s is not None else 0.0)
            self._demand_possible(plan)
            if trusted_s is not None:
                self._board.told = self._book.told(int(trusted_s // DAY_S))
                self._book.demand_budget(plan, self._floor, int(trusted_s // DAY_S))
        except (PlanRefused, BudgetSpent) as refused:
            self._board.refusal = str(refused)
            return None
        return plan

    def _plan(self) -> Plan | None:
        """Raises PlanRefused."""
        data = self._plan_bytes()
        if data is None:
            return None
        if self._parsed is None or self._parsed[0] != data:
            try:
                self._parsed = data, parse_plan(data)
            except PlanRefused as refused:
                self._parsed = data, refused
        parsed = self._parsed[1]
        if isinstance(parsed, PlanRefused):
            raise parsed
        return parsed

    def _plan_bytes(self) -> bytes | None:
        path = self._ports.plan()
        if path is None:
            return None
        try:
            with path.open("rb") as file:
                return file.read(MAX_PLAN_BYTES + 1)
        except OSError as error:
            raise PlanRefused(f"The plan in {path} can't be read: {error.strerror}.") from error

    def _demand_possible(self, plan: Plan) -> None:
        """Raises PlanRefused for what this vehicle doesn't have, or hasn't yet."""
        if self._given_up is not None and self._given_up[0] == plan:
            raise PlanRefused(f"Plan {plan.name} is given up until the next start: {self._given_up[1]}")
        if not self._ports.may():
            raise PlanRefused(f"Plan {plan.name} is refused here: its owner hasn't consented to learning.")
        if not self._labels.has(plan.source):
            raise PlanRefused(
                f"Plan {plan.name} is refused here: nothing on this vehicle says what an example should have been "
                f"called ({plan.source})."
            )
        if plan.parameters > MOST_PARAMETERS:
            raise PlanRefused(
                f"Plan {plan.name} is refused here: it changes {plan.parameters} parameters, the most are "
                f"{MOST_PARAMETERS}."
            )
        if self._ports.package() is None:
            raise PlanRefused(f"Plan {plan.name} waits: this vehicle doesn't run {plan.model}.")
        there = self._shown[1].kept
        if there < plan.min_examples:
            raise PlanRefused(f"Plan {plan.name} waits: it wants {plan.min_examples} examples, there are {there}.")

    def _gates(self, plan: Plan) -> tuple[Gate, ...]:
        now_ns = self._ports.clock.boot_ns()
        world = replace(
            self._ports.world(),
            running_ns=now_ns - self._began_ns if self._began_ns is not None else None,
            since_run_ns=now_ns - self._ended_ns if self._ended_ns is not None else None,
        )
        return closed(world, self._rules, plan.not_after)

    # --- learning ---------------------------------------------------------------------------------

    async def _learn(self, plan: Plan) -> None:
        examples = await self._stored(self._store.read, self._now())
        if len(examples) < plan.min_examples:
            return  # some expired just now; the next look says so
        self._running, self._began_ns, self._cut = plan, self._ports.clock.boot_ns(), ()
        try:
            became = await self._run(plan, examples)
        except NotTaught as trouble:
            became = Run.FAILED
            self._fails(str(trouble))
            if trouble.fault is Fault.MODEL:
                self._given_up = plan, str(trouble)
        except (DiskError, KeyStoreError):
            self._board.runs[Run.FAILED] += 1
            raise
        finally:
            self._running = self._began_ns = None
            self._ended_ns = self._ports.clock.boot_ns()
        self._board.runs[became] += 1
        log.info("learning_run", plan=plan.name, became=became.value, gates=[gate.value for gate in self._board.closed])
        if self._book.waiting is not None:
            await self._hand_on(self._book.waiting)

    async def _run(self, plan: Plan, examples: list[Example]) -> Run:
        """Raises NotTaught, DiskError, KeyStoreError."""
        purges, owed, package = self._purges, self._book.owed(plan), self._ports.package()
        order, pixels, places = order_of(plan, examples, self._ports.rng.getrandbits(63), len(owed))
        if package is None:
            return Run.SUPERSEDED
        taught = await self._taught(plan, package, order, (pixels, places, owed))
        if taught is None:
            return Run.ABORTED
        if self._plan_bytes_or_none() != (self._parsed[0] if self._parsed is not None else None):
            return Run.SUPERSEDED
        trusted_s = self._ports.world().trusted_s
        if trusted_s is None:
            return Run.ABORTED
        if not await self._do(self._commit, plan, taught, int(trusted_s // DAY_S), purges):
            return Run.SUPERSEDED
        self._board.last, self._board.fault = taught, ""
        return Run.TOLD

    async def _taught(
        self, plan: Plan, package: Path, order: Train, memory: tuple[bytes, bytes, bytes]
    ) -> Taught | None:
        """None when a gate closed: the process is gone, and nothing of what it learned is left. Raises NotTaught."""
        teaching = asyncio.ensure_future(self._trainer.teach(package, order, *memory))
        watching = asyncio.ensure_future(self._until_closed(plan))
        try:
            await asyncio.wait({teaching, watching}, return_when=asyncio.FIRST_COMPLETED)
            # A gate that shut in this very instant counts, too.
            self.look()
            if self._cut or self._is_over:
                self._board.closed = self._cut
                return None
            return teaching.result()
        finally:
            if not teaching.done():
                self._trainer.kill()
            teaching.cancel()
            watching.cancel()
            # Nobody waits longer than it takes to reap a killed process.
            await asyncio.wait({teaching, watching})
            if not teaching.cancelled():
                teaching.exception()

    async def _until_closed(self, plan: Plan) -> None:
        while not self._cut:
            await self._sleep(WATCH_NS)
            self._stirred.clear()
            self.look()
        if Gate.LONGEST in self._cut:
            # The next run would take as long, and cost as much.
            self._given_up = plan, f"a run takes longer than {self._rules.longest_s:g} s here."

    def _commit(self, plan: Plan, taught: Taught, today: int, purges: int) -> bool:
        """The one write: the update, what it owes, its place in the budget. False when what it was learned from was
        purged meanwhile. Raises DiskError, KeyStoreError."""
        if purges != self._purges:
            return False
        update = ModelUpdate(
            plan.name, plan.base, plan.graph, plan.layout, self._book.last_seq(plan) + 1, taught.payload
        )
        signed = msgspec.structs.replace(update, signature=self._ports.sign(signed_part(update)))
        self._book.commit(plan, signed, taught.owed, today)
        return True

    async def _hand_on(self, update: ModelUpdate) -> None:
        """Offered until the spool has it, not too often: the receiver takes it once."""
        now_ns = self._ports.clock.boot_ns()
        if now_ns < self._offer_ns:
            return
        self._offer_ns = now_ns + OFFER_AGAIN_NS
        records = self._ports.private(Learned(update))
        if not records:
            # Its owner took the consent back: it never leaves.
            await self._do(self._book.forget)
        elif await self._ports.keep(records[0]):
            await self._do(self._book.handed_on)
            self._offer_ns = 0

    # --- inside -----------------------------------------------------------------------------------

    async def _keep_example(self, example: Example, purges: int) -> None:
        """Unless a purge came between."""
        try:
            await self._stored(lambda: self._store.put(example) if purges == self._purges else None)
        except DiskError as trouble:
            self._fails(str(trouble))

    def _plan_bytes_or_none(self) -> bytes | None:
        try:
            return self._plan_bytes()
        except PlanRefused:
            return None

    def _now(self) -> Now:
        trusted_s = self._ports.world().trusted_s
        wall_ns = int(trusted_s * SECOND_NS) if trusted_s is not None else None
        return Now(self._ports.boot, self._ports.clock.boot_ns(), wall_ns)

    def _fails(self, words: str) -> None:
        if words != self._board.fault:
            log.warning("learning_failed", reason=words)
        self._board.fault = words

    async def _sleep(self, for_ns: int) -> None:
        """Or until something is stirred."""
        asleep = asyncio.ensure_future(self._ports.clock.sleep_until(self._ports.clock.boot_ns() + for_ns))
        stirred = asyncio.ensure_future(self._stirred.wait())
        try:
            await asyncio.wait({asleep, stirred}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            asleep.cancel()
            stirred.cancel()

    async def _stored(self, act: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """An act of the store, and what status shows of it afterwards."""

        def acted() -> T:
            try:
                return act(*arguments, **named)
            finally:
                self._shown = self._store.by_class(), self._store.counts()

        return await self._do(acted)

    async def _do(self, act: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """In the one thread that waits for flash."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: act(*arguments, **named))


def order_of(plan: Plan, examples: list[Example], seed: int, owed_bytes: int) -> tuple[Train, bytes, bytes]:
    """The order, all pixels, and for each example the place of its class: as agent/trainer/messages.py says."""
    size = examples[0].size
    alike = [example for example in examples if example.size == size]
    classes = tuple(sorted({example.label for example in alike}))
    order = Train(
        base=plan.base, graph=plan.graph, layout=plan.layout, parameters=plan.parameters, steps=plan.steps,
        batch=plan.batch, learning_rate=plan.learning_rate, clip=plan.clip, keep=plan.keep, seed=seed, size=size,
        examples=len(alike), classes=classes, owed_bytes=owed_bytes,
    )  # fmt: skip
    pixels = b"".join(example.pixels for example in alike)
    return order, pixels, bytes(classes.index(example.label) for example in alike)


class SpoolOutbox:
    """A record is kept once it lies durably in the spool."""

    def __init__(self, keeper: SpoolKeeper) -> None:
        self._keeper = keeper

    async def __call__(self, record: Record) -> bool:
        """False where that can't be said: it was dropped, or flash refuses for now."""
        before = self._lost(record)
        if not self._keeper.offer(record):
            return False
        await self._keeper.flush()
        lane = self._keeper.counts().lanes[record.lane]
        return lane.pending == 0 and self._lost(record) == before

    def _lost(self, record: Record) -> int:
        return sum(self._keeper.counts().lanes[record.lane].dropped.values())
