"""One kind's trial over flash: deadlines in powered time, attempts, and what stays of a trial in its record."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.clock import SECOND_NS
from ecu.crashdisk import CrashDisk
from ota.denied import Denied
from ota.floors import Floors
from ota.kinds import Kind
from ota.machine import DEADLINES_NS, RESTS, Effect, Event, State, Way
from ota.slots import Installed, Slots
from ota.trial import SAVE_EVERY_NS, Step, Trial

RELEASE = Installed("a" * 64, 1, "model drive 1.0 (release 1)")
WAY = {State.STAGED: (), State.SHADOW: (Event.LOADED,), State.SWITCHED: (Event.LOADED, Event.PASSED)}


def opened(disk: CrashDisk) -> Trial:
    return Trial(Slots(disk, Kind.MODEL), Floors(disk), Denied(disk), Kind.MODEL)


def staged(disk: CrashDisk) -> Trial:
    trial = opened(disk)
    trial.stage(trial.record.spare, RELEASE)
    return trial


def spent_until_it_expires(trial: Trial, powered_ns: int) -> tuple[int, Step]:
    for spent_ns in range(powered_ns, 2 * max(DEADLINES_NS[Way.BESIDE].values()), powered_ns):
        if (step := trial.spend(powered_ns)) is not None:
            return spent_ns, step
    raise AssertionError("it never expires")


@given(state=st.sampled_from(list(WAY)), seconds=st.integers(1, 900))
def test_a_state_is_left_when_its_powered_time_is_spent_and_not_before(state: State, seconds: int) -> None:
    disk = CrashDisk()
    trial = staged(disk)
    for event in WAY[state]:
        # What was spent in the states before counts in those alone.
        trial.spend(300 * SECOND_NS)
        trial.spend(SAVE_EVERY_NS - 1)
        trial.handle(event, "")
    assert trial.state is state
    spent_ns, step = spent_until_it_expires(trial, seconds * SECOND_NS)
    assert (step.event, step.state) == (Event.EXPIRED, State.INCONCLUSIVE)
    assert spent_ns - seconds * SECOND_NS < DEADLINES_NS[Way.BESIDE][state] <= spent_ns
    assert RELEASE.digest not in Denied(disk)


@given(seconds=st.integers(1, 60), before=st.integers(0, 500))
@settings(max_examples=30)
def test_a_kill_gives_back_no_more_than_what_wasnt_saved(seconds: int, before: int) -> None:
    disk = CrashDisk()
    trial = staged(disk)
    for _ in range(before // seconds):
        assert trial.spend(seconds * SECOND_NS) is None
    spent_ns = before // seconds * seconds * SECOND_NS
    again = opened(disk)
    saved_ns = again.record.spent_ns
    assert spent_ns - SAVE_EVERY_NS < saved_ns <= spent_ns
    assert spent_until_it_expires(again, SECOND_NS)[0] == DEADLINES_NS[Way.BESIDE][State.STAGED] - saved_ns


def test_a_rest_spends_nothing_and_writes_nothing() -> None:
    disk = CrashDisk()
    trial = staged(disk)
    trial.handle(Event.CANCELLED, "")
    calls = len(disk.calls)
    assert trial.spend(10 * max(DEADLINES_NS[Way.BESIDE].values())) is None
    assert len(disk.calls) == calls


def test_time_is_saved_no_more_often_than_it_has_to_be() -> None:
    disk = CrashDisk()
    trial = staged(disk)
    writes = len([call for call in disk.calls if call.act == "write_at"])
    for _ in range(100):
        trial.spend(SECOND_NS)
    saves = len([call for call in disk.calls if call.act == "write_at"]) - writes
    assert saves == 2 * 100 * SECOND_NS // SAVE_EVERY_NS, "once every so often, in both twins"


def test_whoever_runs_the_slots_is_asked_for_nothing_that_flash_has_done() -> None:
    done = {Effect.COUNT_ATTEMPT, Effect.MARK_GOOD, Effect.RAISE_FLOOR, Effect.DENY}
    for events in ((Event.LOADED, Event.FAILED), (Event.LOADED, Event.PASSED, Event.PROVEN)):
        trial = staged(CrashDisk())
        assert not done & {effect for event in events for effect in trial.handle(event, "").effects}


def test_what_was_undecided_is_in_no_slot_and_never_boots() -> None:
    for events in ((Event.CANCELLED,), (Event.UNFIT,), (Event.LOADED, Event.UNDECIDED)):
        disk = CrashDisk()
        trial = staged(disk)
        for event in events:
            trial.handle(event, "")
        assert trial.state in RESTS
        assert (trial.record.trial, trial.record.slots) == (None, {})
