"""The computer begun again, by the command that its integrator names: `[updates] reboot`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

_WITHIN_S: Final = 60.0

log = structlog.get_logger()


class RebootCommand:
    """Run without a shell. One that fails is told in the log: the next ignition does the same."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = command

    async def __call__(self) -> None:
        log.warning("computer_restarts", command=list(self._command))
        try:
            process = await asyncio.create_subprocess_exec(*self._command, stdin=asyncio.subprocess.DEVNULL)
        except OSError as error:
            log.error("reboot_failed", reason=f"[updates] reboot = {list(self._command)} can't be run: {error}")
            return
        try:
            async with asyncio.timeout(_WITHIN_S):
                code = await process.wait()
        except TimeoutError:
            process.kill()
            code = await process.wait()
        if code:
            log.error("reboot_failed", reason=f"[updates] reboot = {list(self._command)} ended with {code}.")
