"""Laws of urgency, on real processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from ecu.urgency import Urgency, may_prefer, prefer
from tests.ecu.urgencies import has_urgency, threads_of

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


def test_an_urgency_goes_to_every_thread_of_a_process_and_back(process: subprocess.Popen[str]) -> None:
    if not may_prefer():
        pytest.skip("this user may not make processes more urgent (CAP_SYS_NICE)")
    assert len(threads_of(process.pid)) > 1
    for urgency in (*Urgency, Urgency.ORDINARY):
        assert prefer(process.pid, urgency)
        assert has_urgency(process.pid, urgency)


def test_a_process_goes_first_with_its_first_thread_and_its_helpers_stay_behind_the_road() -> None:
    if not may_prefer():
        pytest.skip("this user may not make processes more urgent (CAP_SYS_NICE)")
    program = (
        "import os, threading\n"
        "from ecu.urgency import prefer_first_thread\n"
        "from tests.ecu.urgencies import urgency_of\n"
        "from threading import get_native_id\n"
        "def names(): return [urgency_of(thread).name for thread in (os.getpid(), *helpers)]\n"
        "def help(): helpers.append(get_native_id()); started.release(); end.wait()\n"
        "helpers, end, started = [], threading.Event(), threading.Semaphore(0)\n"
        "for _ in range(2):\n"
        "    threading.Thread(target=help).start(); started.acquire()\n"
        "    prefer_first_thread()\n"
        "print(names())\n"
        "end.set()\n"
    )
    assert said_by(program) == "['SUPERVISOR', 'HELPER', 'HELPER']\n"
    assert Urgency.SUPERVISOR.realtime > Urgency.ROAD.realtime > Urgency.HELPER.realtime > Urgency.ORDINARY.realtime
    assert Urgency.SUPERVISOR.niceness < Urgency.ROAD.niceness < Urgency.HELPER.niceness < Urgency.ORDINARY.niceness


@pytest.mark.parametrize(("urgency", "then"), [("SUPERVISOR", "HELPER"), ("ROAD", "ROAD"), ("ORDINARY", "ORDINARY")])
def test_a_thread_that_inherited_the_first_ones_urgency_steps_back_and_no_other_does(urgency: str, then: str) -> None:
    if not may_prefer():
        pytest.skip("this user may not make processes more urgent (CAP_SYS_NICE)")
    program = (
        "import os, threading\n"
        "from ecu.urgency import Urgency, prefer, step_back\n"
        "from tests.ecu.urgencies import urgency_of\n"
        f"prefer(os.getpid(), Urgency.{urgency})\n"
        "def act(): step_back(); print(urgency_of(threading.get_native_id()).name)\n"
        "thread = threading.Thread(target=act); thread.start(); thread.join()\n"
        "print(urgency_of(os.getpid()).name)\n"
    )
    assert said_by(program) == f"{then}\n{urgency}\n"


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


START_A_CHILD = """
import asyncio, os
from agent.children import Child
from ecu.urgency import Urgency, prefer
from inference.messages import FromCamera
from tests.ecu.urgencies import has_urgency

async def main():
    ended = lambda *_: None
    arguments = ["--source", "video:/nowhere", "--ledger", "/nowhere/camera.ledger"]
    child = await Child.start("inference.camera", arguments, FromCamera, ended, ended, os.environ)
    print([urgency.name for urgency in Urgency if has_urgency(child.pid, urgency)])
    await child.stop()
"""


def test_a_patient_process_starts_patient_children() -> None:
    """As `nice outrider replay` does: its workers must not go before what it steps back for."""
    become_patient = "os.setpriority(os.PRIO_PROCESS, 0, 10)\n"
    assert said_by(f"{START_A_CHILD}{become_patient}asyncio.run(main())\n") == "['PATIENT']\n"


def test_a_supervisor_starts_ordinary_children() -> None:
    """What goes first is said of each of them; none inherits it."""
    if not may_prefer():
        pytest.skip("this user may not make processes more urgent (CAP_SYS_NICE)")
    go_first = "prefer(os.getpid(), Urgency.SUPERVISOR)\n"
    assert said_by(f"{START_A_CHILD}{go_first}asyncio.run(main())\n") == "['ORDINARY']\n"


def test_niceness_alone_makes_a_process_preferred() -> None:
    """Where the kernel has no real time to give there is nothing else."""
    if not may_prefer():
        pytest.skip("this user may not make processes more urgent (CAP_SYS_NICE)")
    program = (
        "import os\n"
        "from ecu.urgency import is_preferred\n"
        "for niceness in (-1, 0, 1):\n"
        "    os.setpriority(os.PRIO_PROCESS, 0, niceness)\n"
        "    print(is_preferred())\n"
    )
    assert said_by(program) == "True\nFalse\nFalse\n"


def said_by(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    return done.stdout
