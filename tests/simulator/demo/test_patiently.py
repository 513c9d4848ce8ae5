"""Who goes last stays last, whatever it may do by itself."""

from __future__ import annotations

import subprocess
import sys

from ecu.urgency import Urgency

LOOK = (
    "import os; from ecu.urgency import Urgency, may_prefer, prefer; may_prefer() and prefer(os.getpid(), Urgency.ROAD)"
)


def test_a_patient_process_is_nice_and_can_make_nobody_urgent() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "simulator.demo.patiently", "timeit", "-n", "1", "-r", "1", "-s", LOOK,
         "print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0) == os.SCHED_OTHER)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[0] == f"{Urgency.PATIENT.niceness} True"
