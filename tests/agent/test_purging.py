"""Purging as its operator does it: while the agent runs, and while it doesn't."""

from __future__ import annotations

import asyncio
import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agent.apiclient import NotDone, ask_purge
from agent.config import AgentConfig
from agent.daemon import Daemon
from agent.folders import SOCKET_NAME
from agent.purge import Held, PurgeLog, PurgeUnfinished, purposes_named
from agent.purging import Purger
from ecu.clock import SteppingClock
from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault
from ecu.errors import OutriderError, UsageFault
from ecu.keys import KeysTaken
from outrider import run
from telemetry.records import Lane, Purpose, VehicleSummary, record_of
from tests.agent.test_daemon import at_work

CONFIG = AgentConfig.model_validate(
    {"link": {"kind": "none"}, "privacy": {"consents": ["driving", "operation", "perception"]}}
)


TOLD = 3
"""Records of a short drive: one of the vehicle, one of the runtime's health, and where its clock stood."""


def drives(daemon: Daemon) -> None:
    daemon.keep([record_of(1, VehicleSummary({"Vehicle.Speed": 50.0}))])
    daemon.on_health("test", "something of the runtime's own")


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not reached():
            await asyncio.sleep(0.01)


def offered(daemon: Daemon) -> int:
    return sum(lane.offered for lane in daemon.status().spool.lanes)


def durable(daemon: Daemon) -> int:
    return sum(lane.durable for lane in daemon.status().spool.lanes)


def spooled_at_the_next_start(state: Path) -> int:
    gc.collect()  # the keys of the agent before are free
    return sum(lane.spooled for lane in Daemon(CONFIG, state, {}).status().spool.lanes)


async def purged_while_driving(state: Path) -> Any:
    daemon = Daemon(CONFIG, state, {})
    async with at_work(daemon):
        drives(daemon)
        await until(lambda: durable(daemon) == TOLD)
        purged = await asyncio.to_thread(ask_purge, state / SOCKET_NAME, ["driving"])
        status = daemon.status()
        assert status.law_1_holds
        assert sum(lane.erased for lane in status.spool.lanes) == 1
        drives(daemon)
        await until(lambda: durable(daemon) == TOLD + 2)
    return purged


async def test_a_running_agent_erases_what_it_has_for_a_purpose_and_goes_on(tmp_path: Path) -> None:
    state = tmp_path / "state"
    purged = await purged_while_driving(state)
    assert (purged["purposes"], purged["records"], purged["why"]) == (["driving"], 1, "asked")
    assert purged["keys_before"]["spool"] != purged["keys_after"]["spool"]
    assert spooled_at_the_next_start(state) == TOLD + 2  # and what was erased is told
    lines = [json.loads(line) for line in (state / "privacy" / "audit").read_text().splitlines()]
    assert [(line["event"], purged["name"] in line["detail"]) for line in lines] == [("purged", True)]


async def test_what_an_agents_purger_withholds_its_uplink_is_not_offered(tmp_path: Path) -> None:
    # Mutation: a purger that withholds nothing from the agent's own spool.
    daemon = Daemon(CONFIG, tmp_path, {})
    async with at_work(daemon):
        drives(daemon)
        await until(lambda: durable(daemon) == TOLD)
        keeper, purger = daemon._parts.keeper, daemon._parts._purger

        def offers_driving() -> bool:
            heads = [keeper.next_unsent(lane) for lane in Lane]
            return any(ref is not None and ref.purpose is Purpose.DRIVING for ref in heads)

        assert offers_driving()
        purger._withhold({Purpose.DRIVING})
        assert not offers_driving()
        purger._withhold(set())
        assert offers_driving()


async def test_what_waits_in_memory_for_its_commit_is_erased_too(tmp_path: Path) -> None:
    daemon = Daemon(CONFIG, tmp_path / "state", {})
    async with at_work(daemon):
        await until(lambda: offered(daemon) == 1)
        drives(daemon)
        purged = await asyncio.to_thread(ask_purge, tmp_path / "state" / SOCKET_NAME, ["all"])
        assert purged["records"] == TOLD
        lane = daemon.status().spool.lanes[Lane.P2]
        assert (lane.offered, lane.durable, lane.pending) == (1, 0, 0)


async def test_what_is_no_purpose_is_refused_by_a_running_agent_and_nothing_is_erased(tmp_path: Path) -> None:
    daemon = Daemon(CONFIG, tmp_path / "state", {})
    async with at_work(daemon):
        drives(daemon)
        await until((tmp_path / "state" / SOCKET_NAME).exists)
        with pytest.raises(NotDone, match="Did you mean driving"):
            await asyncio.to_thread(ask_purge, tmp_path / "state" / SOCKET_NAME, ["drivin"])
        await until(lambda: durable(daemon) == TOLD)
        assert daemon.status().spool.lanes[2].spooled == 1


def test_consent_taken_back_erases_at_the_next_start_what_was_kept_with_it(tmp_path: Path) -> None:
    state = kept(tmp_path)
    without = CONFIG.model_copy(update={"privacy": CONFIG.privacy.model_copy(update={"consents": {Purpose.OPERATION}})})
    after = Daemon(without, state, {}).status()
    lanes = after.spool.lanes
    assert (sum(lane.erased for lane in lanes), sum(lane.spooled for lane in lanes)) == (1, TOLD - 1)
    assert after.law_1_holds


# --- on the command line ----------------------------------------------------------------------------------------------


def said(capsys: pytest.CaptureFixture[str], state: Path, *more: str) -> Any:
    capsys.readouterr()
    assert run(["agent", "purge", "--state", str(state), "--yes", "--json", *more]) == 0
    return json.loads(capsys.readouterr().out)


def kept(tmp_path: Path) -> Path:
    async def life() -> None:
        daemon = Daemon(CONFIG, tmp_path / "state", {})
        async with at_work(daemon):
            drives(daemon)
            await until(lambda: durable(daemon) == TOLD)

    asyncio.run(life())
    gc.collect()
    return tmp_path / "state"


def test_without_an_agent_the_verb_purges_the_folder_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = kept(tmp_path)
    first = said(capsys, state, "--purpose", "driving", "--purpose", "SAFETY")
    assert (first["purposes"], first["records"]) == (["safety", "driving"], 1)
    assert said(capsys, state, "--purpose", "driving")["records"] == 0
    assert run(["agent", "purge", "--state", str(state), "--yes", "--purpose", "all"]) == 0
    assert f"Erased for safety, driving, perception, operation, learning: {TOLD - 1} records" in capsys.readouterr().out


def test_no_agent_can_start_while_the_verb_purges(tmp_path: Path) -> None:
    from ecu.keys import FileKeyStore

    state = kept(tmp_path)
    keys = FileKeyStore.open(state / "keys")
    with pytest.raises(KeysTaken):
        Daemon(CONFIG, state, {})
    with pytest.raises(KeysTaken):
        run(["agent", "purge", "--state", str(state), "--yes", "--purpose", "all"])
    del keys


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--purpose", "drving"], "Did you mean driving"),
        (["--purpose", "x1"], "There are safety"),
        (["--purpose", "all"], "add --yes"),
        (["--purpose", "all", "--yes"], "no agent's state"),
    ],
)
def test_what_cant_be_meant_is_refused_before_anything_is_touched(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    with pytest.raises(UsageFault, match=words):
        run(["agent", "purge", "--state", str(tmp_path / "nothing"), *arguments])
    assert not (tmp_path / "nothing").exists()


def test_all_names_every_purpose() -> None:
    assert purposes_named(["ALL"]) == set(Purpose)
    assert purposes_named(["Driving"]) == {Purpose.DRIVING}


# --- when flash refuses -----------------------------------------------------------------------------------------------


async def test_a_purge_that_flash_refuses_is_said_and_finished_by_the_next() -> None:
    book, erased, refuses = PurgeLog(CrashDisk(), SteppingClock(), lambda n: bytes(n)), list[Purpose](), [True]

    async def erase(purpose: Purpose) -> None:
        if refuses.pop():
            raise DiskFault("The medium failed.")
        refuses.append(False)
        erased.append(purpose)

    withheld: list[tuple[bool, set[Purpose]]] = []
    purger = Purger(book, Held, (erase,), lambda purposes: withheld.append((book.pending() is not None, set(purposes))))
    with pytest.raises(PurgeUnfinished, match=r"The medium failed\. What is left goes at the next start"):
        await purger.purge({Purpose.DRIVING})
    assert book.pending() is not None
    refuses.append(False)
    purged = await purger.purge({Purpose.SAFETY})
    assert erased == [Purpose.SAFETY, Purpose.DRIVING]
    assert purged.purposes == ("safety", "driving")
    assert book.pending() is None
    # From before the intent is durable until all is erased, over a purge that wasn't finished.
    assert withheld == [(False, {Purpose.DRIVING}), (True, {Purpose.DRIVING, Purpose.SAFETY}), (False, set())]
    assert isinstance(PurgeUnfinished("x"), OutriderError)
