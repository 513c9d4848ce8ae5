"""The daemon's own process: `python -m agent.process --state DIR [--config FILE]`, which `outrider agent run` becomes.

It leaves the command line's toolkits behind: they would take ten megabytes for as long as the vehicle runs. With
--rescue, or where the launcher says so, it is agent/rescue.py alone, and nothing else of the agent is loaded.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

# structlog would load it to colour what nobody sees (its place must be taken before).
sys.modules.setdefault("rich", None)  # type: ignore[arg-type]

from agent.rescue import VARIABLE, Rescue, UpdatesOnly, is_runtime_armed, settings_in
from ecu.clock import OffsetClock, SystemClock
from ecu.errors import EXIT_AGAIN, EXIT_ENVIRONMENT, OutriderError
from ecu.logs import log_to_standard_error
from ecu.ownership import check
from ecu.process import enter_child
from ecu.urgency import may_prefer, prefer_first_thread

if TYPE_CHECKING:
    from agent.config import AgentConfig

THREADS_TAKE_TURNS_S: Final = 0.001
NEW_THREADS_STEP_BACK_S: Final = 1.0


def run(state: Path, config: Path | None) -> int:
    """The exit code: rides along until SIGTERM or SIGINT, or until another release is to be started. Raises
    OutriderError for what ends it in words."""
    from agent.config import load_config

    log_to_standard_error()
    settings = load_config(config)
    if not settings.run.lockstep:
        _go_first()
    return EXIT_AGAIN if asyncio.run(_run(settings, state)) else 0


def _go_first() -> None:
    """At real speed the road waits for this process; in lockstep nobody does. Here, since it is the process's own
    matter: who runs a daemon inside another process (a test) keeps that one's urgency."""
    if may_prefer():
        prefer_first_thread()
    # A frame's message must not wait behind a thread that compresses or encrypts.
    sys.setswitchinterval(THREADS_TAKE_TURNS_S)


def rescue(state: Path, config: Path | None, why: str) -> int:
    """The exit code: until SIGTERM or SIGINT, or until there is a release to be tried. Raises OutriderError."""
    log_to_standard_error()
    mode = Rescue(state, settings_in(config), why, os.environ, is_runtime_armed, OffsetClock(SystemClock()))
    return EXIT_AGAIN if asyncio.run(_rescued(mode)) else 0


async def _rescued(mode: Rescue) -> bool:
    try:
        return await mode.run(_stop())
    finally:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


def _stop() -> asyncio.Event:
    """Set by SIGTERM and SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


async def _run(config: AgentConfig, state: Path) -> bool:
    """Whether it ended to be started again."""
    from agent.daemon import Daemon

    stop = _stop()
    going_first = asyncio.create_task(_keep_going_first(config))
    try:
        daemon = Daemon(config, state, os.environ)
        await daemon.run(stop)
        return daemon.is_to_begin_again
    finally:
        going_first.cancel()
        # The loop waits for the threads of its executor, and these for a network that may not answer.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))


async def _keep_going_first(config: AgentConfig) -> None:
    """The threads that the daemon and its libraries have started since step back."""
    while not config.run.lockstep and may_prefer():
        await asyncio.sleep(NEW_THREADS_STEP_BACK_S)
        prefer_first_thread()


def main() -> None:
    enter_child()
    parser = argparse.ArgumentParser(prog="outrider agent run")
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--rescue", action="store_true")
    arguments = parser.parse_args()
    why = os.environ.get(VARIABLE, "") or ("somebody asked for it" if arguments.rescue else "")
    code = 0
    try:
        check()
        code = rescue(arguments.state, arguments.config, why) if why else run(arguments.state, arguments.config)
    except UpdatesOnly as only:
        # Anew: what is open by now must not stand in its way.
        again = [sys.executable, "-m", "agent.process", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, VARIABLE: str(only)})
    except OutriderError as error:
        print(error, file=sys.stderr)
        _end(error.exit_code)
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        _end(EXIT_ENVIRONMENT)
    _end(code)


def _end(code: int) -> NoReturn:
    """At once: the daemon has closed all that it has, and Python would wait for the same threads again."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
