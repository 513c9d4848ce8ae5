"""The demo's claim about campaigns: what a signed one told is what the vehicle did."""

from __future__ import annotations

from typing import Final

from simulator.claims import Claim, holds
from simulator.demo.signalproof import SignalProof

SAMPLES_BAR: Final = 400
ALONE_BAR: Final = 0.05
"""Of the samples: a killed agent takes summaries along that a block before them had been spared, or the other way."""


def claims(proof: SignalProof) -> tuple[Claim, ...]:
    name = "a signed campaign told what the vehicle did"
    why = "A fleet's owner asks for signals while cars drive; what comes is exact, and nobody touched the car for it."
    if not proof.blocks:
        return (holds(name, None, why),)
    is_exact = proof.different == proof.unread == 0 and proof.alone <= ALONE_BAR * proof.samples
    return (
        holds(
            name, is_exact and proof.samples >= SAMPLES_BAR and proof.triggers > 0, why,
            measured=f"{proof.samples:,} samples in {proof.blocks} blocks, {proof.different} differ, "
            f"{proof.triggers} hard brakes found",
            bar=f"≥ {SAMPLES_BAR} samples, 0 differ, ≥ 1 found",
        ),
    )  # fmt: skip
