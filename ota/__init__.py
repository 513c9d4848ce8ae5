"""What the fleet owner signed and how it gets into a slot.

Read from manifest.py (what a release is) over trust.py (who may say so) and fetch.py (how its bytes come) to
slots.py and machine.py (how it is tried before it is kept). `repository/` is the signing desk; it never runs in a car.
"""

__distribution__ = "outrider"
