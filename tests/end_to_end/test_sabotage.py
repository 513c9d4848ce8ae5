"""The demo fails when the product does: for each of its claims the product is broken so that exactly that is untrue.

tests/sabotage/ has one file a way to break it. The file is armed in every process of a real run (sitecustomize).
"""

from __future__ import annotations

import importlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from simulator.demo.judge import claims
from tests.end_to_end.conftest import drawn_cases
from tests.end_to_end.performance import ARMED, ROOT, environment, perform, sabotaged
from tests.simulator.demo.sound import sound

SABOTAGES = sorted(path.stem for path in ARMED.parent.glob("*.py") if path.stem not in ("__init__", "afterimport"))
IN_THE_WORKSHOP = (
    "kept_though_worse", "unproven_boots", "anybodys_metadata", "refusal_leaves_traces", "fetches_all_again"
)  # fmt: skip
"""What breaks the workshop, which a fast run leaves out: tests/end_to_end/test_workshop.py."""
IN_THE_CLASSROOM = ("gate_open", "replay_taken", "plan_keeps_all", "states_not_taken")
"""And the classroom."""
AT_REAL_SPEED = ("samples_shifted",)
"""What breaks campaigns, which a fast run leaves out as well."""
ELSEWHERE = (*IN_THE_WORKSHOP, *IN_THE_CLASSROOM, *AT_REAL_SPEED)


def claim_of(sabotage: str) -> str:
    name: str = importlib.import_module(f"tests.sabotage.{sabotage}").CLAIM
    return name


@pytest.fixture
def short_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="or-") as folder:
        yield Path(folder)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("sabotage", [name for name in SABOTAGES if name not in ELSEWHERE])
def test_the_demo_notices(sabotage: str, tmp_path: Path, short_path: Path) -> None:
    is_noticed(sabotage, ["--fast", "--json", "--report", str(tmp_path)], short_path)


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("sabotage", AT_REAL_SPEED)
def test_the_demo_at_real_speed_notices(sabotage: str, tmp_path: Path, short_path: Path) -> None:
    is_noticed(sabotage, ["--json", "--report", str(tmp_path)], short_path)


def is_noticed(sabotage: str, arguments: list[str], short_path: Path) -> None:
    performed = perform(arguments, environment(short_path, **sabotaged(sabotage)))
    claim = performed.claim(claim_of(sabotage))
    assert not claim["ok"], f"{sabotage} went unnoticed: {claim['measured']}"
    assert performed.exit_code == 1


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_without_sabotage_each_of_those_claims_holds(tmp_path: Path, short_path: Path) -> None:
    performed = perform(["--fast", "--json", "--report", str(tmp_path)], environment(short_path, **sabotaged("")))
    assert [claim for claim in performed.claims if not claim["ok"]] == []


def test_every_claim_of_the_demo_has_a_sabotage() -> None:
    for lockstep in (False, True):
        names = [claim.name for claim in claims(sound(lockstep=lockstep))]
        meant = {name for sabotage in SABOTAGES for name in names if name.startswith(claim_of(sabotage))}
        assert meant == set(names)


def test_every_sabotage_still_finds_what_it_breaks() -> None:
    program = (
        "import importlib\n"
        "from tests.sabotage import afterimport\n"
        f"for sabotage in {SABOTAGES}: afterimport.arm(sabotage)\n"
        "for module in list(afterimport._patches): importlib.import_module(module)\n"
        "print(len(afterimport._patches))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > 10


def test_a_slice_is_drawn_by_its_seed_alone() -> None:
    ids = [f"a.py::test_long[{n}]" for n in range(30)] + ["a.py::test_single"]
    drawn = drawn_cases(ids, 2, "7")
    assert (
        drawn
        == drawn_cases(ids[::-1], 2, "7")
        == drawn_cases([*ids, "b.py::test_other[0]"], 2, "7") - {"b.py::test_other[0]"}
    )
    assert len(drawn) == 3
    assert "a.py::test_single" in drawn
    assert set().union(*(drawn_cases(ids, 2, str(seed)) for seed in range(200))) == set(ids)
