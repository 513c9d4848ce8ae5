"""Laws of the trial's table: no order of events keeps a release that didn't earn it, and every state has a way out."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.machine import DEADLINES_NS, RESTS, TRANSITIONS, Effect, Event, NoSuchStep, State, diagram, step

PATH = (Event.DOWNLOADED, Event.LOADED, Event.PASSED, Event.PROVEN)


def walked(events: list[Event]) -> list[tuple[State, tuple[Effect, ...]]]:
    """From a rest through those events that can happen; the states and effects on the way."""
    state, seen = State.COMMITTED, []
    for event in events:
        if (state, event) in TRANSITIONS:
            state, effects = step(state, event)
            seen.append((state, effects))
    return seen


@given(st.lists(st.sampled_from(list(Event)), max_size=30))
def test_no_order_of_events_commits_without_loading_passing_and_proving_in_this_order(events: list[Event]) -> None:
    path: list[Event] = []
    state = State.COMMITTED
    for event in events:
        if (state, event) not in TRANSITIONS:
            continue
        state, effects = step(state, event)
        path = [event] if event is Event.DOWNLOADED else [*path, event]
        if Effect.MARK_GOOD in effects:
            # Restarts begin again at loading: what counts is the way since the last one.
            last = len(path) - 1 - path[::-1].index(Event.RESTARTED) if Event.RESTARTED in path else 0
            assert tuple(path[last + 1 :]) == PATH[1:]


@pytest.mark.parametrize(
    ("state", "only"),
    [
        (State.SHADOW, {(State.STAGED, Event.LOADED)}),
        (State.SWITCHED, {(State.SHADOW, Event.PASSED)}),
        (State.COMMITTED, {(State.SWITCHED, Event.PROVEN)}),
    ],
)
def test_there_is_one_way_to_each_state_towards_being_kept(state: State, only: set[tuple[State, Event]]) -> None:
    assert {pair for pair, (after, _) in TRANSITIONS.items() if after is state} == only


@given(st.lists(st.sampled_from(list(Event)), max_size=30))
def test_floors_rise_only_with_a_commit_and_only_the_worse_is_denied(events: list[Event]) -> None:
    for state, effects in walked(events):
        assert (
            (Effect.RAISE_FLOOR in effects)
            == (Effect.MARK_GOOD in effects)
            == (state is State.COMMITTED and bool(effects))
        )
        assert (Effect.DENY in effects) == (state is State.ROLLED_BACK)


def test_every_state_under_trial_has_a_deadline_and_leaves_by_it() -> None:
    trying = set(State) - set(RESTS)
    assert set(DEADLINES_NS) == trying
    for state in trying:
        assert step(state, Event.EXPIRED)[0] is State.INCONCLUSIVE


def test_whatever_was_started_is_stopped_on_every_way_out() -> None:
    for (state, _), (after, effects) in TRANSITIONS.items():
        if after in RESTS and state not in RESTS:
            assert Effect.STOP_BESIDE in effects
        if after in RESTS and state is State.SWITCHED and after is not State.COMMITTED:
            assert Effect.SWITCH_BACK in effects


def test_inconclusive_never_denies_and_never_commits() -> None:
    for after, effects in TRANSITIONS.values():
        if after is State.INCONCLUSIVE:
            assert not {Effect.DENY, Effect.MARK_GOOD, Effect.RAISE_FLOOR} & set(effects)


def test_a_restart_is_counted_and_goes_back_to_loading() -> None:
    for state in set(State) - set(RESTS):
        after, effects = step(state, Event.RESTARTED)
        assert after is State.STAGED
        assert effects[0] is Effect.COUNT_ATTEMPT


def test_a_pair_that_isnt_in_the_table_is_a_bug() -> None:
    for state, event in itertools.product(State, Event):
        if (state, event) not in TRANSITIONS:
            with pytest.raises(NoSuchStep):
                step(state, event)


def test_the_diagram_holds_every_step() -> None:
    assert diagram().count("\n") == len(TRANSITIONS) + 1
