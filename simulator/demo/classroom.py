"""The classroom: a fleet that learns from real crops, one vehicle of it with its own agent, all against the receiver.

The others have an identity and a link, and run the product's own training; the one is a whole agent with its trainer's
process. What they told becomes a candidate, a signed release, and is tried and kept by that agent.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from msgspec.structs import replace

from agent.pairing import Paired
from ecu.clock import SECOND_NS, Clock, SystemClock
from ecu.errors import EnvironmentFault, OutriderError
from ecu.keys import KeyStore
from inference.build.light_state import known_at_first
from inference.build.lightnet import CLASSES
from inference.crops import Crops
from inference.package import find_package, load_package
from inference.session import Session
from inference.training.package import Learnable, load_learnable
from inference.training.trainer import Examples
from inference.verdict import Outcome
from ota.kinds import Kind
from ota.machine import State
from ota.manifest import BundleManifest
from receiver.client import OperatorClient
from receiver.learning.answers import AttemptLine, PlanStatus
from simulator.demo.flash import fingerprint
from simulator.demo.proofs import stored_records
from simulator.demo.signing import SigningDesk
from simulator.demo.stage import Places
from simulator.demo.thinned import thin_out
from simulator.demo.workshop import DRIVE, ENDS, EVERY, FRAMES, digest_of, enrolled
from simulator.demo.workshopcar import Setting, WorkshopCar
from simulator.learning.car import FleetCar
from simulator.learning.fleet import Learner
from simulator.learning.proof import CROPS, HELD_OUT, KEEP, load
from simulator.learning.shares import dealt
from telemetry.federated.line import base_digest
from telemetry.federated.plan import PLAN_FILE, LabelSource, Plan, encode_plan
from telemetry.federated.update import ModelUpdate, signed_part
from telemetry.links.link import LinkError
from telemetry.records import Learned, decode_event

PUPIL: Final = "demo-learner"
FLEET: Final = 20
SEED: Final = 3
MODEL: Final = "light-state@1.0"
GOOD_PLAN: Final = "lights"
FLIPPED_PLAN: Final = "lights-flipped"
EXCUSED: Final = ("yellow",)
"""The held-out crops have nine of it, which can show nothing: on a road nobody should say so lightly."""
FEWEST: Final = 8
WITHIN_S: Final = 60.0
LOOK_S: Final = 0.1
DAY_S: Final = 24 * 3600
DATABASE: Final = "receiver.sqlite"

T = TypeVar("T")


@dataclass(slots=True)
class ClassroomProof:
    """What the claims about learning need, as far as it came. `refused` counts updates by the receiver's name for what
    is wrong, as asked for and as found; `fp32_bytes` is what a whole model would weigh, `update_bytes` what the agent's
    own update does. `kept` is how the agent's trial of the candidate ended, `in_use` whether its live worker was then
    given the candidate's very files; `excused` counts the held-out crops of each class that its gate was told to
    let pass though they are too few to judge by."""

    vehicles: int = 0
    pupil_counted: bool = False
    asked: Mapping[str, int] = field(default_factory=dict)
    refused: Mapping[str, int] = field(default_factory=dict)
    good: AttemptLine | None = None
    flipped: AttemptLine | None = None
    flipped_candidate: bool = False
    fp32_bytes: int = 0
    update_bytes: int = 0
    right_before: int = 0
    right_after: int = 0
    crops: int = 0
    excused: Mapping[str, int] = field(default_factory=dict)
    kept: str = ""
    in_use: bool = False
    troubles: list[str] = field(default_factory=list)


async def learn(places: Places, desk: SigningDesk, environment: Mapping[str, str], patient: bool) -> ClassroomProof:
    """Against the receiver that runs in `places` and serves `desk.fleet`. What can't be done is missing in its
    proof."""
    folder = places.root / "classroom"
    for needed in (places.logs, places.scratch, folder):
        needed.mkdir(parents=True, exist_ok=True)
    setting = Setting(folder / "road.mp4", {**environment, "TMPDIR": str(places.scratch)}, places.logs, patient)
    room = _Classroom(folder, places.receiver, desk, setting)
    try:
        await room.teach()
    except OutriderError as trouble:
        room.proof.troubles.append(str(trouble))
    finally:
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
    return room.proof


class _Classroom:
    def __init__(self, folder: Path, receiver: Path, desk: SigningDesk, setting: Setting) -> None:
        self.proof = ClassroomProof()
        self._folder = folder
        self._operator = OperatorClient(receiver)
        self._database = receiver / DATABASE
        self._desk = desk
        self._setting = setting
        self._clock: Clock = SystemClock()
        self._package = find_package(MODEL)
        self._crops, self._held_out = load()
        self._hands = hands(self._crops)

    async def teach(self) -> None:
        learnable = await asyncio.to_thread(load_learnable, self._package)
        plan = self._plan(GOOD_PLAN, learnable)
        crops = await asyncio.to_thread(self._release_plan, plan)
        await asyncio.gather(
            asyncio.to_thread(thin_out, DRIVE, EVERY, FRAMES, self._setting.drive),
            self._begin(plan),
            self._enrolled(PUPIL),
        )
        async with WorkshopCar(self._folder / PUPIL, self._setting, self._pupils_sections()) as pupil:
            await pupil.start()
            cars = await self._enrol_all()
            told = await self._have_told(cars, plan, learnable, flipped=False)
            await self._until(plan.name, lambda status: len(status.waits) == len(cars) + 1)
            await self._tell_badly(cars[0], told[0], plan)
            self.proof.good = await self._close(plan.name)
            await self._tell_stale(cars[1], told[1], plan)
            await asyncio.gather(self._spoil(cars, learnable), self._release_candidate(pupil, crops))

    # --- the plan, and who learns by it -----------------------------------------------------------

    def _plan(self, name: str, learnable: Learnable) -> Plan:
        return Plan(
            name=name, model=learnable.title, base=learnable.base, graph=learnable.graph_sha256,
            layout=learnable.layout.digest, parameters=learnable.layout.size, source=LabelSource.CONFIRMED, steps=8,
            batch=learnable.graph.batch, learning_rate=0.03, clip=1.0, keep=KEEP, min_examples=FEWEST, updates=2,
            max_staleness=0, not_after=self._clock.wall_ns() // SECOND_NS + DAY_S,
        )  # fmt: skip

    def _release_plan(self, plan: Plan) -> BundleManifest:
        """The plan and the crops that its candidates are judged by, for the one vehicle with an agent."""
        folder = self._folder / "plan"
        folder.mkdir()
        (folder / PLAN_FILE).write_bytes(encode_plan(plan))
        signed = self._desk.release(folder, Kind.PLAN, plan.name, "1.0", 1)
        crops = self._desk.release(HELD_OUT, Kind.CROPS, "lights", "1.0", 1)
        self._desk.assign([PUPIL], [signed, crops])
        return crops

    def _pupils_sections(self) -> dict[str, dict[str, object]]:
        take = ",".join(str(place) for place in self._hands[0])
        return {
            "privacy": {"consents": ["operation", "learning"]},
            "learning": {
                "enabled": True,
                "source": f"crops:{CROPS.absolute()}?take={take}",
                # It has no signals, and no computer that this runs on need have a battery.
                "needs_parked": False,
                "power": "any",
            },
            "gate": {"excused": list(EXCUSED)},
        }

    async def _enrol_all(self) -> list[FleetCar]:
        cars = []
        for number in range(1, len(self._hands)):
            paired, keys = await self._enrolled(f"demo-fleet-{number:02}")
            cars.append(FleetCar(paired, keys, self._clock))
        return cars

    async def _enrolled(self, name: str) -> tuple[Paired, KeyStore]:
        return await self._patiently(lambda: enrolled(self._folder / name, self._operator, self._clock))

    async def _have_told(
        self, cars: Sequence[FleetCar], plan: Plan, learnable: Learnable, flipped: bool
    ) -> list[ModelUpdate]:
        """Each car's update, stored."""
        updates = await asyncio.to_thread(self._learned, cars, plan, learnable, flipped)
        await asyncio.gather(*(car.tell(update) for car, update in zip(cars, updates, strict=True)))
        return updates

    def _learned(self, cars: Sequence[FleetCar], plan: Plan, learnable: Learnable, flipped: bool) -> list[ModelUpdate]:
        rng, nothing = np.random.default_rng(SEED), np.zeros(plan.parameters, np.float32)
        updates = []
        for car, hand in zip(cars, self._hands[1:], strict=True):
            labels = self._crops.labels[hand]
            shown = Examples(self._crops.pictures[hand], (labels + 1) % len(learnable.classes) if flipped else labels)
            learner = Learner(car.paired.vehicle, shown, nothing)
            updates.append(learner.learn(learnable.graph, learnable.parameters, plan, rng, car.keys.sign))
        return updates

    # --- what must be refused ---------------------------------------------------------------------

    async def _tell_badly(self, car: FleetCar, told: ModelUpdate, plan: Plan) -> None:
        """The same update once more, and one of a model that nobody made."""
        foreign = signed(replace(told, base=base_digest(np.ones(plan.parameters, np.float32)), seq=2), car)
        await car.tell(told, foreign)
        self.proof.asked = {"replayed": 1, "wrong_base": 1, "stale": 1}

    async def _tell_stale(self, car: FleetCar, told: ModelUpdate, plan: Plan) -> None:
        """Computed on the model before the aggregate; this plan takes none of those."""
        await car.tell(signed(replace(told, seq=2), car))
        status = await self._until(plan.name, lambda status: status.counts.get("stale", 0) > 0)
        self.proof.refused = {name: count for name, count in status.counts.items() if name != "admitted"}

    async def _spoil(self, cars: Sequence[FleetCar], learnable: Learnable) -> None:
        """The same vehicles call red yellow, yellow green and green red: finite, in bounds, signed, and wrong."""
        plan = self._plan(FLIPPED_PLAN, learnable)
        await self._begin(plan)
        await self._have_told(cars, plan, learnable, flipped=True)
        await self._until(plan.name, lambda status: len(status.waits) == len(cars))
        self.proof.flipped = await self._close(plan.name)
        self.proof.flipped_candidate = bool(self.proof.flipped.candidate)

    # --- what becomes of it -----------------------------------------------------------------------

    async def _release_candidate(self, pupil: WorkshopCar, crops: BundleManifest) -> None:
        good = self.proof.good
        assert good is not None
        self.proof.vehicles = len(good.vehicles)
        self.proof.pupil_counted = PUPIL in good.vehicles
        learnable = load_learnable(self._package)
        self.proof.fp32_bytes = 4 * learnable.layout.size
        self.proof.update_bytes = await asyncio.to_thread(update_bytes, self._database, PUPIL)
        if not good.candidate:
            return
        candidate = Path(good.candidate)
        release = await asyncio.to_thread(self._release_state, candidate, good.version, crops)
        before, after = await asyncio.to_thread(told_right, self._package, candidate, self._held_out)
        self.proof.right_before, self.proof.right_after, self.proof.crops = before, after, len(self._held_out.labels)
        self.proof.excused = crops_of(EXCUSED, self._held_out)
        end = await pupil.told(digest_of(release), *ENDS)
        self.proof.kept = end.what
        if end.what == State.COMMITTED:
            self.proof.in_use = await asyncio.to_thread(pupil.states_in_use) == fingerprint(candidate)

    def _release_state(self, candidate: Path, version: str, crops: BundleManifest) -> BundleManifest:
        """Signed with the fleet owner's key for states: the demo's, which nobody should use elsewhere."""
        release = self._desk.release(candidate, Kind.STATE, "light-state", version, 1)
        self._desk.assign([PUPIL], [release, crops])
        return release

    # --- patience ---------------------------------------------------------------------------------

    async def _begin(self, plan: Plan) -> None:
        def begun() -> None:
            if all(line.plan != plan.name for line in self._operator.learning_plans()):
                self._operator.begin_learning(encode_plan(plan).decode(), self._package, HELD_OUT)

        await self._patiently(begun)

    async def _close(self, plan: str) -> AttemptLine:
        def closed() -> None:
            if not self._status(plan).attempts:
                self._operator.close_buffer(plan)

        await self._patiently(closed)
        return (await self._until(plan, lambda status: is_settled(status.attempts))).attempts[-1]

    def _status(self, plan: str) -> PlanStatus:
        return next(one for one in self._operator.learning_status().plans if one.line.plan == plan)

    async def _patiently(self, act: Callable[[], T]) -> T:
        """The receiver is killed once while the demo's own vehicle drives: it is asked again."""
        began_ns = self._clock.boot_ns()
        while True:
            try:
                return await asyncio.to_thread(act)
            except (EnvironmentFault, LinkError):
                if self._clock.boot_ns() - began_ns > WITHIN_S * SECOND_NS:
                    raise
                await asyncio.sleep(LOOK_S)

    async def _until(self, plan: str, reached: Callable[[PlanStatus], bool]) -> PlanStatus:
        try:
            async with asyncio.timeout(WITHIN_S):
                while not reached(status := await self._patiently(lambda: self._status(plan))):
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise EnvironmentFault(f"Plan {plan} came to nothing within {WITHIN_S:.0f} s at the receiver.") from None
        return status


def hands(crops: Crops) -> list[Sequence[int]]:
    """The crops that the first model hasn't seen, as the fleet's vehicles hold them: of twenty, those that have enough
    to learn from, the agent's the first."""
    rng = np.random.default_rng(SEED)
    left = np.setdiff1d(np.arange(len(crops.labels)), known_at_first(crops, np.random.default_rng(0)))
    dealt_out = [hand.tolist() for hand in dealt(crops, left, FLEET, rng)]
    return [hand for hand in dealt_out if len(hand) >= FEWEST]


def crops_of(labels: Sequence[str], crops: Crops) -> dict[str, int]:
    """How many there are of each."""
    return {label: int((crops.labels == CLASSES.index(label)).sum()) for label in labels}


def signed(update: ModelUpdate, car: FleetCar) -> ModelUpdate:
    return replace(update, signature=car.keys.sign(signed_part(update)))


def update_bytes(database: Path, vehicle: str) -> int:
    """Of the update that the receiver has of the vehicle, as it was told; 0 without one."""
    for stored in stored_records(database, vehicle):
        event = decode_event(bytes(stored.record.event))
        if isinstance(event, Learned):
            return len(event.update.payload)
    return 0


def is_settled(attempts: Sequence[AttemptLine]) -> bool:
    """The last has its verdict, and where it passed its candidate lies there whole."""
    if not attempts:
        return False
    last = attempts[-1]
    return bool(last.outcome) and (last.outcome != Outcome.PASSED or bool(last.candidate))


def told_right(before: Path, after: Path, crops: Crops) -> tuple[int, int]:
    """How many of the crops each package tells right."""
    return _right(before, crops), _right(after, crops)


def _right(folder: Path, crops: Crops) -> int:
    session = Session(load_package(folder))
    answers = np.array([int(session.run(picture)[0].argmax()) for picture in crops.pictures])
    return int((answers == crops.labels).sum())
