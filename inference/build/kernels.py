"""The three ways to evaluate a quantized graph: as written, fused and exact, fused as this computer does it."""

from __future__ import annotations

from enum import Enum

from inference.runtime import ort
from inference.session import session_options


class Kernels(Enum):
    """AS_WRITTEN runs every operator on its own in float: the graph's meaning. EXACT fuses them to integer kernels that
    can't saturate, also without VNNI (ONNX Runtime's precision mode for AVX2). NATIVE is what a vehicle runs."""

    AS_WRITTEN = "as_written"
    EXACT = "exact"
    NATIVE = "native"


def options_for(kernels: Kernels) -> ort.SessionOptions:
    options = session_options()
    if kernels is Kernels.AS_WRITTEN:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    if kernels is Kernels.EXACT:
        options.add_session_config_entry("session.x64quantprecision", "1")
    return options
