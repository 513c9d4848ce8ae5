from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ecu.disk import DiskDenied
from ecu.errors import EXIT_ENVIRONMENT, EXIT_NO, EXIT_USAGE, OutriderError
from telemetry.records import Lane, Purpose
from telemetry.spool.cli import app
from telemetry.spool.inspection import SPOOL_FOLDER
from tests.telemetry.spool.rig import receipt_for, record
from tests.telemetry.spool.victim import open_spool


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """A spool that was closed in order: 6 records durable, 2 of them acknowledged."""
    state = tmp_path / "vehicle-state"
    spool, counters = open_spool(state)
    for number in range(4):
        spool.offer(record(number, purpose=Purpose(1 + number % 2)), number)
    spool.offer(record(4, Lane.P0), 4)
    spool.offer(record(5, Lane.P3), 5)
    batch = spool.take(0, everything=True)
    assert batch is not None
    spool.settle(spool.write(batch))
    ref = spool.next_unsent(Lane.P1, None)
    assert ref is not None
    spool.mark_sent(ref)
    spool.acknowledge(receipt_for(ref))
    spool.close()
    counters.close()
    return state


def outrider(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def told(result: Result) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(result.stdout)
    return document


def snapshot(state: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(state.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("verb", ["inspect", "verify"])
def test_looking_tells_where_every_record_is_and_touches_nothing(state: Path, verb: str) -> None:
    before = snapshot(state)
    result = outrider(verb, "--state", state, "--json")
    assert result.exit_code == 0
    document = told(result)
    lanes = {lane["lane"]: lane for lane in document["lanes"]}
    assert document["law_1_holds"]
    assert [lanes["P1"][what] for what in ("offered", "durable", "acknowledged", "spooled")] == [4, 4, 2, 2]
    assert lanes["P0"]["spooled"] == lanes["P3"]["segments"] == 1
    assert snapshot(state) == before


def test_people_and_scripts_hear_of_copies_and_of_what_is_not_told_yet(state: Path) -> None:
    pid = os.fork()
    if pid == 0:  # keys have one owner at a time
        spool, _ = open_spool(state)
        ref = spool.next_unsent(Lane.P1, None)
        assert ref is not None
        spool.quarantine(ref, "no")
        spool.close()
        os._exit(0)
    os.waitpid(pid, 0)
    document = told(outrider("inspect", "--state", state, "--json"))
    assert (document["untold"], document["copies"]) == (2, 1)
    words = outrider("inspect", "--state", state).stdout
    assert "untold  2 records" in words
    assert "copies  1 blocks" in words


def test_people_get_a_table(state: Path) -> None:
    result = outrider("inspect", "--state", state)
    assert result.exit_code == 0
    assert "it holds" in result.stdout


def test_a_running_agent_can_be_looked_at_and_its_memory_is_pending(tmp_path: Path) -> None:
    spool, counters = open_spool(tmp_path)
    spool.offer(record(1), 1)
    document = told(outrider("inspect", "--state", tmp_path, "--json"))
    assert [document["lanes"][1][what] for what in ("offered", "pending", "lost_in_crash")] == [1, 1, 0]
    batch = spool.take(0, everything=True)
    assert batch is not None
    written = spool.write(batch)
    assert outrider("verify", "--state", tmp_path).exit_code == 0
    spool.settle(written)
    assert outrider("verify", "--state", tmp_path).exit_code == 0
    counters.close()


def test_a_changed_byte_is_found_named_and_costs_exit_code_1(state: Path) -> None:
    segment = next((state / SPOOL_FOLDER).glob("p0-*.seg"))
    with segment.open("r+b") as file:
        file.seek(8192 + 100)
        file.write(b"\xff\x00\xff")
    result = outrider("verify", "--state", state, "--json")
    assert isinstance(result.exception, OutriderError)
    assert result.exception.exit_code == EXIT_NO
    [words] = told(result)["bad_blocks"]
    assert segment.name in words


def test_a_missing_segment_breaks_the_account_and_costs_exit_code_1(state: Path) -> None:
    next((state / SPOOL_FOLDER).glob("p3-*.seg")).unlink()
    result = outrider("inspect", "--state", state, "--json")
    assert isinstance(result.exception, OutriderError)
    assert result.exception.exit_code == EXIT_NO
    assert told(result)["lanes"][3]["quarantined"] == {"missing": 1}


def test_a_folder_without_a_spool_is_the_users_mistake(tmp_path: Path) -> None:
    result = outrider("inspect", "--state", tmp_path)
    assert isinstance(result.exception, OutriderError)
    assert result.exception.exit_code == EXIT_USAGE
    assert str(tmp_path) in str(result.exception)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_folder_of_somebody_else_is_the_environments_fault(state: Path) -> None:
    (state / SPOOL_FOLDER).chmod(0)
    try:
        result = outrider("inspect", "--state", state)
    finally:
        (state / SPOOL_FOLDER).chmod(0o700)
    assert isinstance(result.exception, DiskDenied)
    assert result.exception.exit_code == EXIT_ENVIRONMENT
