"""A recorded drive through the whole agent in lockstep, up to the spool's door: same input, same digest (law 7).

The processes are the vehicle's own (camera, worker, signal source); only time is granted instead of passing.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pydantic import BaseModel

from agent.config import AgentConfig
from agent.digest import ReplayDigest
from agent.frames import FrameAccount, FrameCounts
from agent.lockstep import LockstepDrive, Step
from agent.perception import Perception, PerceptionSettings, Supervision
from agent.pipeline import Pipeline
from agent.signals.room import SignalRoom, signal_settings
from ecu.channel import pair
from ecu.clock import MILLISECOND_NS, SECOND_NS, Clock, SteppingClock, SystemClock
from ecu.errors import OutriderError
from ecu.spawn import spawn
from inference.messages import Seen
from inference.package import find_package
from telemetry.capture import CaptureRules
from telemetry.privacy import Privacy
from telemetry.privacy.aliases import same_each_time
from telemetry.signals import SocketSignals

STEP_NS = 400 * MILLISECOND_NS
CLOSE_WITHIN_S = 10.0


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """What a replay made of its drive."""

    digest: str
    model: str
    frames: FrameCounts
    records: int
    seconds_of_drive: float


class ReplayFault(OutriderError):
    """A process of the replay failed; what it would have given can't be known."""


async def replay(
    drive: Path,
    config: AgentConfig,
    model: str,
    on_step: Callable[[Step], None],
    until_s: float | None = None,
    rate: float | None = None,
) -> ReplayResult:
    """Runs `drive` once, as fast as it goes or at most `rate` times as fast as it was driven: the result is the same.

    Raises UsageFault for an unusable drive, PackageRefused or ModelUnfit for a model.
    """
    scratch = Path(tempfile.mkdtemp(prefix="outrider-replay-"))
    try:
        return await _Replay(drive, config, find_package(model), scratch).run(on_step, until_s, rate)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


class Pace:
    """Waits until that much of the drive should have passed; never when no rate is asked for."""

    def __init__(self, clock: Clock, rate: float | None) -> None:
        self._clock = clock
        self._rate = rate
        self._began_ns = clock.boot_ns()

    async def keep(self, drive_ns: int) -> None:
        if self._rate is not None:
            await self._clock.sleep_until(self._began_ns + int(drive_ns / self._rate))


class _Replay:
    def __init__(self, drive: Path, config: AgentConfig, package: Path, scratch: Path) -> None:
        self._config = config
        self._views: list[Seen] = []
        self._faults: list[str] = []
        self._clock = SteppingClock()
        self._account = FrameAccount(scratch / "camera.ledger", scratch / "frames.ledger")
        self._perception = Perception(
            PerceptionSettings(
                source=f"video:{drive}?loop=0",
                camera=config.camera.name,
                package=package,
                slots=config.camera.slots,
                hang_ns=config.perception.hang_ms * MILLISECOND_NS,
                lockstep=True,
                standby=False,
                fingerprint=True,
                states=find_package(config.perception.states) if config.perception.states else None,
            ),
            self._account,
            self._clock,
            Supervision(Random(0), os.environ),
            lambda seen, _: self._views.append(seen),
            lambda what, detail: self._faults.append(f"{what}: {detail}"),
        )
        privacy = Privacy(config.privacy, same_each_time)
        self._room = SignalRoom(
            scratch, signal_settings(config, realtime=False), lambda _: (), self._clock, lambda: 0,
            Supervision(Random(0), os.environ), lambda _t_ns, _values: None, lambda _record: None,
            lambda _why, _t_ns, _before, _after: None, lambda what, detail: self._faults.append(f"{what}: {detail}"),
        )  # fmt: skip
        self._pipeline = Pipeline(config.camera.name, CaptureRules(config.capture), privacy)

    async def run(self, on_step: Callable[[Step], None], until_s: float | None, rate: float | None) -> ReplayResult:
        ours, theirs = pair()
        with theirs:
            vehicle = await spawn(
                "simulator.vehicle",
                ["--fd", str(theirs.fileno())],
                environment=os.environ,
                pass_fds=(theirs.fileno(),),
            )
        signals = SocketSignals(lambda: ours, self._clock, Random(0))
        try:
            await self._perception.start()
            return await self._drive(signals, on_step, until_s, Pace(SystemClock(), rate))
        finally:
            await self._perception.stop()
            await self._room.close(CLOSE_WITHIN_S)
            # The vehicle goes when nobody listens any more, also when nobody ever did.
            signals.close()
            ours.close()
            await vehicle.wait()

    async def _drive(
        self, signals: SocketSignals, on_step: Callable[[Step], None], until_s: float | None, pace: Pace
    ) -> ReplayResult:
        status = self._perception.status()
        assert status.model is not None
        assert self._perception.model_digest is not None
        assert self._perception.runtime is not None
        digest = ReplayDigest(self._perception.model_digest, canonical(self._config), self._perception.runtime)
        lockstep = LockstepDrive(
            self._perception, self._views, self._config.camera.name, signals, self._pipeline, self._clock,
            self._room,
        )  # fmt: skip
        records, until_ns = 0, None if until_s is None else int(until_s * SECOND_NS)
        async for step in lockstep.steps(0, STEP_NS, until_ns):
            for moment in step.moments:
                if isinstance(moment.sample.payload, Seen):
                    digest.seen(moment.sample.payload)
                for record in moment.records:
                    digest.record(record)
                    records += 1
            for record in step.captured:
                digest.record(record)
                records += 1
            self._demand_no_fault()
            on_step(step)
            await pace.keep(step.t_ns)
        for told in await self._room.close(CLOSE_WITHIN_S):
            for record in self._pipeline.on_captured(told):
                digest.record(record)
                records += 1
        self._demand_no_fault()
        frames = self._account.counts()
        return ReplayResult(
            f"sha256:{digest.hexdigest()}", status.model, frames, records, self._clock.boot_ns() / SECOND_NS
        )

    def _demand_no_fault(self) -> None:
        if self._faults:
            raise ReplayFault(f"The replay isn't whole: {'; '.join(self._faults)}. Run it again, or mend what failed.")


def canonical(config: BaseModel) -> bytes:
    """The configuration as the digest sees it: every value, defaults included."""
    return config.model_dump_json().encode()
