"""Learning on the vehicle: who may ask, when it may be, and that what is told is told once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agent.learning.gates import Gate
from agent.learning.labels import NoLabels
from agent.learning.side import OFFER_AGAIN_NS
from agent.trainer import Fault
from agent.trainer.messages import TrainerFault
from ecu.clock import SECOND_NS, SystemClock
from ecu.conditions import Heat, Power
from telemetry.federated.plan import LearningFloor
from telemetry.records import Purpose
from tests.agent.lessons import NOW, PACKAGE, SIZE, example, order_for, plan_for
from tests.agent.schooling import FINE, FLOOR, RULES, School, is_signed
from tests.agent.test_trainer import ABORT_WITHIN_S, Says, answer, busy, is_there
from tests.agent.tutor import tutored

LONG = 100_000


@pytest.fixture
def package() -> Path:
    return PACKAGE


@pytest.fixture
def school(tmp_path: Path, package: Path) -> School:
    return School(tmp_path, package)


@pytest.fixture
def tutored_school(tmp_path: Path, package: Path) -> School:
    """One whose trainer is no process: for what comes of an answer."""
    return School(tmp_path, package, start=tutored)


# --- what it comes to ---------------------------------------------------------------------------------


async def test_a_plan_is_learned_by_and_one_signed_update_told(school: School, package: Path) -> None:
    plan = plan_for(package)
    school.asks(plan)
    async with school.at_work():
        await school.until(lambda: len(school.told) == 1)
        await school.until(lambda: school.book.waiting is None)
    (update,) = school.told
    assert is_signed(update)
    assert (update.plan, update.base, update.graph, update.layout, update.seq) == (
        plan.name, plan.base, plan.graph, plan.layout, 1,
    )  # fmt: skip
    assert len(school.book.owed(plan)) == 4 * plan.parameters
    status = school.side.status()
    assert (status.runs, status.told, status.fault) == ({"told": 1}, 0, "")
    assert status.first_loss is not None
    assert status.examples == {"green": 4, "red": 4, "yellow": 4}


async def test_the_next_comes_after_the_pause_and_no_more_than_the_plan_wants(
    tutored_school: School, package: Path
) -> None:
    school = tutored_school
    school.asks(plan_for(package, updates=2))
    async with school.at_work():
        await school.until(lambda: len(school.told) == 1)
        first_ns = school.clock.boot_ns()
        await school.until(lambda: len(school.told) == 2)
        assert school.clock.boot_ns() - first_ns >= (RULES.pause_s - 1) * SECOND_NS
        await school.passes(RULES.pause_s + 2)
        assert school.side.status().refusal == "plan lights-1 has had its 2 updates of this vehicle"
        assert school.side.status().told == 2
    assert [update.seq for update in school.told] == [1, 2]
    assert school.told[0].payload != school.told[1].payload


# --- what is refused ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"floor": LearningFloor(enabled=False)}, "hasn't allowed learning"),
        ({"floor": LearningFloor(enabled=True, steps=11)}, "asks for steps 12, the most here is 11"),
        ({"floor": LearningFloor(enabled=True, updates=0)}, "the most of this vehicle are 0"),
        ({"may": False}, "hasn't consented to learning"),
        ({"labels": NoLabels("none")}, "nothing on this vehicle says what an example should have been called"),
        ({"package": None}, "doesn't run light-state@1.0"),
        ({"examples": 7}, "it wants 8 examples, there are 7"),
    ],
)
async def test_what_this_vehicle_doesnt_do_is_refused_in_words(
    tmp_path: Path, package: Path, changes: dict[str, Any], words: str
) -> None:
    school = School(tmp_path, **{"package": package, **changes})
    school.asks(plan_for(package))
    async with school.at_work():
        await school.until(lambda: words in school.side.status().refusal)
        await school.passes(3)
        assert school.trainer.pid is None
    assert school.runs == {}
    assert school.told == []


async def test_a_plan_that_changes_too_many_parameters_is_refused(school: School, package: Path) -> None:
    school.asks(plan_for(package, parameters=40_001))
    async with school.at_work():
        await school.until(lambda: "40001 parameters" in school.side.status().refusal)


@pytest.mark.parametrize("data", [b"", b"{}", b"{" * 70_000, b"[" * 3_000, b'{"name":' * 3_000])
async def test_a_plan_that_is_none_is_refused(school: School, data: bytes) -> None:
    (school.folder / "plan.json").write_bytes(data)
    async with school.at_work():
        await school.until(lambda: "Sign another" in school.side.status().refusal)


async def test_examples_of_another_size_are_no_examples(tutored_school: School, package: Path) -> None:
    """With one of the right size an update would tell of a single picture."""
    school = tutored_school
    school.asks(plan_for(package, min_examples=8))
    async with school.at_work():
        await school.side.purge()
        for number in range(8):
            school.side.take(example(number, size=SIZE if number == 7 else 2 * SIZE))
        await school.until(lambda: "wants 8 examples, there are 1" in school.side.status().refusal)
        for number in range(8, 15):
            school.side.take(example(number))
        await school.until(lambda: school.runs == {"told": 1})


async def test_a_plan_for_another_model_fails_and_costs_no_budget(tutored_school: School, package: Path) -> None:
    school = tutored_school
    plan = plan_for(package, base="0" * 64)
    school.asks(plan)
    async with school.at_work():
        await school.until(lambda: school.runs == {"failed": 1})
        assert "for the base 000000000000" in school.side.status().fault
        await school.passes(RULES.pause_s / 2)
        assert school.runs == {"failed": 1}, "not again before the pause is over"
    assert school.told == []
    assert school.book.last_seq(plan) == 0


# --- gates --------------------------------------------------------------------------------------------

SHUT: list[tuple[Gate, dict[str, Any]]] = [
    (Gate.PARKED, {"standing_ns": None}),
    (Gate.POWER, {"power": Power.BATTERY}),
    (Gate.HEAT, {"heat": Heat.WARM}),
    (Gate.CLOCK, {"trusted_s": None}),
]


@pytest.mark.parametrize(("gate", "world"), SHUT, ids=lambda it: it.value if isinstance(it, Gate) else "")
async def test_behind_a_shut_gate_nothing_begins_and_its_name_is_told(
    tutored_school: School, package: Path, gate: Gate, world: dict[str, Any]
) -> None:
    school = tutored_school
    school.asks(plan_for(package))
    school.changes(**world)
    async with school.at_work():
        await school.until(lambda: school.side.status().closed == (gate.value,))
        await school.passes(3)
        assert school.trainer.pid is None
        assert school.runs == {}
        school.world = FINE
        await school.until(lambda: len(school.told) == 1)


@pytest.mark.parametrize(("gate", "world"), SHUT, ids=lambda it: it.value if isinstance(it, Gate) else "")
async def test_a_gate_that_shuts_while_it_learns_ends_it_and_nothing_of_it_counts(
    tmp_path: Path, package: Path, gate: Gate, world: dict[str, Any]
) -> None:
    plan, learns = plan_for(package, steps=LONG), Says()
    school = School(tmp_path, package, start=learns)
    school.asks(plan)
    before = {name: school.disk.read(name) for name in school.disk.names("")}
    async with school.at_work():
        await school.until(lambda: learns.born is not None)
        school.changes(**world)
        await school.until(lambda: school.runs == {"aborted": 1})
        assert gate.value in school.side.status().closed
        assert learns.born is not None
        assert learns.born.was_killed
    assert (school.told, school.book.waiting, school.book.last_seq(plan)) == ([], None, 0)
    assert {name: school.disk.read(name) for name in school.disk.names("")} == before


async def test_whoever_drives_off_waits_less_than_a_tenth_of_a_second(school: School, package: Path) -> None:
    school.asks(plan_for(package, steps=LONG))
    async with school.at_work():
        await school.until(lambda: school.trainer.pid is not None)
        pid = await busy(school.trainer)
        began_s = time.monotonic()
        school.changes(standing_ns=None)
        school.side.look()
        async with asyncio.timeout(5):
            while is_there(pid):
                await asyncio.sleep(0.001)
        took_s = time.monotonic() - began_s
    assert took_s <= ABORT_WITHIN_S, took_s


async def test_a_gate_that_nobody_tells_of_is_noticed_within_a_tenth_of_a_second(tmp_path: Path, package: Path) -> None:
    school = School(tmp_path, package, clock=SystemClock(), rules=replace(RULES, pause_s=0.0))
    school.asks(plan_for(package, steps=LONG))
    took_s = []
    async with school.at_work():
        for _ in range(3):
            school.world = FINE
            pid = await busy(school.trainer)
            began_s = time.monotonic()
            school.changes(heat=Heat.WARM)
            async with asyncio.timeout(5):
                while is_there(pid):
                    await asyncio.sleep(0.001)
            took_s.append(time.monotonic() - began_s)
    assert sorted(took_s)[1] <= ABORT_WITHIN_S, took_s


async def test_a_gate_that_shut_for_an_instant_has_ended_the_run(school: School, package: Path) -> None:
    school.asks(plan_for(package, steps=LONG))
    async with school.at_work():
        await school.until(lambda: school.trainer.pid is not None)
        pid = await busy(school.trainer)
        school.changes(standing_ns=None)
        school.side.look()
        school.world = FINE
        await school.until(lambda: school.runs == {"aborted": 1})
        assert not is_there(pid)


def answers(package: Path, then: Callable[[], None]) -> Says:
    """A trainer that answers as it is asked, and then something happens before anybody has heard it."""
    order, _, _ = order_for(plan_for(package), [example(number) for number in range(12)])
    return Says(*answer(order), then=then)


async def test_a_gate_that_shuts_in_the_instant_of_the_answer_shuts(tmp_path: Path, package: Path) -> None:
    def shuts() -> None:
        there.changes(heat=Heat.HOT)

    there = School(tmp_path, package, start=answers(package, shuts))
    there.asks(plan_for(package))
    async with there.at_work():
        await there.until(lambda: there.runs == {"aborted": 1})
    assert there.told == []
    assert there.book.last_seq(plan_for(package)) == 0


async def test_what_was_learned_from_what_is_purged_meanwhile_isnt_told(tmp_path: Path, package: Path) -> None:
    purges: list[asyncio.Future[None]] = []

    def purge() -> None:
        purges.append(asyncio.ensure_future(there.side.purge()))

    there = School(tmp_path, package, start=answers(package, purge))
    there.asks(plan_for(package))
    async with there.at_work():
        await there.until(lambda: there.runs == {"superseded": 1})
        await purges[0]
    assert there.told == []
    assert there.book.last_seq(plan_for(package)) == 0


async def test_a_run_that_takes_too_long_is_ended(tmp_path: Path, package: Path) -> None:
    school = School(tmp_path, package, rules=replace(RULES, longest_s=5.0))
    school.asks(plan_for(package, steps=LONG))
    async with school.at_work():
        await school.until(lambda: school.runs == {"aborted": 1})
        assert school.told == []
        # It would take as long again.
        await school.passes(2 * RULES.pause_s)
        assert school.runs == {"aborted": 1}
        assert "a run takes longer than 5 s here" in school.side.status().refusal
        school.asks(plan_for(package, name="lights-2", steps=LONG))
        await school.until(lambda: school.runs == {"aborted": 2})


async def test_a_plan_that_leads_to_infinity_is_given_up(tmp_path: Path, package: Path) -> None:
    school = School(tmp_path, package, start=Says(TrainerFault(Fault.MODEL, "went to infinity")))
    school.asks(plan_for(package))
    async with school.at_work():
        await school.until(lambda: school.runs == {"failed": 1})
        await school.passes(2 * RULES.pause_s)
        assert school.runs == {"failed": 1}
        assert "given up" in school.side.status().refusal


async def test_a_plan_that_ends_meanwhile_ends_the_run(school: School, package: Path) -> None:
    school.asks(plan_for(package, steps=LONG, not_after=1_800_000_000))
    async with school.at_work():
        await school.until(lambda: school.trainer.pid is not None)
        school.changes(trusted_s=1_800_000_001.0)
        await school.until(lambda: school.runs == {"aborted": 1})


async def test_what_was_learned_by_a_plan_that_is_gone_isnt_told(tmp_path: Path, package: Path) -> None:
    def another() -> None:
        there.asks(plan_for(package, name="lights-2"))

    there = School(tmp_path, package, start=answers(package, another))
    there.asks(plan_for(package))
    async with there.at_work():
        await there.until(lambda: there.runs == {"superseded": 1})
        assert there.told == []
    assert there.book.last_seq(plan_for(package)) == 0


async def test_the_end_of_the_agent_ends_the_run(school: School, package: Path) -> None:
    school.asks(plan_for(package, steps=LONG))
    async with school.at_work():
        await school.until(lambda: school.trainer.pid is not None)
        pid = await busy(school.trainer)
    assert not is_there(pid)
    assert school.book.waiting is None


# --- the way into the spool ---------------------------------------------------------------------------


async def test_until_the_spool_has_it_an_update_waits_and_is_offered_again_but_not_at_once(
    tutored_school: School, package: Path
) -> None:
    school = tutored_school
    school.takes = False
    school.asks(plan_for(package, updates=1))
    async with school.at_work():
        await school.until(lambda: len(school.offered) == 1)
        assert school.side.status().waiting
        await school.passes(OFFER_AGAIN_NS / SECOND_NS - 2)
        assert len(school.offered) == 1
        school.takes = True
        await school.until(lambda: len(school.told) == 1)
        await school.until(lambda: school.book.waiting is None)
        await school.passes(2 * OFFER_AGAIN_NS / SECOND_NS)
    assert len(school.told) == 1
    assert school.offered[0] == school.offered[1] == school.told[0]


async def test_a_start_hands_on_what_the_last_life_didnt(tutored_school: School, package: Path) -> None:
    school = tutored_school
    school.takes = False
    school.asks(plan_for(package, updates=1))
    async with school.at_work():
        await school.until(lambda: len(school.offered) == 1)
    school.takes = True
    school.open()
    async with school.at_work():
        await school.until(lambda: school.told == school.offered[:1])


async def test_an_update_whose_owner_took_the_consent_back_never_leaves(tutored_school: School, package: Path) -> None:
    school = tutored_school
    plan = plan_for(package, updates=1)
    school.takes = False
    school.asks(plan)
    async with school.at_work():
        await school.until(lambda: len(school.offered) == 1)
    school.may, school.takes = False, True
    school.open()
    async with school.at_work():
        await school.until(lambda: school.book.waiting is None)
        await school.passes(2)
    assert school.told == []
    assert school.book.owed(plan) == b""
    assert school.book.last_seq(plan) == 1, "what was told stays counted"


async def test_without_consent_no_example_is_kept(school: School) -> None:
    school.may = False
    async with school.at_work():
        school.side.take(example(99))
        await school.passes(2)
    assert school.store.counts().offered == 12


async def test_a_confirmed_example_is_kept_and_told_of(school: School) -> None:
    async with school.at_work():
        school.side.take(example(99))
        await school.until(lambda: sum(school.side.status().examples.values()) == 13)
    assert example(99) in school.store.read(NOW)


async def test_a_purge_ends_the_run_and_leaves_nothing_to_learn_from(school: School, package: Path) -> None:
    plan = plan_for(package, steps=LONG)
    school.asks(plan)
    async with school.at_work():
        await school.until(lambda: school.trainer.pid is not None)
        pid = await busy(school.trainer)
        await school.side.purge()
        await school.until(lambda: not is_there(pid))
        await school.until(lambda: "there are 0" in school.side.status().refusal)
    assert school.told == []
    assert school.book.owed(plan) == b""
    assert not [name for name in school.disk.names("") if name.endswith(".ex")]


def test_learning_is_a_purpose_of_its_own_and_off_by_default() -> None:
    from agent.config import AgentConfig

    config = AgentConfig()
    assert not config.learning.enabled
    assert Purpose.LEARNING not in config.privacy.consents
    assert FLOOR.enabled
