"""Releases on the vehicle: side.py looks, fetches and makes each step durable. What a trial takes beyond flash is for
conductors, one a way of trying: beside.py, applied.py, started.py, booted.py.
"""

from agent.updates.applied import Applied, User
from agent.updates.beside import Beside
from agent.updates.booted import Booted
from agent.updates.conduct import HINTS_APART_NS, TICK_NS, Attempt, Conductor, NoWayBack, TrialRules
from agent.updates.doubts import DoubtHeard, DoubtRules, Doubts
from agent.updates.judge import Judge, Opinion
from agent.updates.side import MOST_DOUBLINGS, SMALL, UpdateSide
from agent.updates.started import Started, Starter

__all__ = [
    "HINTS_APART_NS",
    "MOST_DOUBLINGS",
    "SMALL",
    "TICK_NS",
    "Applied",
    "Attempt",
    "Beside",
    "Booted",
    "Conductor",
    "DoubtHeard",
    "DoubtRules",
    "Doubts",
    "Judge",
    "NoWayBack",
    "Opinion",
    "Started",
    "Starter",
    "TrialRules",
    "UpdateSide",
    "User",
]
