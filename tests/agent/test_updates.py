"""A release's life on a vehicle: a real repository, real models on a real drive, a judge with one opinion."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import pytest

from agent.children import Child
from agent.frames import FrameAccount
from agent.perception import Perception, PerceptionSettings, Supervision
from agent.perception.settings import In, StartsChildren
from agent.updates import Opinion, TrialRules, UpdateSide
from ecu.clock import SECOND_NS, SystemClock
from ecu.disk import RealDisk
from ecu.errors import EnvironmentFault
from inference.messages import Seen
from inference.package import find_package
from ota.denied import Denied
from ota.floors import Floors
from ota.kinds import Kind
from ota.machine import Event, State
from ota.manifest import BundleManifest
from ota.source import Source
from ota.trust import Vehicle
from ota.updates import Notice
from tests.drives import slow_road
from tests.ota.changed import Changed, Cut
from tests.ota.fleet import CAR, HARDWARE, Fleet

OLD, NEW = find_package("drive-detect@1.0"), find_package("drive-detect@2.0")
RULES = TrialRules(poll_ns=3600 * SECOND_NS, shadow_frames=3, prove_frames=5)
LOOKS_AT_EACH_HINT = replace(RULES, hints_apart_ns=0)


class Says:
    """A judge with one opinion; None keeps it silent."""

    def __init__(self, event: Event | None) -> None:
        self.event = event
        self.asked: list[tuple[Path, Path, Path | None]] = []

    async def judge(
        self, live: Path, candidate: Path, evaluation: Path | None, cpu_at_most: float | None = None
    ) -> Opinion:
        self.asked.append((live, candidate, evaluation))
        if self.event is None:
            await asyncio.Event().wait()
        assert self.event is not None
        return Opinion(self.event, f"the judge says {self.event}")


@dataclass
class Car:
    """One run of a vehicle with perception and updates, and what it told."""

    updates: UpdateSide
    perception: Perception
    seen: list[tuple[int, str]] = field(default_factory=list)
    notices: list[Notice] = field(default_factory=list)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def until(self, reached: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not reached():
                self.news.clear()
                await self.news.wait()

    async def until_noticed(self, what: str) -> Notice:
        await self.until(lambda: any(notice.what == what for notice in self.notices))
        return next(notice for notice in self.notices if notice.what == what)

    @property
    def state(self) -> State:
        return self.updates.status().kinds[0].state

    @property
    def versions(self) -> list[str]:
        return [model.split()[1] for _, model in self.seen]


@asynccontextmanager
async def driving(
    folder: Path,
    fleet: Fleet,
    judge: Says,
    source: Source | None = None,
    start: StartsChildren = Child.start,
    rules: TrialRules = RULES,
) -> AsyncIterator[Car]:
    folder.mkdir(exist_ok=True)
    notices: list[Notice] = []
    news = asyncio.Event()

    def noticed(notice: Notice) -> None:
        notices.append(notice)
        news.set()

    updates = UpdateSide(
        folder / "updates", fleet.roots, Vehicle(CAR, HARDWARE), source or fleet.source(),
        {Kind.MODEL: OLD, Kind.STATE: OLD}, judge, rules, SystemClock(), Random(1), noticed,
    )  # fmt: skip
    account = FrameAccount(folder / "camera.ledger", folder / "frames.ledger")
    settings = PerceptionSettings(
        source=f"video:{slow_road(folder)}?loop=1", camera="front", package=updates.live_package(Kind.MODEL), slots=6,
        hang_ns=20 * SECOND_NS, lockstep=False, standby=False,
    )  # fmt: skip

    def seen(result: Seen, latency_ns: int) -> None:
        car.seen.append((result.frame_id, perception.status().model or "none none"))
        car.news.set()

    perception = Perception(
        settings, account, SystemClock(), Supervision(Random(2), os.environ, start=start), seen,
        lambda what, detail: None,
    )  # fmt: skip
    car = Car(updates, perception, notices=notices, news=news)
    try:
        await perception.start()
        work = asyncio.gather(perception.watch(), updates.run(perception))
        yield car
        # Before the end, which may lose what is under way just then.
        assert perception.status().frames.lost_to_fault == 0
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)
        await perception.stop()
        assert account.counts().holds


@cache
def files(package: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in package.iterdir()}


@pytest.fixture
def todays(tmp_path: Path) -> Fleet:
    return Fleet(tmp_path / "fleet", SystemClock())


def released(fleet: Fleet, changes: Mapping[str, bytes] | None = None) -> BundleManifest:
    manifest = fleet.release("2.0", 1, files={**files(NEW), **(changes or {})})
    fleet.assign(manifest)
    return manifest


async def test_a_better_release_is_tried_beside_the_live_one_and_kept(todays: Fleet, tmp_path: Path) -> None:
    released(todays)
    judge = Says(Event.PASSED)
    async with driving(tmp_path / "car", todays, judge) as car:
        kept = await car.until_noticed("committed")
        assert [notice.what for notice in car.notices] == ["staged", "shadow", "switched", "committed"]
        assert kept.release is not None
        assert kept.release.release == 1
        await car.until(lambda: car.perception.status().trial is None)
    assert judge.asked[0][0] == OLD
    ids = [frame_id for frame_id, _ in car.seen]
    assert ids == sorted(set(ids))
    assert car.versions == sorted(car.versions)
    assert {"1.0", "2.0"} == set(car.versions)
    assert Floors(RealDisk(tmp_path / "car/updates")).release(Kind.MODEL) == 1
    async with driving(tmp_path / "car", todays, judge) as again:
        await again.until(lambda: len(again.seen) >= 3)
        assert set(again.versions) == {"2.0"}


@pytest.mark.parametrize(("says", "ends"), [(Event.FAILED, State.ROLLED_BACK), (Event.UNDECIDED, State.INCONCLUSIVE)])
async def test_a_worse_release_is_denied_and_an_undecided_one_is_not(
    todays: Fleet, tmp_path: Path, says: Event, ends: State
) -> None:
    released(todays)
    async with driving(tmp_path / "car", todays, Says(says)) as car:
        over = await car.until_noticed(ends)
        assert "the judge says" in over.words
        await car.until(lambda: car.perception.status().trial is None)
        assert over.release is not None
        denied = Denied(RealDisk(tmp_path / "car/updates"))
        assert (over.release.digest in denied) == (ends is State.ROLLED_BACK)
        # Looking again changes nothing: it isn't tried twice in a row.
        told = len(car.notices)
        car.updates.hint()
        await car.until(lambda: len(car.seen) >= 16)
        assert len(car.notices) == told
    assert set(car.versions) == {"1.0"}


async def test_a_release_that_doesnt_load_is_denied_in_words(todays: Fleet, tmp_path: Path) -> None:
    released(todays, {"u8s8.onnx": b"no model", "u8s7.onnx": b"no model"})
    async with driving(tmp_path / "car", todays, Says(None)) as car:
        over = await car.until_noticed(State.ROLLED_BACK)
        assert "refused" in over.words
    assert set(car.versions) == {"1.0"}


async def test_a_release_whose_worker_the_computer_cant_start_is_left_and_not_denied(
    todays: Fleet, tmp_path: Path
) -> None:
    async def start(
        module: str,
        arguments: Sequence[str],
        accepts: Any,
        on_message: Callable[[Child[In], In], None],
        on_closed: Callable[[Child[In]], None],
        environment: Mapping[str, str],
    ) -> Child[In]:
        if module == "inference.worker" and str(OLD) not in arguments:
            raise EnvironmentFault("no more processes")
        return await Child.start(module, arguments, accepts, on_message, on_closed, environment)

    released(todays)
    async with driving(tmp_path / "car", todays, Says(Event.PASSED), start=start) as car:
        over = await car.until_noticed(State.INCONCLUSIVE)
        assert "no more processes" in over.words
        assert over.release is not None
        assert over.release.digest not in Denied(RealDisk(tmp_path / "car/updates"))
        seen = len(car.seen)
        await car.until(lambda: len(car.seen) > seen)
    assert set(car.versions) == {"1.0"}


@pytest.mark.parametrize(
    "killed_in",
    [State.SWITCHED, *(pytest.param(state, marks=pytest.mark.soak) for state in (State.STAGED, State.SHADOW))],
)
async def test_an_agent_that_dies_within_a_trial_boots_the_good_model_and_tries_again(
    todays: Fleet, tmp_path: Path, killed_in: State
) -> None:
    released(todays)
    first = Says(Event.PASSED if killed_in is State.SWITCHED else None)
    async with driving(tmp_path / "car", todays, first) as car:
        await car.until_noticed(killed_in)
        # The folder as a kill at this instant leaves it.
        shutil.copytree(tmp_path / "car/updates", tmp_path / "killed/updates")
    async with driving(tmp_path / "killed", todays, Says(Event.PASSED)) as again:
        assert again.updates.live_package(Kind.MODEL) == OLD
        await again.until_noticed("committed")
        await again.until(lambda: "2.0" in again.versions)
    assert again.versions[0] == "1.0"


async def test_a_tampered_block_is_refused_once_and_the_live_model_goes_on(todays: Fleet, tmp_path: Path) -> None:
    manifest = released(todays)
    entry = max(manifest.files, key=lambda entry: entry.size)
    bad = todays.repo / "image/files" / entry.sha256
    data = bytearray(bad.read_bytes())
    data[-1] ^= 1
    bad.write_bytes(data)
    async with driving(tmp_path / "car", todays, Says(Event.PASSED)) as car:
        refused = await car.until_noticed("refused")
        assert refused.attack == "tampered"
        assert entry.path in refused.words
        await car.until(lambda: len(car.seen) >= 4)
        assert car.updates.status().trouble == refused.words
    assert set(car.versions) == {"1.0"}
    assert car.state is State.COMMITTED


async def test_a_cut_download_goes_on_at_the_next_look(todays: Fleet, tmp_path: Path) -> None:
    manifest = released(todays)
    cut = Cut(todays.source(), int(manifest.size * 0.62))
    async with driving(tmp_path / "car", todays, Says(Event.PASSED), cut) as car:
        await car.until(lambda: bool(car.updates.status().trouble))
        assert "cut" in car.updates.status().trouble
    again = Cut(todays.source(), 1 << 40)
    async with driving(tmp_path / "car", todays, Says(Event.PASSED), again) as car:
        await car.until_noticed("committed")
    assert cut.given + again.given - manifest.size <= 1 << 20


async def test_a_release_that_the_fleet_takes_back_is_given_up_but_not_denied(todays: Fleet, tmp_path: Path) -> None:
    released(todays)
    async with driving(tmp_path / "car", todays, Says(None), rules=LOOKS_AT_EACH_HINT) as car:
        await car.until_noticed("shadow")
        todays.assign()
        car.updates.hint()
        over = await car.until_noticed("inconclusive")
        assert over.words == "its fleet no longer wants it"
        assert over.release is not None
        assert over.release.digest not in Denied(RealDisk(tmp_path / "car/updates"))


async def test_a_damaged_good_slot_falls_back_to_what_was_good_before(todays: Fleet, tmp_path: Path) -> None:
    released(todays)
    async with driving(tmp_path / "car", todays, Says(Event.PASSED)) as car:
        await car.until_noticed("committed")
    slot = tmp_path / "car/updates/model/a/files/model.json"
    slot.write_bytes(slot.read_bytes() + b" ")
    async with driving(tmp_path / "car", todays, Says(None)) as again:
        assert again.updates.live_package(Kind.MODEL) == OLD
        assert again.updates.status().kinds[0].good is None
        await again.until(lambda: len(again.seen) >= 3)


async def test_a_hint_is_only_a_reason_to_look(todays: Fleet, tmp_path: Path) -> None:
    todays.assign()
    watched = Changed(todays.source())
    async with driving(tmp_path / "car", todays, Says(Event.PASSED), watched) as car:
        await car.until(lambda: len(car.seen) >= 2)
        looks = sum(path == "director/timestamp.json" for path, _, _ in watched.asked)
        assert looks == 1
        for _ in range(100):
            car.updates.hint()
        await car.until(lambda: len(car.seen) >= 12)
        assert sum(path == "director/timestamp.json" for path, _, _ in watched.asked) <= 2


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[None]:
    """A file system of that size in the folder; skips where this process may not mount one."""
    folder.mkdir(parents=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "outrider-test", str(folder)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here: {mounted.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


async def test_a_release_larger_than_the_disk_is_told_of_in_words_and_the_live_model_goes_on(
    todays: Fleet, tmp_path: Path
) -> None:
    manifest = released(todays)
    with small_disk(tmp_path / "car/updates", 4):
        async with driving(tmp_path / "car", todays, Says(Event.PASSED)) as car:
            await car.until(lambda: bool(car.updates.status().trouble))
            trouble = car.updates.status().trouble
            assert f"has {manifest.size} bytes and the disk was full after" in trouble
            assert "the installed release goes on" in trouble
            await car.until(lambda: len(car.seen) >= 8)
        assert set(car.versions) == {"1.0"}
        assert car.state is State.COMMITTED
        left = sum(path.stat().st_size for path in (tmp_path / "car/updates/model").rglob("*") if path.is_file())
        assert left < 1 << 20, "what was fetched is given back"
