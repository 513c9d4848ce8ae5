"""What happens to the vehicle in the demo, when, and why that matters: data, no acts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Deed(Enum):
    """What is done to the running system."""

    KILL_WORKER = "kill_worker"
    RELEASE = "release"
    KEPT = "kept"
    CUT_LINK = "cut_link"
    KILL_REDACTOR = "kill_redactor"
    KILL_CAMERA = "kill_camera"
    RESTORE_LINK = "restore_link"
    KILL_AGENT = "kill_agent"
    KILL_RECEIVER = "kill_receiver"
    HOSTILE_PACKETS = "hostile_packets"
    STRANGER = "stranger"
    DEAD_CLOCK = "dead_clock"
    IGNITION_OFF = "ignition_off"


@dataclass(frozen=True, slots=True)
class Act:
    """A deed at a time of the drive, in seconds; `title` and `why` are told to whoever watches."""

    at_s: float
    deed: Deed
    title: str
    why: str


@dataclass(frozen=True, slots=True)
class Script:
    """One run of the demo: its acts in order, and how long the drive is."""

    acts: tuple[Act, ...]
    drive_s: float
    untrusted_s: float
    hostile_packets: int
    lockstep: bool
    shadow_frames: int
    prove_frames: int
    dark_s: float


_WHY = {
    Deed.KILL_WORKER: (
        "The perception worker is killed",
        "Native code can crash or hang: a warm standby takes over between two frames.",
    ),
    Deed.RELEASE: (
        "A new model is released",
        "Signed, fetched, judged on labelled frames, tried beside the live one; kept only if it isn't worse.",
    ),
    Deed.KEPT: (
        "The new model has to be kept by now",
        "It was never worse on the labelled frames, nor too slow, nor did it die on this very road.",
    ),
    Deed.CUT_LINK: (
        "The link to the cloud is cut",
        "Cars drive through tunnels: what is captured now must wait on flash, in order, encrypted.",
    ),
    Deed.KILL_REDACTOR: (
        "The redactor is killed, again and again",
        "Without whoever covers faces there must be no picture at all; each one that was wanted is counted.",
    ),
    Deed.KILL_CAMERA: (
        "The camera's process is killed",
        "A lost camera is a degraded state, not a restart: it comes back, and every frame stays accounted for.",
    ),
    Deed.RESTORE_LINK: (
        "The link comes back",
        "The backlog drains by priority; nothing is freed before the receiver has stored it.",
    ),
    Deed.KILL_AGENT: (
        "The agent itself is killed",
        "Power goes at any instant: what was durable survives, the rest is bounded by each lane's commit time.",
    ),
    Deed.KILL_RECEIVER: (
        "The receiver is killed",
        "The cloud fails too: a record it hadn't committed was never acknowledged, so the car still has it.",
    ),
    Deed.HOSTILE_PACKETS: (
        "Hostile packets hit the endpoint",
        "A public port hears everything: malformed packets close their own connection and nothing else.",
    ),
    Deed.STRANGER: (
        "A stranger's certificate knocks",
        "Only vehicles that were paired get in; the certificate decides, not what a packet claims.",
    ),
    Deed.DEAD_CLOCK: (
        "The car wakes in 1970",
        "A dead RTC must not stop recording: the link waits until the receiver's signed time is known.",
    ),
    Deed.IGNITION_OFF: (
        "Ignition off",
        "Everything pending becomes durable, then every process ends with the agent.",
    ),
}

_REAL = (
    (5.0, Deed.KILL_WORKER),
    (8.0, Deed.RELEASE),
    (11.5, Deed.CUT_LINK),
    (12.2, Deed.KILL_REDACTOR),
    (17.0, Deed.KILL_CAMERA),
    (22.0, Deed.RESTORE_LINK),
    (23.0, Deed.KEPT),
    (27.0, Deed.KILL_AGENT),
    (33.0, Deed.KILL_RECEIVER),
    (38.0, Deed.HOSTILE_PACKETS),
    (41.0, Deed.STRANGER),
    (43.0, Deed.DEAD_CLOCK),
    (51.0, Deed.IGNITION_OFF),
)
_FAST = (
    (0.8, Deed.KILL_WORKER),
    (1.2, Deed.RELEASE),
    (1.6, Deed.CUT_LINK),
    (2.2, Deed.KILL_REDACTOR),
    (4.0, Deed.KILL_CAMERA),
    (8.8, Deed.RESTORE_LINK),
    (9.0, Deed.KEPT),
    (9.2, Deed.KILL_AGENT),
    (9.6, Deed.KILL_RECEIVER),
    (10.0, Deed.HOSTILE_PACKETS),
    (10.4, Deed.STRANGER),
    (10.8, Deed.DEAD_CLOCK),
    (12.0, Deed.IGNITION_OFF),
)


def script(fast: bool) -> Script:
    """The acts at real speed, or the same ones closer together in drive time for lockstep."""
    acts = tuple(Act(at_s, deed, *_WHY[deed]) for at_s, deed in (_FAST if fast else _REAL))
    return Script(
        acts,
        acts[-1].at_s,
        untrusted_s=0.8 if fast else 2.5,
        hostile_packets=1000 if fast else 2000,
        lockstep=fast,
        shadow_frames=30 if fast else 100,
        prove_frames=20 if fast else 75,
        dark_s=1.0 if fast else 1.6,
    )
