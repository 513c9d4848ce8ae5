"""Learning on the vehicle: a signed plan, the vehicle's own floor, gates, a trainer's process, one durable update.

Nothing leaves but the update: it, what it owes and its place in the budget become durable in one write, and then it is
offered to the spool until that has it durably. A cut at any instant: it is told once, or never.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Final, ParamSpec, TypeVar

import msgspec
import structlog

from agent.learning.admission import Admission, day_of
from agent.learning.gates import Gate, GateRules, closed
from agent.learning.labels import Labels
from agent.learning.ports import Ports
from agent.learning.status import LearningStatus
from agent.outlast import outlast
from agent.trainer import Fault, NotTaught, Taught, Train, Trainer
from ecu.clock import MILLISECOND_NS, SECOND_NS
from ecu.disk import DiskError
from ecu.keys import KeyStoreError
from telemetry.federated.book import LearningBook
from telemetry.federated.examples import Example, ExampleStore, Now
from telemetry.federated.plan import LearningFloor, Plan
from telemetry.federated.update import ModelUpdate, signed_part
from telemetry.records import Learned

LOOK_NS: Final = SECOND_NS
WATCH_NS: Final = 20 * MILLISECOND_NS
"""How often the gates are looked at while something is learned."""
OFFER_AGAIN_NS: Final = 60 * SECOND_NS
EXPIRE_NS: Final = 600 * SECOND_NS

log = structlog.get_logger()
P = ParamSpec("P")
T = TypeVar("T")


class Run(StrEnum):
    """What became of a run."""

    TOLD = "told"
    ABORTED = "aborted"  # a gate closed while it learned
    FAILED = "failed"  # the trainer, or flash, didn't manage
    SUPERSEDED = "superseded"  # another plan, or none, took its place meanwhile, or a purge


@dataclass(slots=True)
class _Board:
    """What status reads."""

    plan: str | None = None
    closed: tuple[Gate, ...] = ()
    fault: str = ""
    runs: Counter[Run] = field(default_factory=Counter)
    last: Taught | None = None


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
        self._rules = rules
        self._book = book
        self._store = store
        self._trainer = trainer
        self._labels = labels
        self._ports = ports
        self._admission = Admission(floor, book, labels, ports)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="learning")
        self._board = _Board()
        self._stirred = asyncio.Event()
        self._running: Plan | None = None
        self._began_ns: int | None = None
        self._ended_ns: int | None = None
        self._offer_ns = 0
        self._expire_ns = 0
        self._cut: tuple[Gate, ...] = ()
        """The gates that ended the run under way, whatever opened again since."""
        self._shown = store.by_class(), store.counts()
        self._together = store.together()
        self._keeping: set[asyncio.Task[None]] = set()
        self._is_over = False
        self._purges = 0
        self.untaken = 0
        """Examples that came after the end, without consent, or before a purge that was over before they were kept."""

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
            self.untaken += 1
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
            refusal=self._admission.refusal,
            fault=board.fault,
            source=self._labels.name,
            source_fault=self._labels.fault,
            is_learning=self._running is not None,
            examples=self._shown[0],
            store=self._shown[1],
            unconfirmed=dict(self._labels.dropped()),
            runs={run.value: number for run, number in board.runs.items()},
            told=self._admission.told,
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
        plan = self._admission.admitted(self._together)
        self._board.plan = plan.name if plan is not None else None
        self._board.closed = self._gates(plan) if plan is not None else ()
        if plan is not None and not self._board.closed:
            await self._learn(plan)

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
                self._admission.give_up(plan, str(trouble))
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
        if not self._admission.still_lies_here():
            return Run.SUPERSEDED
        trusted_s = self._ports.world().trusted_s
        if trusted_s is None:
            return Run.ABORTED
        if not await self._do(self._commit, plan, taught, day_of(trusted_s), purges):
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
            await outlast(lambda: teaching.done() and watching.done(), lambda: asyncio.wait({teaching, watching}))
            if not teaching.cancelled():
                teaching.exception()

    async def _until_closed(self, plan: Plan) -> None:
        while not self._cut:
            await self._sleep(WATCH_NS)
            self._stirred.clear()
            self.look()
        if Gate.LONGEST in self._cut:
            # The next run would take as long, and cost as much.
            self._admission.give_up(plan, f"a run takes longer than {self._rules.longest_s:g} s here.")

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
        if purges != self._purges:
            self.untaken += 1
            return
        try:
            await self._stored(self._store.put, example)
        except DiskError as trouble:
            self._fails(str(trouble))

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
                self._together = self._store.together()

        return await self._do(acted)

    async def _do(self, act: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        """In the one thread that waits for flash."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: act(*arguments, **named))


def order_of(plan: Plan, examples: list[Example], seed: int, owed_bytes: int) -> tuple[Train, bytes, bytes]:
    """The order, all pixels, and for each example the place of its class: as agent/trainer/messages.py says. All are of
    one size."""
    classes = tuple(sorted({example.label for example in examples}))
    order = Train(
        base=plan.base, graph=plan.graph, layout=plan.layout, parameters=plan.parameters, steps=plan.steps,
        batch=plan.batch, learning_rate=plan.learning_rate, clip=plan.clip, keep=plan.keep, seed=seed,
        size=examples[0].size, examples=len(examples), classes=classes, owed_bytes=owed_bytes,
    )  # fmt: skip
    pixels = b"".join(example.pixels for example in examples)
    return order, pixels, bytes(classes.index(example.label) for example in examples)
