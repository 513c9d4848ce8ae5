"""The front door: one command, its verbs found lazily where they live."""

from __future__ import annotations

import importlib
import sys
from typing import Final

import click
import typer

from ecu.errors import EXIT_ENVIRONMENT, OutriderError, shown
from ecu.ownership import check

__distribution__: Final = "outrider"

VERBS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("simulator.demo.cli", "The whole loop on this machine; exit 0 only if every claim held."),
    "agent": ("agent.cli", "The daemon on the vehicle: run, status, doctor."),
    "pair": ("agent.paircli", "Pair this vehicle once with its receiver."),
    "receiver": ("receiver.cli", "The cloud side: run, enrol, fleet, audit."),
    "replay": ("simulator.replaycli", "A recorded drive through the whole agent; same input, same digest."),
    "model": ("inference.cli", "Model packages: list, inspect, verify."),
    "spool": ("telemetry.spool.cli", "What is kept on flash, and whether all of it is accounted for."),
    "bench": ("simulator.bench.cli", "Benchmarks, each with a ratio and a bar."),
}


class FrontDoor(click.Group):
    """Imports a verb's module only when that verb is asked for: the daemon never loads a terminal toolkit's worth."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in VERBS:
            return None
        command = typer.main.get_command(importlib.import_module(VERBS[name][0]).app)
        command.name = name
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary) for name, (_, summary) in VERBS.items()])


front_door = FrontDoor(name="outrider", help="The runtime that rides with the car.")


def main() -> None:
    """Exit codes: 0 done, 1 the answer is no, 2 usage or config, 3 interrupted or environment."""
    try:
        check()
        front_door(standalone_mode=False)
    except OutriderError as error:
        print(shown(error), file=sys.stderr)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        print("Interrupted.", file=sys.stderr)
        sys.exit(EXIT_ENVIRONMENT)


if __name__ == "__main__":
    main()
