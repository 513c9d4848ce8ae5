"""The ledger changes all counts of an update or none, whenever its writer is killed, and never invents a count."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ecu
from ecu.ledger import Ledger, LedgerTaken
from tests.ecu import ledger_writer

NAMES = ("offered", "kept", "dropped")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "counts"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(Ledger.open(path, NAMES, b"epoch 1")) as opened:
        yield opened


def test_a_new_ledger_counts_from_zero_and_lost_nothing(ledger: Ledger, path: Path) -> None:
    assert dict(ledger.values()) == {"offered": 0, "kept": 0, "dropped": 0}
    assert not ledger.was_lost
    assert Ledger.peek(path) == ledger.values()


counts = st.integers(0, 2**64 - 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(st.dictionaries(st.sampled_from(NAMES), counts, max_size=3), max_size=6))
def test_writer_reader_and_next_writer_agree(
    tmp_path_factory: pytest.TempPathFactory, updates: list[dict[str, int]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "counts"
    with closing(Ledger.open(path, NAMES, b"1")) as writer:
        expected = dict.fromkeys(NAMES, 0)
        for update in updates:
            writer.set(**update)
            expected |= update
            assert writer.values() == Ledger.peek(path) == expected
    with closing(Ledger.open(path, NAMES, b"1")) as again:
        assert again.values() == expected
        assert not again.was_lost


def test_deltas_go_both_ways(ledger: Ledger) -> None:
    ledger.add(offered=5, kept=5)
    ledger.add(kept=-2, dropped=2)
    assert dict(ledger.values()) == {"offered": 5, "kept": 3, "dropped": 2}


def test_an_impossible_update_changes_nothing(ledger: Ledger, path: Path) -> None:
    ledger.add(offered=1)
    with pytest.raises(ValueError, match="left"):
        ledger.add(offered=1, kept=-1)
    with pytest.raises(ValueError, match="left"):
        ledger.set(offered=2, kept=2**64)
    with pytest.raises(KeyError):
        ledger.add(offered=1, unknown=1)
    assert dict(Ledger.peek(path) or {}) == dict(ledger.values()) == {"offered": 1, "kept": 0, "dropped": 0}


def test_values_are_of_their_instant_and_frozen(ledger: Ledger) -> None:
    before = ledger.values()
    ledger.add(offered=1)
    assert before["offered"] == 0
    with pytest.raises(TypeError):
        before["offered"] = 7  # type: ignore[index]


def reopened(
    path: Path, names: tuple[str, ...] = NAMES, identity: bytes = b"epoch 1"
) -> tuple[bool, Mapping[str, int]]:
    with closing(Ledger.open(path, names, identity)) as again:
        return again.was_lost, again.values()


def test_another_identity_or_other_names_start_at_zero_and_say_so(path: Path) -> None:
    for names, identity in ((NAMES, b"epoch 2"), (("offered", "kept", "lost"), b"epoch 1"), (NAMES[:2], b"epoch 1")):
        path.unlink(missing_ok=True)
        with closing(Ledger.open(path, NAMES, b"epoch 1")) as ledger:
            ledger.add(offered=3)
        assert reopened(path, names, identity) == (True, dict.fromkeys(names, 0))
        assert reopened(path, names, identity) == (False, dict.fromkeys(names, 0))


@pytest.mark.parametrize("size", [1, 63, 100, 10_000])
def test_a_file_of_another_size_starts_at_zero_and_says_so(path: Path, size: int) -> None:
    path.write_bytes(b"x" * size)
    assert Ledger.peek(path) is None
    assert reopened(path) == (True, dict.fromkeys(NAMES, 0))


def test_names_that_are_no_text_are_no_ledger(ledger: Ledger, path: Path) -> None:
    """A camera's process writes its own ledger, and the agent reads it."""
    path.write_bytes(path.read_bytes().replace(b"offered", b"offer\xffd"))
    assert Ledger.peek(path) is None


def test_no_flipped_bit_is_ever_taken_for_another_count(path: Path) -> None:
    with closing(Ledger.open(path, NAMES, b"epoch 1")) as ledger:
        ledger.add(offered=1)
        ledger.add(offered=2, kept=1)
    good = path.read_bytes()
    for bit in range(0, len(good) * 8, 5):
        bad = bytearray(good)
        bad[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bad)
        lost, values = reopened(path)
        assert values["offered"] == (0 if lost else 3), bit


def test_one_writer_at_a_time(ledger: Ledger, path: Path) -> None:
    with pytest.raises(LedgerTaken, match="counts"):
        Ledger.open(path, NAMES, b"epoch 1")
    ledger.add(offered=1)
    assert (Ledger.peek(path) or {})["offered"] == 1


def test_nothing_there_is_none(path: Path) -> None:
    assert Ledger.peek(path) is None
    path.touch()
    assert Ledger.peek(path) is None


def test_a_name_twice_is_a_bug(path: Path) -> None:
    with pytest.raises(ValueError, match="twice"):
        Ledger.open(path, ("a", "a"), b"")


def conserved(values: Mapping[str, int]) -> bool:
    same = {values[name] for name in ("a", "b", "c", "d")}
    return values["offered"] == values["kept"] + values["dropped"] and len(same) == 1


def start_writer(path: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", ledger_writer.__name__, str(path), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, cwd=Path(ecu.__file__).parent.parent)


def after_its_end(writer: subprocess.Popen[bytes], path: Path) -> Mapping[str, int]:
    writer.communicate()
    assert writer.returncode == -signal.SIGKILL
    with closing(Ledger.open(path, ledger_writer.NAMES, b"test")) as after:
        assert not after.was_lost
        assert conserved(after.values())
        return after.values()


def test_a_writer_killed_at_any_moment_leaves_whole_counts_that_never_go_back(path: Path) -> None:
    rng, before = random.Random(7), 0
    for _ in range(8):
        writer = start_writer(path)
        assert writer.stdout is not None
        writer.stdout.readline()
        for _ in range(rng.randrange(1, 400)):
            seen = Ledger.peek(path)
            assert seen is not None
            assert conserved(seen)
        writer.kill()
        after = after_its_end(writer, path)
        assert after["a"] >= before
        before = after["a"]
    assert before > 1000


def test_a_writer_killed_at_any_line_of_an_update_leaves_that_update_whole_or_undone(tmp_path: Path) -> None:
    # The second update ends after some 49 lines: the kills fall all along its last part, up to the store and past it.
    writers = {lines: start_writer(tmp_path / str(lines), str(lines)) for lines in range(40, 52)}
    counted = [after_its_end(writer, tmp_path / str(lines))["a"] for lines, writer in writers.items()]
    assert counted == sorted(counted)
    assert set(counted) == {1, 2}


def test_a_reader_beside_a_busy_writer_sees_whole_instants_in_order(path: Path) -> None:
    stop = threading.Event()
    with closing(Ledger.open(path, ("x", "y"), b"")) as ledger:

        def count() -> None:
            while not stop.is_set():
                ledger.add(x=1, y=1)

        writer = threading.Thread(target=count)
        writer.start()
        last = 0
        for _ in range(300):
            seen = Ledger.peek(path)
            assert seen is not None
            assert seen["x"] == seen["y"] >= last
            last = seen["x"]
        stop.set()
        writer.join()
