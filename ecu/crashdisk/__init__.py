"""The disk that loses power: a `Disk` in memory that lists every state a power cut could leave behind.

`disk.py` is the disk with its faults, `effects.py` what a program does to it, `cuts.py` the model of what a cut leaves
of that, `steps.py` the same in another order; `laws.py` asks a law about all of it.
"""

from __future__ import annotations

from ecu.crashdisk.disk import Call, CrashDisk, CrashState
from ecu.crashdisk.laws import is_swap_noticed, unnoticed_without, violation
from ecu.crashdisk.steps import Step, merged

__all__ = ["Call", "CrashDisk", "CrashState", "Step", "is_swap_noticed", "merged", "unnoticed_without", "violation"]
