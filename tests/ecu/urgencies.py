"""The urgency at which the kernel has a process: the oracle of whoever gives one."""

from __future__ import annotations

import os

from ecu.urgency import Urgency


def threads_of(pid: int) -> list[int]:
    return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]


def urgencies_of(pid: int) -> set[tuple[int, int, int]]:
    """(scheduler, real-time priority, niceness) of each of its threads."""
    return {_given(thread) for thread in threads_of(pid)}


def has_urgency(pid: int, urgency: Urgency) -> bool:
    """All of its threads. A kernel may have no real time to give; then the niceness counts."""
    return any(urgencies_of(pid) == {shown} for shown in _shown(urgency))


def urgency_of(thread: int) -> Urgency | None:
    """None when it is none of ours."""
    return next((urgency for urgency in Urgency if _given(thread) in _shown(urgency)), None)


def _given(thread: int) -> tuple[int, int, int]:
    priority = os.sched_getparam(thread).sched_priority
    return os.sched_getscheduler(thread), priority, os.getpriority(os.PRIO_PROCESS, thread)


def _shown(urgency: Urgency) -> tuple[tuple[int, int, int], ...]:
    policy = os.SCHED_FIFO if urgency.realtime else os.SCHED_OTHER
    return (policy, urgency.realtime, urgency.niceness), (os.SCHED_OTHER, 0, urgency.niceness)
