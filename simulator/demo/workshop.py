"""The workshop: vehicles beside the demo's own whose agents are killed within a trial, and that are offered what is
worse, forged or stale. All of it happens to the product's own processes and its own update code."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from agent.pairing import KEYS_FOLDER, Paired, pair, tls_context
from ecu.clock import Clock, SystemClock
from ecu.disk import state_folder
from ecu.errors import OutriderError
from ecu.keys import FileKeyStore
from inference.evaluation import DEFAULT_EVALUATION
from inference.package import find_package
from ota.kinds import Kind
from ota.machine import State
from ota.manifest import BundleManifest, bundle_digest, encode_manifest
from receiver.client import OperatorClient
from simulator.demo.download import Download, Identity, cut_download
from simulator.demo.flash import boot_record, denied, fingerprint
from simulator.demo.offers import Refusal, refusals
from simulator.demo.releases import GOOD, Flaw, again, worse
from simulator.demo.signing import SigningDesk
from simulator.demo.stage import Places
from simulator.demo.thinned import thin_out
from simulator.demo.workshopcar import FACTORY_MODEL, Setting, WorkshopCar

KILLED_CAR: Final = "demo-workshop"
OFFERED_CAR: Final = "demo-workshop-2"
DRIVE: Final = Path(__file__).parent.parent / "drives" / "solidWhiteRight.mp4"
FRAMES: Final = 30
EVERY: Final = 3
"""A vehicle on which releases are tried needs no more of the road: what it leaves, others on this computer can use."""
NAME: Final = "drive-detect"
KILLED_IN: Final = (State.STAGED, State.SHADOW, State.SWITCHED)
ENDS: Final = (State.COMMITTED, State.ROLLED_BACK, State.INCONCLUSIVE)
FLAWED_VERSIONS: Final = {Flaw.SCRAMBLED: "2.2", Flaw.SLOW: "2.3", Flaw.MUTE: "2.4"}


@dataclass(frozen=True, slots=True)
class Kill:
    """An agent killed by SIGKILL in `state` of a trial. `found_in` is the state in the boot record that it left;
    `booted` and `is_allowed` are about what its successor runs."""

    state: State
    found_in: str
    booted: str
    is_allowed: bool


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a release that is worse. `was_kept`: it was ever live, or is what the vehicle would boot;
    `words` are the judge's."""

    flaw: Flaw
    ended: str
    is_denied: bool
    was_kept: bool
    words: str


@dataclass(slots=True)
class WorkshopProof:
    """All that the claims about updates need, as far as it came. `committed`: the release whose trial was killed twice
    was kept in the end; `troubles` say what couldn't be done."""

    kills: list[Kill] = field(default_factory=list)
    committed: bool = False
    tried: list[Tried] = field(default_factory=list)
    refusals: Sequence[Refusal] = ()
    download: Download | None = None
    troubles: list[str] = field(default_factory=list)


async def work(places: Places, desk: SigningDesk, environment: Mapping[str, str], patient: bool) -> WorkshopProof:
    """Against the receiver that runs in `places` and serves `desk.fleet`. A patient workshop lets every other process
    go first. What can't be done is missing in the proof; what it leaves on the disk are its logs."""
    folder = places.root / "workshop"
    for needed in (places.logs, places.scratch, folder):
        needed.mkdir(parents=True, exist_ok=True)
    setting = Setting(folder / "road.mp4", {**environment, "TMPDIR": str(places.scratch)}, places.logs, patient)
    try:
        return await _Workshop(folder, OperatorClient(places.receiver), desk, setting).work()
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)


class _Workshop:
    def __init__(self, folder: Path, operator: OperatorClient, desk: SigningDesk, setting: Setting) -> None:
        self._folder = folder
        self._operator = operator
        self._desk = desk
        self._setting = setting
        self._clock: Clock = SystemClock()
        self._proof = WorkshopProof()
        self._downloaded = asyncio.Event()

    async def work(self) -> WorkshopProof:
        await self._noting(self._all_of_it())
        return self._proof

    async def _all_of_it(self) -> None:
        (good, evaluation), _, killed, _ = await asyncio.gather(
            asyncio.to_thread(self._release_good),
            asyncio.to_thread(thin_out, DRIVE, EVERY, FRAMES, self._setting.drive),
            asyncio.to_thread(self._pair, KILLED_CAR),
            asyncio.to_thread(self._pair, OFFERED_CAR),
        )
        async with asyncio.TaskGroup() as group:
            group.create_task(self._noting(self._have_killed(good, evaluation)))
            group.create_task(self._noting(self._have_tried(evaluation)))
            group.create_task(self._noting(self._download(good, killed)))
            group.create_task(self._noting(self._offer()))

    async def _noting(self, part: Awaitable[None]) -> None:
        """One part that can't be done takes no other with it."""
        try:
            await part
        except OutriderError as trouble:
            self._proof.troubles.append(str(trouble))

    def _release_good(self) -> tuple[BundleManifest, BundleManifest]:
        evaluation = self._desk.release(DEFAULT_EVALUATION, Kind.EVALUATION, "road", "1.0", 1)
        good = self._release(find_package(GOOD), "2.0", 1)
        self._desk.assign([KILLED_CAR], [good, evaluation])
        return good, evaluation

    def _pair(self, name: str) -> Identity:
        """The keys are free for the agent when it returns."""
        paired, keys = enrolled(self._folder / name, self._operator, self._clock)
        return Identity(paired, tls_context(paired, keys))

    def _release(self, folder: Path, version: str, number: int) -> BundleManifest:
        return self._desk.release(folder, Kind.MODEL, NAME, version, number)

    def _car(self, name: str) -> WorkshopCar:
        return WorkshopCar(self._folder / name, self._setting)

    # --- killed within a trial --------------------------------------------------------------------

    async def _have_killed(self, good: BundleManifest, evaluation: BundleManifest) -> None:
        """One release through two kills until it is kept; then another, killed while it is live."""
        allowed = [fingerprint(find_package(FACTORY_MODEL))]
        async with self._car(KILLED_CAR) as car:
            await car.start()
            for state in (State.STAGED, State.SHADOW):
                await self._kill(car, good, state, allowed)
            end = await car.told(digest_of(good), *ENDS)
            self._proof.committed = end.what == State.COMMITTED
            if self._proof.committed:
                allowed.append(fingerprint(find_package(GOOD)))
            await self._downloaded.wait()
            newer = await asyncio.to_thread(self._release_again, evaluation)
            await self._kill(car, newer, State.SWITCHED, allowed)

    def _release_again(self, evaluation: BundleManifest) -> BundleManifest:
        release = self._release(again("2.1", self._folder / "again"), "2.1", 2)
        self._desk.assign([KILLED_CAR], [release, evaluation])
        return release

    async def _kill(self, car: WorkshopCar, release: BundleManifest, state: State, allowed: Sequence[str]) -> None:
        """At the state's first instant; while it is live, where that is what the state is about."""
        reached = await car.told(digest_of(release), state, *ENDS)
        if reached.what == State.SWITCHED:
            await car.until_live(release.version)
        await car.kill()
        found_in = str(boot_record(car.models)["state"])
        await car.start()
        booted = await car.booted()
        is_allowed = booted.is_the_good_slot and booted.fingerprint in allowed
        self._proof.kills.append(Kill(state, found_in, booted.model, is_allowed))

    # --- offered what is worse --------------------------------------------------------------------

    async def _have_tried(self, evaluation: BundleManifest) -> None:
        async with self._car(OFFERED_CAR) as car:
            for number, flaw in enumerate(Flaw, 2):
                release = await asyncio.to_thread(self._release_worse, flaw, number, evaluation)
                if number == 2:
                    await car.start()
                self._proof.tried.append(await self._try(car, flaw, release))

    def _release_worse(self, flaw: Flaw, number: int, evaluation: BundleManifest) -> BundleManifest:
        version = FLAWED_VERSIONS[flaw]
        release = self._release(worse(flaw, version, self._folder / flaw), version, number)
        self._desk.assign([OFFERED_CAR], [release, evaluation])
        return release

    async def _try(self, car: WorkshopCar, flaw: Flaw, release: BundleManifest) -> Tried:
        digest = digest_of(release)
        end = await car.told(digest, *ENDS)
        said = [word.what for word in car.words if word.digest == digest]
        kept = was_live(release.version, said, car.seen_live) or would_boot(digest, boot_record(car.models))
        return Tried(flaw, end.what, digest in denied(car.state / "updates"), kept, end.words)

    # --- what needs no agent ----------------------------------------------------------------------

    async def _download(self, good: BundleManifest, identity: Identity) -> None:
        try:
            self._proof.download = await cut_download(identity, good, self._folder / "download", self._clock)
        finally:
            self._downloaded.set()

    async def _offer(self) -> None:
        self._proof.refusals = await asyncio.to_thread(refusals, self._folder / "offers", self._clock)


def enrolled(state: Path, operator: OperatorClient, clock: Clock) -> tuple[Paired, FileKeyStore]:
    """What `outrider receiver enrol` and `outrider pair` do; the vehicle is called as its state's folder."""
    disk, keys = state_folder(state), FileKeyStore.open(state / KEYS_FOLDER)
    return pair(operator.enrol(state.name), keys, disk, clock), keys


def was_live(version: str, said: Iterable[str], seen_live: Iterable[str]) -> bool:
    """By what the agent told of the release, or by the models that its status ever called live."""
    return not {State.SWITCHED, State.COMMITTED}.isdisjoint(said) or any(f" {version} " in model for model in seen_live)


def would_boot(digest: str, record: Mapping[str, Any]) -> bool:
    """Whether that release lies in the slot that the boot record calls good."""
    good: Mapping[str, Any] = record["slots"].get(record["good"], {})
    return good.get("digest") == digest


def digest_of(release: BundleManifest) -> str:
    """What the vehicle calls it."""
    return bundle_digest(encode_manifest(release))
