"""Does the script's deeds to the running stage, and notes what came of each."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, assert_never

from agent.apiclient import AgentNotRunning
from ecu.clock import SECOND_NS, Clock
from simulator.demo.blackout import Blackout, Darkness
from simulator.demo.intruders import besiege, try_stranger
from simulator.demo.judge import Death, Siege
from simulator.demo.observer import Done, Observations
from simulator.demo.script import Act, Deed, Script
from simulator.demo.stage import Stage, StageFault

LOOK_S: Final = 0.04
RECOVER_WITHIN_S: Final = 20.0
DRAIN_WITHIN_S: Final = 30.0
MOST_PARKINGS: Final = 3
TRIED_WITHIN_S: Final = 45.0
COMMITTED: Final = "committed"
ORPHANS_WITHIN_S: Final = 2.0


@dataclass(slots=True)
class Outcome:
    """What the deeds came to, for the judgement."""

    deaths: list[Death] = field(default_factory=list)
    orphans: int | None = None
    agent_killed_at_sample_ns: int | None = None
    blackout: Blackout | None = None
    siege: Siege | None = None
    stranger_refused_by: str | None = None


class Play:
    """One performance. `announce` is told of each act as it begins."""

    def __init__(
        self,
        stage: Stage,
        script: Script,
        seen: Observations,
        clock: Clock,
        announce: Callable[[Act], None],
    ) -> None:
        self.outcome = Outcome()
        self._stage = stage
        self._script = script
        self._seen = seen
        self._clock = clock
        self._announce = announce
        self._cut_began_ns = 0

    async def perform(self) -> None:
        """All acts at their times. Raises StageFault when a process can't go on."""
        for act in self._script.acts:
            await self._until_drive(act.at_s)
            self._announce(act)
            began_ns = self._clock.boot_ns()
            detail = await self._do(act.deed)
            if act.deed is not Deed.CUT_LINK:
                self._note(act.deed, began_ns, detail)

    async def _until_drive(self, at_s: float) -> None:
        within_s = self._script.drive_s + 60.0
        await self._until(lambda: self.drive_s() >= at_s, within_s, f"second {at_s:.0f} of the drive")

    def drive_s(self) -> float:
        """Seconds of the drive so far: granted ones in lockstep, passed ones at real speed."""
        if not self._seen.sightings:
            return 0.0
        if self._script.lockstep:
            return self._seen.sightings[-1].t_ns / SECOND_NS
        return (self._clock.boot_ns() - self._seen.sightings[0].t_ns) / SECOND_NS

    async def drain(self) -> Mapping[str, Any]:
        """Parked at home: the agent runs without sources until the receiver has everything. What `outrider spool
        inspect` tells of its flash then.

        An agent may have something to say as it is switched off, which goes out at its next start.
        """
        for _ in range(MOST_PARKINGS):
            await self._stage.start_agent(parked=True)
            await self._until(lambda: self._waiting() == 0, DRAIN_WITHIN_S, "the backlog to be stored")
            # A picture that never arrives is for the judgement to tell.
            await self._holds_within(lambda: self._pictures_waiting() == 0, DRAIN_WITHIN_S)
            await self._stage.stop("agent")
            inspect = ["spool", "inspect", "--json", "--state", str(self._stage.places.agent)]
            told = await self._stage.run(inspect, may_find_fault=True)
            law_1: Mapping[str, Any] = json.loads(told)
            if not any(lane["spooled"] for lane in law_1["lanes"]):
                break
        return law_1

    async def _do(self, deed: Deed) -> str:
        match deed:
            case Deed.KILL_WORKER:
                return await self._kill_child(deed, "live_pid")
            case Deed.KILL_REDACTOR:
                return await self._black_out()
            case Deed.KILL_CAMERA:
                return await self._kill_child(deed, "camera_pid")
            case Deed.KILL_AGENT:
                return await self._kill_agent()
            case Deed.KILL_RECEIVER:
                return await self._kill_receiver()
            case Deed.RELEASE:
                return await self._release()
            case Deed.KEPT:
                kept = await self._holds_within(lambda: self._seen.update(COMMITTED) is not None, TRIED_WITHIN_S)
                return "kept" if kept else "NOT kept"
            case Deed.CUT_LINK:
                return self._cut()
            case Deed.RESTORE_LINK:
                return await self._restore()
            case Deed.HOSTILE_PACKETS:
                return await self._siege()
            case Deed.STRANGER:
                self.outcome.stranger_refused_by = await try_stranger(self._stage, self._clock)
                return self.outcome.stranger_refused_by or "let in"
            case Deed.DEAD_CLOCK:
                return await self._wake_in_1970()
            case Deed.IGNITION_OFF:
                return f"exit code {await self._stage.stop('agent')}"
            case _:
                assert_never(deed)

    def _note(self, deed: Deed, began_ns: int, detail: str) -> None:
        self._seen.deeds.append(Done(deed, began_ns, self._clock.boot_ns(), detail))

    # --- kills ------------------------------------------------------------------------------------

    async def _kill_child(self, deed: Deed, which: str) -> str:
        # One that was replaced by itself just now (a stalled computer) has its successor in a moment.
        whom = "a live worker" if which == "live_pid" else "a camera"
        await self._until(lambda: self._perception().get(which) is not None, RECOVER_WITHIN_S, f"{whom} to kill")
        pid = self._perception()[which]
        os.kill(pid, signal.SIGKILL)
        gone = await self._holds_within(lambda: not _is_alive(pid), ORPHANS_WITHIN_S)
        back = (
            await self._holds_within(lambda: self._perception().get(which) not in (None, pid), RECOVER_WITHIN_S)
            and await self._sees_on()
        )
        self.outcome.deaths.append(Death(deed, gone, back))
        return f"pid {pid} gone, {'a successor works' if back else 'NO successor'}"

    async def _sees_on(self) -> bool:
        """A frame that was captured from now on is seen: what was still in flight when somebody died proves nothing."""
        next_id = self._perception()["frames"]["received"]
        return await self._holds_within(
            lambda: any(sighting.frame_id >= next_id for sighting in self._seen.sightings[-100:]), RECOVER_WITHIN_S
        )

    async def _black_out(self) -> str:
        darkness = Darkness(self._pictures, self.drive_s, lambda: self._seen.sightings[-1].frame_id, self._heard_dark)
        dark = self.outcome.blackout = await darkness.fall(self._script.dark_s)
        if dark is None:
            return "it could NOT be kept down"
        return f"{dark.kills} times, {dark.wanted} pictures wanted, {'back' if dark.back else 'NOT back'}"

    async def _heard_dark(self) -> None:
        """The agent tells everything in order: what comes after its word of the redactor's end was seen after it."""
        asked = len(self._seen.readings)
        await self._holds_within(
            lambda: any(not _pictures_of(one.status).get("model") for one in self._seen.readings[asked:]),
            RECOVER_WITHIN_S,
        )

    async def _kill_agent(self) -> str:
        pid = self._stage.pid("agent")
        children = _children_of(pid)
        self.outcome.agent_killed_at_sample_ns = self._seen.sightings[-1].t_ns
        await self._stage.kill("agent")
        await self._holds_within(lambda: not any(map(_is_alive, children)), ORPHANS_WITHIN_S)
        self.outcome.orphans = sum(map(_is_alive, children))
        frames = len(self._seen.sightings)
        await self._stage.start_agent()
        back = await self._holds_within(lambda: len(self._seen.sightings) > frames, RECOVER_WITHIN_S)
        self.outcome.deaths.append(Death(Deed.KILL_AGENT, not _is_alive(pid), back))
        return f"pid {pid} and {len(children)} children gone, {self.outcome.orphans} left over"

    async def _kill_receiver(self) -> str:
        pid = self._stage.pid("receiver")
        freed = self._freed()
        await self._stage.kill("receiver")
        await self._stage.start_receiver()
        back = await self._holds_within(lambda: self._connected() and self._freed() > freed, RECOVER_WITHIN_S)
        self.outcome.deaths.append(Death(Deed.KILL_RECEIVER, not _is_alive(pid), back))
        return f"pid {pid} gone, {'storing again' if back else 'NOT storing again'}"

    async def _siege(self) -> str:
        """The endpoint has stood when it still stores what its own vehicle sends."""
        try:
            sent = await besiege(self._stage, self._script.hostile_packets)
        except (TimeoutError, OSError) as fall:
            self.outcome.siege = Siege(0, fall=f"no longer answered ({fall!r})")
            # Somebody has to be there for the rest of the story.
            await self._stage.kill("receiver")
            await self._stage.start_receiver()
            return f"the endpoint fell: {fall!r}"
        freed = self._freed()
        serving = await self._holds_within(lambda: self._freed() > freed, RECOVER_WITHIN_S)
        stopped = None if serving else f"the vehicle's records aren't stored ({self._how_it_uploads()})"
        self.outcome.siege = Siege(sent, stopped)
        return f"{sent:,} packets{f'; {stopped}' if stopped else ''}"

    # --- a new model ------------------------------------------------------------------------------

    async def _release(self) -> str:
        """The owner says that the vehicle is to have it; the rest is the vehicle's."""
        return await self._stage.assign_new_model()

    # --- the link and the clock -------------------------------------------------------------------

    def _cut(self) -> str:
        assert self._stage.proxy is not None
        self._cut_began_ns = self._clock.boot_ns()
        self._stage.proxy.cut()
        return "cut"

    async def _restore(self) -> str:
        assert self._stage.proxy is not None
        restored_ns = self._clock.boot_ns()
        self._seen.deeds.append(Done(Deed.CUT_LINK, self._cut_began_ns, restored_ns))
        self._stage.proxy.restore()
        back = await self._holds_within(self._connected, RECOVER_WITHIN_S)
        return "connected again" if back else "NOT connected again"

    async def _wake_in_1970(self) -> str:
        """A dead RTC, and no network at first: the clock stays wrong until the receiver can be asked."""
        assert self._stage.proxy is not None
        await self._stage.stop("agent")
        self._stage.proxy.cut()
        await self._stage.start_agent(wall_error_s=-self._clock.wall_ns() / SECOND_NS)
        began_s = self.drive_s()
        await self._until(
            lambda: self.drive_s() - began_s >= self._script.untrusted_s, RECOVER_WITHIN_S, "a drive in 1970"
        )
        self._stage.proxy.restore()
        back = await self._holds_within(self._connected, RECOVER_WITHIN_S)
        return "connected with the receiver's time" if back else "NOT connected"

    # --- looking ----------------------------------------------------------------------------------

    def _status(self) -> Mapping[str, Any]:
        try:
            status: Mapping[str, Any] = self._stage.status()
        except AgentNotRunning:
            return {}
        return status

    def _perception(self) -> Mapping[str, Any]:
        return self._status().get("perception") or {}

    def _pictures(self) -> Mapping[str, Any]:
        return _pictures_of(self._status())

    def _uplink(self) -> Mapping[str, Any]:
        return self._status().get("cloud", {}).get("uplink") or {}

    def _connected(self) -> bool:
        return self._uplink().get("state") == "connected"

    def _how_it_uploads(self) -> str:
        uplink = self._uplink()
        reason = uplink.get("reason")
        return f"{uplink.get('state', 'no answer')}{f': {reason}' if reason else ''}; {self._waiting():,} waiting"

    def _freed(self) -> int:
        return int(self._uplink().get("counts", {}).get("records_freed", 0))

    def _waiting(self) -> int:
        lanes = self._status().get("spool", {}).get("lanes")
        return sum(lane["spooled"] + lane["pending"] for lane in lanes) if lanes else 1

    def _pictures_waiting(self) -> int:
        objects = (self._status().get("gallery") or {}).get("objects")
        return int(objects["kept"] + objects["pending"]) if objects else 1

    async def _until(self, reached: Callable[[], bool], within_s: float, what: str) -> None:
        if not await self._holds_within(reached, within_s):
            raise StageFault(f"Waited {within_s:.0f} s for {what}. {self._stage.condition('agent')}")

    async def _holds_within(self, reached: Callable[[], bool], within_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while not await asyncio.to_thread(reached):
                    await asyncio.sleep(LOOK_S)
                return True
        return False


def _pictures_of(status: Mapping[str, Any]) -> Mapping[str, Any]:
    return (status.get("gallery") or {}).get("pictures") or {}


def _is_alive(pid: int) -> bool:
    """A zombie is dead: it does nothing and holds nothing."""
    state, _ = _state_and_parent(pid)
    return state not in ("Z", "X", "")


def _children_of(pid: int) -> list[int]:
    """Every process that it has started and that lives, whatever it says of them itself."""
    pids = [int(folder.name) for folder in Path("/proc").glob("[0-9]*")]
    return [child for child in pids if _state_and_parent(child)[1] == pid]


def _state_and_parent(pid: int) -> tuple[str, int]:
    """As in proc(5), stat, fields 3 and 4; ("", 0) when there is no such process."""
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return state, int(parent)
