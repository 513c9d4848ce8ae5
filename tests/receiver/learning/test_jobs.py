"""Heavy work beside the event loop: it answers, it fails in words, and it never outlives who asked."""

from __future__ import annotations

import asyncio
import errno
import multiprocessing
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest

from ecu.errors import OutriderError
from receiver.learning.jobs import JobFailed, Jobs, one_process


class Refused(OutriderError):
    """One of ours."""


def nice_and_pid(folder: str) -> tuple[int, int]:
    Path(folder, "begun").touch()
    return os.getpriority(os.PRIO_PROCESS, 0), os.getpid()


def refuse() -> None:
    raise Refused("Not so.")


def break_down() -> None:
    raise ZeroDivisionError("by nothing")


def end() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work_for_long(folder: str) -> None:
    Path(folder, "pid.part").write_text(str(os.getpid()))
    Path(folder, "pid.part").rename(Path(folder, "pid"))
    time.sleep(600)


def in_processes(longest_s: float = 60.0) -> Jobs:
    return Jobs(one_process, longest_s)


def begun_before() -> ProcessPoolExecutor:
    """With a process that has started: what time is left goes to the work, on a busy computer too."""
    executor = one_process()
    executor.submit(os.getpid).result()
    return executor


async def test_it_is_done_by_another_process_behind_everything_else(tmp_path: Path) -> None:
    nice, pid = await in_processes().run(nice_and_pid, str(tmp_path))
    assert pid != os.getpid()
    assert nice >= 10


async def test_the_loop_goes_on_meanwhile(tmp_path: Path) -> None:
    longest_s, last_s = 0.0, time.monotonic()
    job = asyncio.ensure_future(in_processes().run(nice_and_pid, str(tmp_path)))
    async with asyncio.timeout(60):
        while not job.done():
            await asyncio.sleep(0.001)
            longest_s, last_s = max(longest_s, time.monotonic() - last_s), time.monotonic()
    assert longest_s < 0.25


async def test_a_refusal_of_ours_comes_back_as_it_is_and_anything_else_in_words() -> None:
    with pytest.raises(Refused, match="Not so"):
        await in_processes().run(refuse)
    with pytest.raises(JobFailed, match="ZeroDivisionError: by nothing"):
        await in_processes().run(break_down)


async def test_a_process_that_is_killed_is_said_and_the_next_one_works(tmp_path: Path) -> None:
    jobs = in_processes()
    with pytest.raises(JobFailed, match="terminated abruptly"):
        await jobs.run(end)
    assert await jobs.run(nice_and_pid, str(tmp_path))


async def test_what_takes_too_long_is_ended(tmp_path: Path) -> None:
    pid = await long_worker(tmp_path, Jobs(begun_before, 3.0), cancel=False)
    assert is_gone(pid)


async def test_who_asked_can_give_up_and_nothing_works_on(tmp_path: Path) -> None:
    pid = await long_worker(tmp_path, in_processes(), cancel=True)
    assert is_gone(pid)


async def long_worker(folder: Path, jobs: Jobs, cancel: bool) -> int:
    """The process that worked, once `run` is over."""
    job = asyncio.ensure_future(jobs.run(work_for_long, str(folder)))
    # Polled: who reads a pipe that nobody opens any more can't be told to stop.
    async with asyncio.timeout(60):
        while not (folder / "pid").exists():
            await asyncio.sleep(0.005)
    pid = int((folder / "pid").read_text())
    if cancel:
        job.cancel()
    with pytest.raises(asyncio.CancelledError if cancel else JobFailed):
        await job
    return pid


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def hung_at_its_start() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), initializer=signal.pause)


async def test_a_process_that_hangs_before_it_begins_is_ended_too() -> None:
    async with asyncio.timeout(60):
        with pytest.raises(JobFailed, match="longer than 1 s"):
            await Jobs(hung_at_its_start, 1.0).run(nice_and_pid, "")
    assert multiprocessing.active_children() == []


def nothing_free() -> Executor:
    raise OSError(errno.EMFILE, "Too many open files")


def one_that_takes_nothing() -> Executor:
    executor = ThreadPoolExecutor(1)
    executor.shutdown()
    return executor


@pytest.mark.parametrize(
    ("make", "words"),
    [(nothing_free, "Too many open files"), (one_that_takes_nothing, "cannot schedule")],
    ids=["none_can_be_made", "it_takes_nothing"],
)
async def test_a_computer_that_cant_begin_the_work_has_failed_in_words(
    make: Callable[[], Executor], words: str
) -> None:
    with pytest.raises(JobFailed, match=words):
        await Jobs(make, 60.0).run(pow, 2, 10)


def run_out_of_time() -> None:
    raise TimeoutError("of its own")


async def test_a_time_out_of_the_works_own_is_no_limit_of_ours() -> None:
    with pytest.raises(JobFailed, match="TimeoutError: of its own"):
        await Jobs(lambda: ThreadPoolExecutor(1), 60.0).run(run_out_of_time)


async def test_any_executor_will_do() -> None:
    assert await Jobs(lambda: ThreadPoolExecutor(1), 60.0).run(pow, 2, 10) == 1024
