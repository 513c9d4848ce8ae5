"""A GNSS receiver at the end of a real line: a pseudo-terminal, a pipe."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pty
import termios
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest

from ecu.clock import SECOND_NS, SteppingClock
from ecu.errors import UsageFault
from telemetry.signals.farend import SourceLost
from telemetry.signals.gnss import GnssSource, serial_line
from tests.telemetry.signals.test_nmea import GGA, RMC, sentence


@pytest.fixture
def line() -> Iterator[tuple[int, Path]]:
    """A receiver's end, and the path of ours."""
    far, near = pty.openpty()
    yield far, Path(os.ttyname(near))
    for fd in (far, near):
        with contextlib.suppress(OSError):
            os.close(fd)


async def test_a_receiver_at_a_serial_line_is_heard(line: tuple[int, Path]) -> None:
    far, path = line
    clock = SteppingClock(boot_ns=7 * SECOND_NS)
    source = GnssSource(serial_line(path, 115200), clock, Random(1), first_group=40)
    async with contextlib.aclosing(source.told()) as told:
        first = asyncio.ensure_future(anext(told))
        await asyncio.sleep(0)
        os.write(far, sentence("GPGSV,1,1,00") + sentence(RMC)[:20])
        await asyncio.sleep(0)
        os.write(far, sentence(RMC)[20:] + sentence(GGA))
        heard = await first
        columns = list(heard.columns)
        while len(columns) < 3:
            columns += (await anext(told)).columns
        assert [batch.group for batch in columns] == [40, 41, 42]
        assert heard.columns[0].t_ns.tolist() == [7 * SECOND_NS]
        assert heard.times[0].t_ns == 7 * SECOND_NS
        assert source.status().connected
    assert not source.status().connected


def test_a_line_is_set_to_its_speed_and_changes_no_byte(line: tuple[int, Path]) -> None:
    fd = serial_line(line[1], 38400)()
    iflag, oflag, cflag, lflag, ispeed, ospeed, _ = termios.tcgetattr(fd)
    assert (ispeed, ospeed) == (termios.B38400, termios.B38400)
    assert (iflag, oflag, lflag, cflag & termios.CSIZE) == (0, 0, 0, termios.CS8)
    os.close(fd)


def test_a_speed_that_no_receiver_has_is_refused_and_an_absent_line_is_lost(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="9600, 19200"):
        serial_line(tmp_path, 9601)
    with pytest.raises(SourceLost, match="No such file"):
        serial_line(tmp_path / "ttyGNSS")()


async def test_a_line_that_ends_is_counted_and_opened_again() -> None:
    far_ends: list[int] = []

    def opened() -> int:
        near, far = os.pipe2(os.O_NONBLOCK)
        far_ends.append(far)
        return near

    clock = SteppingClock()
    source = GnssSource(opened, clock, Random(1))
    async with contextlib.aclosing(source.told()) as told:
        for life in range(3):
            hearing = asyncio.ensure_future(anext(told))
            async with asyncio.timeout(10):
                while len(far_ends) <= life:
                    clock.advance(clock.boot_ns() + SECOND_NS)
                    await asyncio.sleep(0)
            os.write(far_ends[life], sentence(RMC))
            assert len((await hearing).columns) == 2
            assert (source.status().taken, source.status().losses) == (life + 1, life)
            os.close(far_ends[life])
