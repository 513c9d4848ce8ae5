"""Laws of urgency, on real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ecu.urgency import Urgency, may_prefer, prefer

TWO_THREADS = "import threading, sys; threading.Thread(target=sys.stdin.read).start(); print(flush=True)"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[str]]:
    """With two threads, until its standard input ends."""
    with subprocess.Popen(
        [sys.executable, "-c", TWO_THREADS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.readline()
        yield child
        child.communicate()


def threads_of(pid: int) -> list[int]:
    return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]


def urgency_of(thread: int) -> tuple[int, int, int]:
    return (
        os.sched_getscheduler(thread),
        os.sched_getparam(thread).sched_priority,
        os.getpriority(os.PRIO_PROCESS, thread),
    )


def test_an_urgency_goes_to_every_thread_of_a_process_and_back(process: subprocess.Popen[str]) -> None:
    if not may_prefer():
        pytest.skip("this user may not make processes more urgent (CAP_SYS_NICE)")
    threads = threads_of(process.pid)
    assert len(threads) > 1
    for urgency in (*Urgency, Urgency.ORDINARY):
        assert prefer(process.pid, urgency)
        policy = os.SCHED_FIFO if urgency.realtime else os.SCHED_OTHER
        given = {urgency_of(thread) for thread in threads}
        # A kernel may have no real time to give; then the niceness counts.
        assert given in ({(policy, urgency.realtime, urgency.niceness)}, {(os.SCHED_OTHER, 0, urgency.niceness)})


def test_who_may_not_prefer_is_told_so_and_nothing_breaks(process: subprocess.Popen[str]) -> None:
    program = (
        "import os, sys\n"
        "from ecu.urgency import Urgency, may_prefer, prefer\n"
        "if os.getuid() == 0: os.setuid(65534)\n"
        "print(may_prefer(), prefer(os.getpid(), Urgency.ROAD), prefer(os.getpid(), Urgency.PATIENT))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("False False True\n", "")


def test_a_process_that_is_gone_is_no_error() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not prefer(gone.pid, Urgency.ROAD)


def test_a_patient_process_starts_patient_children() -> None:
    """As `nice outrider replay` does: its workers must not go before what it steps back for."""
    program = (
        "import asyncio, os\n"
        "from agent.children import Child\n"
        "from inference.messages import FromWorker\n"
        "async def main():\n"
        "    ended = lambda *_: None\n"
        "    arguments = ['--package', '/nowhere']\n"
        "    child = await Child.start('inference.worker', arguments, FromWorker, ended, ended, os.environ)\n"
        "    print(os.getpriority(os.PRIO_PROCESS, child.pid))\n"
        "    await child.stop()\n"
        "os.nice(10)\n"
        "asyncio.run(main())\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "10\n"
