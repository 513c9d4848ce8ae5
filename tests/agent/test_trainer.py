"""The trainer's process: what it learns, what it refuses, and that it is gone the instant nobody wants it."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from agent.children import Child
from agent.perception.settings import StartsChildren
from agent.trainer import Fault, NotTaught, Taught, Train, Trainer
from agent.trainer.messages import FromTrainer, Part, Trained, TrainerFault, What
from telemetry.federated.payload import decode_delta
from tests.agent.lessons import PACKAGE, example, order_for, plan_for
from tests.agent.puppets import Puppet
from tests.agent.tutor import tutored

In = TypeVar("In")
EXAMPLES = [example(number) for number in range(30)]
ABORT_WITHIN_S = 0.1


@pytest.fixture
def package() -> Path:
    return PACKAGE


async def taught(
    package: Path,
    owed: bytes = b"",
    seed: int = 7,
    steps: int = 12,
    start: StartsChildren = Child.start,
    **changes: Any,
) -> Taught:
    order, pixels, places = order_for(
        plan_for(package, steps=steps), EXAMPLES, seed, owed_bytes=len(owed), **changes
    )  # fmt: skip
    return await Trainer(os.environ, start).teach(package, order, pixels, places, owed)


def is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


# --- what it learns -----------------------------------------------------------------------------------


async def test_it_learns_and_tells_no_more_than_the_plan_allows(package: Path) -> None:
    result = await taught(package, steps=60)
    plan = plan_for(package)
    told = decode_delta(result.payload, plan.parameters, plan.keep)
    assert len(told.indices) == plan.keep
    assert told.norm <= plan.clip * 1.01
    assert len(result.owed) == 4 * plan.parameters
    assert result.losses[-1] < 0.5 * result.losses[0]
    assert (result.steps, len(result.losses)) == (60, 60)
    assert result.cpu_ns > 0


async def test_the_same_order_gives_the_same_bytes_and_another_seed_others(package: Path) -> None:
    first, again = [await taught(package, seed=7) for _ in range(2)]
    assert (first.payload, first.owed) == (again.payload, again.owed)
    here, other = [await taught(package, seed=seed, start=tutored) for seed in (7, 8)]
    assert (first.payload, first.owed, first.losses) == (here.payload, here.owed, here.losses)
    assert first.payload != other.payload


async def test_what_was_owed_is_told_next_time(package: Path) -> None:
    parameters = plan_for(package).parameters
    owed = np.zeros(parameters, "<f4")
    owed[123] = 5.0
    result = await taught(package, owed=owed.tobytes())
    told = decode_delta(result.payload, parameters, 500)
    assert 123 in told.indices
    assert np.argmax(np.abs(told.values)) == list(told.indices).index(123)


# --- what it refuses ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "fault", "words"),
    [
        ({"base": "0" * 64}, Fault.PACKAGE, "for the base 000000000000"),
        ({"graph": "0" * 64}, Fault.PACKAGE, "for the graph 000000000000"),
        ({"layout": "0" * 64}, Fault.PACKAGE, "for the layout 000000000000"),
        ({"parameters": 7}, Fault.PACKAGE, "says 7 parameters"),
        ({"size": 16}, Fault.EXAMPLES, "learns from 32"),
        ({"classes": ("red", "yellow", "blue")}, Fault.EXAMPLES, "no class 'blue'"),
        ({"classes": ("red",)}, Fault.EXAMPLES, "class 2 of 1"),
        ({"examples": 29}, Fault.EXAMPLES, "bytes came with an order"),
        ({"examples": 0}, Fault.EXAMPLES, "no order"),
        ({"owed_bytes": 4}, Fault.EXAMPLES, "no order"),
        ({"learning_rate": 1e38}, Fault.MODEL, "isn't finite"),
    ],
)  # fmt: skip
async def test_an_order_that_isnt_for_this_package_or_these_examples_is_refused_by_name(
    package: Path, changes: dict[str, Any], fault: Fault, words: str
) -> None:
    order, pixels, places = order_for(plan_for(package, steps=40), EXAMPLES, **changes)
    # Numpy warns of what isn't finite, and a warning is an error in tests.
    trainer = Trainer(os.environ, Child.start if fault is Fault.MODEL else tutored)
    with pytest.raises(NotTaught, match=words) as refused:
        await trainer.teach(package, order, pixels, places, b"")
    assert refused.value.fault is fault


async def test_a_package_that_is_refused_teaches_nothing(tmp_path: Path, package: Path) -> None:
    order, pixels, places = order_for(plan_for(package), EXAMPLES)
    with pytest.raises(NotTaught, match="is refused") as refused:
        await Trainer(os.environ).teach(tmp_path, order, pixels, places, b"")
    assert refused.value.fault is Fault.PACKAGE


# --- its process --------------------------------------------------------------------------------------


async def busy(trainer: Trainer) -> int:
    """Once it has spent CPU time on learning: its number."""
    async with asyncio.timeout(60):
        while (pid := trainer.pid) is None or ticks_of(pid) < 60:
            await asyncio.sleep(0.01)
    return pid


def ticks_of(pid: int) -> int:
    """CPU time, in hundredths of a second; 0 of one that is gone."""
    if not is_there(pid):
        return 0
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


async def test_it_gives_up_network_files_and_urgency_before_it_learns(package: Path) -> None:
    trainer = Trainer(os.environ)
    order, pixels, places = order_for(plan_for(package, steps=100_000), EXAMPLES)
    teaching = asyncio.ensure_future(trainer.teach(package, order, pixels, places, b""))
    process = Path(f"/proc/{await busy(trainer)}")
    status = (process / "status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    limits = (process / "limits").read_text()
    assert [line.split()[3:5] for line in limits.splitlines() if line.startswith("Max address space")] == [
        [str(2 << 30)] * 2
    ]
    assert (process / "stat").read_text().rpartition(")")[2].split()[16] == "19"
    teaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await teaching


async def test_it_is_gone_within_a_tenth_of_a_second_and_leaves_nothing(package: Path) -> None:
    trainer = Trainer(os.environ)
    before = set(os.listdir("/proc/self/fd"))
    took_s = []
    for _ in range(3):
        order, pixels, places = order_for(plan_for(package, steps=100_000), EXAMPLES)
        teaching = asyncio.ensure_future(trainer.teach(package, order, pixels, places, b""))
        pid = await busy(trainer)
        began_s = time.monotonic()
        trainer.kill()
        with pytest.raises(NotTaught, match="ended without a word"):
            await teaching
        took_s.append(time.monotonic() - began_s)
        assert not is_there(pid)
    assert max(took_s) <= ABORT_WITHIN_S
    assert set(os.listdir("/proc/self/fd")) <= before | {"0", "1", "2"}


async def test_one_that_isnt_understood_is_killed_and_ends_nobody_else(package: Path) -> None:
    """It runs what others made: a package."""
    bugs: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: bugs.append(context))

    async def nonsense(
        module: str, arguments: Sequence[str], accepts: Any, on_message: Callable[[Child[In], In], None],
        on_closed: Callable[[Child[In]], None], environment: Mapping[str, str],
    ) -> Child[In]:  # fmt: skip
        return await Child.start("tests.agent.nonsense", arguments, accepts, on_message, on_closed, environment)

    order, pixels, places = order_for(plan_for(package), EXAMPLES)
    with pytest.raises(NotTaught, match="ended without a word"):
        await Trainer(os.environ, nonsense).teach(package, order, pixels, places, b"")
    await asyncio.sleep(0)
    assert bugs == []


async def test_who_stops_waiting_ends_it(package: Path) -> None:
    trainer = Trainer(os.environ)
    order, pixels, places = order_for(plan_for(package, steps=100_000), EXAMPLES)
    teaching = asyncio.ensure_future(trainer.teach(package, order, pixels, places, b""))
    pid = await busy(trainer)
    teaching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await teaching
    assert not is_there(pid)
    assert trainer.pid is None


async def test_who_stops_waiting_again_and_again_still_reaps_it(package: Path) -> None:
    order, pixels, places = order_for(plan_for(package, steps=100_000), EXAMPLES)
    trainer = Trainer(os.environ)
    teaching = asyncio.ensure_future(trainer.teach(package, order, pixels, places, b""))
    pid = await busy(trainer)
    while not teaching.done():
        teaching.cancel()
        await asyncio.sleep(0)
    assert teaching.cancelled()
    assert not is_there(pid)


async def test_a_trainer_that_cant_be_started_is_said(package: Path) -> None:
    order, pixels, places = order_for(plan_for(package), EXAMPLES)
    with pytest.raises(NotTaught, match="Can't start a process"):
        await Trainer({"TOO_MUCH": "x" * (1 << 22)}).teach(package, order, pixels, places, b"")


# --- trainers that say what the test says -------------------------------------------------------------


class Says:
    """Starts trainers that say so and then live on; `then` happens right after that."""

    def __init__(self, *messages: FromTrainer, then: Callable[[], None] = lambda: None) -> None:
        self._messages = messages
        self._then = then
        self.born: Puppet | None = None

    async def __call__(
        self, module: str, arguments: Sequence[str], accepts: Any, on_message: Callable[[Child[In], In], None],
        on_closed: Callable[[Child[In]], None], environment: Mapping[str, str],
    ) -> Child[In]:  # fmt: skip
        trainer = self.born = Puppet(arguments, on_message, on_closed)
        for message in self._messages:
            asyncio.get_running_loop().call_soon(trainer.says, message)
        asyncio.get_running_loop().call_soon(self._then)
        return trainer


def answer(order: Train, payload: bytes = b"payload", owed: bytes | None = None, **changes: Any) -> list[FromTrainer]:
    owed = bytes(4 * order.parameters) if owed is None else owed
    told = {"payload_bytes": len(payload), "owed_bytes": len(owed), "losses": (1.0,), "steps": order.steps, "cpu_ns": 1}
    parts = [Part(What.OWED, owed[at : at + 90_000]) for at in range(0, len(owed), 90_000)]
    return [Part(What.PAYLOAD, payload), *parts, Trained(**{**told, **changes})]


def small_order(package: Path) -> tuple[Train, bytes, bytes]:
    return order_for(plan_for(package), EXAMPLES)


async def test_an_honest_answer_is_taken(package: Path) -> None:
    order, pixels, places = small_order(package)
    says = Says(*answer(order))
    result = await Trainer({}, says).teach(package, order, pixels, places, b"")
    assert result.payload == b"payload"
    assert says.born is not None
    assert says.born.is_reaped


@pytest.mark.parametrize(
    ("lie", "words"),
    [
        ({"payload_bytes": 8}, "can't be"),
        ({"steps": 11}, "can't be"),
        ({"losses": ()}, "can't be"),
        ({"payload": b""}, "can't be|too many"),
        ({"owed": bytes(8)}, "can't be"),
        ({"owed": bytes(400_000)}, "too many"),
        ({"payload": bytes(65 * 1024)}, "too many"),
    ],
)
async def test_a_trainer_that_says_what_cant_be_isnt_believed(package: Path, lie: dict[str, Any], words: str) -> None:
    order, pixels, places = small_order(package)
    says = Says(*answer(order, **lie))
    with pytest.raises(NotTaught, match=words) as refused:
        await Trainer({}, says).teach(package, order, pixels, places, b"")
    assert refused.value.fault is None
    assert says.born is not None
    assert says.born.was_killed


async def test_what_comes_after_the_last_word_changes_nothing(package: Path) -> None:
    order, pixels, places = small_order(package)
    says = Says(TrainerFault(Fault.MODEL, "went to infinity"), *answer(order))
    with pytest.raises(NotTaught, match="infinity") as refused:
        await Trainer({}, says).teach(package, order, pixels, places, b"")
    assert refused.value.fault is Fault.MODEL


def test_the_agent_loads_no_numbers_to_learn() -> None:
    told = subprocess.run(
        [sys.executable, "-c", "import agent.daemon, agent.learning.side, sys; print(*sys.modules)"],
        capture_output=True, text=True, check=True, env={**os.environ},
    )  # fmt: skip
    loaded = set(told.stdout.split())
    assert "agent.learning.room" in loaded
    assert not loaded & {"numpy", "cv2", "onnxruntime", "agent.trainer.process", "inference.training.trainer"}
