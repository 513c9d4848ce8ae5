"""`outrider agent`: run, status, doctor."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from ecu.errors import OutriderError

DEFAULT_STATE: Final = Path("outrider-state")
"""Where the agent keeps everything, below the folder it is started in, unless --state says otherwise."""

app = typer.Typer(help="The daemon on the vehicle and its questions.", no_args_is_help=True, add_completion=False)

State = Annotated[Path, typer.Option("--state", help="The agent's state folder.")]
Config = Annotated[Path | None, typer.Option("--config", help="outrider.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]


@app.command()
def run(state: State = DEFAULT_STATE, config: Config = None) -> None:
    """Ride along until SIGTERM: everything pending is durable when it ends."""
    command = [sys.executable, "-m", "agent.process", "--state", str(state)]
    os.execv(sys.executable, [*command, "--config", str(config)] if config is not None else command)


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
