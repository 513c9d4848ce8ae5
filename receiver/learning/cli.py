"""`outrider receiver learn`: begin, status, close, list."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ecu.errors import UsageFault
from receiver.client import OperatorClient
from receiver.learning.answers import LearningStatus, PlanLine, PlanStatus
from telemetry.federated.plan import MAX_PLAN_BYTES

app = typer.Typer(
    help="What the fleet learns: plans, aggregates, candidates.", no_args_is_help=True, add_completion=False
)

State = Annotated[Path, typer.Option("--state", help="The receiver's state folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="JSON on standard output, nothing else there.")]
DEFAULT_STATE = Path("receiver-state")


@app.command()
def begin(
    plan: Annotated[Path, typer.Argument(help="plan.json, as it was or will be signed and released.")],
    package: Annotated[Path, typer.Option("--package", help="The model package that the plan starts from.")],
    crops: Annotated[
        Path | None, typer.Option("--crops", help="Labelled crops that judge candidates; by default the shipped ones.")
    ] = None,
    state: State = DEFAULT_STATE,
    as_json: AsJson = False,
) -> None:
    """Take updates of this plan from now on."""
    line = OperatorClient(state).begin_learning(_read(plan), package, crops)
    if as_json:
        _print_json(line)
        return
    typer.echo(f"Plan {line.plan} begins at {line.base[:12]}. Release it to vehicles: outrider ota add --kind plan")


@app.command("list")
def list_plans(state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """List the plans: the newest base, and how many vehicles wait for the next aggregate."""
    plans = OperatorClient(state).learning_plans()
    _print_json(plans) if as_json else Console().print(_plans_table(plans))


@app.command()
def close(plan: str, state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Make an aggregate now, of the vehicles that wait."""
    claimed = OperatorClient(state).close_buffer(plan)
    if as_json:
        _print_json(claimed)
        return
    typer.echo(f"Attempt {claimed.attempt} of plan {claimed.plan} begins. Its verdict: outrider receiver learn status")


@app.command()
def status(state: State = DEFAULT_STATE, as_json: AsJson = False) -> None:
    """Show what was admitted and refused, whose updates wait, and what became of aggregates."""
    found = OperatorClient(state).learning_status()
    _print_json(found) if as_json else _print_status(found)


def _read(plan: Path) -> str:
    try:
        with plan.open("rb") as file:
            return file.read(MAX_PLAN_BYTES + 1).decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
        raise UsageFault(f"The plan {plan} can't be read: {why}.") from error


def _print_json(value: Any) -> None:
    typer.echo(msgspec.json.encode(value).decode())


def _plans_table(plans: list[PlanLine]) -> Table:
    table = Table("plan", "package", "newest base", "aggregates", "waiting", title="Plans")
    for line in plans:
        table.add_row(line.plan, escape(line.package), line.base[:12], str(line.number), str(line.waiting))
    return table


def _print_status(found: LearningStatus) -> None:
    console = Console()
    console.print(_plans_table([plan.line for plan in found.plans]))
    for plan in found.plans:
        console.print(_attempts_table(plan))
    console.print(_counts_table(found))


def _attempts_table(plan: PlanStatus) -> Table:
    about = escape(f"held up: {plan.held_up}") if plan.held_up else f"waiting: {', '.join(plan.waits) or 'nobody'}"
    table = Table("attempt", "outcome", "what the judge says", "of", title=plan.line.plan, caption=about)
    table.add_column("candidate", overflow="fold")
    for one in plan.attempts:
        outcome, who = one.outcome or "being worked on", ", ".join(one.vehicles)
        table.add_row(str(one.attempt), outcome, escape(one.words), who, escape(one.candidate))
    return table


def _counts_table(found: LearningStatus) -> Table:
    table = Table("plan", "vehicle", "updates", title=f"Updates; {found.queued} blocks wait to be judged")
    by_plan = {plan.line.plan: plan.vehicles for plan in found.plans} | {"none of these": found.unknown}
    for plan, vehicles in by_plan.items():
        for vehicle, counts in vehicles.items():
            table.add_row(plan, vehicle, ", ".join(f"{count} {name}" for name, count in counts.items()))
    return table
