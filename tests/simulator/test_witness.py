"""The witness hears everything that was told, from agents that come and go, and no harm to a record escapes it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecu.channel import MAX_MESSAGE_BYTES, Message
from simulator.witness import UnfitWitness, compare, read_entries, read_log, running_witness
from telemetry.confirmations import MAX_BATCH, Confirmation, Confirmations, ConfirmationSocket

EPOCH = bytes(range(16))


def confirmation(seq: int, lane: int = 0, digest: bytes | None = None) -> Confirmation:
    return Confirmation(lane, EPOCH, seq, digest or seq.to_bytes(32, "big"))


def eventually(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    deadline = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < deadline, "it never became so"
        time.sleep(0.005)


def _command(folder: Path) -> list[str]:
    return [sys.executable, "-m", "simulator.witness", "--out", f"{folder}/log", "--socket", f"{folder}/w.sock"]


# --- the judgement ---------------------------------------------------------------------------------------------------

some = st.lists(st.integers(0, 500), min_size=1, max_size=40, unique=True).map(lambda seqs: [*map(confirmation, seqs)])


@given(some, st.randoms(use_true_random=False))
def test_what_is_stored_once_and_whole_is_well_in_any_order(told: list[Confirmation], rng: object) -> None:
    stored = sorted(told, key=lambda c: c.digest[::-1])
    report = compare(told, stored)
    assert report.ok
    assert (report.confirmed, report.stored, report.examples) == (len(told), len(told), ())


@given(some, st.data())
def test_one_lost_record_is_found(told: list[Confirmation], data: st.DataObject) -> None:
    lost = data.draw(st.sampled_from(told))
    report = compare(told, [c for c in told if c is not lost])
    assert (report.missing, report.duplicates, report.altered, report.ok) == (1, 0, 0, False)
    assert report.examples == (f"missing: lane P0, epoch 00010203, seq {lost.seq}",)


@given(some, st.data())
def test_one_record_stored_twice_is_found(told: list[Confirmation], data: st.DataObject) -> None:
    report = compare(told, [*told, data.draw(st.sampled_from(told))])
    assert (report.missing, report.duplicates, report.altered, report.ok) == (0, 1, 0, False)


@given(some, st.data())
def test_one_changed_byte_is_found(told: list[Confirmation], data: st.DataObject) -> None:
    victim = data.draw(st.sampled_from(told))
    stored = [c if c is not victim else msgspec.structs.replace(c, digest=b"x" * 32) for c in told]
    report = compare(told, stored)
    assert (report.missing, report.duplicates, report.altered, report.ok) == (0, 0, 1, False)


def test_one_name_confirmed_for_two_contents_is_found() -> None:
    told = [confirmation(1), confirmation(1, digest=b"x" * 32)]
    assert compare(told, told[:1]).altered == 1


def test_what_was_stored_without_a_confirmation_harms_nobody() -> None:
    report = compare([confirmation(1)], [confirmation(1), confirmation(2)])
    assert (report.extra, report.ok) == (1, True)


def test_lanes_and_epochs_are_worlds_of_their_own() -> None:
    other_epoch = msgspec.structs.replace(confirmation(1), epoch=b"\xff" * 16)
    assert compare([confirmation(1)], [confirmation(1, lane=1), other_epoch]).missing == 1


def test_a_witness_who_heard_nothing_proves_nothing() -> None:
    assert not compare([], []).ok


# --- the process -----------------------------------------------------------------------------------------------------


def test_all_that_was_told_is_in_the_log_across_an_agents_restarts(tmp_path: Path) -> None:
    told = [confirmation(seq, lane=seq % 4) for seq in range(3 * MAX_BATCH + 7)]
    with running_witness(tmp_path / "w.sock", tmp_path / "log"):
        for life in range(3):
            mouth = ConfirmationSocket(tmp_path / "w.sock")
            mouth.tell(told[life::3])
            mouth.close()
            assert (mouth.untold, mouth.waiting) == (0, 0)
    assert sorted(read_log(tmp_path / "log"), key=lambda c: c.seq) == told
    heard = [entry.heard_boot_ns for entry in read_entries(tmp_path / "log")]
    assert heard == sorted(heard)
    assert not (tmp_path / "w.sock").exists()


def test_a_killed_agents_last_words_are_heard(tmp_path: Path) -> None:
    agent = (
        "import os, sys; from pathlib import Path; from telemetry.confirmations import *\n"
        "ConfirmationSocket(Path(sys.argv[1])).tell([Confirmation(1, bytes(16), 5, b'd')])\n"
        "os.kill(os.getpid(), 9)"
    )
    with running_witness(tmp_path / "w.sock", tmp_path / "log"):
        died = subprocess.run([sys.executable, "-c", agent, str(tmp_path / "w.sock")], check=False)
    assert died.returncode == -signal.SIGKILL
    assert read_log(tmp_path / "log") == [Confirmation(1, bytes(16), 5, b"d")]


def test_each_batch_is_on_file_while_the_witness_still_runs(tmp_path: Path) -> None:
    with running_witness(tmp_path / "w.sock", tmp_path / "log") as process:
        mouth = ConfirmationSocket(tmp_path / "w.sock")
        mouth.tell([confirmation(1)])
        eventually(lambda: read_log(tmp_path / "log") == [confirmation(1)])
        process.kill()
        mouth.close()
    assert read_log(tmp_path / "log") == [confirmation(1)]


def test_without_a_lifeline_it_ends_on_sigterm_and_leaves_no_socket(tmp_path: Path) -> None:
    command = _command(tmp_path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "listening\n"
        mouth = ConfirmationSocket(tmp_path / "w.sock")
        mouth.tell([confirmation(1)])
        process.terminate()
        assert process.wait() == 0
        mouth.close()
    assert read_log(tmp_path / "log") == [confirmation(1)]
    assert not (tmp_path / "w.sock").exists()


def test_a_block_that_fails_still_ends_its_witness(tmp_path: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        running_witness(tmp_path / "w.sock", tmp_path / "log") as process,
    ):
        raise ZeroDivisionError
    assert process.returncode == 0


def test_a_name_that_is_taken_is_an_answer_not_a_trace(tmp_path: Path) -> None:
    (tmp_path / "w.sock").touch()
    command = _command(tmp_path)
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 3
    assert "can't go on" in run.stderr
    assert "Traceback" not in run.stderr


class Babble(Message, frozen=True, tag="babble"):
    """No witness knows it."""


def test_a_message_nobody_understands_makes_the_log_unfit(tmp_path: Path) -> None:
    with running_witness(tmp_path / "w.sock", tmp_path / "log"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as stranger:
            stranger.connect(str(tmp_path / "w.sock"))
            stranger.send(msgspec.msgpack.encode(Babble()))
        mouth = ConfirmationSocket(tmp_path / "w.sock")
        mouth.tell([confirmation(1)])
        mouth.close()
    with pytest.raises(UnfitWitness, match="Line 1"):
        read_log(tmp_path / "log")
    assert (tmp_path / "log").read_text().count("\n") == 2


@pytest.mark.parametrize("torn", range(1, 20, 6))
def test_a_torn_last_line_is_left_out_and_any_other_is_refused(tmp_path: Path, torn: int) -> None:
    whole = f"5 0 {EPOCH.hex()} 1 aa\n6 0 {EPOCH.hex()} 2 bb\n"
    log = tmp_path / "log"
    log.write_text(whole[:-torn])
    assert [c.seq for c in read_log(log)] == [1]
    log.write_text(whole[torn + 40 :] + whole)
    with pytest.raises(UnfitWitness):
        read_log(log)


# --- the agent's side ------------------------------------------------------------------------------------------------


def test_an_agent_without_a_witness_counts_what_it_could_not_tell(tmp_path: Path) -> None:
    mouth = ConfirmationSocket(tmp_path / "nobody.sock", capacity=10)
    mouth.tell(confirmation(seq) for seq in range(15))
    assert (mouth.told, mouth.waiting, mouth.untold) == (0, 10, 5)
    mouth.close()
    assert (mouth.told, mouth.waiting, mouth.untold) == (0, 0, 15)


def test_what_was_told_too_early_is_heard_by_a_witness_that_comes_later(tmp_path: Path) -> None:
    mouth = ConfirmationSocket(tmp_path / "w.sock")
    mouth.tell([confirmation(1)])
    with running_witness(tmp_path / "w.sock", tmp_path / "log"):
        mouth.tell([confirmation(2)])
        mouth.close()
    assert read_log(tmp_path / "log") == [confirmation(1), confirmation(2)]


def test_a_witness_that_does_not_read_never_blocks_the_agent(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as deaf:
        deaf.bind(str(tmp_path / "w.sock"))
        deaf.listen(1)
        mouth = ConfirmationSocket(tmp_path / "w.sock", capacity=2_000)
        total = 40_000
        for start in range(0, total, 1_000):
            mouth.tell([confirmation(seq) for seq in range(start, start + 1_000)])
        assert mouth.waiting == 2_000
        assert mouth.untold > 0
        assert mouth.told + mouth.waiting + mouth.untold == total
        mouth.close()


def test_an_agent_finds_a_restarted_witness_again(tmp_path: Path) -> None:
    mouth = ConfirmationSocket(tmp_path / "w.sock")
    for life in (1, 2):
        with running_witness(tmp_path / "w.sock", tmp_path / f"log{life}"):
            mouth.tell([confirmation(life)])
            mouth.flush()
    mouth.close()
    assert [read_log(tmp_path / f"log{life}") for life in (1, 2)] == [[confirmation(1)], [confirmation(2)]]


def test_a_witness_that_hangs_up_at_once_does_not_keep_the_agent(tmp_path: Path) -> None:
    mouth = ConfirmationSocket(tmp_path / "w.sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as rude:
        rude.bind(str(tmp_path / "w.sock"))
        rude.listen(1)
        mouth.tell([confirmation(1)])
        rude.accept()[0].close()
        mouth.tell([confirmation(2)])
        assert mouth.waiting == 1
    mouth.close()
    assert mouth.untold == 1


def test_the_largest_batch_fits_one_message() -> None:
    largest = Confirmation(3, b"\xff" * 16, (1 << 63) - 1, b"\xff" * 64)
    assert len(msgspec.msgpack.encode(Confirmations([largest] * MAX_BATCH))) < MAX_MESSAGE_BYTES // 2


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with running_witness(tmp_path / "w.sock", tmp_path / "log"):
        mouth = ConfirmationSocket(tmp_path / "w.sock")
        mouth.tell([confirmation(1)])
        mouth.close()
    assert len(os.listdir("/proc/self/fd")) == before
