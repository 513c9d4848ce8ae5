"""`outrider demo`: the main job on this machine, its faults, and what it proves."""
