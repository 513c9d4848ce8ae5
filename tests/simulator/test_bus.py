"""The simulated bus as the process that it is, and a reader that can't keep up."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from random import Random

from ecu.channel import pair
from ecu.clock import SECOND_NS, SystemClock
from simulator.bus import main
from telemetry.signals.frames import concat
from telemetry.signals.recording import open_recording
from telemetry.signals.unixbus import UnixBus

RECORDING = Path(__file__).parents[2] / "simulator" / "drives" / "comma2k19-rav4.frames"


async def test_a_process_tells_a_second_of_the_recorded_minute_in_lockstep() -> None:
    ours, theirs = pair()
    command = [sys.executable, "-m", "simulator.bus", "--recording", str(RECORDING), "--fd", str(theirs.fileno())]
    process = await asyncio.create_subprocess_exec(*command, pass_fds=[theirs.fileno()])
    theirs.close()
    bus = UnixBus(lambda: ours, SystemClock(), Random(1))
    await bus.begin(0)
    frames = concat([await bus.advance(t_ns) for t_ns in range(0, SECOND_NS + 1, SECOND_NS // 10)])
    bus.close()
    assert await process.wait() == 0
    first = next(iter(open_recording(RECORDING.read_bytes()).chunks()))
    wanted = first.rows(first.t_ns <= first.t_ns[0] + SECOND_NS)
    assert len(frames) == len(wanted) > 2000
    assert (frames.data == wanted.data).all()
    assert (frames.can_id == wanted.can_id).all()


def test_what_is_wrong_is_said_by_its_exit_code(tmp_path: Path) -> None:
    nothing = ["--recording", str(RECORDING)]
    assert main(nothing) == 2
    assert main([*nothing, "--fd", "0", "--rate", "0"]) == 2
    assert main(["--recording", str(tmp_path / "gone"), "--fd", "0"]) == 3
    (tmp_path / "bad").write_bytes(b"bad")
    assert main(["--recording", str(tmp_path / "bad"), "--fd", "0"]) == 1
