"""Starting children that die with us."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Final

from ecu.process import PARENT_VARIABLE

# Our children work on one thread each. OpenBLAS would start one more a core, which spin while a module is imported.
_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1"}


async def spawn(
    module: str,
    arguments: Sequence[str] = (),
    *,
    environment: Mapping[str, str],
    pass_fds: Sequence[int] = (),
    stdin: int = asyncio.subprocess.DEVNULL,
    stdout: int | None = None,
    stderr: int | None = None,
) -> asyncio.subprocess.Process:
    """`python -m module arguments` in a session of its own, with these descriptors open under their own numbers.

    The module's first act is `enter_child()`. Only from the main thread: the kernel's parent-death signal comes when
    the *thread* that started the child ends. `stdin`, `stdout` and `stderr` as for asyncio.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError(f"{module} must be started from the main thread, or it would die with this one")
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *(["-P"] if sys.flags.safe_path else []),
        "-m",
        module,
        *arguments,
        env={**environment, **_ONE_THREAD, PARENT_VARIABLE: str(os.getpid())},
        pass_fds=pass_fds,
        start_new_session=True,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
    )
