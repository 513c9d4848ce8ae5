"""`outrider agent`: run, status, doctor."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from agent.config import DEFAULT_STATE, AgentConfig, load_config
from ecu.errors import OutriderError
from ecu.logs import log_to_standard_error
from ecu.process import enter_child
from ecu.urgency import may_prefer, prefer_first_thread

THREADS_TAKE_TURNS_S: Final = 0.001
NEW_THREADS_STEP_BACK_S: Final = 1.0

app = typer.Typer(help="The daemon on the vehicle and its questions.", no_args_is_help=True, add_completion=False)

State = Annotated[Path, typer.Option("--state", help="The agent's state folder.")]
Config = Annotated[Path | None, typer.Option("--config", help="outrider.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]


@app.command()
def run(state: State = DEFAULT_STATE, config: Config = None) -> None:
    """Ride along until SIGTERM: everything pending is durable when it ends."""
    enter_child()
    log_to_standard_error()
    settings = load_config(config)
    if not settings.run.lockstep:
        _go_first()
    asyncio.run(_run(settings, state))


def _go_first() -> None:
    """At real speed the road waits for this process; in lockstep nobody does. Here, since it is the process's own
    matter: who runs a daemon inside another process (a test) keeps that one's urgency."""
    if may_prefer():
        prefer_first_thread()
    # A frame's message must not wait behind a thread that compresses or encrypts.
    sys.setswitchinterval(THREADS_TAKE_TURNS_S)


async def _run(config: AgentConfig, state: Path) -> None:
    # Only here: the questions below must answer quickly and need none of it.
    from agent.daemon import Daemon

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    going_first = asyncio.create_task(_keep_going_first(config))
    try:
        await Daemon(config, state, os.environ).run(stop)
    finally:
        going_first.cancel()


async def _keep_going_first(config: AgentConfig) -> None:
    """The threads that the daemon and its libraries have started since step back."""
    while not config.run.lockstep and may_prefer():
        await asyncio.sleep(NEW_THREADS_STEP_BACK_S)
        prefer_first_thread()


@app.command()
def status(state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """What the agent is doing: laws, lanes, frames, link."""
    from agent.apiclient import ask_status

    answer = ask_status(state / "agent.sock")
    if as_json:
        typer.echo(msgspec.json.encode(answer).decode())
    else:
        from agent.statusview import show_status

        show_status(answer)


@app.command()
def doctor(state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Why nothing is uploading, seen or kept, and what to do; exit 1 when something is wrong."""
    from agent.apiclient import ask_status
    from agent.doctor import Gravity, diagnose
    from agent.status import AgentStatus
    from agent.statusview import show_findings

    answer: Any = ask_status(state / "agent.sock")
    findings = diagnose(msgspec.convert(answer, AgentStatus))
    if as_json:
        typer.echo(msgspec.json.encode(findings).decode())
    else:
        show_findings(findings)
    if any(finding.gravity is Gravity.BAD for finding in findings):
        raise OutriderError("Something is wrong with this vehicle; what and what to do is above.")
