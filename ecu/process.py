"""Processes from inside: dying with one's parent, giving up what is never needed, and talking to systemd."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from ecu import seccomp

PARENT_VARIABLE: Final = "OUTRIDER_PARENT_PID"

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_CLONE_NEWNET = 0x40000000


def enter_child(environment: Mapping[str, str] = os.environ) -> None:
    """A child's first act: it dies when its parent does, and leaves no core dump.

    A child whose parent has died meanwhile ends here. One started by hand has no parent to follow.
    """
    parent = environment.get(PARENT_VARIABLE)
    if parent is not None:
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # The parent may have died before the line above: then no signal will ever come.
        if os.getppid() != int(parent):
            os._exit(0)
    forbid_core_dumps()


def forbid_core_dumps() -> None:
    """A core dump would write personal data and keys to the disk (law 5). Keeps debuggers of the same user out, too."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _prctl(_PR_SET_DUMPABLE, 0)


def peak_memory_bytes(pid: int) -> int | None:
    """The most that the process was ever resident with, what it shares included; None where nobody can tell."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as status:
            told = next((line for line in status if line.startswith("VmHWM:")), None)
    except OSError:
        return None
    return int(told.split()[1]) * 1024 if told is not None else None


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process gives up. The defaults fit a perception worker."""

    open_files: int | None = 256
    address_space_bytes: int | None = None
    own_network: bool = True  # a network namespace with nothing in it; needs CAP_SYS_ADMIN
    nice: int | None = None
    realtime_priority: int | None = None  # SCHED_FIFO 1..99; needs CAP_SYS_NICE
    system_calls: bool = True  # the filter of ecu/seccomp.py
    file_changes: bool = False  # with the filter: may it still write, make and remove files?


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that `harden` tried. `why` is the kernel's word when it wasn't granted."""

    name: str
    granted: bool
    why: str = ""


def harden(limits: Limits) -> list[Step]:
    """Gives up what `limits` says, for ever. What the kernel denies is reported, not raised: the caller decides."""
    return [_try(name, act) for name, act in _steps(limits)]


def _steps(limits: Limits) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "no_new_privs", partial(_prctl, _PR_SET_NO_NEW_PRIVS, 1)
    if limits.open_files is not None:
        yield "open_files", partial(_lower, resource.RLIMIT_NOFILE, limits.open_files)
    if limits.address_space_bytes is not None:
        yield "address_space", partial(_lower, resource.RLIMIT_AS, limits.address_space_bytes)
    if limits.nice is not None:
        yield "nice", partial(os.setpriority, os.PRIO_PROCESS, 0, limits.nice)
    if limits.realtime_priority is not None:
        yield "realtime_priority", partial(_run_first, limits.realtime_priority)
    if limits.own_network:
        yield "own_network", partial(_checked, "unshare", _CLONE_NEWNET)
    if limits.system_calls:
        # Last: it forbids some of the steps above.
        yield "system_calls", partial(_filter, limits.file_changes)


def _try(name: str, act: Callable[[], None]) -> Step:
    try:
        act()
    except OSError as error:
        return Step(name, granted=False, why=error.strerror or str(error))
    return Step(name, granted=True)


def _lower(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    limit = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(kind, (limit, limit))


def _run_first(priority: int) -> None:
    os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(priority))


def _filter(file_changes: bool) -> None:
    machine = platform.machine()
    if machine not in seccomp.AUDIT_ARCH:
        raise OSError(f"no filter is known for {machine}")
    seccomp.install(machine, file_changes)


def _prctl(option: int, value: int) -> None:
    _checked("prctl", option, ctypes.c_ulong(value), *(ctypes.c_ulong(0),) * 3)


def _checked(function: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def cpu_ns() -> int:
    """CPU time that this process has spent so far, all its threads, in nanoseconds: what a wait doesn't add to."""
    return time.process_time_ns()


def freeze_heap() -> None:
    """What is alive now stays alive and is never collected again: no pauses, and no copied pages, in a worker's loop.

    Only for code that makes no reference cycles in its loop.
    """
    gc.collect()
    gc.freeze()
    gc.disable()


def notify(state: str, environment: Mapping[str, str]) -> bool:
    """Tells systemd `state`, such as "READY=1" or "WATCHDOG=1" (sd_notify(3)). False when nobody listens."""
    address = environment.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as end:
        try:
            # "@" stands for the abstract namespace.
            end.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
        except OSError:
            return False
    return True


def watchdog_us(environment: Mapping[str, str]) -> int | None:
    """How often systemd wants a "WATCHDOG=1" at least, microseconds; None when it doesn't (sd_watchdog_enabled(3))."""
    meant_for_us = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    limit = environment.get("WATCHDOG_USEC", "")
    return int(limit) if meant_for_us and limit.isdecimal() and int(limit) > 0 else None
