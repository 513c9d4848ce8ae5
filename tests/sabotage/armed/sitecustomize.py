"""On PYTHONPATH, Python imports this before all else: it arms the sabotage that the environment names, in this process
and, by inheritance, in every one that it starts."""

import os

from tests.sabotage.afterimport import arm

if sabotage := os.environ.get("OUTRIDER_SABOTAGE"):
    arm(sabotage)
