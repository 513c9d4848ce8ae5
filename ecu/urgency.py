"""Who goes first on a shared processor: what the road waits for, then everything else, then what can wait.

A frame takes half of its period or more on a small computer: one that has to share its processor with a process that
gets ready beside it comes late. Real-time scheduling (sched(7)) where the kernel lets us, niceness elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import threading
from enum import Enum
from pathlib import Path
from typing import Final

_CAP_SYS_NICE: Final = 23


class Urgency(Enum):
    """A real-time priority (SCHED_FIFO; 0 is none), and the niceness where there is none."""

    SUPERVISOR = (11, -6)
    """The agent's first thread: above what it must be able to kill."""
    ROAD = (10, -5)
    """A camera, and the worker that is live."""
    HELPER = (9, -4)
    """The agent's other threads. What they compress, hash or encrypt takes nothing from the road, which may want every
    processor; but nothing else holds them up, since one that waits with the interpreter's lock holds up the agent."""
    ORDINARY = (0, 0)
    PATIENT = (0, 10)
    """What gets ready in the background."""

    def __init__(self, realtime: int, niceness: int) -> None:
        self.realtime = realtime
        self.niceness = niceness


def may_prefer() -> bool:
    """Whether this process may make others, and itself, more urgent again (CAP_SYS_NICE, capabilities(7))."""
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_NICE & 1)


def prefer(pid: int, urgency: Urgency) -> bool:
    """Gives it to all threads that a process has now; later ones inherit it, and so do its children.

    False when the kernel allowed neither priority nor niceness, or the process is gone.
    """
    try:
        # On Linux both belong to threads: a pool started earlier would keep its own.
        for thread in os.listdir(f"/proc/{pid}/task"):
            give(int(thread), urgency)
    except (PermissionError, FileNotFoundError, ProcessLookupError):
        return False
    return True


def prefer_first_thread() -> None:
    """In this process: SUPERVISOR to its first thread, HELPER to all that it has beside it now. Later ones inherit from
    whoever starts them, and some are started by libraries: so again, from time to time."""
    first = os.getpid()
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(PermissionError, ProcessLookupError):
            give(thread, Urgency.SUPERVISOR if thread == first else Urgency.HELPER)


def step_back() -> None:
    """This thread, if it has inherited the first thread's urgency, becomes a HELPER now: for one that lives shorter
    than it takes until somebody looks."""
    if runs_in_real_time() and os.sched_getparam(0).sched_priority == Urgency.SUPERVISOR.realtime:
        with contextlib.suppress(PermissionError):
            give(threading.get_native_id(), Urgency.HELPER)


def runs_in_real_time() -> bool:
    """Whether this thread does, which tells whether the kernel would let others."""
    return os.sched_getscheduler(0) == os.SCHED_FIFO


def is_preferred() -> bool:
    """Whether this thread goes before ordinary ones, as what it starts would."""
    return runs_in_real_time() or os.getpriority(os.PRIO_PROCESS, 0) < 0


def give(thread: int, urgency: Urgency) -> None:
    """To one thread, by its kernel number. Raises PermissionError when the kernel allowed neither priority nor
    niceness, ProcessLookupError when it is gone."""
    os.setpriority(os.PRIO_PROCESS, thread, urgency.niceness)
    try:
        policy = os.SCHED_FIFO if urgency.realtime else os.SCHED_OTHER
        os.sched_setscheduler(thread, policy, os.sched_param(urgency.realtime))
    except PermissionError:
        # Some control groups have no share of real time (cgroups(7), cpu.rt_runtime_us): niceness has to do.
        pass
