"""The whole way on real labels: vehicles with certificates, their link, the receiver, the shipped model, its judge."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

import inference
from ecu.errors import OutriderError
from inference.crops import Crops
from inference.manifest import StateManifest
from inference.package import MODELS_FOLDER, load_package
from inference.training.package import Learnable, load_learnable
from inference.training.trainer import Examples
from receiver.client import OperatorClient
from receiver.learning.answers import BeginRequest
from receiver.service import Receiver, running
from simulator.learning.fleet import Learner, learners_of
from simulator.learning.proof import load
from simulator.learning.shares import dealt
from telemetry.federated.plan import LabelSource, Plan, encode_plan
from telemetry.federated.update import ModelUpdate, signed_part
from telemetry.records import Lane
from tests.receiver.fleet import Vehicle, a_receiver, a_vehicle, on_free_ports
from tests.receiver.learning.benches import FourNumbers, Stuck, package_in
from tests.receiver.learning.benches import plan_of as numbers_plan
from tests.receiver.learning.rig import block_of, told, update_of
from tests.receiver.test_service import a_child
from tests.verbs import run_verb

LIVE = MODELS_FOLDER / "light-state-1.0"
HELD_OUT = Path(inference.__file__).parent / "evaluations" / "lights-1.0"
NAMES = "veh-001", "veh-002", "veh-003"


@pytest.fixture(scope="module")
def crops() -> Crops:
    return load()[0]


@pytest.fixture(scope="module")
def live() -> Learnable:
    return load_learnable(LIVE)


def plan_of(live: Learnable) -> Plan:
    return Plan(
        name="lights-1", model=live.title, base=live.base, graph=live.graph_sha256, layout=live.layout.digest,
        parameters=live.layout.size, source=LabelSource.CONFIRMED, steps=8, batch=32, learning_rate=0.05, clip=1.0,
        keep=512, min_examples=8, updates=5, max_staleness=3, not_after=1 << 40,
    )  # fmt: skip


def honest(examples: Examples) -> Examples:
    return examples


def flipped(examples: Examples) -> Examples:
    """Each light called by another one's name: nothing else about these updates is wrong."""
    return Examples(examples.inputs, (examples.labels + 1) % 3)


def updates_of(
    live: Learnable, crops: Crops, plan: Plan, labelled: Callable[[Examples], Examples]
) -> list[ModelUpdate]:
    """Of as many vehicles as there are names, each from its own share of the crops; nobody has signed them."""
    rng = np.random.default_rng(7)
    hands = dealt(crops, np.arange(len(crops.labels)), len(NAMES), rng)
    learners: list[Learner] = learners_of(crops, hands, plan)
    assert len(learners) == len(NAMES)
    for learner in learners:
        learner.examples = labelled(learner.examples)
    return [learner.learn(live.graph, live.parameters, plan, rng) for learner in learners]


async def sent(vehicle: Vehicle, update: ModelUpdate) -> None:
    """By its own link, in a block of the lane that learning has, until the receiver has stored it."""
    signed = replace(update, signature=vehicle.keys.sign(signed_part(update)))
    link = vehicle.link()
    await link.connect()
    await link.publish(Lane.P3, block_of(told(signed)))
    receipt = await anext(link.receipts())
    assert receipt.ranges == ((0, 1),)
    await link.close()


async def verdict_of(receiver: Receiver) -> None:
    """Until the aggregate is judged, and what passed is in its folder."""
    counters = receiver.counters
    async with asyncio.timeout(60):
        while not (counters.learning_candidates or counters.aggregates_failed or counters.aggregates_undecided):
            assert not counters.learning_held_up, (await receiver.learning.status()).plans[0].held_up
            await asyncio.sleep(0.01)


async def learn_together(receiver: Receiver, folder: Path, plan: Plan, updates: list[ModelUpdate]) -> None:
    client = OperatorClient(receiver.socket.parent)
    line = await asyncio.to_thread(client.begin_learning, encode_plan(plan).decode(), LIVE, HELD_OUT)
    assert (line.base, line.number) == (plan.base, 0)
    for name, update in zip(NAMES, updates, strict=True):
        await sent(await a_vehicle(receiver, folder, name), update)
    await verdict_of(receiver)


async def test_three_vehicles_make_a_candidate_that_waits_for_its_signature(
    tmp_path: Path, crops: Crops, live: Learnable
) -> None:
    plan = plan_of(live)
    updates = updates_of(live, crops, plan, honest)
    async with a_receiver(tmp_path, learning_buffer=len(NAMES), learning_rate=1.0) as receiver:
        await learn_together(receiver, tmp_path, plan, updates)
        (status,) = (await receiver.learning.status()).plans
        (attempt,) = status.attempts
        assert (attempt.outcome, attempt.vehicles, status.counts) == ("passed", list(NAMES), {"admitted": 3}), (
            attempt.words
        )
        package = load_package(Path(attempt.candidate))
        manifest = package.manifest_of(StateManifest)
        assert (package.title, load_learnable(package.folder).base) == ("light-state@1.0.1", status.line.base)
        digests = sorted(hashlib.sha256(update.payload).hexdigest() for update in updates)
        learned = manifest.learned
        assert learned is not None
        assert (learned.plan, learned.base, learned.number, learned.vehicles) == (plan.name, plan.base, 1, 3)
        assert learned.updates_sha256 == hashlib.sha256("".join(f"{one}\n" for one in digests).encode()).hexdigest()
        verdict = json.loads(package.folder.with_name("light-state-1.0.1.verdict.json").read_bytes())
        assert sorted(verdict["updates"].values()) == digests
        assert [one["label"] for one in verdict["judge"]["classes"]] == ["red", "yellow", "green"]
        assert all({"low", "high", "difference"} <= one.keys() for one in verdict["judge"]["classes"])
        code, text, _ = await run_verb("learn", "status", "--state", receiver.socket.parent, "--json")
        shown = json.loads(text)["plans"][0]
        assert (code, shown["attempts"][0]["candidate"]) == (0, attempt.candidate)


async def test_an_aggregate_of_flipped_labels_is_stopped_by_the_gate(
    tmp_path: Path, crops: Crops, live: Learnable
) -> None:
    plan = plan_of(live)
    updates = updates_of(live, crops, plan, flipped)
    async with a_receiver(tmp_path, learning_buffer=len(NAMES), learning_rate=1.0) as receiver:
        await learn_together(receiver, tmp_path, plan, updates)
        (status,) = (await receiver.learning.status()).plans
        (attempt,) = status.attempts
        assert status.counts == {"admitted": 3}, "finite, in norm and signed: nothing but their labels is wrong"
        assert (attempt.outcome, attempt.candidate, attempt.vehicles) == ("failed", "", list(NAMES))
        assert (status.line.base, status.line.number) == (plan.base, 0), "the line is where it was"
        assert not (receiver.socket.parent / "candidates").exists()


async def test_the_operators_verbs_begin_list_close_and_say_no(tmp_path: Path) -> None:
    plan, package = numbers_plan(), package_in(tmp_path / "live")
    file, wrong = tmp_path / "plan.json", tmp_path / "wrong.json"
    file.write_bytes(encode_plan(plan))
    wrong.write_bytes(encode_plan(plan.model_copy(update={"base": "a" * 64, "name": "lights-2"})))
    async with running(on_free_ports(), tmp_path / "receiver", bench=FourNumbers()) as receiver:
        where = "--state", receiver.socket.parent
        begin = "learn", "begin"
        code, text, _ = await run_verb(*begin, file, "--package", package, "--crops", tmp_path, *where)
        assert (code, f"Plan lights-1 begins at {plan.base[:12]}" in text) == (0, True)
        answers = [
            await run_verb(*words, *where)
            for words in (
                (*begin, file, "--package", package),
                (*begin, wrong, "--package", package),
                (*begin, file, "--package", tmp_path),
                (*begin, tmp_path / "none.json", "--package", package),
                ("learn", "close", "lights-1"),
                ("learn", "list", "--json"),
                ("learn", "status"),
            )
        ]
        assert [code for code, _, _ in answers] == [1, 1, 1, 2, 1, 0, 0]
        words = [err for _, _, err in answers]
        assert "was begun before" in words[0]
        assert f"its base is aaaaaaaaaaaa, that of light-state@1.0 {plan.base[:12]}" in words[1]
        assert "can't be begun" in words[2]
        assert "none.json can't be read: No such file" in words[3]
        assert "0 vehicles of plan lights-1 wait" in words[4]
        assert [line["plan"] for line in json.loads(answers[5][1])] == ["lights-1"]
        assert "lights-1" in answers[6][1]
        with pytest.raises(OutriderError, match="There is no plan"):
            await asyncio.to_thread(OperatorClient(receiver.socket.parent).close_buffer, "a/../b")


# --- what learning must not hold up -------------------------------------------------------------------


async def test_a_candidate_in_the_making_holds_up_neither_receipts_nor_the_end_and_is_made_after_a_restart(
    tmp_path: Path,
) -> None:
    fifo, package = tmp_path / "fifo", package_in(tmp_path / "live")
    os.mkfifo(fifo)
    settings, plan = on_free_ports(learning_buffer=1), numbers_plan()
    async with running(settings, tmp_path / "receiver", bench=Stuck(str(fifo))) as receiver:
        await receiver.learning.begin(BeginRequest(encode_plan(plan).decode(), str(package), str(tmp_path)))
        vehicle = await a_vehicle(receiver, tmp_path)
        await sent(vehicle, update_of(plan, vehicle.keys.sign, 1.0))
        assert await asyncio.to_thread(fifo.read_text) == "begun"
        other = await a_vehicle(receiver, tmp_path, "veh-002")
        await sent(other, update_of(plan, other.keys.sign, 2.0))
        async with asyncio.timeout(10):
            while receiver.counters.learned_admitted < 2:
                await asyncio.sleep(0.001)
    async with running(settings, tmp_path / "receiver", bench=FourNumbers()) as receiver:
        async with asyncio.timeout(60):
            while receiver.counters.learning_candidates < 2:
                await asyncio.sleep(0.01)
        (status,) = (await receiver.learning.status()).plans
        assert [one.vehicles for one in status.attempts] == [["veh-001"], ["veh-002"]]


async def test_a_receiver_killed_after_its_receipts_makes_the_same_of_them_once(
    tmp_path: Path, crops: Crops, live: Learnable
) -> None:
    plan = plan_of(live)
    text = f"[receiver]\nmqtt_port = 0\nhttps_port = 0\nlearning_buffer = {len(NAMES)}\n"
    async with a_child(tmp_path, text) as child:
        await asyncio.to_thread(child.operator.begin_learning, encode_plan(plan).decode(), LIVE, None)
        vehicles = [await child.vehicle(tmp_path, name) for name in NAMES]
        for vehicle, update in zip(vehicles, updates_of(live, crops, plan, honest), strict=True):
            await sent(vehicle, update)
        await child.end(signal.SIGKILL)
    async with a_child(tmp_path, text) as child:
        async with asyncio.timeout(60):
            while not (attempts := (await asyncio.to_thread(child.operator.learning_status)).plans[0].attempts) or (
                not attempts[0].candidate
            ):
                await asyncio.sleep(0.05)
        status = await asyncio.to_thread(child.operator.learning_status)
        assert [(one.outcome, one.vehicles) for one in attempts] == [("passed", list(NAMES))]
        assert (status.plans[0].counts, status.queued) == ({"admitted": 3}, 0)
        assert await child.end(signal.SIGTERM) == 0
