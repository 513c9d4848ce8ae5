"""What the fleet learned becomes a candidate: updates judged, aggregates made and judged, packages left to be signed.

Each step is one transaction, or a pure function whose result is one; docs/learning-cloud.md has the steps.
"""
