"""What a run leaves to be read: a page for people, JUnit for CI, JSON for scripts."""

from simulator.report.evidence import Evidence
from simulator.report.write import Written, write_report

__all__ = ["Evidence", "Written", "write_report"]
