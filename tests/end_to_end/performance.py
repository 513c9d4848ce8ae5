"""`outrider demo` as its user runs it: a process, what it said, and what it left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ARMED = ROOT / "tests" / "sabotage" / "armed"


@dataclass(frozen=True, slots=True)
class Performance:
    """One run, over. `out` and `err` are its standard streams."""

    exit_code: int
    out: str
    err: str

    @property
    def claims(self) -> list[dict[str, Any]]:
        """Of `--json`. Fails, showing what was said instead, when there are none."""
        assert self.out.startswith("{"), f"exit code {self.exit_code}, no claims: {self.out}\n{self.err}"
        claims: list[dict[str, Any]] = json.loads(self.out)["claims"]
        return claims

    def claim(self, name: str) -> dict[str, Any]:
        """The one claim whose name begins so."""
        (found,) = (claim for claim in self.claims if claim["claim"].startswith(name))
        return found


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "outrider", "demo", *arguments]


def environment(temporary: Path, **more: str) -> Mapping[str, str]:
    """Ours, with a folder of its own for what is temporary. A Unix socket's path must fit in it: keep it short."""
    return {**os.environ, "TMPDIR": str(temporary), **more}


def sabotaged(name: str) -> Mapping[str, str]:
    """What arms tests/sabotage/<name>.py in a process and all that it starts."""
    return {"PYTHONPATH": os.pathsep.join((str(ARMED), str(ROOT))), "OUTRIDER_SABOTAGE": name}


def perform(arguments: Sequence[str], in_environment: Mapping[str, str]) -> Performance:
    done = subprocess.run(command(*arguments), capture_output=True, text=True, env=in_environment, check=False)
    return Performance(done.returncode, done.stdout, done.stderr)
