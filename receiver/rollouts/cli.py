"""`outrider receiver rollout`: keygen, start, approve, status, director, pause, resume, go-on, cancel, rerelease."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console

from ecu.errors import OutriderError, UsageFault
from receiver.client import OperatorClient
from receiver.rollouts.answers import NO_DIRECTOR, RolloutLine, Signed, StartRequest
from receiver.rollouts.approval import make_key
from receiver.rollouts.approval import sign as signed_by
from receiver.rollouts.rules import Rules
from receiver.rollouts.statusview import show_repository, show_rollouts

app = typer.Typer(
    help="A release to a few vehicles, and to more on evidence.", no_args_is_help=True, add_completion=False
)

State = Annotated[Path, typer.Option("--state", help="The receiver's state folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]
Name = Annotated[str, typer.Argument(help="The rollout's name.")]
By = Annotated[str, typer.Option("--by", help="Who you are: an operator's name.")]
Key = Annotated[Path, typer.Option("--key", help="Your private key, as keygen wrote it.")]
Target = Annotated[str, typer.Option("--target", help="A published release, e.g. model/drive-detect-2.0.json.")]
RulesFile = Annotated[
    Path | None, typer.Option("--rules", help="JSON file with those rules that aren't to be as docs/rollouts.md says.")
]
VehiclesFile = Annotated[
    Path | None, typer.Option("--vehicles", help="File with a vehicle a line, and its hardware; by default the fleet.")
]
DEFAULT_STATE = Path("receiver-state")


@app.command()
def keygen(name: str, out: Annotated[Path, typer.Option("--out", help="Folder for both files.")] = Path()) -> None:
    """Make an operator's key. The private file stays with that person; the public one goes to the receiver."""
    private, public = make_key(name, out)
    typer.echo(f"Wrote {private}, for {name} alone. Put {public} into the folder [receiver] operators.")


@app.command()
def start(
    name: Name,
    target: Target,
    by: By,
    rules: RulesFile = None,
    vehicles: VehiclesFile = None,
    state: State = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Propose a rollout. It begins when two people have approved it; whoever proposes may be one of them."""
    asked = StartRequest(name, target, by, _rules(rules), _strata(vehicles))
    _show([OperatorClient(state).start_rollout(asked)], as_json)


@app.command()
def rerelease(
    earlier: Annotated[str, typer.Argument(help="The rollout whose vehicles are to get something else.")],
    name: Annotated[str, typer.Option("--name", help="Of the new rollout.")],
    target: Target,
    by: By,
    rules: RulesFile = None,
    state: State = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Propose a way back, for the vehicles that had a release: older files that were released again, with a newer
    number."""
    asked = StartRequest(name, target, by, _rules(rules), {}, earlier)
    _show([OperatorClient(state).start_rollout(asked)], as_json)


@app.command()
def approve(name: Name, by: By, key: Key, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Sign that it may begin. Shows what is signed."""
    _sign(name, "approve", by, key, state, as_json)


@app.command()
def resume(name: Name, by: By, key: Key, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Let a paused rollout go on by its rules."""
    _sign(name, "resume", by, key, state, as_json)


@app.command("go-on")
def go_on(name: Name, by: By, key: Key, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Sign that a held rollout may open its next wave without the evidence: two people have to."""
    _sign(name, "go-on", by, key, state, as_json)


@app.command()
def pause(name: Name, by: By, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """No further vehicle gets it until somebody resumes."""
    _show([OperatorClient(state).stop_rollout(name, "pause", by)], as_json)


@app.command()
def cancel(name: Name, by: By, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """End it: the director lists the release no longer, and those that have it keep it."""
    _show([OperatorClient(state).stop_rollout(name, "cancel", by)], as_json)


@app.command()
def status(
    name: Annotated[str, typer.Argument(help="One rollout; by default all.")] = "",
    state: State = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Show where rollouts stand, what the evidence says, and what of the repository ends soon."""
    client = OperatorClient(state)
    _show(client.rollouts(name), as_json)
    if not as_json:
        show_repository([line for line in client.repository() if line.words], Console(highlight=False))


@app.command()
def director(state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Show until when vehicles believe the repository; exit 1 where that ends soon, since nobody published."""
    lines = OperatorClient(state).repository()
    if not lines:
        raise UsageFault(NO_DIRECTOR)
    if as_json:
        _print_json(lines)
    else:
        show_repository(lines, Console(highlight=False))
    if any(line.words for line in lines):
        raise OutriderError("Something that vehicles have to believe ends; what and what to do is above.")


def _sign(name: str, act: str, by: str, key: Path, state: Path, as_json: bool) -> None:
    client = OperatorClient(state)
    statement = client.rollout_statement(name, act)
    if not as_json:
        typer.echo(f"{by} signs to {act} {name}: {statement.target}, digest {statement.digest}, step {statement.step}")
    signed: Signed = client.sign_rollout(name, act, by, signed_by(key, statement))
    if as_json:
        _print_json(signed)
        return
    if not signed.happened:
        typer.echo("One more person has to sign.")
    _show([signed.rollout], as_json=False)


def _rules(path: Path | None) -> Rules:
    if path is None:
        return Rules()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Rules)
    except (OSError, ValueError) as error:
        raise UsageFault(f"The rules {path} can't be used: {error}.") from error


def _strata(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    try:
        lines = [line.split() for line in path.read_text("utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise UsageFault(f"The vehicles in {path} can't be read: {error}.") from error
    if wrong := next((number for number, line in enumerate(lines, 1) if len(line) > 2), None):
        raise UsageFault(f"{path}, line {wrong}: a line has a vehicle, and its hardware or nothing.")
    return {line[0]: line[1] if len(line) > 1 else "unknown" for line in lines}


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.encode(value).decode())


def _show(lines: list[RolloutLine], as_json: bool) -> None:
    if as_json:
        _print_json(lines)
    else:
        show_rollouts(lines, Console(highlight=False))
