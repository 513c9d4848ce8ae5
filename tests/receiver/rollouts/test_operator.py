"""A rollout by its command line, against a receiver that runs."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from ecu.clock import SteppingClock
from ecu.errors import UsageFault
from receiver import cli
from receiver.rollouts.answers import RoleLine, RolloutLine, StratumLine
from receiver.rollouts.approval import make_key
from receiver.rollouts.rules import Rules
from receiver.rollouts.statusview import show_repository, show_rollouts
from tests.ota.fleet import NOW_NS, Fleet
from tests.receiver.fleet import VEHICLE, a_receiver, a_vehicle, until


async def told(*arguments: str) -> Any:
    """What the verb prints as JSON; raises what it raises."""

    def run(asked: Sequence[str]) -> Any:
        result = CliRunner().invoke(cli.app, list(asked))
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        assert result.exit_code == 0, result.output
        return msgspec.json.decode(result.stdout)

    return await asyncio.to_thread(run, arguments)


async def test_two_people_and_a_vehicle_by_command_line(tmp_path: Path, published: Fleet) -> None:
    fleet = published.copy(tmp_path / "fleet")
    # A repository of today: the receiver's clock is the computer's.
    fleet.clock = SteppingClock(wall_ns=time.time_ns())
    for name in ("anna", "ben"):
        make_key(name, tmp_path / "people")
    target = "model/drive-2.0.json"
    keys, people = str(tmp_path / "fleet/keys"), str(tmp_path / "people")
    async with a_receiver(tmp_path, updates=str(fleet.repo), director_keys=keys, operators=people) as receiver:
        await a_vehicle(receiver, tmp_path)
        at = ("--state", str(tmp_path / "receiver"), "--json")
        (line,) = await told("rollout", "start", "r1", "--target", target, "--by", "anna", *at)
        assert (line["state"], line["strata"][0]["size"]) == ("proposed", 1)
        for who, happened in (("anna", False), ("ben", True)):
            key = str(tmp_path / f"people/{who}.pem")
            answer = await told("rollout", "approve", "r1", "--by", who, "--key", key, *at)
            assert answer["happened"] is happened
        await until(lambda: fleet.director.vehicles() == [VEHICLE])
        assert fleet.director.assignment(VEHICLE).targets == (target,)
        (line,) = await told("rollout", "status", "r1", *at)
        assert line["signed"] == {"approve": ["anna", "ben"]}
        roles = await told("rollout", "director", *at)
        assert {"timestamp", "model", "director root"} < {role["role"] for role in roles}
        assert not any(role["words"] for role in roles)
        (line,) = await told("rollout", "pause", "r1", "--by", "ben", *at)
        assert line["state"] == "paused"
        (line,) = await told("rollout", "cancel", "r1", "--by", "ben", *at)
        assert line["state"] == "cancelled"
        await until(lambda: fleet.director.assignment(VEHICLE).targets == ())
        shown = await asyncio.to_thread(CliRunner().invoke, cli.app, ["rollout", "status", *at[:2]])
        assert "cancelled" in shown.output


async def test_a_receiver_that_is_no_director_starts_nothing(tmp_path: Path) -> None:
    async with a_receiver(tmp_path):
        with pytest.raises(UsageFault, match="director_keys"):
            await told("rollout", "start", "r1", "--target", "model/x-1.0.json", "--by", "anna",
                       "--state", str(tmp_path / "receiver"), "--json")  # fmt: skip


def a_line(state: str = "running", alarm: str = "", held_up: str = "") -> RolloutLine:
    strata = [StratumLine("aarch64-qcs6490", 6000, 60, 52, 44, 44, 40, 1, 0, 1),
              StratumLine("x86_64", 10_000, 10_000, 10_000, 9_998, 9_998, 9_800, 189, 9, 0)]  # fmt: skip
    return RolloutLine(
        "r7", state, "model/drive-detect-2.0.json", "ab" * 32, 7, "anna", NOW_NS, 0, 1.0, NOW_NS, "it soaks", 2.3,
        200.0, 1, 1.02, 41, 5, {"approve": ["anna", "ben"]}, strata, Rules(), held_up, alarm,
    )  # fmt: skip


@pytest.mark.parametrize("width", [80, 120])
def test_a_status_says_all_of_it_in_eighty_columns(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    show_rollouts([a_line(alarm="189 of 9998 failed", held_up="word " * 30), a_line("done")], console)
    show_repository([RoleLine("director root", NOW_NS, ""), RoleLine("timestamp", NOW_NS, "it ends")], console)
    text = console.export_text()
    assert all(len(line.rstrip()) <= width for line in text.splitlines())
    assert "…" not in text
    for word in ("aarch64-qcs6490", "undecided", "10,000", "189 of 9998 failed", "ab" * 32, "director root",
                 "anna, ben", "It ends"):  # fmt: skip
        assert word in text
