"""Learning as the daemon builds it: the package that ships, a sheet's crops, real processes, and the real spool."""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from agent.config import AgentConfig
from agent.daemon import Daemon
from agent.folders import BOOK_FOLDER, EXAMPLES_FOLDER
from agent.learning.room import LearningRoom, Surroundings
from agent.learning.status import LearningStatus
from ecu.clock import MILLISECOND_NS, SystemClock
from ecu.disk import DiskDenied, RealDisk
from ecu.keys import MemoryKeyStore
from receiver.pki import Authority
from telemetry.federated.examples import ExampleCounts, ExampleStore
from telemetry.federated.payload import decode_delta
from telemetry.federated.plan import encode_plan
from telemetry.federated.update import ModelUpdate, signed_part
from telemetry.privacy.pictures import RedactedCrop
from telemetry.records import Lane, Learned, Record, record_of
from telemetry.signals import vss
from telemetry.spool import Spool, SpoolKeeper
from telemetry.spool.counts import MemoryCounters
from telemetry.spool.limits import SpoolLimits
from tests.agent.lessons import PACKAGE, plan_for

SHEET = Path(__file__).parents[2] / "simulator" / "lights"
BENCH = {
    "enabled": True, "needs_parked": False, "power": "any", "source": f"crops:{SHEET}?take=0-19,1100-1119",
}  # fmt: skip


@dataclass
class Vehicle:
    state: Path
    learning: dict[str, Any]
    consents: list[str] = field(default_factory=lambda: ["operation", "learning"])
    keys: MemoryKeyStore = field(default_factory=MemoryKeyStore)
    told: list[Learned] = field(default_factory=list)
    more: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        clock = SystemClock()
        counters = MemoryCounters()
        spool = Spool.open(RealDisk(self.state / "spool"), self.keys, clock, os.urandom, SpoolLimits(), counters)
        self.keeper = SpoolKeeper(spool, clock)
        if self.keys.certificate() is None:
            pending = self.keys.begin_identity()
            authority = Authority(RealDisk(self.state / "authority"), clock, vehicle_days=1.0)
            self.keys.install(pending, authority.issue(pending.csr("car-1"), "car-1").pem)
        told = {"learning": self.learning, "privacy": {"consents": self.consents}, **self.more}
        self.config = AgentConfig.model_validate(told)
        self.room = LearningRoom(
            self.config,
            Surroundings(
                state=self.state, keys=self.keys, drive=clock, wall=clock, rng=Random(1), environment=os.environ,
                keeper=self.keeper, may=lambda: "learning" in self.consents, private=self._private,
                is_time_proven=lambda: True, plan=self._plan, package=lambda: PACKAGE,
            ),
        )  # fmt: skip

    def _plan(self) -> Path | None:
        path = self.state / "plan.json"
        return path if path.exists() else None

    def _private(self, learned: Learned) -> list[Record]:
        self.told.append(learned)
        return [record_of(0, learned)]

    @property
    def status(self) -> LearningStatus:
        status = self.room.status()
        assert status is not None
        return status

    @property
    def store(self) -> ExampleCounts:
        assert self.status.store is not None
        return self.status.store

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[None]:
        works = [asyncio.create_task(self.keeper.run()), asyncio.create_task(self.room.run())]
        try:
            yield
        finally:
            for work in works:
                work.cancel()
            await asyncio.gather(*works, return_exceptions=True)
            await self.room.close(5.0)
            await self.keeper.close(5_000_000_000)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                await asyncio.sleep(0.01)


async def test_a_bench_learns_from_its_crops_and_the_update_lies_durably_in_the_spool(tmp_path: Path) -> None:
    vehicle, plan = Vehicle(tmp_path, BENCH), plan_for(updates=1, not_after=1 << 34)
    async with vehicle.at_work():
        await vehicle.until(lambda: vehicle.status.examples == {"green": 20, "red": 20})
        (tmp_path / "plan.json").write_bytes(encode_plan(plan))
        await vehicle.until(lambda: vehicle.status.runs == {"told": 1} and not vehicle.status.waiting)
        lane = vehicle.keeper.counts().lanes[Lane.P3]
        assert (lane.offered, lane.durable) == (1, 1)
    (learned,) = vehicle.told
    certificate = x509.load_pem_x509_certificate(vehicle.keys.certificate() or b"")
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    key.verify(learned.update.signature, signed_part(learned.update), ec.ECDSA(hashes.SHA256()))
    assert decode_delta(learned.update.payload, plan.parameters, plan.keep).norm <= plan.clip * 1.01


async def test_a_sheet_that_is_told_again_adds_nothing(tmp_path: Path) -> None:
    keys = MemoryKeyStore()
    for dropped in ({}, {"duplicate": 40}):
        vehicle = Vehicle(tmp_path, BENCH, keys=keys)
        async with vehicle.at_work():
            await vehicle.until(lambda vehicle=vehicle: vehicle.store.offered == 40)  # type: ignore[misc]
        assert (vehicle.store.kept, vehicle.store.dropped) == (40, dropped)
        assert vehicle.store.holds


@pytest.mark.parametrize(
    ("source", "words"),
    [(f"crops:{SHEET}?take=5000", "names no crops of 1187"), ("crops:/nowhere", "The crops in /nowhere are refused")],
)
async def test_a_sheet_that_cant_be_used_is_said_and_stops_nothing(tmp_path: Path, source: str, words: str) -> None:
    vehicle = Vehicle(tmp_path, {**BENCH, "source": source})
    async with vehicle.at_work():
        await vehicle.until(lambda: words in vehicle.status.source_fault)
        assert vehicle.status.examples == {}


@pytest.mark.parametrize("source", ["crops:", "video:x", "crops:x?take=5-3", "crops:x?all=1", "crops:x?take=a"])
def test_what_is_no_source_is_refused_with_what_is(source: str) -> None:
    with pytest.raises(ValueError, match=r"source|names no crops"):
        AgentConfig.model_validate({"learning": {"source": source}})


@pytest.mark.parametrize(
    ("learning", "consents"), [({"enabled": False}, ["learning"]), (BENCH, ["operation"])], ids=["off", "no consent"]
)
async def test_without_consent_or_switched_off_nothing_is_kept_and_what_was_is_destroyed(
    tmp_path: Path, learning: dict[str, Any], consents: list[str]
) -> None:
    before = Vehicle(tmp_path, BENCH)
    async with before.at_work():
        await before.until(lambda: before.status.examples == {"green": 20, "red": 20})
    files = {path.name: path.read_bytes() for path in (tmp_path / EXAMPLES_FOLDER).glob("*.ex")}
    assert len(files) == 40
    after = Vehicle(tmp_path, learning, consents, keys=before.keys)
    async with after.at_work():
        assert after.room.status() is None
        await asyncio.sleep(0)
    assert not list((tmp_path / EXAMPLES_FOLDER).glob("*.ex"))
    # Even who kept the files has nothing: their key is gone.
    for name, data in files.items():
        (tmp_path / EXAMPLES_FOLDER / name).write_bytes(data)
    again = Vehicle(tmp_path, {**BENCH, "source": "drive"}, keys=before.keys)
    assert (again.store.kept, again.store.dropped) == (0, {"damaged": 40})


async def test_flash_that_refuses_to_forget_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agent.learning.room.FORGET_AGAIN_NS", 20 * MILLISECOND_NS)
    before = Vehicle(tmp_path, BENCH)
    async with before.at_work():
        await before.until(lambda: before.status.examples == {"green": 20, "red": 20})
    destroy, asked = ExampleStore.destroy, []

    def refuses_twice(*arguments: Any) -> None:
        asked.append(arguments)
        if len(asked) <= 2:
            raise DiskDenied("The folder is read-only.")
        destroy(*arguments)

    monkeypatch.setattr(ExampleStore, "destroy", refuses_twice)
    after = Vehicle(tmp_path, {"enabled": False}, keys=before.keys)
    assert "read-only" in after.status.fault
    async with after.at_work():
        await after.until(lambda: after.room.status() is None)
    assert len(asked) == 3
    assert not list((tmp_path / EXAMPLES_FOLDER).glob("*.ex"))


async def test_where_nobody_wants_learning_nothing_is_written_for_it(tmp_path: Path) -> None:
    vehicle = Vehicle(tmp_path, {})
    async with vehicle.at_work():
        assert vehicle.room.status() is None
    assert not (tmp_path / EXAMPLES_FOLDER).exists()
    assert not (tmp_path / BOOK_FOLDER).exists()


async def test_a_book_that_is_damaged_is_said_and_stops_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / BOOK_FOLDER
    folder.mkdir()
    for twin in (0, 1):
        (folder / f"learning.{twin}").write_bytes(b"no book")
    vehicle = Vehicle(tmp_path, BENCH)
    async with vehicle.at_work():
        assert "Nothing is learned until" in vehicle.status.fault
        vehicle.room.hear(1, {vss.SPEED: 0.0})


DRIVING = {
    "camera": {"source": "video:drive.mp4"}, "signals": {"source": "unix:signals.sock"},
}  # fmt: skip


async def test_what_the_drive_confirmed_is_kept_with_the_name_that_it_confirmed(tmp_path: Path) -> None:
    vehicle = Vehicle(tmp_path, {**BENCH, "source": "drive"}, more=DRIVING)
    room = vehicle.room
    assert room.crop_px == 32
    async with vehicle.at_work():
        await vehicle.until(lambda: vehicle.room.is_listening)
        assert vehicle.status.source == "drive"
        for tick in range(60):
            t_ns = tick * 250 * MILLISECOND_NS
            room.hear(t_ns, {vss.SPEED: 0.0 if tick < 48 else 20.0})
            if tick in (8, 52):
                room.see(RedactedCrop(bytes([tick]) * (32 * 32 * 3), 32, tick, t_ns - 1, 5))
        # Driving off at once leaves no time to see green; the crop of after it says nothing.
        await vehicle.until(lambda: vehicle.status.examples == {"red": 1})
        assert vehicle.status.unconfirmed == {"moving": 1}
        assert vehicle.status.source_fault == ""


async def test_where_nothing_confirms_a_light_it_is_said_and_no_crop_is_cut(tmp_path: Path) -> None:
    vehicle = Vehicle(tmp_path, {**BENCH, "source": "drive"})
    assert vehicle.room.crop_px == 0
    assert "[signals] source" in vehicle.status.source_fault
    await vehicle.room.close(1.0)
    await vehicle.keeper.close(1_000_000_000)


@pytest.mark.parametrize(("consents", "stays"), [(["operation"], False), (["operation", "learning"], True)])
async def test_an_update_that_hasnt_left_never_does_without_consent(
    tmp_path: Path, consents: list[str], stays: bool
) -> None:
    def daemon(*consents: str) -> Daemon:
        told = {"learning": {"enabled": True}, "privacy": {"consents": consents}, "link": {"kind": "none"}}
        return Daemon(AgentConfig.model_validate(told), tmp_path / "state", os.environ)

    before = daemon("operation", "learning")
    for record in before._parts.pipeline.on_learned(
        1, Learned(ModelUpdate("p", "0" * 64, "0" * 64, "0" * 64, 1, b"x" * 500, b"s"))
    ):
        assert before._parts.keeper.offer(record)
    await before._parts.keeper.flush()
    await before._close()
    del before
    gc.collect()  # what it had locked is free
    after = daemon(*consents)
    waiting = after._parts.keeper.next_unsent(Lane.P3)
    assert (waiting is not None) == stays
    assert after.status().law_1_holds
    await after._close()


async def test_the_daemon_without_camera_or_cloud_says_why_nothing_is_learned(tmp_path: Path) -> None:
    config = AgentConfig.model_validate(
        {"learning": BENCH, "privacy": {"consents": ["learning"]}, "link": {"kind": "none"}}
    )
    daemon, stop = Daemon(config, tmp_path / "state", os.environ), asyncio.Event()
    running = asyncio.create_task(daemon.run(stop))
    async with asyncio.timeout(60):
        while (status := daemon.status().learning) is None or status.examples != {"green": 20, "red": 20}:
            await asyncio.sleep(0.02)
        assert status.plan is None
        stop.set()
        await running
