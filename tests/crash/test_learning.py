"""An update from its commit to the spool, through every power cut: told once, or never, and counted when it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from agent.children import Child
from agent.trainer.messages import Part, Train, Trained, What
from ecu.channel import Message
from ecu.crashdisk import CrashDisk, CrashState, violation
from ecu.disk import Disk
from ecu.twin import TwinRecord
from telemetry.federated.plan import LearningFloor, Plan
from telemetry.federated.update import ModelUpdate
from telemetry.records import Learned, Record
from tests.agent.puppets import Puppet
from tests.agent.schooling import School, is_signed
from tests.telemetry.federated.test_admission import PLAN as ANY_PLAN

In = TypeVar("In")
FLOOR = LearningFloor(enabled=True, min_examples=1)
PLAN: Plan = ANY_PLAN.model_copy(update={"parameters": 20, "updates": 3, "min_examples": 1})


class Scribe(Puppet):
    """A trainer whose every answer is another."""

    answers = 0

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        was_sent = super().send(message, descriptors)
        if isinstance(message, Train):
            Scribe.answers += 1
            payload, owed = b"payload %d" % Scribe.answers, bytes(4 * message.parameters)
            told = (Part(What.PAYLOAD, payload), Part(What.OWED, owed),
                    Trained(len(payload), len(owed), (1.0,), message.steps, 1))  # fmt: skip
            for part in told:
                asyncio.get_running_loop().call_soon(self.says, part)
        return was_sent


async def scribes(
    module: str, arguments: Sequence[str], accepts: Any, on_message: Callable[[Child[In], In], None],
    on_closed: Callable[[Child[In]], None], environment: Mapping[str, str],
) -> Child[In]:  # fmt: skip
    return Scribe(arguments, on_message, on_closed)


class DurableSpool:
    """What a spool is to an update: a list on the same disk that only grows."""

    def __init__(self, disk: Disk) -> None:
        self._twin = TwinRecord(disk, "spool", 8192)
        data = self._twin.read_both()
        self.updates: list[ModelUpdate] = msgspec.msgpack.decode(data, type=list[ModelUpdate]) if data else []

    async def keep(self, record: Record) -> bool:
        assert isinstance(record.event, Learned)
        updates = [*self.updates, record.event.update]
        self._twin.write_both(msgspec.msgpack.encode(updates))
        self.updates = updates
        return True


class SpooledSchool(School):
    """One whose spool lies on the disk too."""

    def open(self) -> None:
        self.spool = DurableSpool(self.disk)
        super().open()

    async def _keep(self, record: Record) -> bool:
        return await self.spool.keep(record)


def school(folder: Path, disk: Disk) -> SpooledSchool:
    return SpooledSchool(folder, folder, disk=disk, start=scribes, examples=1, floor=FLOOR)


async def life(there: SpooledSchool, disk: CrashDisk, upto: int) -> None:
    there.asks(PLAN)
    async with there.at_work():
        for seq in range(1, upto + 1):
            await there.until(lambda seq=seq: len(there.spool.updates) >= seq and there.book.waiting is None)  # type: ignore[misc]
            disk.mark(f"told {seq}")


async def settles(there: SpooledSchool) -> None:
    """A start without a plan: only what waits goes on."""
    async with there.at_work():
        await there.until(lambda: there.book.waiting is None)


def test_no_power_cut_tells_an_update_twice_or_counts_one_that_never_comes(tmp_path: Path) -> None:
    # Mutation: handing on before the commit; counting after it; forgetting what waits at a start.
    def scenario(disk: CrashDisk) -> None:
        asyncio.run(life(school(tmp_path, disk), disk, upto=2))
        (tmp_path / "plan.json").unlink()

    def law(state: CrashState) -> None:
        after = school(tmp_path, state.disk)
        asyncio.run(settles(after))
        told = {update.seq: update.payload for update in after.spool.updates}
        assert {(u.seq, u.payload) for u in after.spool.updates} == set(told.items()), "one seq, two changes"
        assert all(is_signed(update) for update in after.spool.updates)
        # What is counted was told, and what was told is counted.
        assert sorted(told) == list(range(1, after.book.last_seq(PLAN) + 1))
        promised = max((int(mark.split()[1]) for mark in state.acknowledged), default=0)
        assert after.book.last_seq(PLAN) >= promised
        assert after.book.told(1_800_000_000 // 86_400) == len(told)

    if cut := violation(scenario, law, CrashDisk()):
        pytest.fail(cut)


def test_the_law_would_notice_a_start_that_forgets_what_waits(tmp_path: Path) -> None:
    def scenario(disk: CrashDisk) -> None:
        asyncio.run(life(school(tmp_path, disk), disk, upto=1))

    def law(state: CrashState) -> None:
        after = school(tmp_path, state.disk)
        if after.book.waiting is not None:
            after.book.handed_on()
        assert len(after.spool.updates) == after.book.last_seq(PLAN)

    assert violation(scenario, law, CrashDisk()) is not None
