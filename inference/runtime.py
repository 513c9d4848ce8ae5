"""ONNX Runtime, silent. Everything here imports it from this module, since it must be told so before it is loaded.

Its wheels for Linux (seen in 1.32) otherwise report to their maker: they keep a device identifier and a database below
the user's cache folder, and send sessions, models and errors to a collector. Nothing leaves a vehicle but by its own
link, after the privacy stage (law 5). `disable_telemetry_events()` comes too late: the identifier is there by then.
"""

from __future__ import annotations

import os
import platform

# Law 8 is about what we read; these are for a library that reads them while it is being loaded. Its releases disagree
# on the name (microsoft/onnxruntime#27379, #29843).
os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # noqa: TID251
os.environ["ORT_TELEMETRY_DISABLED"] = "1"  # noqa: TID251

import onnxruntime as ort  # noqa: TID251
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors  # noqa: TID251

__all__ = ["ort", "ort_errors", "runtime"]


def runtime() -> str:
    """What arithmetic depends on besides the model: the runtime's build and the processor's architecture."""
    return f"onnxruntime {ort.__version__} {ort.get_build_info()} {platform.machine()}"
