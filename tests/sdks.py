"""Where Azure's SDK lies beside this environment: it pins an older paho than ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def azure_folder() -> Path:
    """What `pip install --target` of the SDK made, its own paho beside it. Skips where there is none."""
    folder = Path(os.environ.get("OUTRIDER_AZURE") or ROOT / ".venv" / "azure").resolve()
    if not (folder / "azure" / "iot").is_dir():
        pytest.skip(f"azure-iot-device isn't in {folder}: pip install --target {folder} azure-iot-device")
    return folder
