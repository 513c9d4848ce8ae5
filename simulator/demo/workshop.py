"""The workshop: beside the drive, vehicles that are killed in the middle of a trial, and others that are offered what is
worse, forged or stale. All of it on the product's own processes and its own update code."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ecu.clock import Clock, SystemClock
from inference.evaluation import DEFAULT_EVALUATION
from inference.package import find_package
from ota.kinds import Kind
from ota.machine import State
from ota.manifest import BundleManifest, bundle_digest, encode_manifest
from simulator.demo.flash import boot_record, denied, fingerprint
from simulator.demo.offers import Refusal, refusals
from simulator.demo.releases import GOOD, Flaw, again, worse
from simulator.demo.script import script
from simulator.demo.signing import SigningDesk
from simulator.demo.stage import Places, Stage
from simulator.demo.workshopcar import FACTORY_MODEL, Setting, WorkshopCar

KILLED_CAR: Final = "demo-workshop"
OFFERED_CAR: Final = "demo-workshop-2"
DRIVE: Final = Path(__file__).parent.parent / "drives" / "solidWhiteRight.mp4"
NAME: Final = "drive-detect"
ENDS: Final = (State.COMMITTED, State.ROLLED_BACK, State.INCONCLUSIVE)
FLAWED_VERSIONS: Final = {Flaw.SCRAMBLED: "2.2", Flaw.SLOW: "2.3", Flaw.MUTE: "2.4"}


@dataclass(frozen=True, slots=True)
class Kill:
    """An agent killed by SIGKILL within a trial. `found_in` is the state that its boot record had afterwards; `booted`
    and `is_allowed` are about what its successor runs."""

    state: State
    found_in: str
    booted: str
    is_allowed: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a release that is worse. `was_live`: it, or what it would have made good, was ever looked with."""

    flaw: Flaw
    ended: str
    is_denied: bool
    was_live: bool
    words: str


@dataclass(frozen=True, slots=True)
class Download:
    """A release fetched over a link that was cut once: its bytes, those that came before the cut, those that came in
    all; `is_whole` says that it lay on flash afterwards, right by its hashes."""

    size: int
    before_cut: int
    fetched: int
    is_whole: bool


@dataclass(frozen=True, slots=True)
class WorkshopProof:
    """All that the claims about updates need. `committed`: the killed trial's release was kept in the end."""

    kills: Sequence[Kill]
    committed: bool
    tried: Sequence[Tried]
    refusals: Sequence[Refusal]
    download: Download | None


async def work(
    places: Places, desk: SigningDesk, environment: Mapping[str, str], patient: bool, fast: bool
) -> WorkshopProof:
    """Against the receiver that runs in `places` and serves `desk.fleet`. Raises StageFault."""
    stage = Stage(places, DRIVE, script(fast), environment)
    places.logs.mkdir(parents=True, exist_ok=True)
    places.scratch.mkdir(parents=True, exist_ok=True)
    setting = Setting(DRIVE, {**environment, "TMPDIR": str(places.scratch)}, places.logs, fast, patient)
    bench = _Workshop(places.root / "workshop", desk, stage, setting)
    return await bench.work()


class _Workshop:
    def __init__(self, folder: Path, desk: SigningDesk, stage: Stage, setting: Setting) -> None:
        self._folder = folder
        self._desk = desk
        self._stage = stage
        self._setting = setting
        self._clock: Clock = SystemClock()
        self._numbers: dict[str, BundleManifest] = {}

    async def work(self) -> WorkshopProof:
        self._folder.mkdir()
        good, evaluation = await asyncio.to_thread(self._release_good)
        async with asyncio.TaskGroup() as group:
            killed = group.create_task(self._have_killed(good, evaluation))
            tried = group.create_task(self._have_tried(evaluation))
            offered = group.create_task(asyncio.to_thread(refusals, self._folder / "offers", self._clock))
        kills, committed = killed.result()
        return WorkshopProof(kills, committed, tried.result(), offered.result(), None)

    def _release_good(self) -> tuple[BundleManifest, BundleManifest]:
        evaluation = self._desk.release(DEFAULT_EVALUATION, Kind.EVALUATION, "road", "1.0", 1)
        return self._release(find_package(GOOD), "2.0", 1), evaluation

    def _release(self, folder: Path, version: str, number: int) -> BundleManifest:
        return self._desk.release(folder, Kind.MODEL, NAME, version, number)

    async def _assign(self, vehicle: str, *releases: BundleManifest) -> None:
        await asyncio.to_thread(self._desk.assign, [vehicle], releases)

    async def _vehicle(self, name: str) -> WorkshopCar:
        state = self._folder / name
        state.mkdir()
        await self._stage.pair(name, state)
        return WorkshopCar(state, self._setting)

    # --- killed within a trial --------------------------------------------------------------------

    async def _have_killed(self, good: BundleManifest, evaluation: BundleManifest) -> tuple[list[Kill], bool]:
        """One release through two kills until it is kept; then another, killed when it is live."""
        await self._assign(KILLED_CAR, good, evaluation)
        newer = asyncio.create_task(asyncio.to_thread(self._release_again))
        allowed = [fingerprint(find_package(FACTORY_MODEL))]
        async with await self._vehicle(KILLED_CAR) as car:
            await car.start()
            kills = [await self._kill(car, good, state, allowed) for state in (State.STAGED, State.SHADOW)]
            end = await car.told(digest_of(good), *ENDS)
            committed = end.what == State.COMMITTED
            if committed:
                allowed.append(fingerprint(find_package(GOOD)))
            release = await newer
            await self._assign(KILLED_CAR, release, evaluation)
            kills.append(await self._kill(car, release, State.SWITCHED, allowed))
        return kills, committed

    def _release_again(self) -> BundleManifest:
        return self._release(again("2.1", self._folder / "again"), "2.1", 2)

    async def _kill(
        self, car: WorkshopCar, release: BundleManifest, state: State, allowed: Sequence[str]
    ) -> Kill:
        await car.told(digest_of(release), state)
        if state is State.SWITCHED:
            await car.until_live(release.version)
        await car.kill()
        found_in = str(boot_record(car.models)["state"])
        await car.start()
        booted = await car.booted()
        return Kill(state, found_in, booted.model, booted.is_the_good_slot and booted.fingerprint in allowed)

    # --- offered what is worse --------------------------------------------------------------------

    async def _have_tried(self, evaluation: BundleManifest) -> list[Tried]:
        making = {flaw: asyncio.create_task(asyncio.to_thread(self._release_worse, flaw)) for flaw in Flaw}
        async with await self._vehicle(OFFERED_CAR) as car:
            await self._assign(OFFERED_CAR, await making[Flaw.SCRAMBLED], evaluation)
            await car.start()
            return [await self._try(car, flaw, await making[flaw], evaluation) for flaw in Flaw]

    def _release_worse(self, flaw: Flaw) -> BundleManifest:
        version = FLAWED_VERSIONS[flaw]
        return self._release(worse(flaw, version, self._folder / flaw), version, 2 + list(Flaw).index(flaw))

    async def _try(
        self, car: WorkshopCar, flaw: Flaw, release: BundleManifest, evaluation: BundleManifest
    ) -> Tried:
        await self._assign(OFFERED_CAR, release, evaluation)
        digest = digest_of(release)
        end = await car.told(digest, *ENDS)
        was_live = any(release.version in model for model in car.seen_live) or any(
            word.digest == digest and word.what in (State.SWITCHED, State.COMMITTED) for word in car.words
        )
        return Tried(flaw, end.what, digest in denied(car.state / "updates"), was_live, end.words)


def digest_of(release: BundleManifest) -> str:
    """What the vehicle calls it."""
    return bundle_digest(encode_manifest(release))
