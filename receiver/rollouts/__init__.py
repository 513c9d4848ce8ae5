"""A release reaches a few vehicles, and more only on evidence: waves, tests that may be looked at after every report,
people who approve. docs/rollouts.md has the rules; deciding is pure (decide.py), the rest writes down and acts.
"""
