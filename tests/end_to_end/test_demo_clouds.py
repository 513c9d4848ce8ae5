"""The whole demo with a cloud between vehicle and receiver: the same claims."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from tests.end_to_end.performance import ROOT, environment, perform
from tests.sdks import azure_folder


def test_a_link_that_the_demo_does_not_know_is_said_with_the_nearest(tmp_path: Path) -> None:
    performed = perform(["--fast", "--link", "azur", "--report", str(tmp_path)], environment(tmp_path))
    assert (performed.exit_code, performed.out) == (2, "")
    assert "Did you mean azure?" in performed.err


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_every_claim_holds_over_azure(tmp_path: Path) -> None:
    path = os.pathsep.join((str(ROOT), str(azure_folder())))
    with tempfile.TemporaryDirectory(prefix="or-") as temporary:
        arguments = ["--fast", "--json", "--link", "azure", "--report", str(tmp_path)]
        performed = perform(arguments, environment(Path(temporary), PYTHONPATH=path))
    assert [claim for claim in performed.claims if not claim["ok"]] == []
    assert (performed.exit_code, performed.err) == (0, "")
