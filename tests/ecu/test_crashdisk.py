"""The disk that loses power keeps what was promised, loses what wasn't, and shows every way of doing so."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk, CrashState, unnoticed_without, violation
from ecu.disk import DiskFault, DiskFull

Tree = dict[str, bytes]


class Killed(BaseException):
    """SIGKILL: nobody catches it."""


def tree(disk: CrashDisk, folder: str = "") -> Tree:
    found: Tree = {}
    for name in disk.names(folder):
        path = f"{folder}/{name}" if folder else name
        try:
            found[path] = disk.read(path)
        except DiskFault:
            raise
        except OSError:
            found |= tree(disk, path)
    return found


def trees(states: Iterable[CrashState]) -> list[Tree]:
    return [tree(state.disk) for state in states]


def durable(content: bytes = b"", name: str = "f") -> CrashDisk:
    """A disk on which `name` holds `content`, durably, and nothing is recorded yet."""
    disk = CrashDisk()
    disk.create(name)
    disk.write_at(name, 0, content)
    return disk.after_shutdown()


def test_nothing_done_leaves_what_was_there() -> None:
    assert trees(durable(b"old").after_crash()) == [{"f": b"old"}]


def test_an_unsynced_write_is_kept_lost_or_torn_from_either_side() -> None:
    disk = durable(b"......")
    disk.write_at("f", 0, b"abcdef")
    left = {state["f"] for state in trees(disk.after_crash())}
    assert left == {b"......", b"abcdef", b"a.....", b"abc...", b"abcde.", b".bcdef", b"...def", b".....f"}


def test_a_growing_write_may_leave_its_length_without_its_bytes() -> None:
    disk = durable(b"ab")
    disk.write_at("f", 0, b"ABCD")
    left = {state["f"] for state in trees(disk.after_crash())}
    assert {b"ab", b"ABCD", b"AB\0\0"} <= left


def test_long_writes_are_torn_at_sectors_and_pages_of_the_file() -> None:
    disk = durable(bytes(100) + b"." * 40_000)
    disk.write_at("f", 100, b"x" * 40_000)
    ends = {len(state["f"].rstrip(b".")) for state in trees(disk.after_crash())}
    assert {512, 4096, 39_936, 36_864, 101, 40_099, 20_100} <= ends


def test_synced_bytes_stay() -> None:
    disk = durable(b"old")
    disk.write_at("f", 0, b"new")
    disk.sync("f")
    disk.mark("synced")
    assert [tree(s.disk) for s in disk.after_crash() if "synced" in s.acknowledged] == [{"f": b"new"}]


def test_a_synced_file_vanishes_while_its_name_is_not_synced() -> None:
    disk = CrashDisk()
    disk.create("f")
    disk.write_at("f", 0, b"abc")
    disk.sync("f")
    disk.mark("synced")
    assert [tree(s.disk) for s in disk.after_crash() if "synced" in s.acknowledged] == [{"f": b"abc"}, {}]


def test_a_durable_name_may_lead_to_an_empty_file() -> None:
    disk = CrashDisk()
    disk.create("f")
    disk.write_at("f", 0, b"abc")
    disk.sync_folder("")
    disk.mark("named")
    left = [tree(s.disk) for s in disk.after_crash() if "named" in s.acknowledged]
    assert {"f": b""} in left
    assert {} not in left


def test_a_rename_happens_whole_or_not_at_all() -> None:
    disk = durable(b"old", "g")
    disk.create("f")
    disk.write_at("f", 0, b"new")
    disk.sync("f")
    disk.sync_folder("")
    disk.mark("before")
    disk.rename("f", "g")
    left = [tree(s.disk) for s in disk.after_crash() if "before" in s.acknowledged]
    assert left == [{"f": b"new", "g": b"old"}, {"g": b"new"}]


def test_a_later_write_may_overtake_an_earlier_one() -> None:
    disk = durable(b"..")
    disk.write_at("f", 0, b"a")
    disk.write_at("f", 1, b"b")
    assert {"f": b".b"} in trees(disk.after_crash())


def test_of_many_unsynced_writes_any_one_any_but_one_and_any_first_ones_may_be_left() -> None:
    disk = durable(bytes(10))
    for i in range(10):
        disk.write_at("f", i, b"x")
    disk.mark("now")
    left = {s.disk.read("f") for s in disk.after_crash(tail=2) if s.acknowledged}
    one = {bytes(i) + b"x" + bytes(9 - i) for i in range(10)}
    but_one = {b"x" * i + b"\0" + b"x" * (9 - i) for i in range(10)}
    first = {b"x" * i + bytes(10 - i) for i in range(11)}
    assert left == one | but_one | first


def test_an_unsynced_removal_may_come_back() -> None:
    disk = durable(b"abc")
    disk.remove("f")
    assert trees(disk.after_crash()) == [{"f": b"abc"}, {}]


def test_a_made_folder_is_durable_at_once() -> None:
    disk = CrashDisk()
    disk.make_folder("a/b")
    disk.mark("made")
    assert all(s.disk.names("a") == ["b"] for s in disk.after_crash() if "made" in s.acknowledged)


def test_after_a_failed_sync_no_later_sync_is_believed() -> None:
    disk = durable(b"old")
    disk.write_at("f", 0, b"new")
    disk.fail(lambda call: call.act == "sync", DiskFault("medium"))
    with pytest.raises(DiskFault):
        disk.sync("f")
    disk.heal()
    disk.sync("f")
    disk.mark("second sync")
    assert disk.read("f") == b"new"
    left = [tree(s.disk) for s in disk.after_crash() if "second sync" in s.acknowledged]
    assert {"f": b"old"} in left


def test_after_a_failed_sync_bytes_written_anew_are_durable() -> None:
    disk = durable(b"old")
    disk.write_at("f", 0, b"new")
    disk.fail(1, DiskFault("medium"))
    with pytest.raises(DiskFault):
        disk.sync("f")
    disk.write_at("f", 0, b"new")
    disk.sync("f")
    disk.mark("written anew")
    assert all(tree(s.disk) == {"f": b"new"} for s in disk.after_crash() if "written anew" in s.acknowledged)


def test_a_state_knows_what_was_acknowledged_before_it_and_nothing_else() -> None:
    disk = durable(b"..")
    disk.mark("one")
    disk.write_at("f", 0, b"a")
    disk.mark("two")
    seen = {(state.acknowledged, state.disk.read("f")) for state in disk.after_crash()}
    one, two = frozenset({"one"}), frozenset({"one", "two"})
    assert seen == {(frozenset(), b".."), (one, b".."), (one, b"a."), (two, b".."), (two, b"a.")}


def test_each_state_is_a_disk_of_its_own() -> None:
    disk = durable(b"old")
    disk.write_at("f", 0, b"new")
    states = list(disk.after_crash())
    states[0].disk.write_at("f", 0, b"xyz")
    assert states[1].disk.read("f") != b"xyz"
    assert disk.read("f") == b"new"
    assert {s.disk.read("f") for s in states[1].disk.after_crash()} == {states[1].disk.read("f")}


def test_an_error_on_command_leaves_half_a_write() -> None:
    disk = durable(b"....")
    disk.fail(0, DiskFull("full"))
    with pytest.raises(DiskFull):
        disk.write_at("f", 0, b"abcd")
    assert disk.read("f") == b"ab.."
    disk.write_at("f", 0, b"abcd")
    assert disk.read("f") == b"abcd"


def test_a_failed_create_leaves_no_name_but_a_crash_may_show_it() -> None:
    disk = CrashDisk()
    disk.fail(lambda call: call.act == "create", DiskFull("full"))
    with pytest.raises(DiskFull):
        disk.create("f", 8)
    assert disk.names("") == []
    assert {"f": bytes(4)} in trees(disk.after_crash())


def test_any_call_can_fail() -> None:
    disk = durable(b"abc")
    disk.make_folder("d")
    disk.fail(lambda call: True, DiskFault("medium"))
    for act in (
        lambda: disk.names(""),
        lambda: disk.size("f"),
        lambda: disk.read("f"),
        lambda: disk.read_at("f", 0, 1),
        lambda: disk.make_folder("e"),
        lambda: disk.create("g"),
        lambda: disk.write_at("f", 0, b"x"),
        lambda: disk.truncate("f", 0),
        lambda: disk.sync("f"),
        lambda: disk.sync_folder(""),
        lambda: disk.rename("f", "g"),
        lambda: disk.remove("f"),
    ):
        with pytest.raises(DiskFault):
            act()
    disk.heal()
    assert disk.names("") == ["d", "f"]


def test_a_killed_program_leaves_all_it_wrote_to_be_read() -> None:
    disk = durable(b"old")
    disk.fail(lambda call: call.act == "sync", Killed())
    disk.write_at("f", 0, b"new")
    with pytest.raises(Killed):
        disk.sync("f")
    assert disk.read("f") == b"new"


def test_a_flipped_bit_stays_flipped_whatever_is_lost() -> None:
    disk = durable(b"\0\0")
    disk.flip_bit("f", 9)
    disk.mark("flipped")
    assert {s.disk.read("f") for s in disk.after_crash() if s.acknowledged} == {b"\0\2"}
    disk.write_at("f", 0, b"\0\0")
    assert disk.read("f") == b"\0\0"


def test_an_orderly_end_leaves_one_state() -> None:
    disk = CrashDisk()
    disk.create("f")
    disk.write_at("f", 0, b"abc")
    assert trees(disk.after_shutdown().after_crash()) == [{"f": b"abc"}]


def test_a_state_tells_where_the_power_went_and_what_it_took() -> None:
    disk = CrashDisk()
    disk.create("f")
    disk.mark("made")
    disk.write_at("f", 0, b"abc")
    state = next(s for s in disk.after_crash() if s.at == 2 and s.disk.exists("f") and s.disk.read("f") == b"a")
    assert state.describe.splitlines() == [
        "power cut after call 1 (write_at 'f'); acknowledged: made",
        "  kept: name 'f'",
        "  torn: write to 'f' of [0:1]",
    ]


def test_a_rename_stays_in_one_folder() -> None:
    disk = durable(b"x")
    disk.make_folder("d")
    with pytest.raises(ValueError, match="one folder"):
        disk.rename("f", "d/f")


# --- the enumeration against a second opinion ---

Op = tuple[str, str, bytes]
ops = st.lists(
    st.tuples(st.sampled_from(["write", "sync", "name", "unname"]), st.sampled_from(["f", "g"]), st.just(b"x")),
    max_size=7,
)


def by_hand(script: list[Op]) -> set[frozenset[tuple[str, bytes]]]:
    """Every subset of what isn't synced, at every moment, computed without inodes or a log of effects.

    Both files exist at the start; the i-th write appends byte i; "unname" removes the name, "name" syncs the folder.
    """
    left: set[frozenset[tuple[str, bytes]]] = set()
    for moment in range(len(script) + 1):
        done = script[:moment]
        free = [
            i for i, (act, path, _) in enumerate(done) if act in ("write", "unname") and not _covered(done, i, path)
        ]
        always = {i for i, (act, _, _) in enumerate(done) if act in ("write", "unname")} - set(free)
        for size in range(len(free) + 1):
            for chosen in itertools.combinations(free, size):
                left.add(_result(done, always | set(chosen)))
    return left


def _covered(done: list[Op], i: int, path: str) -> bool:
    needed = ("sync", path) if done[i][0] == "write" else None
    return any(act == "name" if needed is None else (act, other) == needed for act, other, _ in done[i + 1 :])


def _result(done: list[Op], kept: set[int]) -> frozenset[tuple[str, bytes]]:
    contents = {"f": bytearray(8), "g": bytearray(8)}
    gone = set()
    for i in sorted(kept):
        act, path, _ = done[i]
        if act == "write":
            contents[path][i] = i + 1
        else:
            gone.add(path)
    return frozenset((path, bytes(content)) for path, content in contents.items() if path not in gone)


def _possible(script: list[Op]) -> list[Op]:
    """Without what can't be done: to a file whose name is gone."""
    gone: set[str] = set()
    kept = []
    for act, path, data in script:
        if act == "name" or path not in gone:
            kept.append((act, path, data))
        if act == "unname":
            gone.add(path)
    return kept


@given(ops)
def test_every_subset_of_what_is_not_synced_is_shown_and_nothing_else(script: list[Op]) -> None:
    script = _possible(script)
    disk = CrashDisk()
    for path in ("f", "g"):
        disk.create(path, 8)
    disk = disk.after_shutdown()
    for i, (act, path, _) in enumerate(script):
        if act == "write":
            disk.write_at(path, i, bytes([i + 1]))
        elif act == "sync":
            disk.sync(path)
        elif act == "name":
            disk.sync_folder("")
        else:
            disk.remove(path)
    shown = [frozenset(tree(state.disk).items()) for state in disk.after_crash(tail=8)]
    assert set(shown) == by_hand(script)
    assert len(shown) == len(set(shown))


# --- the mutation tester's tools ---


def careless(disk: CrashDisk) -> None:
    disk.write_at("f", 0, b"B")
    disk.mark("done")


def careful(disk: CrashDisk) -> None:
    disk.write_at("f", 0, b"B")
    disk.sync("f")
    disk.mark("done")


def superstitious(disk: CrashDisk) -> None:
    disk.sync_folder("")
    careful(disk)


def kept_once_done(state: CrashState) -> None:
    assert "done" not in state.acknowledged or state.disk.read("f") == b"B"


def test_a_broken_promise_is_described() -> None:
    found = violation(careless, kept_once_done, durable(b"A"))
    assert found is not None
    assert "lost: write to 'f' of [0:1]" in found
    assert violation(careful, kept_once_done, durable(b"A")) is None


def test_a_needed_sync_is_noticed_and_a_needless_one_named() -> None:
    assert unnoticed_without(careful, kept_once_done, lambda: durable(b"A")) == []
    assert unnoticed_without(superstitious, kept_once_done, lambda: durable(b"A")) == ["sync 0: sync_folder ''"]


def test_a_thousand_states_take_less_than_a_second() -> None:
    disk = CrashDisk()
    for i in range(9):
        disk.create(f"f{i}")
        disk.write_at(f"f{i}", 0, bytes([i]) * 3000)
    started = time.process_time()
    count = sum(1 for _ in disk.after_crash())
    assert count > 1_000
    assert count / (time.process_time() - started) > 1_000
