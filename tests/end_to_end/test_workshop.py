"""The workshop for real, its vehicles' processes and a receiver: sound it holds every claim; broken, the one that is
meant fails."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.performance import ROOT, environment, sabotaged
from tests.end_to_end.test_sabotage import IN_THE_WORKSHOP, claim_of


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="or-") as folder:
        yield Path(folder)


def rehearse(which: str, folder: Path, in_environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The claims by name."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.rehearsal", which, str(folder)],
        capture_output=True, text=True, env=in_environment, cwd=ROOT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return {claim["claim"]: claim for claim in json.loads(done.stdout)["claims"]}


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_the_workshop_holds_every_claim(short_path: Path) -> None:
    found = rehearse("workshop", short_path, environment(short_path, PYTHONPATH=str(ROOT)))
    assert [claim for claim in found.values() if not claim["ok"]] == []
    # Nothing of it is left running.
    running = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if os.access(path, os.R_OK)]
    assert not any(str(short_path).encode() in line for line in running)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("sabotage", IN_THE_WORKSHOP)
def test_the_workshop_notices(sabotage: str, short_path: Path) -> None:
    found = rehearse("workshop", short_path, environment(short_path, **sabotaged(sabotage)))
    failed = [name for name, claim in found.items() if not claim["ok"]]
    assert len(failed) == 1, [found[name] for name in failed]
    assert failed[0].startswith(claim_of(sabotage)), found[failed[0]]
