"""A receiver's rollouts without its network: a store, a repository that it is the director of, and blocks as they
come."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Connection, event, insert, select

from ecu.clock import SECOND_NS, SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import RealDisk
from ota.kinds import Kind
from ota.manifest import BundleManifest, bundle_digest, encode_manifest
from ota.report import Image, Reporter
from receiver import admission, inbox, journal
from receiver.counters import Counters
from receiver.inbox import Arrival
from receiver.rollouts.answers import RolloutLine, Signed, SignRequest, StartRequest, StopRequest
from receiver.rollouts.approval import Operators, make_key, sign
from receiver.rollouts.desk import RolloutDesk
from receiver.rollouts.listing import Lister
from receiver.rollouts.rules import Rules
from receiver.store import FILE, Store, sqlite_url
from receiver.tables import credential, rollout_vehicle
from telemetry.records import AnyEvent, Lane, PerceptionSummary, Purpose, Stored, UpdateReport, encode_event
from telemetry.wire import CODEC_RECORDS_ZSTD, NO_DICTIONARY, BlockHeader, pack_block, pack_body, unpack_block
from tests.ota.fleet import HARDWARE, NOW_NS, Fleet, Unsynced
from tests.receiver.fleet import EPOCH

HOUR_NS = 3600 * SECOND_NS
CARS = tuple(f"car-{number:02}" for number in range(10))
RULES = Rules(waves=(20.0, 50.0, 100.0), first_percent=20.0, fine=0.01, bad=0.9, let_through=0.2,
              soak_s=3600.0, silence_s=7200.0)  # fmt: skip
"""A wave of two proves something where nine in ten would fail."""


class Unplugged(Store):
    """A receiver's store where nobody pulls the plug, in the thread of who asks: killed it may be."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        event.listen(self._engine, "connect", lambda connection, _: connection.execute("PRAGMA synchronous=OFF"))

    async def transact(self, act: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._transact(act, *args, **kwargs)

    async def close(self) -> None:
        self._engine.dispose()
        await super().close()


async def a_store(disk: RealDisk) -> Unplugged:
    """A new one: the tables of all are made once."""
    global _made
    url = sqlite_url(disk)
    if _made:
        (disk.root / FILE).write_bytes(_made)
        return Unplugged(url)
    store = Unplugged(url)
    await store.open()
    await store.close()
    _made = (disk.root / FILE).read_bytes()
    return Unplugged(url)


_made = b""


def a_lister(fleet: Fleet, kind: type[Lister] = Lister) -> Lister:
    return kind(fleet.repo, fleet.folder / "keys", fleet.clock, Unsynced(fleet.repo))


def digest_of(manifest: BundleManifest) -> str:
    return bundle_digest(encode_manifest(manifest))


def people(folder: Path) -> None:
    """Three operators' keys; the same ones in every test."""
    folder.mkdir()
    for name, (private, public) in _people().items():
        (folder / f"{name}.pem").write_bytes(private)
        (folder / f"{name}.pem").chmod(0o600)
        (folder / f"{name}.pub").write_bytes(public)


@cache
def _people() -> dict[str, tuple[bytes, bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        made = {name: make_key(name, Path(folder)) for name in ("anna", "ben", "carl")}
        return {name: (private.read_bytes(), public.read_bytes()) for name, (private, public) in made.items()}


class Car:
    """A vehicle's identity key, and what it says of its slots by it."""

    def __init__(self, name: str, hardware: str = HARDWARE) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.reporter = Reporter(CrashDisk(), name, hardware, self)
        self.holds: dict[Kind, Image] = {}

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def manifest(self) -> bytes:
        return self.reporter.manifest(self.holds, "", 5)

    def keeps(self, manifest: BundleManifest, digest: str) -> None:
        self.holds[manifest.kind] = Image(manifest.target, 1, digest, manifest.release)

    def certify(self, connection: Connection, name: str, now_ns: int) -> None:
        """As the receiver does when it pairs."""
        public = self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        row = {"serial": name, "vehicle": name, "issued_ns": now_ns, "not_after_ns": now_ns + 400 * 24 * HOUR_NS}
        connection.execute(insert(credential).values(row | {"public_key": public}))


@dataclass(slots=True)
class Rig:
    folder: Path
    fleet: Fleet
    store: Store
    clock: SteppingClock
    lister: Lister
    desk: RolloutDesk
    counters: Counters
    cars: dict[str, Car]
    kind: type[RolloutDesk] = RolloutDesk
    hinted: list[str] = field(default_factory=list)
    sent: dict[tuple[str, Lane], int] = field(default_factory=dict)

    async def start(
        self, manifest: BundleManifest, name: str = "r1", rules: Rules = RULES, of: str = ""
    ) -> RolloutLine:
        return await self.desk.start(StartRequest(name, manifest.target, "anna", rules, {}, of))

    async def signed(self, act: str, by: str, name: str = "r1") -> Signed:
        statement = await self.desk.statement(name, act)
        return await self.desk.sign(
            name, SignRequest(act, by, sign(self.folder / "people" / f"{by}.pem", statement).hex())
        )

    async def approve(self, name: str = "r1") -> None:
        for who in ("anna", "ben"):
            await self.signed("approve", who, name)
        await self.desk.settle()

    async def stop(self, act: str, name: str = "r1") -> RolloutLine:
        line = await self.desk.stop(name, StopRequest(act, "carl"))
        await self.desk.settle()
        return line

    async def line(self, name: str = "r1") -> RolloutLine:
        (line,) = await self.desk.lines(name)
        return line

    async def tell(
        self,
        vehicle: str,
        *said: AnyEvent,
        lane: Lane = Lane.P1,
        purpose: Purpose = Purpose.OPERATION,
        ago_ns: int = 0,
        wrong_ns: int = 0,
    ) -> None:
        """As one stored block, captured a while ago, by a clock that is wrong perhaps."""
        self.clock.advance(self.clock.boot_ns() + len(said))
        captured_ns, wall_ns = (now_ns - len(said) - ago_ns for now_ns in (self.clock.boot_ns(), self.clock.wall_ns()))
        seq = self.sent.get((vehicle, lane), 0)
        self.sent[vehicle, lane] = seq + len(said)
        records = [
            Stored(captured_ns + number, wall_ns + number + wrong_ns, msgspec.Raw(encode_event(one)))
            for number, one in enumerate(said)
        ]
        body = pack_body(records)
        block = pack_block(
            BlockHeader(lane, purpose, EPOCH, seq, len(said), CODEC_RECORDS_ZSTD, NO_DICTIONARY, len(body)), body
        )
        header, inner = unpack_block(block)
        await self.store.transact(inbox.commit, [Arrival(vehicle, header, block, inner)], self.clock.wall_ns())

    async def report(
        self, vehicle: str, manifest: BundleManifest, what: str = "committed", signed: bytes | None = None
    ) -> None:
        """What an agent reports, with its version manifest, or another one."""
        digest, car = digest_of(manifest), self.cars[vehicle]
        if what == "committed" and signed is None:
            car.keeps(manifest, digest)
        said = car.manifest() if signed is None else signed
        await self.tell(vehicle, UpdateReport(what, "model", manifest.title, digest, "", what, said))

    async def sees(self, vehicle: str, *scores: float, ago_ns: int = 0, wrong_ns: int = 0) -> None:
        summaries = (PerceptionSummary("front", 1, 1, 1, {"car": 1}, score) for score in scores)
        await self.tell(vehicle, *summaries, lane=Lane.P2, purpose=Purpose.PERCEPTION, ago_ns=ago_ns, wrong_ns=wrong_ns)

    async def hours(self, hours: float) -> None:
        self.clock.advance(self.clock.boot_ns() + int(hours * HOUR_NS))
        await self.desk.settle()

    async def turn(self, name: str = "r1", count: int = 100) -> list[str]:
        """The vehicles in the order of their turns."""
        its = select(rollout_vehicle.c.vehicle).where(rollout_vehicle.c.rollout == name)
        rows: Callable[[Connection], list[str]] = lambda connection: [  # noqa: E731
            str(one) for one in connection.execute(its.order_by(rollout_vehicle.c.rank)).scalars()
        ]
        return (await self.store.transact(rows))[:count]

    def listed(self) -> dict[str, tuple[str, ...]]:
        """What the director says, by vehicle that it says something of."""
        director = self.fleet.director
        return {name: director.assignment(name).targets for name in director.vehicles()}

    def reopened(self, store: Store) -> RolloutDesk:
        """Another desk over the same ground, as after a kill."""
        operators = Operators(self.folder / "people")
        self.desk = self.kind(store, self.clock, self.counters, operators, self.lister, self.hint)
        return self.desk

    def hint(self, vehicle: str, kind: str) -> bool:
        self.hinted.append(vehicle)
        return True

    async def events(self) -> list[str]:
        entries = await self.store.transact(journal.tail, 100)
        return [entry.event for entry in entries if entry.event.startswith("rollout")]


@contextlib.asynccontextmanager
async def a_rig(
    folder: Path, founded: Fleet, cars: tuple[str, ...] = CARS, hardware: str = HARDWARE
) -> AsyncIterator[Rig]:
    fleet, clock = founded.copy(folder / "fleet"), SteppingClock(wall_ns=NOW_NS)
    fleet.clock = clock
    people(folder / "people")
    disk = RealDisk(folder / "state")
    store = await a_store(disk)
    identities = {name: Car(name, hardware) for name in cars}
    for name in cars:
        await store.transact(admission.enrol, name, name, clock.wall_ns(), clock.wall_ns() + HOUR_NS)
        await store.transact(identities[name].certify, name, clock.wall_ns())
    lister = a_lister(fleet)
    nothing: Any = None
    rig = Rig(folder, fleet, store, clock, lister, nothing, Counters(), identities)
    rig.reopened(store)
    try:
        yield rig
    finally:
        await store.close()
