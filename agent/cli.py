"""`outrider agent`: run, status, doctor, purge, audit."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
import typer

from agent.auditcli import app as audit_app
from agent.folders import SOCKET_NAME
from ecu.clock import SystemClock
from ecu.errors import OutriderError, UsageFault, shown

DEFAULT_STATE: Final = Path("outrider-state")
"""Where the agent keeps everything, below the folder it is started in, unless --state says otherwise."""

app = typer.Typer(help="The daemon on the vehicle and its questions.", no_args_is_help=True, add_completion=False)
app.add_typer(audit_app, name="audit")

State = Annotated[Path, typer.Option("--state", help="The agent's state folder.")]
Config = Annotated[Path | None, typer.Option("--config", help="outrider.toml.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]


@app.command()
def run(
    state: State = DEFAULT_STATE,
    config: Config = None,
    rescue: Annotated[bool, typer.Option("--rescue", help="Only look for signed updates.")] = False,
) -> None:
    """Ride along until SIGTERM: everything pending is durable when it ends. It ends with 75 to be started again."""
    command = [sys.executable, "-m", "agent.process", "--state", str(state)]
    command += ["--config", str(config)] if config is not None else []
    os.execv(sys.executable, [*command, "--rescue"] if rescue else command)


@app.command()
def status(state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """What the agent is doing: laws, lanes, frames, link."""
    from agent.apiclient import ask_status

    answer = ask_status(state / SOCKET_NAME)
    if as_json:
        typer.echo(msgspec.json.encode(answer).decode())
    elif "rescue" in answer:
        for line in rescue_lines(answer):
            typer.echo(line)
    else:
        from agent.statusview import show_status

        show_status(answer)


def rescue_lines(status: Any) -> Iterator[str]:
    """A status in rescue mode, for people. Words of others are escaped."""
    yield f"RESCUE MODE: {shown(status['rescue'])}"
    yield f"  agent     {shown(status['version'])} from slot {shown(status['slot'] or 'unknown')}, pid {status['pid']}"
    yield (
        f"  paired    {shown(status['vehicle'])} with {shown(status['paired_with'])}"
        if status["vehicle"]
        else ("  paired    no: outrider pair FILE")
    )
    for kind in status["updates"]:
        release = kind["trial"] or kind["good"]
        yield f"  {kind['kind']:<9} {kind['state']} {shown(release['title'] if release else 'as shipped')}"
    yield f"  looks     {status['looks']}{': ' + shown(status['trouble']) if status['trouble'] else ''}"


@app.command()
def purge(
    purpose: Annotated[
        list[str],
        typer.Option("--purpose", help="safety, driving, perception, operation, learning or all; repeatable."),
    ],
    state: State = DEFAULT_STATE,
    config: Config = None,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False,
    as_json: AsJson = False,
) -> None:
    """Make all that is kept here for a purpose unreadable, for ever; also while the agent runs."""
    from agent.purge import purposes_named

    names = sorted(wanted.name.lower() for wanted in purposes_named(purpose))
    if not yes:
        _demand_yes(names, state)
    purged = _purged(names, state, config)
    if as_json:
        typer.echo(msgspec.json.encode(purged).decode())
    else:
        from agent.statusview import show_purged

        show_purged(purged)


def _demand_yes(names: Sequence[str], state: Path) -> None:
    """Raises UsageFault where nobody can be asked, OutriderError where he says no."""
    if not sys.stdin.isatty():
        raise UsageFault("A purge can't be taken back, and there is nobody to ask: add --yes.")
    if not typer.confirm(f"Erase all that {state} keeps for {', '.join(names)}, for ever?"):
        raise OutriderError("Nothing was erased.")


def _purged(names: Sequence[str], state: Path, config: Path | None) -> Any:
    """By the agent where one runs; otherwise here, and none starts meanwhile, since this process holds the keys."""
    from agent.apiclient import AgentNotRunning, ask_purge

    try:
        return ask_purge(state / SOCKET_NAME, names)
    except AgentNotRunning:
        from agent.config import load_config
        from agent.purge import purge_state

        return msgspec.to_builtins(purge_state(state, names, load_config(config), SystemClock(), os.urandom))


@app.command()
def doctor(state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Why nothing is uploading, seen or kept, and what to do; exit 1 when something is wrong."""
    from agent.apiclient import ask_status
    from agent.doctor import Gravity, diagnose
    from agent.status import AgentStatus
    from agent.statusview import show_findings

    answer: Any = ask_status(state / SOCKET_NAME)
    if "rescue" in answer:
        raise OutriderError("\n".join(rescue_lines(answer)))
    findings = diagnose(msgspec.convert(answer, AgentStatus))
    if as_json:
        typer.echo(msgspec.json.encode(findings).decode())
    else:
        show_findings(findings)
    if any(finding.gravity is Gravity.BAD for finding in findings):
        raise OutriderError("Something is wrong with this vehicle; what and what to do is above.")
