"""Becomes `python -m MODULE ARGUMENT...`, which lets every other process go first, and so does all that it starts:

    python -m simulator.demo.patiently MODULE ARGUMENT...

An agent that may be urgent makes itself so: it gives up the means before it begins.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Final

from ecu.urgency import Urgency

_PR_CAPBSET_DROP: Final = 24
_CAP_SYS_NICE: Final = 23


def main() -> None:
    os.setpriority(os.PRIO_PROCESS, 0, Urgency.PATIENT.niceness)
    # Out of the bounding set no program that is executed gets it again (capabilities(7)); denied to ordinary users, who
    # don't have it in the first place.
    ctypes.CDLL(None).prctl(_PR_CAPBSET_DROP, _CAP_SYS_NICE, 0, 0, 0)
    os.execv(sys.executable, [sys.executable, "-m", *sys.argv[1:]])


if __name__ == "__main__":
    main()
