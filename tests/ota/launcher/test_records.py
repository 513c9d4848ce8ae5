"""The launcher's records, read and written as the agent's, and what it decides by them.

Mutants of ota/launcher.py that these tests were seen to catch: a sync left out; the newest block not laid down before
the other is overwritten; a write to one twin.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
import sys
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.twin import TwinRecord
from ota import launcher
from ota.attempts import PROVES_NOTHING, Boot, verdict
from ota.launcher import Twin, begun, ended, is_to_be_tried, kept, packed, unpacked, why_rescue
from ota.machine import Event
from tests.ota.launcher.garage import LAUNCHER

ARMED = {
    "good": "a",
    "trial": "b",
    "state": "armed",
    "attempts": 0,
    "slots": {"a": {"digest": "aa"}, "b": {"digest": "bb"}},
    "words": "x" * 900,
}


def on_disk(*payloads: bytes) -> CrashDisk:
    disk = CrashDisk()
    disk.make_folder("runtime")
    for payload in payloads:
        TwinRecord(disk, "runtime/boot").write_both(payload)
    return disk.after_shutdown()


def armed() -> CrashDisk:
    return on_disk(packed(ARMED))


def half_armed() -> CrashDisk:
    """An agent was killed after it wrote that over a damaged twin, and before its sync."""
    disk = on_disk(b"{}")
    disk.flip_bit("runtime/boot.0", 100)
    disk.write_at("runtime/boot.0", 0, launcher.encode(2, packed(ARMED)))
    return disk


def count(disk: CrashDisk) -> None:
    twin = Twin(disk, "runtime/boot")
    twin.write(packed(begun(unpacked(twin.read()), "boot-1")))
    disk.mark("counted")


def read(disk: CrashDisk) -> Any:
    try:
        return unpacked(Twin(disk, "runtime/boot").read())
    except launcher.Lost as lost:
        raise AssertionError("both are lost") from lost


def counted_or_not(state: CrashState) -> None:
    """Once it is counted no flipped bit refunds it; and the agent reads what the launcher reads."""
    ours = read(state.disk)
    assert ours in ({}, ARMED, begun(ARMED, "boot-1"))
    if "counted" in state.acknowledged:
        for twin in ("runtime/boot.0", "runtime/boot.1"):
            state.disk.flip_bit(twin, 300)
            assert read(state.disk).get("attempts") == 1
            state.disk.flip_bit(twin, 300)
    assert json.loads(TwinRecord(state.disk, "runtime/boot").read_both() or b"") == ours == read(state.disk)


def test_an_attempt_is_counted_or_not_whenever_the_power_goes() -> None:
    assert violation(count, counted_or_not, armed()) is None
    assert violation(count, counted_or_not, half_armed()) is None


def test_no_sync_of_a_count_is_needless() -> None:
    needless = set(unnoticed_without(count, counted_or_not, half_armed))
    # Only where the file's own name wasn't durable yet, which an agent's first write alone can leave.
    assert needless == {"sync 1: sync_folder 'runtime'"}


def tried_again_and_again(disk: CrashDisk) -> int:
    """As the launcher does, with a release that always ends; how often it was started."""
    twin, starts = Twin(disk, "runtime/boot"), 0
    while is_to_be_tried(record := unpacked(twin.read())):
        twin.write(packed(begun(record, "boot-1")))
        starts += 1
        disk.mark(f"started {starts}")
        over = ended(unpacked(twin.read()), "exit 1")
        assert over is not None
        twin.write(packed(over))
    return starts


def test_no_power_cut_gives_a_release_a_fourth_attempt_or_makes_it_look_better() -> None:
    def law(state: CrashState) -> None:
        before = len(state.acknowledged)
        assert before + tried_again_and_again(state.disk) <= 3
        boots = [Boot(**boot) for boot in read(state.disk)["boots"]]
        assert len(boots) == 3
        # What was cut proves nothing; what came after it ended by itself, and counts.
        assert sum(not boot.is_fault for boot in boots) <= 1
        assert verdict(boots)[0] is Event.UNFIT

    def scenario(disk: CrashDisk) -> None:
        assert tried_again_and_again(disk) == 3

    assert violation(scenario, law, armed()) is None


def test_an_attempt_that_could_not_be_counted_leaves_a_record_that_reads_as_before_or_after() -> None:
    whole = armed()
    count(whole)
    for at in range(len(armed().calls), len(whole.calls)):
        disk = armed()
        disk.fail(at, OSError(28, "no space"))
        try:
            count(disk)
        except OSError:
            disk.heal()
            for state in (disk, disk.after_shutdown()):
                assert read(state) in (ARMED, begun(ARMED, "boot-1"))


@pytest.mark.parametrize("twin", ["runtime/boot.0", "runtime/boot.1"])
def test_no_flipped_bit_refunds_an_attempt_or_names_another_slot(twin: str) -> None:
    disk = armed()
    count(disk)
    for bit in range(0, 8 * 1200, 7):
        disk.flip_bit(twin, bit)
        assert read(disk) == begun(ARMED, "boot-1")
        disk.flip_bit(twin, bit)


def test_the_first_write_is_whole_or_never_was_whenever_the_power_goes() -> None:
    def write(disk: CrashDisk) -> None:
        Twin(disk, "runtime/launcher").write(b"first")
        disk.mark("written")

    def law(state: CrashState) -> None:
        read = TwinRecord(state.disk, "runtime/launcher").read()
        assert read in ((b"first",) if "written" in state.acknowledged else (None, b"first"))
        assert Twin(state.disk, "runtime/launcher").read() == read

    assert violation(write, law, on_disk()) is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.binary(max_size=60)), max_size=6))
def test_whatever_the_two_write_in_turn_each_reads_what_the_other_wrote(writes: list[tuple[bool, bytes]]) -> None:
    disk = on_disk()
    for by_launcher, payload in writes:
        (Twin(disk, "runtime/boot").write if by_launcher else TwinRecord(disk, "runtime/boot").write_both)(payload)
        assert Twin(disk, "runtime/boot").read() == payload
        assert TwinRecord(disk, "runtime/boot").read_both() == payload


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=64), st.integers(0, 9), st.integers(0, 8 * 4096 - 1))
def test_a_block_with_a_flipped_bit_is_never_another_one(payload: bytes, number: int, bit: int) -> None:
    block = bytearray(launcher.encode(number, payload))
    block[bit // 8] ^= 1 << bit % 8
    assert launcher.decode(bytes(block), number % 2) in (None, (number, payload))


def test_neither_twin_whole_is_told_from_never_written() -> None:
    disk = on_disk(b"{}")
    assert Twin(on_disk(), "runtime/boot").read() is None
    for twin in "01":
        disk.flip_bit(f"runtime/boot.{twin}", 100)
    with pytest.raises(launcher.Lost):
        Twin(disk, "runtime/boot").read()


# --- decisions -------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["a", "b", "armed", "trial"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "digest"]), inner),
    max_leaves=6,
)
KEYS = ("good", "trial", "state", "attempts", "slots", "boots", "bootable_from")


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(KEYS, JSON)))
@example({**ARMED, "attempts": 3})
def test_whatever_a_record_holds_something_is_started(record: dict[str, Any]) -> None:
    assert unpacked(packed(record)) == record
    assert kept(record)[-1] == "factory"
    assert all(isinstance(launcher.why_only_updates(record, slot), str) for slot in kept(record))
    assert all(slot == "factory" or launcher.digest_in(record, slot) or slot == record["good"] for slot in kept(record))
    if is_to_be_tried(record):
        assert record["trial"] in ("a", "b")
        after = begun(record, "boot-1")
        assert after["attempts"] == record["attempts"] + 1
        assert after["boots"][-1] == {"boot_id": "boot-1", "ended": ""}
        assert len(after["boots"]) <= launcher.MOST_BOOTS
        over = ended(after, "exit 1")
        assert over is not None
        assert over["boots"][-1]["ended"] == "exit 1"
    else:
        ended(record, "exit 1")


def test_a_record_says_all_that_it_said_before_but_what_an_attempt_changes() -> None:
    after = begun(ARMED, "boot-1")
    assert {key for key in after if after[key] != ARMED.get(key)} == {"state", "attempts", "boots"}


def test_an_attempt_that_is_over_is_over_once_and_none_is_over_without_a_trial() -> None:
    once = ended(begun(ARMED, "boot-1"), "exit 1")
    assert once is not None
    assert ended(once, "exit 2") is None
    assert ended({**begun(ARMED, "boot-1"), "state": "committed"}, "exit 1") is None


@given(st.lists(st.sampled_from(["", "stopped", "damaged", "hindered", "exit 1", "signal 9", "watchdog"]), max_size=8))
def test_only_an_end_of_its_own_is_held_against_a_release(ends: list[str]) -> None:
    event, words = verdict([Boot("boot", end) for end in ends])
    assert (event is Event.UNFIT) == any(end not in PROVES_NOTHING for end in ends)
    assert words


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "starts": JSON
            | st.lists(
                st.fixed_dictionaries(
                    {"of": st.just("a")},
                    optional=dict.fromkeys(
                        ("boot_id", "rescue", "ended", "began_s", "at_s", "ran_s"), JSON | st.just("x") | st.just(1.0)
                    ),
                )
            )
        },
    )
)
def test_whatever_the_book_of_starts_holds_something_is_started(book: dict[str, Any]) -> None:
    """A release may have written into it."""
    why_rescue(launcher.starts_of(book, "a"), "now", 20.0)


def test_nothing_that_nests_too_deep_stops_the_launcher() -> None:
    assert unpacked(b"[" * 4000) == unpacked(b'{"a":' * 800) == {}


def start(ended: str, boot: str = "now", at_s: float = 0.0, **others: Any) -> dict[str, Any]:
    return {"boot_id": boot, "ended": ended, "at_s": at_s, "ran_s": 1.0, "rescue": "", **others}


def test_the_third_crash_within_ten_minutes_is_a_reason_for_rescue_mode_and_no_end_in_order_is() -> None:
    crashes = [start("exit 1", at_s=at_s) for at_s in (0.0, 100.0, 200.0)]
    assert why_rescue(crashes, "now", 599.0)
    assert not why_rescue(crashes, "now", 601.0)
    assert not why_rescue(crashes[:2], "now", 200.0)
    for end in ("ready", "stopped", "again"):
        assert not why_rescue([start(end)] * 8, "now", 200.0)


def test_a_loop_of_reboots_counts_too_and_power_cuts_alone_need_five() -> None:
    once_each = [start("exit 1", boot) for boot in ("one", "two", "now")]
    assert why_rescue(once_each, "now", 20.0)
    assert not why_rescue(once_each[:2], "now", 20.0)
    assert not why_rescue([start("exit 1", "before")] * 3, "now", 20.0)
    cut = [start("", boot) for boot in "12345"]
    assert not why_rescue(cut[:4], "now", 20.0)
    assert why_rescue(cut, "now", 20.0)


def test_who_ran_well_for_ten_minutes_has_left_its_crashes_behind() -> None:
    crash = start("exit 1", "before")
    assert why_rescue([crash, crash, start("exit 1")], "now", 20.0)
    assert not why_rescue([crash, crash, start("stopped", "before", ran_s=700.0), start("exit 1")], "now", 20.0)


def test_rescue_mode_lasts_for_its_boot_unless_it_is_stopped_in_order() -> None:
    rescued = start("exit 75", rescue="it crashed", ran_s=5000.0)
    assert why_rescue([rescued], "now", 9000.0) == "it crashed"
    assert not why_rescue([rescued], "next", 20.0)
    crashes = [start("exit 1", at_s=8999.0)] * 3
    assert why_rescue([*crashes, rescued], "now", 9000.0)
    assert not why_rescue([*crashes, {**rescued, "ended": "stopped"}], "now", 9000.0)


def test_below_the_least_that_may_run_there_is_only_rescue_mode() -> None:
    record = {"slots": {"a": {"release": 4}, "b": {"release": 5}}, "bootable_from": 5}
    assert launcher.why_only_updates(record, "a")
    assert launcher.why_only_updates(record, "factory")
    assert not launcher.why_only_updates(record, "b")
    assert not launcher.why_only_updates({}, "factory")


def test_pauses_between_starts_grow_to_a_minute_and_the_first_is_none() -> None:
    pauses = [launcher.backoff_s(crashes, 1.0) for crashes in range(40)]
    assert pauses[:4] == [0.0, 2.0, 4.0, 8.0]
    assert all(a <= b for a, b in itertools.pairwise(pauses))
    assert pauses[-1] == 60.0


def test_a_late_runtime_is_late_for_what_it_was_to_do() -> None:
    watch = launcher.Watch(10.0, 5.0, 3.0, now_s=100.0)
    watch.hear({"WATCHDOG=1"}, 105.0)
    assert (watch.late(109.0), watch.late(110.0)) == ("", "not ready")
    watch.hear({"READY=1"}, 109.0)
    watch.hear({"STATUS=busy"}, 113.0)
    assert (watch.late(113.9), watch.late(114.0)) == ("", "watchdog")
    watch.ask(113.0)
    watch.hear({"WATCHDOG=1"}, 115.0)
    watch.ask(115.0)
    assert (watch.late(115.9), watch.late(116.0)) == ("", "ignored SIGTERM")


# --- frozen ----------------------------------------------------------------------------------------


def test_the_launcher_needs_nothing_but_pythons_own_library() -> None:
    imported = set[str]()
    for node in ast.walk(ast.parse(LAUNCHER.read_text())):
        if isinstance(node, ast.Import):
            imported |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            imported.add(node.module or "")
    assert {name.partition(".")[0] for name in imported} <= sys.stdlib_module_names


FROZEN = "872ea28ba0415a9b9bd3810dfd40b407c41b55324401a4633dc24ea1d3363cb1"


def test_the_launcher_is_frozen() -> None:
    """Vehicles in the field keep the launcher they were delivered with: no update replaces it. Whoever changes it
    changes new vehicles alone, and what it does to a record must stay what every release ever kept can read
    (docs/formats/boot-record.md). If that is meant: write the new digest here, and say in CHANGELOG.md what changed."""
    assert hashlib.sha256(LAUNCHER.read_bytes()).hexdigest() == FROZEN
