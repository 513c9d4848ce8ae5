"""The trainer's process: `python -m agent.trainer.process --package DIR --channel FD`.

It learns one order's worth from the examples that came with it, answers, and ends. It holds no keys, no network and no
spool, writes nothing anywhere, runs behind everything else, and may be killed at any instant: it leaves nothing.
"""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agent.trainer.messages import (
    MOST_LOSSES,
    MOST_MEMORY_BYTES,
    PART_BYTES,
    Fault,
    Part,
    ToTrainer,
    Train,
    Trained,
    TrainerFault,
    What,
)
from ecu.channel import Channel, ChannelClosed
from ecu.memory import NotSealed, read_sealed
from ecu.process import Limits, cpu_ns
from inference.confined import begin
from inference.errors import ModelFault, PackageRefused
from inference.training.layout import Layout
from inference.training.trainer import Examples, Recipe, StepGraph, train
from telemetry.federated.compression import Compressed, compress

ADDRESS_SPACE_BYTES: Final = 2 << 30
NICENESS: Final = 19


class Learnable(Protocol):
    """As inference.training.package.Learnable: what of a package can be learned."""

    @property
    def title(self) -> str: ...
    @property
    def classes(self) -> tuple[str, ...]: ...
    @property
    def size(self) -> int: ...
    @property
    def graph(self) -> StepGraph: ...
    @property
    def graph_sha256(self) -> str: ...
    @property
    def layout(self) -> Layout: ...
    @property
    def parameters(self) -> NDArray[np.float32]: ...
    @property
    def base(self) -> str: ...


class Unfit(Exception):
    """This order can't be carried out with these examples."""


# --- what an order comes to ---------------------------------------------------------------------------


def carry_out(learnable: Learnable, order: Train, memory: bytes) -> tuple[Compressed, tuple[float, ...]]:
    """The change as it is sent, and each step's loss. Raises PackageRefused, Unfit, ModelFault."""
    demand_asked_for(learnable, order)
    examples, owed = unpacked(learnable, order, memory)
    recipe = Recipe(order.steps, order.learning_rate, order.batch)
    rng = np.random.default_rng(order.seed)
    # Nobody asks between two steps: whoever wants it to stop kills the process.
    learned = train(learnable.graph, learnable.parameters, examples, recipe, rng, lambda done: None)
    try:
        return compress(learned.delta, owed, order.keep, order.clip), learned.losses
    except ValueError as error:
        raise ModelFault(f"What was learned of {learnable.title} can't be told: {error}.") from error


def demand_asked_for(learnable: Learnable, order: Train) -> None:
    """Raises PackageRefused unless the package is the plan's: its graph, layout and parameters."""
    told = (learnable.graph_sha256, learnable.layout.digest, learnable.base)
    for what, asked, there in zip(("graph", "layout", "base"), (order.graph, order.layout, order.base), told,
                                  strict=True):  # fmt: skip
        if asked != there:
            raise PackageRefused(
                f"The plan is for the {what} {asked[:12]}, {learnable.title} has {there[:12]}: nothing is learned "
                "until this vehicle runs the model that the plan is for."
            )
    if learnable.layout.size != order.parameters:
        raise PackageRefused(f"The plan says {order.parameters} parameters, {learnable.title} has others.")


def unpacked(learnable: Learnable, order: Train, memory: bytes) -> tuple[Examples, NDArray[np.float32]]:
    """The examples as the graph takes them, and what is owed (parameters,). Raises Unfit."""
    if order.size != learnable.size:
        raise Unfit(f"the examples have {order.size} pixels a side, {learnable.title} learns from {learnable.size}")
    unknown = sorted(set(order.classes) - set(learnable.classes))
    if unknown:
        raise Unfit(f"{learnable.title} has no class {unknown[0]!r}")
    pixels = order.examples * order.size * order.size * 3
    if order.examples < 1 or order.owed_bytes not in (0, 4 * order.parameters):
        raise Unfit(f"{order.examples} examples and {order.owed_bytes} bytes owed are no order")
    if len(memory) != pixels + order.examples + order.owed_bytes:
        raise Unfit(f"{len(memory)} bytes came with an order of {pixels + order.examples + order.owed_bytes}")
    pictures = np.frombuffer(memory, np.uint8, pixels).reshape(order.examples, order.size, order.size, 3)
    places = np.frombuffer(memory, np.uint8, order.examples, pixels)
    if places.max() >= len(order.classes):
        raise Unfit(f"an example has class {places.max()} of {len(order.classes)}")
    known = np.array([learnable.classes.index(name) for name in order.classes], np.int64)
    owed = np.frombuffer(memory, "<f4", order.owed_bytes // 4, pixels + order.examples).astype(np.float32)
    return Examples(pictures, known[places]), owed if len(owed) else np.zeros(order.parameters, np.float32)


def spans(losses: tuple[float, ...]) -> tuple[float, ...]:
    """At most MOST_LOSSES means, the first to the last."""
    parts = np.array_split(np.array(losses), min(MOST_LOSSES, len(losses)))
    return tuple(float(part.mean()) for part in parts)


# --- the process --------------------------------------------------------------------------------------


def serve(channel: Channel[ToTrainer], load: Callable[[], Learnable]) -> None:
    """Loads, takes one order, answers it. Raises ChannelClosed."""
    try:
        learnable = load()
        order, descriptors = channel.receive()
        memory = read_sealed(descriptors[0], MOST_MEMORY_BYTES) if descriptors else b""
        before_ns = cpu_ns()
        change, losses = carry_out(learnable, order, memory)
        spent_ns = cpu_ns() - before_ns
    except PackageRefused as refusal:
        channel.send(TrainerFault(Fault.PACKAGE, str(refusal)))
    except (Unfit, NotSealed) as unfit:
        channel.send(TrainerFault(Fault.EXAMPLES, f"{unfit}."))
    except ModelFault as fault:
        channel.send(TrainerFault(Fault.MODEL, str(fault)))
    else:
        owed = change.residual.astype("<f4").tobytes()
        for part in (*_parts(What.PAYLOAD, change.payload), *_parts(What.OWED, owed)):
            channel.send(part)
        channel.send(Trained(len(change.payload), len(owed), spans(losses), len(losses), spent_ns))


def _parts(what: What, data: bytes) -> Iterator[Part]:
    for at in range(0, len(data), PART_BYTES):
        yield Part(what, data[at : at + PART_BYTES])


def run(load: Callable[[Path], Learnable]) -> None:
    """The process, with whoever loads its package."""
    parser = argparse.ArgumentParser(prog="agent.trainer.process")
    parser.add_argument("--package", type=Path, required=True)
    parser.add_argument("--channel", type=int, required=True)
    arguments = parser.parse_args()
    limits = Limits(address_space_bytes=ADDRESS_SPACE_BYTES, nice=NICENESS)
    channel: Channel[ToTrainer] = begin(arguments.channel, ToTrainer, limits)
    with contextlib.suppress(ChannelClosed):
        serve(channel, lambda: load(arguments.package))


def main() -> None:
    from inference.training.package import load_learnable

    run(load_learnable)


if __name__ == "__main__":
    main()
