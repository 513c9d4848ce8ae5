"""The links' contract on both versions of paho, with the SDK that pins the older: each in a process of its own.

Installing `outrider[azure]` gives azure-iot-device with paho 1.6.1; everybody else has paho 2. The SDK runs on both.
"""

from __future__ import annotations

import asyncio
import os
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.contracts.test_link import EXPECTED_PAHO, PAHO
from tests.sdks import ROOT, azure_folder

LINKS = ("tests/contracts/test_link.py", "tests/simulator/clouds/test_azure_cloud.py")
SUITES = (
    *LINKS,
    "tests/contracts/test_azure_link.py",
    "tests/agent/test_azure.py",
    "tests/telemetry/test_pahoclient.py",
)


async def run(paho: str, path: Sequence[Path], *chosen: str) -> None:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path)), EXPECTED_PAHO: paho}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *chosen,
        env=environment, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()


# The mqtt kind's link is the broker's, too: in the ordinary run it meets the older paho once.
@pytest.mark.skipif(EXPECTED_PAHO in os.environ, reason="this is that process")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(("-m", "not soak", "-k", "mqtt or azure"), id="each-link"),
        pytest.param(("-k", "mqtt or broker or azure"), id="all", marks=pytest.mark.soak),
    ],
)
async def test_the_contract_holds_on_what_the_azure_extra_installs(chosen: tuple[str, ...]) -> None:
    await run("1.6.1", [azure_folder()], *chosen, *SUITES)


# The SDK's own paho is the one above: in the ordinary run this one is held to the contract and one drive.
@pytest.mark.skipif(EXPECTED_PAHO in os.environ, reason="this is that process")
@pytest.mark.skipif(PAHO.startswith("1."), reason="paho 2 isn't installed here: the azure extra keeps it out")
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "chosen",
    [
        pytest.param(("-m", "not soak", *LINKS), id="the-contract"),
        pytest.param(SUITES, id="all", marks=pytest.mark.soak),
    ],
)
async def test_the_contract_holds_with_the_sdk_on_paho_2(chosen: tuple[str, ...]) -> None:
    await run(PAHO, [Path(sysconfig.get_path("purelib")), azure_folder()], "-k", "azure", *chosen)
