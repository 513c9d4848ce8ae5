"""One run of the demo, from an empty folder to a verdict."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

from agent.frames import FrameCounts, read_frame_counts
from ecu.clock import SECOND_NS, Clock, SystemClock
from inference.fidelity import Agreement
from simulator.claims import Verdict
from simulator.demo.canary import make_drive
from simulator.demo.classroom import ClassroomProof, learn
from simulator.demo.clouds.cloud import DIRECT, Cloud, cloud_of
from simulator.demo.exhibit import SceneBuilder, evidence, frame_size
from simulator.demo.judge import Loss, PowerCuts, Proof, claims
from simulator.demo.observer import Observations, Observer
from simulator.demo.pictureclaims import PictureProof
from simulator.demo.pictures import PictureWatch, watch_pictures
from simulator.demo.play import Play
from simulator.demo.powercuts import cut_power
from simulator.demo.proofs import StoredRecord, fidelity, stored_blocks, stored_records, watch_key
from simulator.demo.script import Deed, Script, script
from simulator.demo.signalproof import watch_signals
from simulator.demo.stage import INTRUDER, VEHICLE, Places, Stage, StageFault
from simulator.demo.updateclaims import Models
from simulator.demo.workshop import WorkshopProof, work
from simulator.display import Display
from simulator.report.evidence import Evidence
from simulator.witness import Entry, compare, read_entries
from telemetry.records import Lane, PerceptionSummary, VehicleSummary, decode_event

DRIVE: Final = Path(__file__).parent.parent / "drives" / "solidWhiteRight.mp4"
MODEL: Final = "drive-detect@2.0"
OTHER_MODEL: Final = "drive-detect@1.0"
FIDELITY_SCORES: Final = (0.40,)
REFRESH_S: Final = 0.125
SUMMARIES: Final = {VehicleSummary, PerceptionSummary}


@dataclass(frozen=True, slots=True)
class Result:
    """What a run came to. `recording` is the replay's MCAP file."""

    verdict: Verdict
    evidence: Evidence
    recording: Path


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What vehicles beside the one on the road proved; None in a fast run."""

    workshop: WorkshopProof | None
    classroom: ClassroomProof | None


@dataclass(frozen=True, slots=True)
class Effort:
    """How thoroughly the slower proofs are done."""

    replay_s: float
    fidelity_every: int
    power_cut_commits: int
    total_s: float


REAL: Final = Effort(replay_s=8.8, fidelity_every=1, power_cut_commits=3, total_s=75.0)
FAST: Final = Effort(replay_s=0.8, fidelity_every=6, power_cut_commits=2, total_s=25.0)


async def perform(
    fast: bool, display: Display, environment: Mapping[str, str], keep: Path, link: str = DIRECT
) -> Result:
    """Runs everything; `keep` is where the recording goes. Raises StageFault when a process can't even start, and
    UsageFault for a link that isn't known or installed."""
    root = Path(tempfile.mkdtemp(prefix="outrider-"))
    try:
        cloud = cloud_of(link, root / "cloud", Random())
        return await _Demo(script(fast), FAST if fast else REAL, display, environment, root, keep, cloud).run()
    finally:
        # A thread that still writes there would make its folder anew.
        await asyncio.get_running_loop().shutdown_default_executor()
        shutil.rmtree(root, ignore_errors=True)


class _Demo:
    def __init__(
        self, play: Script, effort: Effort, display: Display, environment: Mapping[str, str], root: Path, keep: Path,
        cloud: Cloud | None,
    ) -> None:  # fmt: skip
        self._script = play
        self._effort = effort
        self._display = display
        self._environment = environment
        self._places = Places(root)
        self._keep = keep
        self._clock: Clock = SystemClock()
        self._seen = Observations(self._clock.boot_ns())
        self._size = frame_size(DRIVE)
        self._scenes = SceneBuilder(play, self._seen, self._size, effort.total_s)
        self._stage = Stage(self._places, self._places.drive, play, environment, cloud)

    async def run(self) -> Result:
        with self._display:
            refreshing = asyncio.create_task(self._refresh())
            try:
                proof = await self._prove()
            finally:
                refreshing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await refreshing
        verdict = Verdict(claims(proof), (self._clock.boot_ns() - self._seen.began_ns) / SECOND_NS)
        self._display.conclude(verdict)
        shown = evidence(proof, verdict, self._script, self._size, datetime.now(UTC))
        return Result(verdict, shown, self._keep / "drive.mcap")

    async def _prove(self) -> Proof:
        # In lockstep nobody on the road waits for a processor: the desk may have what the drive leaves of it.
        desk = asyncio.create_task(self._beside_the_drive()) if self._script.lockstep else None
        try:
            play, law_1, elsewhere = await self._on_the_road()
            self._scenes.enter("The proofs", "Replays, fidelity, power cuts: what a desk can show is shown there.")
            (digests, agreement, cuts), pictures = await asyncio.gather(
                desk or self._at_the_desk(), asyncio.to_thread(self._pictures)
            )
        finally:
            if desk is not None:
                desk.cancel()
                await asyncio.gather(desk, return_exceptions=True)
        shown = PictureProof(pictures, play.outcome.blackout)
        return self._proof(play, law_1, digests, agreement, cuts, shown, elsewhere)

    async def _on_the_road(self) -> tuple[Play, Mapping[str, Any], Elsewhere]:
        """The whole drive, law 1 as `outrider spool inspect` tells it after that, and what other vehicles proved."""
        async with self._stage:
            working = asyncio.create_task(self._elsewhere())
            try:
                play = await self._drive()
                why = "What is left on flash is sent; nothing is freed before it is stored."
                self._scenes.enter("Parked at home", why)
                law_1 = await play.drain()
                elsewhere = await working
            finally:
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
        return play, law_1, elsewhere

    async def _elsewhere(self) -> Elsewhere:
        """Other vehicles of the same fleet, patient beside the one on the road, from its first frame on.

        They take most of a minute of a processor, which a fast run hasn't got: it leaves them out.
        """
        if self._script.lockstep:
            return Elsewhere(None, None)
        while not self._seen.sightings:
            await asyncio.sleep(REFRESH_S)
        desk = self._stage.desk
        assert desk is not None
        workshop, classroom = await asyncio.gather(
            work(self._places, desk, self._environment, patient=True),
            learn(self._places, desk, self._environment, patient=True),
        )
        return Elsewhere(workshop, classroom)

    async def _beside_the_drive(self) -> tuple[list[str], dict[float, Agreement], PowerCuts]:
        """From the first frame on: everybody on the road waits for that one."""
        while not self._seen.sightings:
            await asyncio.sleep(REFRESH_S)
        return await self._at_the_desk()

    async def _at_the_desk(self) -> tuple[list[str], dict[float, Agreement], PowerCuts]:
        return await asyncio.gather(
            self._replays(), asyncio.to_thread(self._fidelity), asyncio.to_thread(self._power_cuts)
        )

    async def _drive(self) -> Play:
        await asyncio.gather(self._stage.found_desk(), self._stage.start_receiver())
        await self._stage.start_proxy()
        await asyncio.gather(
            self._stage.pair(VEHICLE, self._places.agent),
            self._stage.pair(INTRUDER, self._places.intruder),
            self._stage.start_world(),
            asyncio.to_thread(make_drive, DRIVE, self._places.drive),
        )
        observer = Observer(self._places.agent_socket, self._clock, self._seen)
        play = Play(self._stage, self._script, self._seen, self._clock, self._scenes.begin)
        try:
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(observer.run())
                self._scenes.enter("The drive begins", "A real road: every frame is looked at, every sighting told.")
                await self._stage.start_agent()
                await play.perform()
                watching.cancel()
        except* StageFault as faults:
            raise faults.exceptions[0] from None
        return play

    async def _refresh(self) -> None:
        while True:
            self._display.show(self._scenes.scene(self._clock.boot_ns(), self._stage.pids()))
            await asyncio.sleep(REFRESH_S)

    # --- proofs at the desk -----------------------------------------------------------------------

    async def _replays(self) -> list[str]:
        """The same drive twice and once with another model; the first writes the recording.

        All beside each other's load, or one by one beside a drive in lockstep, which is load enough.
        """
        replays = ([MODEL, "--out", str(self._keep / "drive.mcap")], [MODEL], [OTHER_MODEL])
        at_once = asyncio.Semaphore(1 if self._script.lockstep else len(replays))
        return await asyncio.gather(*(self._replay(at_once, *arguments) for arguments in replays))

    async def _replay(self, at_once: asyncio.Semaphore, model: str, *arguments: str) -> str:
        until = ["--until", str(self._effort.replay_s)]
        verb = ["replay", str(DRIVE), "--json", *until, "--model", model, *arguments]
        async with at_once:
            answer = await self._stage.run(verb, patient=self._script.lockstep)
        return str(json.loads(answer)["digest"])

    def _fidelity(self, model: str = MODEL) -> dict[float, Agreement]:
        return fidelity(model, DRIVE, self._effort.fidelity_every, FIDELITY_SCORES, referee=MODEL)

    def _power_cuts(self) -> PowerCuts:
        return cut_power(self._effort.power_cut_commits)

    def _pictures(self) -> PictureWatch:
        stored = stored_records(self._places.receiver / "receiver.sqlite", VEHICLE)
        return watch_pictures(self._places.receiver, VEHICLE, stored, self._places.drive, self._seen.sightings)

    def _proof(
        self, play: Play, law_1: Mapping[str, Any], digests: list[str], agreement: dict[float, Agreement],
        cuts: PowerCuts, pictures: PictureProof, elsewhere: Elsewhere,
    ) -> Proof:  # fmt: skip
        testimony = list(read_entries(self._places.testimony))
        database = self._places.receiver / "receiver.sqlite"
        stored = list(stored_records(database, VEHICLE))
        outcome = play.outcome
        return Proof(
            seen=self._seen,
            lockstep=self._script.lockstep,
            key=watch_key(self._places.root, self._places.agent),
            frames=self._frames(),
            agreement=agreement,
            testimony=testimony,
            stored=stored,
            witness=compare((e.confirmation for e in testimony), (r.confirmation for r in stored)),
            deaths=outcome.deaths,
            orphans=outcome.orphans,
            loss=self._loss(outcome.agent_killed_at_sample_ns, testimony, stored),
            siege=outcome.siege,
            intruder_stored=stored_blocks(database, INTRUDER),
            stranger_refused_by=outcome.stranger_refused_by,
            lanes=law_1["lanes"],
            digests=digests[:-1],
            other_digest=digests[-1],
            cuts=cuts,
            wall_minus_boot_ns=self._clock.wall_ns() - self._clock.boot_ns(),
            models=Models(self._fidelity(OTHER_MODEL).get(0.40), agreement.get(0.40)),
            pictures=pictures,
            workshop=elsewhere.workshop,
            classroom=elsewhere.classroom,
            signals=None if self._script.lockstep else watch_signals(stored),
        )

    def _frames(self) -> FrameCounts | None:
        return read_frame_counts(self._places.agent / "camera.ledger", self._places.agent / "frames.ledger")

    def _loss(self, sample_ns: int | None, testimony: list[Entry], stored: list[StoredRecord]) -> Loss | None:
        """How far the newest P2 record known as durable lay behind the newest sample when the agent died, for the kind
        of record that it lay furthest behind for: each purpose has blocks of its own."""
        killed = self._seen.done(Deed.KILL_AGENT)
        if sample_ns is None or killed is None:
            return None
        said = [entry.confirmation for entry in testimony if entry.heard_boot_ns <= killed.began_ns]
        durable = {(one.epoch, one.seq) for one in said if one.lane == Lane.P2}
        newest: dict[type, int] = {}
        for one in stored:
            if one.lane == Lane.P2 and (one.epoch, one.seq) in durable:
                kind = type(decode_event(bytes(one.record.event)))
                newest[kind] = max(newest.get(kind, 0), one.record.captured_ns)
        # What a campaign tells is as old as its blocks are long.
        ages_ns = [sample_ns - newest[kind] for kind in SUMMARIES if kind in newest]
        return Loss(Lane.P2, max(0, *ages_ns) / SECOND_NS) if len(ages_ns) == len(SUMMARIES) else None
