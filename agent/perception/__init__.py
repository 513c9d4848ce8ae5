"""Hops 1 and 2 as the agent sees them: cameras and workers kept going, every frame accounted for."""

from agent.perception.agreement import Agreement
from agent.perception.beside import MAX_DEATHS, TrialOver, TrialStatus, TrialWatch
from agent.perception.perception import Perception, PerceptionStatus
from agent.perception.settings import PerceptionSettings, Role, Supervision
from agent.perception.workers import ModelUnfit

__all__ = [
    "MAX_DEATHS",
    "Agreement",
    "ModelUnfit",
    "Perception",
    "PerceptionSettings",
    "PerceptionStatus",
    "Role",
    "Supervision",
    "TrialOver",
    "TrialStatus",
    "TrialWatch",
]
