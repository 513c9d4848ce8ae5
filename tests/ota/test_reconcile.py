"""Laws of what a start makes of a system's trial, over every combination of our record and what the bootloader says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice, product

import pytest

from ota.kinds import Kind
from ota.machine import RESTS, WAYS, Event, State, can_happen
from ota.system.placed import Notes, Placed
from ota.system.port import Marking, Reading, SystemSlot
from ota.system.reconcile import Finding, Found, Known, may_be_called_good, reconcile, way_back

A, B = "rootfs.0", "rootfs.1"
NOW, BEFORE = "this boot", "an earlier boot"
GOOD, TRIAL, ONCE, GIVEN_UP = "good", "trial", "once", "given up"
STATES = [State.STAGED, State.ARMED, State.TRIAL, *RESTS]


def slot(name: str, content: str, runs: bool, is_bad: bool | None) -> SystemSlot:
    return SystemSlot(name, "rootfs", name[-1], "", runs, is_bad, content)


LYING = [
    (digest, content)
    for digest in ("", GOOD, TRIAL, ONCE, GIVEN_UP)
    for content in (f"image of {digest}" if digest else "", "by hand", "being written")
]
"""What was placed in a slot, and what lies in it now."""


def worlds(first: int = 0, each: int = 1) -> Iterator[tuple[Known, Reading]]:
    """Every combination, or one of `each`."""
    every = product(
        STATES, (A, B, "elsewhere"), [None, *LYING], [None, *LYING], (True, False, None), (True, False, None),
        ("", NOW, BEFORE), ("", GOOD), ((), (ONCE,)), (A, B, None),
    )  # fmt: skip
    for state, runs, in_a, in_b, bad_a, bad_b, told, good, once, primary in islice(every, first, None, each):
        slots = (slot(A, content(in_a), runs == A, bad_a), slot(B, content(in_b), runs == B, bad_b))
        placed = tuple(its for its in (placement(A, in_a), placement(B, in_b)) if its is not None)
        trial = None if state in RESTS else TRIAL
        yield Known(state, good, trial, frozenset(once), Notes(placed=placed, told=told)), Reading(slots, primary)


def content(lying: tuple[str, str] | None) -> str:
    return lying[1] if lying is not None and lying[1] != "being written" else ""


def placement(name: str, lying: tuple[str, str] | None) -> Placed | None:
    if lying is None:
        return None
    digest, what = lying
    whole = {name: f"image of {digest}"} if digest else {}
    return Placed(digest, name, None if what == "being written" else whole)


def holds(known: Known, reading: Reading, name: str) -> str:
    """What lies in the slot, by an oracle that knows the images."""
    found = reading.slot(name)
    placed = known.notes.of_slot(name)
    if found is None or placed is None or placed.images is None:
        return "unknown"
    return placed.digest if found.sha256 == (f"image of {placed.digest}" if placed.digest else "") else "unknown"


def only_what_runs_and_was_good_before_is_called_good(known: Known, reading: Reading, finding: Finding) -> None:
    for marking, name in finding.marks:
        if marking is Marking.GOOD:
            assert reading.booted is not None
            assert name == reading.booted.name
            never_placed = not known.notes.placed and not known.good
            assert never_placed or holds(known, reading, name) in ("", known.good, *known.once)


def a_trial_begins_only_of_what_was_armed_and_lies_whole_in_what_runs(
    known: Known, reading: Reading, finding: Finding
) -> None:
    if finding.event is Event.STARTED:
        assert reading.booted is not None
        assert known.state in (State.ARMED, State.TRIAL)
        assert holds(known, reading, reading.booted.name) == TRIAL
    good = may_be_called_good(known, reading)
    if good is not None:
        assert known.state is State.TRIAL
        assert reading.booted is not None
        assert (good, holds(known, reading, good)) == (reading.booted.name, TRIAL)


def only_what_had_all_its_starts_is_denied(known: Known, reading: Reading, finding: Finding) -> None:
    if finding.event is Event.UNFIT:
        placed = known.notes.of_release(TRIAL)
        assert placed is not None
        given_up = reading.slot(placed.slot)
        assert given_up is not None
        assert (known.state, known.notes.told) == (State.ARMED, BEFORE)
        assert given_up.is_bad
        assert not given_up.runs
        assert holds(known, reading, placed.slot) == TRIAL


def no_start_ever_decides_that_a_release_is_kept_and_each_event_can_happen(
    known: Known, reading: Reading, finding: Finding
) -> None:
    assert finding.event is not Event.PROVEN
    assert finding.event is None or can_happen(WAYS[Kind.SYSTEM], known.state, finding.event)
    assert finding.words


def whatever_the_bootloader_is_told_something_that_it_may_start_is_left(
    known: Known, reading: Reading, finding: Finding
) -> None:
    for marks in (finding.marks, way_back(known, reading)):
        bad = {name for marking, name in marks if marking is Marking.BAD}
        active = [name for marking, name in marks if marking is Marking.ACTIVE]
        assert not bad or active, "nothing is made unbootable without something else to start"
        for name in active:
            its = reading.slot(name)
            assert its is not None
            assert name not in bad
            assert its.runs or (not its.is_bad and holds(known, reading, name) == known.good)


def what_somebody_installed_by_hand_is_left_alone(known: Known, reading: Reading, finding: Finding) -> None:
    if finding.found in (Found.FOREIGN, Found.UNKNOWN):
        assert (finding.event, finding.marks, finding.restart) == (None, (), False)
    for marking, name in (*finding.marks, *way_back(known, reading)):
        if marking is Marking.BAD:
            placed = known.notes.of_slot(name)
            assert placed is not None
            assert placed.images is None or holds(known, reading, name) in (TRIAL, GIVEN_UP, GOOD, ONCE)
            assert not known.was_good(placed.digest)


Law = Callable[[Known, Reading, Finding], None]
LAWS: list[Law] = [
    only_what_runs_and_was_good_before_is_called_good,
    a_trial_begins_only_of_what_was_armed_and_lies_whole_in_what_runs,
    only_what_had_all_its_starts_is_denied,
    no_start_ever_decides_that_a_release_is_kept_and_each_event_can_happen,
    whatever_the_bootloader_is_told_something_that_it_may_start_is_left,
    what_somebody_installed_by_hand_is_left_alone,
]


@pytest.mark.parametrize("law", LAWS)
def test_it_is_a_law_that(law: Law) -> None:
    for known, reading in worlds(first=LAWS.index(law) * 307, each=2_003):
        law(known, reading, reconcile(known, reading, NOW))


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_all_laws_hold_in_every_combination() -> None:
    for known, reading in worlds():
        finding = reconcile(known, reading, NOW)
        for law in LAWS:
            law(known, reading, finding)


PLANTED: list[Callable[[Finding], Finding]] = [
    lambda finding: replace(finding, marks=((Marking.GOOD, A),)),
    lambda finding: replace(finding, event=Event.STARTED),
    lambda finding: replace(finding, event=Event.UNFIT),
    lambda finding: replace(finding, event=Event.PROVEN),
    lambda finding: replace(finding, marks=((Marking.BAD, B),)),
    lambda finding: replace(finding, restart=True),
]
"""One fault a law, in the laws' order."""


@pytest.mark.parametrize(("law", "fault"), list(zip(LAWS, PLANTED, strict=True)))
def test_a_planted_fault_breaks_its_law(law: Law, fault: Callable[[Finding], Finding]) -> None:
    def all_hold() -> None:
        for known, reading in worlds(each=2_003):
            law(known, reading, fault(reconcile(known, reading, NOW)))

    with pytest.raises(AssertionError):
        all_hold()


def found(
    state: State,
    runs: str = A,
    told: str = BEFORE,
    bad: bool | None = False,
    a: str = "image of good",
    b: str = "image of trial",
    placed: dict[str, str] | None = None,
) -> Finding:
    """`good` in A, and what was tried in B."""
    lies = {A: GOOD, B: TRIAL} if placed is None else placed
    notes = Notes(placed=tuple(Placed(what, at, {at: f"image of {what}"}) for at, what in lies.items()), told=told)
    known = Known(state, GOOD, None if state in RESTS else TRIAL, frozenset({ONCE}), notes)
    return reconcile(known, Reading((slot(A, a, runs == A, False), slot(B, b, runs == B, bad)), A), NOW)


@pytest.mark.parametrize(
    ("finding", "what", "event"),
    [
        (found(State.COMMITTED), Found.GOOD, None),
        (found(State.STAGED), Found.WAITS, None),
        (found(State.ARMED, told=""), Found.WAITS, None),
        (found(State.ARMED, told=NOW), Found.WAITS, None),
        (found(State.ARMED, told=NOW, bad=True), Found.WAITS, None),
        (found(State.ARMED, runs=B), Found.TRIAL, Event.STARTED),
        (found(State.ARMED, runs=B, told=""), Found.TRIAL, Event.STARTED),
        (found(State.ARMED, bad=True), Found.FELL_BACK, Event.UNFIT),
        (found(State.ARMED, bad=False), Found.FELL_BACK, Event.EXHAUSTED),
        (found(State.ARMED, bad=None), Found.FELL_BACK, Event.EXHAUSTED),
        (found(State.ARMED, b="by hand"), Found.REPLACED, Event.DAMAGED),
        (found(State.ARMED, runs=B, b="by hand"), Found.REPLACED, Event.DAMAGED),
        (found(State.TRIAL, runs=B), Found.TRIAL, Event.STARTED),
        (found(State.TRIAL, bad=True), Found.FELL_BACK, Event.EXHAUSTED),
        (found(State.TRIAL, runs=B, b="by hand"), Found.REPLACED, Event.DAMAGED),
        (found(State.COMMITTED, runs=B, b="by hand"), Found.FOREIGN, None),
        (found(State.COMMITTED, a="by hand"), Found.FOREIGN, None),
        (found(State.STAGED, runs=B), Found.UNASKED, None),
        (found(State.ROLLED_BACK, runs=B), Found.UNASKED, None),
        (found(State.COMMITTED, runs=B, b="image of once", placed={A: GOOD, B: ONCE}), Found.OLDER, None),
        (found(State.COMMITTED, runs="elsewhere"), Found.UNKNOWN, None),
    ],
)  # fmt: skip
def test_what_is_found_is_told_apart(finding: Finding, what: Found, event: Event | None) -> None:
    assert (finding.found, finding.event) == (what, event)


def test_what_was_given_up_goes_back_to_what_is_good_and_is_started_no_more() -> None:
    finding = found(State.ROLLED_BACK, runs=B)
    assert finding.marks == ((Marking.ACTIVE, A), (Marking.BAD, B))
    assert finding.restart


def test_what_was_delivered_is_good_until_something_else_is_kept() -> None:
    for runs, state in product((A, B), RESTS):
        known = Known(state, "", None, frozenset(), Notes())
        reading = Reading((slot(A, "", runs == A, False), slot(B, "", runs == B, False)), runs)
        assert reconcile(known, reading, NOW).found is Found.GOOD
