"""The launcher killed, or its disk failing, at each of its calls that change what is on flash: strace makes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.ota.launcher.garage import Garage, a_garage

CALLS = ("pwrite64", "fsync", "rename", "mkdir")
INJECTIONS = ("signal=KILL", "error=EIO", "error=ENOSPC")
MOST = 100
"""Beyond it, a run in which nothing more is injected was missed."""

pytestmark = pytest.mark.skipif(
    shutil.which("strace") is None, reason="strace isn't installed (apt-get install strace)"
)


def drive(garage: Garage, launch: bool, starts: list[str]) -> bool:
    """Until what is good runs, or the launcher is gone; whether it runs."""
    if launch:
        garage.launch()
    while True:
        started = garage.next_or_none()
        if started is None:
            return False
        if not started.trial:
            return True
        starts.append(started.trial)
        started.do("sys.exit(1)")
        started.gone()


def survives(folder: Path, call: str, inject: str, when: int) -> bool:
    """Whether the launcher came so far that something was injected."""
    folder.mkdir()
    with a_garage(folder) as garage:
        garage.install("a")
        garage.install("b")
        garage.write(good="a", trial="b", state="armed")
        log = folder / "strace"
        starts: list[str] = []
        garage.under = [
            "strace",
            "-D",
            "-qq",
            "-o",
            str(log),
            "-e",
            f"trace={call}",
            "-e",
            f"inject={call}:{inject}:when={when}",
        ]
        runs = drive(garage, True, starts)
        garage.under = []
        if not runs:
            assert drive(garage, True, starts), "after it was killed, what is good runs"
        # Counted before it is started: a kill between the two takes one away, and nothing gives one back.
        assert len(starts) <= 3
        assert starts == sorted(set(starts))
        assert garage.record()["good"] == "a"
        return "INJECTED" in log.read_text() or "KILL" in log.read_text()


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("inject", INJECTIONS)
@pytest.mark.parametrize("call", CALLS)
def test_whatever_call_fails_no_attempt_is_refunded_and_what_is_good_runs(
    tmp_path: Path, call: str, inject: str
) -> None:
    for when in range(1, MOST):
        if not survives(tmp_path / str(when), call, inject, when):
            return
    raise AssertionError(f"more than {MOST} calls of {call}")
