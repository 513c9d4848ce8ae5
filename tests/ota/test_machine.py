"""Laws of the trials' table: no order of events keeps a release that didn't earn it, and every state has a way out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.kinds import Kind
from ota.machine import (
    DEADLINES_NS,
    INWARD,
    RESTS,
    TRANSITIONS,
    WAYS,
    Effect,
    Event,
    NoSuchStep,
    State,
    Way,
    can_happen,
    diagram,
    states,
    step,
)

PATHS = {
    Way.BESIDE: (Event.LOADED, Event.PASSED, Event.PROVEN),
    Way.APPLIED: (Event.ADMITTED, Event.PROVEN),
    Way.STARTED: (Event.ALLOWED, Event.STARTED, Event.PROVEN),
    Way.BOOTED: (Event.INSTALLED, Event.STARTED, Event.PROVEN),
    Way.AT_ONCE: (),
}
"""What a release of that way has to go through between its download and its commit, in this order."""
TRYING = [Way.BESIDE, Way.APPLIED, Way.STARTED, Way.BOOTED]
ways = st.sampled_from(list(Way))
events = st.lists(st.sampled_from(list(Event)), max_size=30)


def walked(way: Way, events: list[Event]) -> list[tuple[State, Event, State, tuple[Effect, ...]]]:
    """From a rest through those events that can happen."""
    state, seen = State.COMMITTED, []
    for event in events:
        if can_happen(way, state, event):
            after, effects = step(way, state, event)
            seen.append((state, event, after, effects))
            state = after
    return seen


@given(ways, events)
def test_no_order_of_events_commits_without_the_whole_way_in_its_order(way: Way, events: list[Event]) -> None:
    path: list[Event] = []
    for before, event, after, effects in walked(way, events):
        # Going back to a state begins its part of the way again.
        back = before not in RESTS and after is State.STAGED
        path = [] if event is Event.DOWNLOADED or back else [*path, event] if after is not before else path
        if Effect.MARK_GOOD in effects:
            assert tuple(path) == PATHS[way]


@pytest.mark.parametrize("way", TRYING)
def test_there_is_one_way_to_each_state_towards_being_kept(way: Way) -> None:
    state = State.STAGED
    for event in PATHS[way]:
        after = step(way, state, event)[0]
        ways_in = {pair for pair, (to, _) in TRANSITIONS[way].items() if to is after and pair[0] is not after}
        assert ways_in == {(state, event)}
        state = after
    assert state is State.COMMITTED


@given(ways, events)
def test_floors_rise_only_with_a_commit_and_only_the_worse_is_denied(way: Way, events: list[Event]) -> None:
    for _, _, after, effects in walked(way, events):
        assert (Effect.RAISE_FLOOR in effects) == (Effect.MARK_GOOD in effects) == (after is State.COMMITTED)
        assert (Effect.DENY in effects) == (after is State.ROLLED_BACK)


def trying(way: Way) -> set[State]:
    return states(way) - set(RESTS)


@pytest.mark.parametrize("way", Way)
def test_every_state_under_trial_has_a_deadline_and_leaves_by_it(way: Way) -> None:
    assert set(DEADLINES_NS[way]) == trying(way)
    for state in trying(way):
        assert step(way, state, Event.EXPIRED)[0] is State.INCONCLUSIVE


@pytest.mark.parametrize("way", Way)
def test_every_trial_can_be_cancelled_but_one_that_was_started(way: Way) -> None:
    for state in trying(way) - {State.TRIAL}:
        assert step(way, state, Event.CANCELLED)[0] is State.INCONCLUSIVE
    assert not can_happen(way, State.TRIAL, Event.CANCELLED)


@pytest.mark.parametrize("way", Way)
def test_whatever_was_started_is_stopped_on_every_way_out(way: Way) -> None:
    undone = {
        Way.BESIDE: {state: {Effect.STOP_BESIDE} for state in State}
        | {State.SWITCHED: {Effect.STOP_BESIDE, Effect.SWITCH_BACK}},
        Way.APPLIED: {state: {Effect.SWITCH_BACK} for state in State},
        Way.STARTED: {State.TRIAL: {Effect.RESTART}},
        Way.BOOTED: {state: {Effect.SWITCH_BACK} for state in (State.STAGED, State.ARMED)}
        | {State.TRIAL: {Effect.SWITCH_BACK, Effect.RESTART}},
        Way.AT_ONCE: {},
    }[way]
    for (state, _), (after, effects) in TRANSITIONS[way].items():
        if state in RESTS or after not in RESTS:
            continue
        due = undone.get(state, set())
        assert (due - {Effect.SWITCH_BACK, Effect.RESTART} if after is State.COMMITTED else due) <= set(effects)


def test_inconclusive_never_denies_and_never_commits() -> None:
    for steps in TRANSITIONS.values():
        for after, effects in steps.values():
            if after is State.INCONCLUSIVE:
                assert not {Effect.DENY, Effect.MARK_GOOD, Effect.RAISE_FLOOR} & set(effects)


@pytest.mark.parametrize("way", [Way.BESIDE, Way.APPLIED])
def test_a_restart_is_counted_and_goes_back_to_the_beginning(way: Way) -> None:
    for state in trying(way):
        after, effects = step(way, state, Event.RESTARTED)
        assert after is State.STAGED
        assert effects[0] is Effect.COUNT_ATTEMPT


@given(st.lists(st.sampled_from([Event.ALLOWED, Event.RESTARTED]), max_size=30))
def test_what_is_armed_and_never_started_is_counted_too(events: list[Event]) -> None:
    """Or an agent that no launcher starts would begin again for ever."""
    seen = walked(Way.STARTED, [Event.DOWNLOADED, *events])
    armed = [after for _, _, after, _ in seen].count(State.ARMED)
    counted = sum(Effect.COUNT_ATTEMPT in effects for *_, effects in seen)
    assert armed - counted in (0, 1)


def test_a_pair_that_isnt_in_the_table_is_a_bug() -> None:
    for way, state, event in itertools.product(Way, State, Event):
        if not can_happen(way, state, event):
            with pytest.raises(NoSuchStep):
                step(way, state, event)


def test_every_kind_has_a_way_and_every_effect_a_place() -> None:
    assert set(WAYS) == set(Kind)
    used = {effect for steps in TRANSITIONS.values() for _, effects in steps.values() for effect in effects}
    assert used == set(Effect)
    assert used > INWARD


@pytest.mark.parametrize("way", Way)
def test_the_diagram_holds_every_step(way: Way) -> None:
    assert diagram(way).count("\n") == len(TRANSITIONS[way]) + 1
