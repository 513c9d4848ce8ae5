"""What learning needs of the rest of the agent."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

from agent.learning.gates import World
from ecu.clock import Clock
from telemetry.records import Learned, Record


@dataclass(frozen=True, slots=True)
class Ports:
    """What the side needs of the rest. `plan` and `package` say where they lie now, None while there is none; `world`
    says how things are; `sign` is the identity's; `private` is the privacy stage; `keep` is true once the record is
    durable in the spool; `may` is the owner's consent. `clock` is real time."""

    plan: Callable[[], Path | None]
    package: Callable[[], Path | None]
    world: Callable[[], World]
    sign: Callable[[bytes], bytes]
    private: Callable[[Learned], list[Record]]
    keep: Callable[[Record], Awaitable[bool]]
    may: Callable[[], bool]
    clock: Clock
    boot: str
    rng: Random
