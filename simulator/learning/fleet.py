"""Twenty vehicles that learn from what each of them has seen, and a server that makes one model of it.

Each runs the product's own steps: local training, clipping and compression with what is owed, a signed update, the
server's admission and aggregation. Only the network between them isn't there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from msgspec.structs import replace
from numpy.typing import NDArray

from inference.build.sgd import varied
from inference.crops import Crops
from inference.training.trainer import Examples, Recipe, StepGraph, train
from simulator.learning.shares import Places
from telemetry.federated.aggregation import ServerRule
from telemetry.federated.compression import compress
from telemetry.federated.line import Line, base_digest, begin_line, close_buffer, offer
from telemetry.federated.plan import Plan
from telemetry.federated.update import ModelUpdate, signed_part

Vector = NDArray[np.float32]
Sign = Callable[[bytes], bytes]


@dataclass(slots=True)
class Learner:
    """One vehicle. `owed` is what its updates haven't said so far."""

    name: str
    examples: Examples
    owed: Vector
    sent: int = 0
    sent_bytes: int = 0
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def learn(
        self, graph: StepGraph, base: Vector, plan: Plan, rng: np.random.Generator, sign: Sign | None = None
    ) -> ModelUpdate:
        """A signed update of the base; `sign` is its identity's, or that of a key of its own."""
        shown = Examples(varied(self.examples.inputs, rng), self.examples.labels)
        recipe = Recipe(plan.steps, plan.learning_rate, plan.batch)
        learned = train(graph, base, shown, recipe, rng, lambda done: None)
        made = compress(learned.delta, self.owed, plan.keep, plan.clip)
        self.owed, self.sent = made.residual, self.sent + 1
        self.sent_bytes += len(made.payload)
        update = ModelUpdate(plan.name, base_digest(base), plan.graph, plan.layout, self.sent, made.payload)
        return replace(update, signature=(sign or self.sign)(signed_part(update)))

    def sign(self, message: bytes) -> bytes:
        return self.key.sign(message, ec.ECDSA(hashes.SHA256()))

    def verify(self, message: bytes, signature: bytes) -> bool:
        try:
            self.key.public_key().verify(signature, message, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            return False
        return True


def learners_of(crops: Crops, hands: Sequence[Places], plan: Plan) -> list[Learner]:
    """Those that have seen enough for the plan."""
    nothing = np.zeros(plan.parameters, np.float32)
    return [
        Learner(f"car-{number:02}", Examples(crops.pictures[hand], crops.labels[hand]), nothing)
        for number, hand in enumerate(hands, 1)
        if len(hand) >= plan.min_examples
    ]


def learn_together(
    graph: StepGraph, base: Vector, plan: Plan, rule: ServerRule, learners: Sequence[Learner], buffers: int,
    together: int, rng: np.random.Generator,
) -> Line:  # fmt: skip
    """The line after so many aggregates, each of `together` vehicles that happen to be there."""
    line = begin_line(plan, base)
    for _ in range(buffers):
        for at in rng.choice(len(learners), min(together, len(learners)), replace=False):
            learner = learners[int(at)]
            line = offer(line, learner.name, learner.learn(graph, line.parameters, plan, rng), learner.verify)
        line, _ = close_buffer(line, rule)
    return line
