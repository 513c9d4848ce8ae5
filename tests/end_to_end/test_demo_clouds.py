"""The whole demo with a cloud between vehicle and receiver: the same claims."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.contracts.test_link import WITHOUT_AWS, WITHOUT_BROKER
from tests.end_to_end.performance import ROOT, environment, perform
from tests.sdks import azure_folder
from tests.verbs import said


def test_a_link_that_the_demo_does_not_know_is_said_with_the_nearest(tmp_path: Path) -> None:
    code, out, err = said("demo", "--fast", "--link", "azur", "--report", tmp_path)
    assert (code, out) == (2, "")
    assert "Did you mean azure?" in err


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_every_claim_holds_over_azure(tmp_path: Path) -> None:
    path = os.pathsep.join((str(ROOT), str(azure_folder())))
    with tempfile.TemporaryDirectory(prefix="or-") as temporary:
        arguments = ["--fast", "--json", "--link", "azure", "--report", str(tmp_path)]
        performed = perform(arguments, environment(Path(temporary), PYTHONPATH=path))
    assert [claim for claim in performed.claims if not claim["ok"]] == []
    assert (performed.exit_code, performed.err) == (0, "")


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("link", "missing"), [("broker", WITHOUT_BROKER), ("aws", WITHOUT_AWS)])
def test_every_claim_holds_behind_a_broker_and_over_aws(tmp_path: Path, link: str, missing: str) -> None:
    if missing:
        pytest.skip(missing)
    with tempfile.TemporaryDirectory(prefix="or-") as temporary:
        arguments = ["--fast", "--json", "--link", link, "--report", str(tmp_path)]
        performed = perform(arguments, environment(Path(temporary)))
    assert [claim for claim in performed.claims if not claim["ok"]] == []
    assert (performed.exit_code, performed.err) == (0, "")


def test_without_mosquitto_the_demo_says_what_to_install(tmp_path: Path) -> None:
    """Its own program sees a computer without it."""
    program = (
        "import sys, simulator.clouds.mosquitto as m; m.find_mosquitto = lambda path=None: None; "
        "import outrider; outrider.main()"
    )
    told = subprocess.run(
        [sys.executable, "-c", program, "demo", "--fast", "--link", "broker", "--report", str(tmp_path / "report")],
        capture_output=True, text=True, env=environment(tmp_path), timeout=60, check=False,
    )  # fmt: skip
    assert told.returncode == 3
    assert "apt-get install mosquitto" in told.stderr
