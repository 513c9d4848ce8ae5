"""What can go wrong with a model, by what its caller decides.

InferenceError
├── PackageRefused     this package will never do here: don't retry it, choose another
├── PackageNotFound    nothing goes by that name or path: the message lists what does
├── EvaluationRefused  this evaluation set judges nothing: get it again from who signed it
├── Unjudgeable        no verdict is to be had, and whose fault that is
└── ModelFault         the model misbehaved on a frame: wrong shapes, non-finite numbers, a failing kernel
"""

from __future__ import annotations

from enum import StrEnum

from ecu.errors import OutriderError, UsageFault


class InferenceError(OutriderError):
    """Anything inference can go wrong with. Bugs aren't InferenceErrors."""


class PackageRefused(InferenceError):
    """The package isn't what it says, or may not run on this computer. Never retry the same bytes here."""


class PackageNotFound(UsageFault, InferenceError):
    """No package goes by that name."""


class ModelFault(InferenceError):
    """The model ran and misbehaved. Its worker stops; the fault counts against the model's slot."""


class EvaluationRefused(InferenceError):
    """The evaluation set isn't what it says. It says nothing about any model."""


class Party(StrEnum):
    """Who takes part in a comparison."""

    LIVE = "live"
    CANDIDATE = "candidate"
    EVALUATION = "evaluation"


class Unjudgeable(InferenceError):
    """The comparison can't be made. Only a fault of the candidate's speaks against it."""

    def __init__(self, party: Party, reason: str) -> None:
        super().__init__(reason)
        self.party = party
