"""The front door: one command, its verbs found lazily where they live."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from collections.abc import Sequence
from functools import cache
from typing import Any, Final

import typer

from ecu.errors import EXIT_ENVIRONMENT, EXIT_USAGE, OutriderError, UsageFault
from ecu.ownership import check
from ecu.toml import nearest

__distribution__: Final = "outrider"

VERBS: Final[dict[str, tuple[str, str]]] = {
    "demo": ("simulator.demo.cli", "the whole loop on this machine; exit 0 only if every claim held"),
    "agent": ("agent.cli", "the daemon on the vehicle: run, status, doctor, purge, audit"),
    "pair": ("agent.paircli", "pair this vehicle once with its receiver"),
    "receiver": ("receiver.cli", "the cloud side: run, enrol, fleet, rollout, audit"),
    "replay": ("simulator.replaycli", "a recorded drive through the whole agent; same input, same digest"),
    "model": ("inference.cli", "model packages: list, inspect, verify, compare"),
    "ota": ("ota.cli", "the signing desk: keys, releases, what each vehicle is to have"),
    "signals": ("telemetry.signals.cli", "signals from CAN: compile DBC files to a plan, look at one"),
    "spool": ("telemetry.spool.cli", "what is kept on flash, and whether all of it is accounted for"),
    "bench": ("simulator.bench.cli", "benchmarks, each with its bar"),
}

# Some releases of typer carry a click of their own, others use the installed one: this is the root of the right one's.
ClickException: Final[Any] = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
_INTERRUPTED: Final = 130  # what typer makes of Ctrl-C


def main() -> None:
    """Exit codes: 0 done, 1 the answer is no, 2 usage or config, 3 interrupted or environment."""
    try:
        check()
        sys.exit(run(sys.argv[1:]))
    except OutriderError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    except ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        print("Interrupted.", file=sys.stderr)
        sys.exit(EXIT_ENVIRONMENT)


def run(arguments: Sequence[str]) -> int:
    """Imports the verb's module only now: nobody pays for a verb that wasn't asked for. Raises what the verb raises."""
    verb, rest = (arguments[0], list(arguments[1:])) if arguments else ("", [])
    if verb in ("", "-h", "--help"):
        print(usage())
        return 0 if verb else EXIT_USAGE
    if verb == "--version":
        print(f"outrider {importlib.metadata.version('outrider')}")
        return 0
    if verb not in VERBS:
        likely = nearest(verb, list(VERBS))
        hint = f"Did you mean {likely!r}? " if likely else ""
        raise UsageFault(f"outrider knows no verb {verb!r}. {hint}outrider --help lists them.")
    code = _command(verb).main(args=rest, prog_name=f"outrider {verb}", standalone_mode=False)
    if code == _INTERRUPTED:
        raise KeyboardInterrupt
    return code if isinstance(code, int) else 0


@cache
def _command(verb: str) -> Any:
    """Read from its functions' signatures once: whoever asks again and again needn't wait for that each time."""
    return typer.main.get_command(importlib.import_module(VERBS[verb][0]).app)


def usage() -> str:
    """What `outrider --help` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {name:<{width}}  {summary}" for name, (_, summary) in VERBS.items()]
    return "\n".join(["Usage: outrider VERB ...", "", "The runtime that rides with the car.", "", *lines, ""])


if __name__ == "__main__":
    main()
