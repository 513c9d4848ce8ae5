"""A receiver's learning without its network: a store, cars with real certificates, and blocks as they come."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from sqlalchemy import Connection, select

from ecu.audit import Entry
from ecu.clock import SteppingClock
from ecu.disk import RealDisk
from ecu.keys import MemoryKeyStore
from receiver import admission, inbox, journal
from receiver.counters import Counters
from receiver.inbox import Arrival
from receiver.learning.answers import BeginRequest, LearningStatus, PlanStatus
from receiver.learning.desk import LearningDesk, LearningRules
from receiver.learning.jobs import Jobs
from receiver.learning.order import Rule, Vector, Workbench, vector
from receiver.pki import Authority, Identity, identify
from receiver.store import Store, sqlite_url
from receiver.tables import learning_line, schema
from telemetry.federated.payload import SparseDelta, encode_delta
from telemetry.federated.plan import Plan, encode_plan
from telemetry.federated.update import ModelUpdate, signed_part
from telemetry.records import Lane, Learned, Purpose, Stored, encode_event
from telemetry.wire import CODEC_RECORDS_ZSTD, NO_DICTIONARY, BlockHeader, pack_block, pack_body, unpack_block
from tests.receiver.fleet import EPOCH
from tests.receiver.learning.benches import FourNumbers, package_in, plan_of


def update_of(
    plan: Plan, sign: Callable[[bytes], bytes], /, *values: float, seq: int = 1, **changes: Any
) -> ModelUpdate:
    """Signed last, whatever `changes` are."""
    delta = SparseDelta(plan.parameters, np.arange(len(values)), np.array(values, np.float32))
    update = ModelUpdate(plan.name, plan.base, plan.graph, plan.layout, seq, encode_delta(delta))
    update = msgspec.structs.replace(update, **changes)
    return msgspec.structs.replace(update, signature=sign(signed_part(update)))


def block_of(
    *events: bytes, base_seq: int = 0, lane: Lane = Lane.P3, purpose: Purpose = Purpose.LEARNING, epoch: bytes = EPOCH
) -> bytes:
    body = pack_body([Stored(1000 + n, 0, msgspec.Raw(event)) for n, event in enumerate(events)])
    header = BlockHeader(lane, purpose, epoch, base_seq, len(events), CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body))
    return pack_block(header, body)


def told(update: ModelUpdate) -> bytes:
    return encode_event(Learned(update))


@dataclass(slots=True)
class Car:
    """A vehicle with a certificate. `sent` counts its records."""

    name: str
    keys: MemoryKeyStore
    sent: int = 0

    @property
    def identity(self) -> Identity:
        from cryptography import x509
        from cryptography.hazmat.primitives.serialization import Encoding

        pem = self.keys.certificate()
        assert pem is not None
        return identify(x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER))


@dataclass(slots=True)
class Rig:
    """`desk` is one process's: `restarted` gives the next one's, over the same store and disk."""

    folder: Path
    store: Store
    clock: SteppingClock
    authority: Authority
    rules: LearningRules
    bench: Workbench
    executor: Callable[[], Executor] = lambda: ThreadPoolExecutor(1)
    counters: Counters = field(default_factory=Counters)
    disk: RealDisk = field(init=False)
    cars: dict[str, Car] = field(default_factory=dict)
    desk: LearningDesk = field(init=False)

    def __post_init__(self) -> None:
        self.disk = RealDisk(self.folder)
        self.restart()

    def restart(self) -> None:
        self.counters = Counters()
        jobs = Jobs(self.executor, 60.0)
        self.desk = LearningDesk(self.store, self.disk, self.clock, self.counters, jobs, self.bench, self.rules)

    async def car(self, name: str) -> Car:
        if name not in self.cars:
            keys, now_ns = MemoryKeyStore(), self.clock.wall_ns()
            pending = keys.begin_identity()
            await self.store.transact(admission.enrol, name, f"token of {name}", now_ns, now_ns + 1)
            issued = await self.store.transact(
                admission.pair, self.authority, f"token of {name}", pending.csr(name), now_ns
            )
            keys.install(pending, issued.pem)
            self.cars[name] = Car(name, keys)
        return self.cars[name]

    async def begin(self, plan: Plan | None = None, package: str = "live") -> Plan:
        plan = plan or plan_of()
        package_in(self.folder / package)
        await self.desk.begin(BeginRequest(encode_plan(plan).decode(), str(self.folder / package), str(self.folder)))
        return plan

    async def receive(self, name: str, *events: bytes) -> None:
        """One block of the car's, stored as any other."""
        car = await self.car(name)
        block = block_of(*events, base_seq=car.sent)
        car.sent += len(events)
        header, body = unpack_block(block)
        arrival = Arrival(name, header, block, body)
        (verdict,) = await self.store.transact(inbox.commit, [arrival], self.clock.wall_ns())
        assert verdict.is_stored, verdict

    async def learned(self, plan: Plan, name: str, /, *values: float, seq: int = 1, **changes: Any) -> None:
        """An honest update, but for `changes`, comes."""
        car = await self.car(name)
        await self.receive(name, told(update_of(plan, car.keys.sign, *values, seq=seq, **changes)))

    async def settle(self) -> None:
        """Until nothing is left to do."""
        while await self.desk.judge_some() or await self.desk.step():
            pass

    async def status(self) -> LearningStatus:
        return await self.desk.status()

    async def plan_status(self) -> PlanStatus:
        (status,) = (await self.status()).plans
        return status

    async def rows(self, *tables: str) -> dict[str, list[tuple[object, ...]]]:
        return await self.store.transact(_rows, tables)

    async def model(self) -> Vector:
        """The newest of the one line."""
        (line,) = (await self.rows("learning_line"))["learning_line"]
        parameters = line[[column.name for column in learning_line.columns].index("parameters")]
        assert isinstance(parameters, bytes)
        return vector(parameters)

    async def audit(self) -> list[str]:
        return [entry.event for entry in await self.entries()]

    async def entries(self) -> list[Entry]:
        return await self.store.transact(journal.tail, 1000)

    @property
    def candidates(self) -> Path:
        return self.folder / "candidates"


def _rows(connection: Connection, tables: tuple[str, ...]) -> dict[str, list[tuple[object, ...]]]:
    return {
        name: sorted((tuple(row) for row in connection.execute(select(schema.tables[name]))), key=repr)
        for name in tables
    }


@contextlib.asynccontextmanager
async def a_rig(folder: Path, bench: Workbench | None = None, buffer: int = 3) -> AsyncIterator[Rig]:
    clock = SteppingClock()
    disk = RealDisk(folder)
    disk.make_folder("")
    store = Store(sqlite_url(disk))
    await store.open()
    try:
        rules = LearningRules(buffer, Rule(momentum=0.5, rate=1.0), again_s=600.0)
        yield Rig(folder, store, clock, Authority(disk, clock, 14.0), rules, bench or FourNumbers())
    finally:
        await store.close()


def moved(start: Vector, *steps: float) -> Vector:
    after = start.copy()
    after[: len(steps)] += np.array(steps, np.float32)
    return after
