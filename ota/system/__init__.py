"""The computer's own system, installed into slots that its bootloader starts.

port.py is what is needed of an installer (RAUC), placed.py remembers what lies in which slot, reconcile.py says what
happened since, and memory.py is an installer with a bootloader that fails on command.
"""
