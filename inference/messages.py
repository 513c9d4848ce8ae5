"""What the agent, its cameras, its perception workers and its judge tell each other (over ecu.channel).

The agent owns the frame memory and hands out its slots: a camera writes only into a slot leased to it, a worker reads
only the slot of the frame it was asked to look at. Lockstep adds ecu.channel's Advance and Done.
"""

from __future__ import annotations

from typing import Union

import msgspec

from ecu.channel import Advance, Done, Message
from inference.errors import Party
from inference.verdict import Verdict


class Ring(Message, frozen=True, tag="ring"):
    """Frame memory; its descriptor comes along. A camera gets it writable, a worker read-only."""

    slots: int
    slot_bytes: int


class Lease(Message, frozen=True, tag="lease"):
    """The camera may write the slot until it says Filled."""

    slot: int


class Begin(Message, frozen=True, tag="begin"):
    """Capture starts. In lockstep, frames are due at `from_ns` + k periods and wait for Advance."""

    from_ns: int
    lockstep: bool


class CameraHello(Message, frozen=True, tag="camera_hello"):
    """What the source delivers: BGR frames of height x width x 3 bytes, one every `period_ns`."""

    width: int
    height: int
    period_ns: int


class Filled(Message, frozen=True, tag="filled"):
    """A frame lies in the slot. `t_ns` is boot time of its capture; `fresh` says that the scene starts anew."""

    slot: int
    frame_id: int
    t_ns: int
    fresh: bool


class Skipped(Message, frozen=True, tag="skipped"):
    """A frame was captured with no slot to put it in."""

    frame_id: int
    t_ns: int


class SourceFault(Message, frozen=True, tag="source_fault"):
    """The source can't go on; the process ends after saying so. `usage` says that the input itself is unusable."""

    reason: str
    usage: bool


class SourceEnded(Message, frozen=True, tag="source_ended"):
    """The drive is over after `frames` frames; nothing more will be captured."""

    frames: int


class Start(Message, frozen=True, tag="start"):
    """The worker goes live: its tracks are numbered from `first_track_id`."""

    first_track_id: int


class Look(Message, frozen=True, tag="look"):
    """See what is in the frame. `fingerprint` asks for a digest of its pixels (replay)."""

    slot: int
    frame_id: int
    t_ns: int
    width: int
    height: int
    fresh: bool
    fingerprint: bool


class WorkerReady(Message, frozen=True, tag="worker_ready"):
    """The model is loaded, warm, and passed its golden vectors. `runtime` names what its arithmetic depends on;
    `states` is the digest of the package that tells states, empty without one."""

    name: str
    version: str
    digest: str
    variant: str
    runtime: str
    states: str = ""


class SeenTrack(msgspec.Struct, frozen=True):
    """One tracked object. `box` is xyxy in pixels of the camera's frame; `hits` counts the frames it was seen in;
    `state` is empty where none is told."""

    track_id: int
    label: str
    score: float
    box: tuple[float, float, float, float]
    hits: int
    confirmed: bool
    state: str = ""


class Glimpse(msgspec.Struct, frozen=True):
    """Something that may be there: too unsure to be tracked or told of, sure enough to be covered in a picture. `box`
    is xyxy in pixels of the camera's frame."""

    label: str
    box: tuple[float, float, float, float]


class Seen(Message, frozen=True, tag="seen"):
    """The result of one Look. The worker spent `spent_ns` on it, `model_ns` of that in the runtime's own call;
    `fingerprint` is empty unless asked for. `glimpses` are the unsure detections, the surest first; they are for the
    redactor alone."""

    frame_id: int
    t_ns: int
    tracks: tuple[SeenTrack, ...]
    spent_ns: int
    model_ns: int
    fingerprint: bytes
    glimpses: tuple[Glimpse, ...] = ()


class WorkerFault(Message, frozen=True, tag="worker_fault"):
    """The model is unfit; the process ends after saying so."""

    reason: str


class JudgedModel(msgspec.Struct, frozen=True):
    """A model that the judge looked at, and the variant that its golden vectors chose."""

    name: str
    version: str
    digest: str
    variant: str


class JudgeProgress(Message, frozen=True, tag="judge_progress"):
    """So many frames of the evaluation set have been looked at with both models."""

    done: int
    of: int


class JudgeVerdict(Message, frozen=True, tag="judge_verdict"):
    """The judge's last word: its process ends. `evaluation` is the set's title, `runtime` as in WorkerReady."""

    live: JudgedModel
    candidate: JudgedModel
    evaluation: str
    evaluation_digest: str
    runtime: str
    verdict: Verdict


class JudgeFault(Message, frozen=True, tag="judge_fault"):
    """There is no verdict, and whose fault that is; the process ends after saying so. Only a fault of the candidate's
    speaks against it."""

    party: Party
    reason: str


ToCamera = Union[Ring, Lease, Begin, Advance]  # noqa: UP007
FromCamera = Union[CameraHello, Filled, Skipped, SourceFault, SourceEnded, Done]  # noqa: UP007
ToWorker = Union[Ring, Start, Look, Advance]  # noqa: UP007
FromWorker = Union[WorkerReady, Seen, WorkerFault, Done]  # noqa: UP007
FromJudge = Union[JudgeProgress, JudgeVerdict, JudgeFault]  # noqa: UP007
