"""The redactor is kept down for as long as it takes, and what the agent counted meanwhile is told."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from simulator.demo.blackout import Blackout, Darkness

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]


class Agent:
    """Starts a redactor anew whenever it is gone. It is ready `ready_after` looks later, and an event comes each look
    from the tenth on. One `waits` from before, and is dropped then."""

    def __init__(self, ready_after: int = 10**6, counts_drops: bool = True, waits: bool = False) -> None:
        self._lives = ExitStack()
        self._redactor: subprocess.Popen[bytes] | None = self._born()
        self._ready_after = ready_after
        self._counts_drops = counts_drops
        self._waits = waits
        self.settled_at = 0
        self._young = 0
        self._wanted = 0
        self._ready = True
        self.looks = 0
        self.started = 1

    def _born(self) -> subprocess.Popen[bytes]:
        return self._lives.enter_context(subprocess.Popen(SLEEP))

    def pictures(self) -> dict[str, object]:
        self.looks += 1
        assert self._redactor is not None
        if self._redactor.poll() is not None:
            self._redactor, self._ready, self._young = self._born(), False, 0
            self.started += 1
        self._young += 1
        self._ready = self._ready or self._young > self._ready_after
        if self.looks > 10 and not self._ready:
            self._wanted += 1
        return {"pid": self._redactor.pid, "model": "face-blur" if self._ready else None, "counts": self._counted()}

    def _counted(self) -> dict[str, object]:
        waiting = int(self._waits and self.looks <= 10)
        late = int(self._waits) - waiting
        dropped = {"too_many": 1, "no_redactor": self._wanted + late if self._counts_drops else 0}
        return {"wanted": 5 + self._wanted, "taken": 4, "pictures": 4, "dropped": dropped, "waiting": waiting}

    def drive_s(self) -> float:
        return self.looks / 10

    def newest_frame(self) -> int:
        return self.looks

    async def settled(self) -> None:
        self.settled_at = self.looks

    async def darken(self, within_s: float = 20.0, for_s: float = 1.0) -> Blackout | None:
        return await Darkness(self.pictures, self.drive_s, self.newest_frame, self.settled, within_s).fall(for_s)

    def close(self) -> None:
        if self._redactor is not None:
            self._redactor.kill()
        self._lives.close()


@pytest.fixture
def agent() -> Iterator[Agent]:
    agent = Agent(ready_after=3)
    yield agent
    agent.close()


async def test_whoever_comes_back_too_early_is_killed_again(agent: Agent) -> None:
    dark = await agent.darken()
    assert dark is not None
    assert dark.kills >= 5
    assert dark.back
    assert dark.taken == 0
    assert dark.wanted > 0
    assert dark.all_counted
    assert len(dark.frames) >= 10
    assert dark.frames.start > agent.settled_at > 0


async def test_a_blackout_lasts_until_a_picture_was_wanted(agent: Agent) -> None:
    dark = await agent.darken(for_s=0.0)
    assert dark is not None
    assert dark.wanted > 0


async def test_one_that_waited_when_it_fell_dark_has_to_be_counted_too() -> None:
    agent = Agent(ready_after=3, waits=True)
    dark = await agent.darken()
    agent.close()
    assert dark is not None
    assert dark.all_counted
    assert dark.dropped == dark.wanted


async def test_where_it_never_gets_dark_there_is_no_blackout() -> None:
    async def settled() -> None: ...

    working = {"pid": None, "model": "face-blur", "counts": {"wanted": 0, "waiting": 0, "taken": 0, "dropped": {}}}
    assert await Darkness(lambda: working, lambda: 0.0, lambda: 0, settled, within_s=0.1).fall(1.0) is None


async def test_a_drop_that_nobody_counts_is_noticed() -> None:
    agent = Agent(ready_after=3, counts_drops=False)
    dark = await agent.darken()
    agent.close()
    assert dark is not None
    assert not dark.all_counted


async def test_one_that_never_comes_back_is_told() -> None:
    agent = Agent()
    dark = await agent.darken(within_s=2.0)
    agent.close()
    assert dark is not None
    assert not dark.back


async def test_without_an_agent_there_is_no_blackout() -> None:
    async def settled() -> None: ...

    assert await Darkness(dict, lambda: 0.0, lambda: 0, settled, within_s=0.1).fall(1.0) is None
