"""A camera whose process hangs before it says a word, as one does whose driver or disk hangs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SITE = """
import pathlib, sys, time
once = pathlib.Path(%r)
if "inference.camera" in sys.orig_argv and not once.exists():
    once.touch()
    time.sleep(600)
"""


def first_camera_hangs(folder: Path) -> Mapping[str, str]:
    """The environment for it. The next camera's process is a sound one."""
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(SITE % str(folder / "has-hung"))
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(site), str(Path(__file__).parents[2])))}
