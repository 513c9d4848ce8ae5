"""What an onlooker hears of the running agent over its local API, across its deaths."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec

from ecu.clock import Clock
from simulator.boxes import Box
from simulator.demo.script import Deed

RECONNECT_S: Final = 0.02
LINE_LIMIT: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Sighting:
    """One frame's result, and by which model. `heard_ns` is boot time here; `t_ns` is the frame's own time (the
    drive's, in lockstep)."""

    heard_ns: int
    frame_id: int
    model: str
    t_ns: int
    latency_ns: int
    model_ns: int
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Reading:
    """The agent's status at one instant."""

    heard_ns: int
    status: Any


@dataclass(frozen=True, slots=True)
class UpdateHeard:
    """What became of a release: "refused", or the state that its trial reached; `unit` is its kind."""

    heard_ns: int
    what: str
    unit: str
    title: str
    attack: str
    words: str


@dataclass(frozen=True, slots=True)
class Done:
    """A deed that was done, and when it was over; boot time here."""

    deed: Deed
    began_ns: int
    ended_ns: int
    detail: str = ""


@dataclass(slots=True)
class Observations:
    """Everything seen from outside, in the order it was heard."""

    began_ns: int
    sightings: list[Sighting] = field(default_factory=list)
    readings: list[Reading] = field(default_factory=list)
    health: list[tuple[int, str, str]] = field(default_factory=list)
    updates: list[UpdateHeard] = field(default_factory=list)
    deeds: list[Done] = field(default_factory=list)

    def done(self, deed: Deed) -> Done | None:
        return next((done for done in self.deeds if done.deed is deed), None)

    def update(self, what: str) -> UpdateHeard | None:
        """The first model release that got there."""
        return next((one for one in self.updates if one.what == what and one.unit == "model"), None)


class Observer:
    """Follows the agent's events for as long as `run` runs; an agent that died is listened to again when it is back."""

    def __init__(self, socket: Path, clock: Clock, heard: Observations) -> None:
        self._socket = socket
        self._clock = clock
        self._heard = heard

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError):
                await self._follow()
            await asyncio.sleep(RECONNECT_S)

    async def _follow(self) -> None:
        reader, writer = await asyncio.open_unix_connection(self._socket, limit=LINE_LIMIT)
        try:
            writer.write(b"GET /events HTTP/1.1\r\n\r\n")
            kind = ""
            # Without its end a line is the torn last word of an agent that was killed.
            while (line := await reader.readline()).endswith(b"\n"):
                if line.startswith(b"event: "):
                    kind = line[7:].strip().decode()
                elif line.startswith(b"data: "):
                    self._take(kind, msgspec.json.decode(line[6:]))
        finally:
            writer.close()

    def _take(self, kind: str, event: Any) -> None:
        now_ns = self._clock.boot_ns()
        match kind:
            case "seen":
                boxes = tuple(
                    Box(track["track_id"], track["label"], track["score"], tuple(track["box"]))
                    for track in event["tracks"]
                )
                self._heard.sightings.append(
                    Sighting(
                        heard_ns=now_ns,
                        frame_id=event["frame_id"],
                        model=event["model"],
                        t_ns=event["t_ns"],
                        latency_ns=event["latency_ns"],
                        model_ns=event["model_ns"],
                        boxes=boxes,
                    )
                )
            case "status":
                self._heard.readings.append(Reading(now_ns, event))
            case "health":
                self._heard.health.append((now_ns, event["what"], event["detail"]))
            case "update":
                self._heard.updates.append(
                    UpdateHeard(now_ns, event["what"], event["unit"], event["title"], event["attack"], event["words"])
                )
