"""A trial is conducted one step after the other, whatever comes late, hangs, breaks or sleeps meanwhile.

A real signing desk, real slots and a real perception, whose camera and workers do what the test says.
"""

from __future__ import annotations

import asyncio
import shutil
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from agent.updates import (
    HINTS_APART_NS,
    MOST_DOUBLINGS,
    TICK_NS,
    NoWayBack,
)
from agent.updates.conduct import MOST_WORDS
from ecu.clock import SECOND_NS
from ota.kinds import Kind
from ota.machine import DEADLINES_NS, Event, State, Way
from ota.manifest import BLOCK_BYTES
from ota.source import Source
from tests.agent.puppets import PuppetWorker
from tests.agent.road import RULES, Road, denied, in_shadow, on_trial, taken_over
from tests.ota.changed import Changed, Open
from tests.ota.fleet import Fleet


async def test_what_is_told_late_of_an_earlier_trial_says_nothing_about_the_next(fleet: Fleet, tmp_path: Path) -> None:
    one, two = fleet.release("1.0", 1), fleet.release("2.0", 2)
    fleet.assign(one)
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road, "1.0")
        fleet.assign(two)
        await road.look_again()
        await road.until_noticed("inconclusive", "1.0")
        await road.look_again()
        await road.until_noticed("shadow", "2.0")
        first, second = road.overheard.watches
        first.crashed("late")
        first.unfit("late")
        await road.tick()
        assert road.notices[-1].what == "shadow"
        second.crashed("in time")
        assert (await road.until_noticed("rolled_back", "2.0")).words == "in time"


async def test_what_tells_states_is_tried_beside_the_live_model_and_judged_by_crops(
    fleet: Fleet, tmp_path: Path
) -> None:
    crops, state = (fleet.release("1.0", 1, kind=kind) for kind in (Kind.CROPS, Kind.STATE))
    fleet.assign(crops, state)
    async with on_trial(tmp_path, fleet) as road:
        await taken_over(road)
        live, candidate, judged_by = road.judge.asked[0]
        assert (live, judged_by) == (tmp_path, *road.updates.taken(Kind.CROPS))
        # The objects are found by what finds them for the live worker, too.
        tried = road.candidate
        assert tried.states == candidate == tmp_path / "updates/state/a/files"
        assert tried.package == road.stage.workers[0].package
        await road.proven()
        notice = await road.until_noticed("committed", "state drive")
        assert notice.kind is Kind.STATE
        assert road.updates.live_package(Kind.STATE) == candidate
        assert road.updates.live_package(Kind.MODEL) == tmp_path


async def test_of_two_kinds_one_is_tried_after_the_other(fleet: Fleet, tmp_path: Path) -> None:
    model, state = (fleet.release("1.0", 1, kind=kind) for kind in (Kind.MODEL, Kind.STATE))
    fleet.assign(model, state)
    async with on_trial(tmp_path, fleet, [PuppetWorker.loads] * 2) as road:
        await road.until_noticed("shadow", "model")
        await road.look_again()
        assert road.told("staged", "state") is None
        road.overheard.watches[0].crashed("it does")
        await road.until_noticed("rolled_back", "model")
        await road.look_again()
        assert (await road.until_noticed("shadow", "state")).kind is Kind.STATE
        # The one that was found worse is denied; the other goes on.
        assert [notice.what for notice in road.notices if notice.kind is Kind.STATE] == ["staged", "shadow"]


async def test_a_release_of_a_kind_that_this_vehicle_doesnt_run_isnt_looked_at(fleet: Fleet, tmp_path: Path) -> None:
    model, state = (fleet.release("1.0", 1, kind=kind) for kind in (Kind.MODEL, Kind.STATE))
    fleet.assign(state)
    async with on_trial(tmp_path, fleet, runs=[Kind.MODEL]) as road:
        await road.until(partial(has_looked, road, 1))
        assert road.notices == []
        assert road.updates.status().trouble == ""
        fleet.assign(state, model)
        await road.look_again()
        await road.until_noticed("shadow", "model")
        assert road.told("staged", "state") is None


async def test_a_trial_whose_kind_the_owner_turned_off_is_given_up_but_not_denied(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, kind=Kind.STATE))
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road)
    later = tmp_path / "later"
    shutil.copytree(tmp_path / "updates", later / "updates")
    async with on_trial(later, fleet, runs=[Kind.MODEL]) as road:
        over = await road.until_noticed("inconclusive", "state")
        assert over.words == "this vehicle runs no state any more"
        assert not denied(later, over)
        await road.look_again()
        assert road.overheard.watches == []


async def test_a_plan_takes_effect_as_soon_as_it_is_whole(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, kind=Kind.PLAN, files={"plan.json": b"{}"}))
    async with on_trial(tmp_path, fleet) as road:
        assert road.updates.taken(Kind.PLAN) == ()
        await road.until_noticed("committed", "plan")
        (folder,) = road.updates.taken(Kind.PLAN)
        assert (folder / "plan.json").read_bytes() == b"{}"


async def test_a_campaign_waits_for_no_trial_and_leaves_it_as_it_is(fleet: Fleet, tmp_path: Path) -> None:
    one = fleet.release("1.0", 1)
    fleet.assign(one)
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road, "1.0")
        fleet.assign(one, fleet.release("1.0", 1, kind=Kind.CAMPAIGN), fleet.release("1.0", 1, kind=Kind.PLAN))
        await road.look_again()
        await road.until_noticed("committed", "campaign")
        assert road.told("committed", "plan") is None
        road.judge.says(Event.UNDECIDED)
        await road.until_noticed("inconclusive", "1.0")
        await road.look_again()
        await road.until_noticed("committed", "plan")


async def test_a_trial_isnt_put_away_with_the_one_before_it(fleet: Fleet, tmp_path: Path) -> None:
    one, two = fleet.release("1.0", 1), fleet.release("2.0", 2)
    fleet.assign(one)
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road, "1.0")
        road.judge.may_go.clear()
        fleet.assign(two)
        await road.look_again()
        await road.judge.is_being_stopped.wait()
        await road.look_again()
        assert road.told("staged", "2.0") is None
        road.judge.may_go.set()
        await road.until_noticed("shadow", "2.0")
        trial = road.stage.perception.status().trial
        assert trial is not None
        assert trial.pid == road.candidate.pid


async def test_a_judge_with_a_bug_ends_the_work_and_not_in_silence(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road)
        road.judge.opinion.set_exception(ZeroDivisionError("a bug"))
        with pytest.raises(ExceptionGroup) as ended:
            await road.until(lambda: False)
        assert ended.group_contains(ZeroDivisionError, match="a bug")


async def test_at_the_end_the_judge_is_gone_before_anybody_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road)
        road.judge.may_go.clear()
        road.work.cancel()
        await road.judge.is_being_stopped.wait()
        assert not road.work.done()
        road.judge.may_go.set()
        await asyncio.wait({road.work})
        assert road.judge.is_gone.is_set()


# --- time ---------------------------------------------------------------------------------------------


async def test_a_computer_that_sleeps_spends_nothing_of_a_deadline(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road)
        await road.tick(2 * DEADLINES_NS[Way.BESIDE][State.SHADOW])
        road.judge.says(Event.UNDECIDED)
        await road.tick()
        assert "the judge says" in (await road.until_noticed("inconclusive")).words


@pytest.mark.parametrize("flow", [True, False])
async def test_a_state_lasts_as_long_as_its_deadline_in_seconds_with_frames(
    fleet: Fleet, tmp_path: Path, flow: bool
) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet, [PuppetWorker.hangs]) as road:
        await road.until_noticed("staged")
        await road.tick()
        for _ in range(DEADLINES_NS[Way.BESIDE][State.STAGED] // SECOND_NS):
            assert road.told("inconclusive") is None
            await road.frames(int(flow))
            await road.tick()
        over = road.told("inconclusive")
        assert (over is not None) == flow
        assert over is None or over.words == "staged lasted 600 s"


async def test_a_word_that_comes_with_the_deadline_comes_too_late(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet, [PuppetWorker.hangs]) as road:
        await road.until_noticed("staged")
        for _ in range(DEADLINES_NS[Way.BESIDE][State.STAGED] // SECOND_NS - 1):
            await road.frames(1)
            await road.tick()
        (watch,) = road.overheard.watches
        await road.frames(1)
        over = asyncio.create_task(road.tick())
        await asyncio.sleep(0)
        watch.loaded()
        await over
        await road.tick()
        assert road.notices[-1].what == "inconclusive"


async def test_a_candidate_is_kept_after_so_many_frames_of_its_own(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await road.frames(3 * RULES.prove_frames)
        await taken_over(road)
        await road.frames(RULES.prove_frames - 1)
        await road.tick()
        assert road.notices[-1].what == "switched"
        await road.proven()
        assert (await road.until_noticed("committed")).words == "10 frames live, 0 deaths"


async def test_an_opinion_waits_until_the_candidate_has_seen_enough_of_this_road(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await road.until_noticed("shadow")
        await road.judge.is_asked.wait()
        road.judge.says(Event.UNDECIDED)
        await road.frames(RULES.shadow_frames - 1)
        await road.tick()
        assert road.notices[-1].what == "shadow"
        await road.frames(1)
        await road.tick()
        assert "; 2 frames beside the live one" in (await road.until_noticed("inconclusive")).words


async def test_a_candidate_that_its_fleet_withdraws_goes_also_when_it_is_live_already(
    fleet: Fleet, tmp_path: Path
) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await taken_over(road)
        fleet.assign()
        await road.look_again()
        await road.frames(RULES.prove_frames)
        await road.tick()
        over = await road.until_noticed("inconclusive")
        assert over.words == "its fleet no longer wants it"
        assert not denied(tmp_path, over)
        assert road.stage.perception.status().trial is None
        assert road.told("committed") is None


async def test_what_is_live_no_longer_is_never_found_proven(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await taken_over(road)
        await road.stage.perception.swap()
        await road.frames(2 * RULES.prove_frames)
        await road.tick()
        assert road.notices[-1].what == "switched"


async def test_what_a_model_says_of_itself_comes_short_and_fit_for_a_terminal(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road)
        road.overheard.watches[0].unfit("\x1b[2J" + "no model " * 10_000)
        words = (await road.until_noticed("rolled_back")).words
        assert words.startswith("\\x1b[2Jno model")
        assert len(words) <= MOST_WORDS


# --- the swap -----------------------------------------------------------------------------------------


async def test_a_candidate_that_cant_take_over_in_time_decides_nothing(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road)
        candidate = road.candidate
        await road.frames(1, but=[candidate])
        road.judge.says(Event.PASSED)
        await road.tick()
        await road.until_noticed("switched")
        await road.tick()
        over = await road.until_noticed("inconclusive")
        assert over.words == "it couldn't take over within 0.2 s"
        assert not denied(tmp_path, over)
        await road.thread_idle()
        await road.frames(3)
        assert road.stage.perception.status().trial is None


async def test_where_the_good_model_cant_come_back_the_agent_ends_in_words(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet, [PuppetWorker.loads, PuppetWorker.loads, PuppetWorker.hangs]) as road:
        await taken_over(road)
        good = next(it for it in road.stage.workers[:2] if it.alive)
        started = len(road.stage.workers)
        good.dies()
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(road.stage.workers) == started + 1
        (watch,) = road.overheard.watches
        watch.crashed("again and again")
        with pytest.raises(ExceptionGroup) as ended:
            await road.until(lambda: False)
        assert ended.group_contains(NoWayBack, match="its next start begins with that model")
        rolled_back = road.told("rolled_back")
        assert rolled_back is not None
        assert rolled_back.words == "again and again"


# --- what flash did -----------------------------------------------------------------------------------


def damage(folder: Path) -> None:
    path = next(folder.iterdir())
    data = bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)


async def test_a_candidate_that_flash_has_damaged_is_given_up_but_not_denied(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1))
    async with on_trial(tmp_path, fleet) as road:
        await in_shadow(road)
        damage(road.judge.asked[0][1])
        road.judge.says(Event.FAILED)
        await road.tick()
        over = await road.until_noticed("inconclusive")
        assert "isn't what was installed" in over.words
        assert "the judge says failed" in over.words
        assert not denied(tmp_path, over)


@pytest.mark.parametrize("damaged", [True, False])
async def test_a_candidate_isnt_denied_for_what_flash_did_to_the_kept_model_beside_it(
    fleet: Fleet, tmp_path: Path, damaged: bool
) -> None:
    """Its worker loads both; which of the two it failed at, nobody knows."""
    model, state = (fleet.release("1.0", 1, kind=kind) for kind in (Kind.MODEL, Kind.STATE))
    fleet.assign(model)
    async with on_trial(tmp_path, fleet, [PuppetWorker.loads] * 2) as road:
        await taken_over(road)
        await road.proven()
        await road.until_noticed("committed", "model")
        fleet.assign(model, state)
        await road.look_again()
        await road.until_noticed("staged", "state")
        await road.thread_idle()
        if damaged:
            damage(road.updates.live_package(Kind.MODEL))
        road.overheard.watches[-1].unfit("the package is refused")
        over = await road.until_noticed("inconclusive" if damaged else "rolled_back", "state")
        assert "the package is refused" in over.words
        assert ("slot a of model" in over.words.lower()) == damaged
        assert denied(tmp_path, over) != damaged


@pytest.mark.parametrize("damaged", [True, False])
async def test_a_candidate_is_judged_by_the_signed_set_alone_and_not_by_what_flash_made_of_it(
    fleet: Fleet, tmp_path: Path, damaged: bool
) -> None:
    labelled, model = fleet.release("1.0", 1, b"frames", Kind.EVALUATION), fleet.release("1.0", 1)
    fleet.assign(labelled)
    async with on_trial(tmp_path, fleet) as road:
        await road.until_noticed("committed")
        folder = tmp_path / "updates/evaluation/a/files"
        if damaged:
            damage(folder)
        fleet.assign(labelled, model)
        await road.look_again()
        await road.until_noticed("shadow")
        await road.frames(RULES.shadow_frames)
        if damaged:
            await road.tick()
            assert "there is nothing to judge it by" in (await road.until_noticed("inconclusive")).words
        else:
            await road.judge.is_asked.wait()
        assert [evaluation for _, _, evaluation in road.judge.asked] == ([] if damaged else [folder])


async def test_while_a_model_is_tried_nothing_else_is_fetched(fleet: Fleet, tmp_path: Path) -> None:
    model, labelled = fleet.release("1.0", 1), fleet.release("1.0", 1, b"frames", Kind.EVALUATION)
    fleet.assign(model)
    source = Changed(fleet.source())
    async with on_trial(tmp_path, fleet, source=source) as road:
        await in_shadow(road)
        fleet.assign(model, labelled)
        source.asked.clear()
        await road.look_again()
        assert any(path == "director/timestamp.json" for path, _, _ in source.asked)
        assert not any(path.startswith("files/") for path, _, _ in source.asked)
        road.judge.says(Event.UNDECIDED)
        await road.tick()
        await road.until_noticed("inconclusive")
        await road.look_again()
        await road.until_noticed("committed")


# --- many releases ------------------------------------------------------------------------------------


def spoiled(*contents: bytes) -> Callable[[str, bytes], bytes]:
    return lambda path, data: bytes([data[0] ^ 1]) + data[1:] if data in contents else data


async def test_what_is_wrong_with_one_release_keeps_no_other(fleet: Fleet, tmp_path: Path) -> None:
    plan, model = fleet.release("1.0", 1, b"a plan", Kind.PLAN), fleet.release("1.0", 1)
    fleet.assign(plan, model)
    source = Changed(fleet.source(), spoiled(b"a plan"))
    async with on_trial(tmp_path, fleet, source=source) as road:
        await road.until_noticed("shadow", "model")
        assert "tampered" in road.updates.status().trouble
        road.overheard.watches[0].crashed("it does")
        await road.until_noticed("rolled_back", "model")
        await road.look_again()
        await road.until(partial(has_looked, road, 2))
        assert road.updates.status().looks == 2
        assert "tampered" in road.updates.status().trouble
        assert [notice.what for notice in road.notices].count("refused") == 1, "once for as long as it stays the same"


def has_looked(road: Road, times: int) -> bool:
    return road.updates.status().looks >= times


async def test_each_release_that_isnt_taken_is_told_and_the_first_is_shown(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, b"a plan", Kind.PLAN), fleet.release("1.0", 1, b"crops", Kind.CROPS))
    source = Changed(fleet.source(), spoiled(b"a plan", b"crops"))
    async with on_trial(tmp_path, fleet, source=source) as road:
        for looks in (1, 2):
            await road.until(partial(has_looked, road, looks))
            refused = [notice.words for notice in road.notices if notice.what == "refused"]
            assert len(refused) == 2
            assert road.updates.status().trouble == refused[0]
            await road.look_again()


@pytest.mark.parametrize(
    ("judge", "waits", "goes_on"),
    [(Kind.EVALUATION, Kind.MODEL, Kind.STATE), (Kind.CROPS, Kind.STATE, Kind.MODEL)],
)
async def test_a_release_waits_while_what_it_would_be_judged_by_cant_be_taken(
    fleet: Fleet, tmp_path: Path, judge: Kind, waits: Kind, goes_on: Kind
) -> None:
    labelled = fleet.release("1.0", 1, b"labels", judge)
    fleet.assign(labelled, *(fleet.release("1.0", 1, kind=kind) for kind in (waits, goes_on)))
    source = Changed(fleet.source(), spoiled(b"labels"))
    async with on_trial(tmp_path, fleet, source=source) as road:
        await road.until_noticed("shadow", goes_on)
        road.overheard.watches[0].crashed("it does")
        await road.until_noticed("rolled_back", goes_on)
        await road.look_again()
        assert road.told("staged", waits) is None


# --- the thread ---------------------------------------------------------------------------------------


class Gated(Open):
    """Stops after the first block of a bundle's file until `go`."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.given = 0
        self.looks = 0
        self.reached = threading.Event()
        self.go = threading.Event()

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        self.looks += path == "director/timestamp.json"
        for part in self._source.read(path, offset, most):
            if path.startswith("files/"):
                if self.given == BLOCK_BYTES:
                    self.reached.set()
                    self.go.wait(30)
                self.given += len(part)
            yield part


async def test_a_hint_that_comes_while_it_looks_is_a_reason_to_look_again(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, bytes(2 * BLOCK_BYTES)))
    source = Gated(fleet.source())
    async with on_trial(tmp_path, fleet, source=source) as road:
        assert await asyncio.to_thread(source.reached.wait, 30)
        assert road.updates.status().fetched == BLOCK_BYTES
        road.updates.hint()
        source.go.set()
        soon_ns = road.clock.boot_ns() + HINTS_APART_NS
        await road.until(lambda: soon_ns in road.clock.set_for)
        assert (source.looks, road.updates.status().fetched) == (1, 0)
        road.clock.advance(soon_ns)
        await road.until(lambda: soon_ns + HINTS_APART_NS in road.clock.set_for or source.looks == 2)
        await road.thread_idle()
        assert source.looks == 2
        road.clock.advance(soon_ns + HINTS_APART_NS)
        await road.thread_idle()
        assert source.looks == 2, "one hint, one look"


def sleeps_longer_than(road: Road, boot_ns: int) -> bool:
    return any(at > boot_ns for at in road.clock.set_for)


async def test_what_is_fetched_in_vain_is_fetched_again_later_and_later(fleet: Fleet, tmp_path: Path) -> None:
    """By the hour a spoiled source would cost a fleet its bytes for nothing."""

    def flipped(path: str, data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1]) if path.startswith("files/") else data

    fleet.assign(fleet.release("1.0", 1))
    source = Changed(fleet.source(), flipped)
    async with on_trial(tmp_path, fleet, source=source) as road:
        pauses = []
        for _ in range(7):
            began_ns = road.clock.boot_ns()
            await road.until(partial(sleeps_longer_than, road, began_ns + TICK_NS))
            until_ns = max(road.clock.set_for)
            pauses.append((until_ns - began_ns) / RULES.poll_ns)
            road.clock.set_for.clear()
            road.clock.advance(until_ns + HINTS_APART_NS)
            await road.thread_idle()
    for number, pause in enumerate(pauses, 1):
        assert 0.5 <= pause / 2 ** min(number, MOST_DOUBLINGS) <= 1.0, pauses


class LetGo(Gated):
    """Goes on when it is closed, too."""

    def close(self) -> None:
        self.go.set()


async def test_a_download_ends_with_the_agent_even_where_its_source_goes_on(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, bytes(8 * BLOCK_BYTES)))
    source = Gated(fleet.source())
    async with on_trial(tmp_path, fleet, source=source) as road:
        assert await asyncio.to_thread(source.reached.wait, 30)
        road.work.cancel()
        await asyncio.wait({road.work})
        source.go.set()
        await the_thread_ends()
    assert source.given == 2 * BLOCK_BYTES


async def test_a_read_that_waits_is_let_go_at_the_end(fleet: Fleet, tmp_path: Path) -> None:
    fleet.assign(fleet.release("1.0", 1, bytes(2 * BLOCK_BYTES)))
    source = LetGo(fleet.source())
    async with on_trial(tmp_path, fleet, source=source) as road:
        assert await asyncio.to_thread(source.reached.wait, 30)
        road.work.cancel()
        await asyncio.wait({road.work})
        await the_thread_ends()


async def the_thread_ends() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("updates"):
            await asyncio.to_thread(thread.join, 10)
            assert not thread.is_alive()
