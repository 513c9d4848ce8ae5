"""Learning on the vehicle, as the agent sees it.

room.py opens it and side.py does it; admission.py and gates.py say when, labels.py what an example should have been
called.
"""
