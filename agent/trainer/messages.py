"""What the agent and its trainer tell each other (over ecu.channel). One order, one answer, and the process ends."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Union

from ecu.channel import Message

PART_BYTES: Final = 96 * 1024
MOST_LOSSES: Final = 64
MOST_MEMORY_BYTES: Final = 128 << 20


class What(StrEnum):
    """What a part is a part of."""

    PAYLOAD = "payload"  # the change, as it is sent
    OWED = "owed"  # what the payload doesn't say: float32, little-endian


class Fault(StrEnum):
    """Whose fault it is that nothing was learned."""

    PACKAGE = "package"  # it is refused, or isn't what the plan asks for
    EXAMPLES = "examples"  # they aren't what this package learns from
    MODEL = "model"  # its graph failed, or went to infinity


class Train(Message, frozen=True, tag="train"):
    """Learn this once, as a plan says. With it comes sealed memory: the `examples` pictures of size x size x 3 bytes
    (BGR), then for each a byte with its place among `classes`, then `owed_bytes` of what was owed before."""

    base: str
    graph: str
    layout: str
    parameters: int
    steps: int
    batch: int
    learning_rate: float
    clip: float
    keep: int
    seed: int
    size: int
    examples: int
    classes: tuple[str, ...]
    owed_bytes: int


class Part(Message, frozen=True, tag="part"):
    """The next bytes of the payload, or of what is owed."""

    what: What
    data: bytes


class Trained(Message, frozen=True, tag="trained"):
    """All parts have been told. `losses` are means over equal spans of the `steps`, the first to the last."""

    payload_bytes: int
    owed_bytes: int
    losses: tuple[float, ...]
    steps: int
    cpu_ns: int


class TrainerFault(Message, frozen=True, tag="trainer_fault"):
    """Nothing was learned; the process ends after saying so."""

    fault: Fault
    reason: str


ToTrainer = Train
FromTrainer = Union[Part, Trained, TrainerFault]  # noqa: UP007
