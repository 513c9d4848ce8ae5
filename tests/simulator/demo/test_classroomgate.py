"""What the demo's vehicles learn together is kept by the very gate that its agent has, and by no stricter one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inference.build.candidate import build_candidate
from inference.build.packing import write_package
from inference.floor import GateFloor
from inference.manifest import FederatedLineage
from inference.package import find_package
from inference.statejudge import judge_states
from inference.training.package import load_learnable
from inference.training.trainer import Examples
from inference.verdict import Outcome
from simulator.demo.classroom import FEWEST, SEED, hands
from simulator.learning.fleet import Learner
from simulator.learning.proof import HELD_OUT, KEEP, load
from telemetry.federated.aggregation import ServerRule
from telemetry.federated.line import begin_line, close_buffer, offer
from telemetry.federated.plan import LabelSource, Plan


@pytest.mark.soak
def test_the_demos_candidate_passes_where_yellow_is_excused_and_is_undecided_where_it_isnt(tmp_path: Path) -> None:
    live = find_package("light-state@1.0")
    learnable, (crops, _) = load_learnable(live), load()
    plan = Plan(
        name="lights", model=learnable.title, base=learnable.base, graph=learnable.graph_sha256,
        layout=learnable.layout.digest, parameters=learnable.layout.size, source=LabelSource.CONFIRMED, steps=8,
        batch=learnable.graph.batch, learning_rate=0.03, clip=1.0, keep=KEEP, min_examples=FEWEST, updates=2,
        max_staleness=0, not_after=1 << 40,
    )  # fmt: skip
    line, rng = begin_line(plan, learnable.parameters), np.random.default_rng(SEED)
    for number, hand in enumerate(hands(crops)):
        nothing = np.zeros(plan.parameters, np.float32)
        learner = Learner(f"car-{number:02}", Examples(crops.pictures[hand], crops.labels[hand]), nothing)
        update = learner.learn(learnable.graph, line.parameters, plan, rng)
        line = offer(line, learner.name, update, learner.verify)
    line, _ = close_buffer(line, ServerRule(clip=1.0, momentum=0.5, rate=1.0))
    learned = FederatedLineage(plan="lights", base=learnable.base, number=1, vehicles=17, updates_sha256="0" * 64)
    candidate = tmp_path / "candidate"
    write_package(candidate, build_candidate(live, line.parameters, "1.1", HELD_OUT, learned))
    assert judge_states(live, candidate, HELD_OUT, GateFloor(excused=("yellow",))).outcome is Outcome.PASSED
    strict = judge_states(live, candidate, HELD_OUT)
    assert strict.outcome is Outcome.UNDECIDED
    assert "yellow" in strict.words
