"""Claims as JUnit XML, which every CI server draws: one suite, one case a claim, the host in its properties."""

from __future__ import annotations

import re
from typing import Final
from xml.etree import ElementTree as Xml

from simulator.claims import Claim
from simulator.report.evidence import Evidence

SUITE: Final = "outrider.demo"
# XML 1.0, section 2.2: what no document may hold, escaped or not.
_FORBIDDEN: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit(evidence: Evidence) -> str:
    """The whole document; the suite's time is the run's."""
    verdict = evidence.verdict
    counts = {"tests": str(len(verdict.claims)), "failures": str(len(verdict.failed)), "errors": "0", "skipped": "0"}
    took = {"time": f"{verdict.seconds:.3f}"}
    root = Xml.Element("testsuites", {"name": SUITE, **counts, **took})
    stamp = {"timestamp": evidence.when.isoformat(timespec="seconds")}
    suite = Xml.SubElement(root, "testsuite", {"name": SUITE, **counts, **took, **stamp})
    _add_properties(suite, evidence)
    for claim in verdict.claims:
        _add_case(suite, claim)
    Xml.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + Xml.tostring(root, encoding="unicode") + "\n"


def _add_properties(suite: Xml.Element, evidence: Evidence) -> None:
    host = evidence.host
    values = {
        "mode": evidence.mode,
        "host.cpu": host.cpu,
        "host.cores": str(host.cores),
        "host.system": host.system,
        "host.isa": host.isa,
        "python": host.python,
        "onnxruntime": host.onnxruntime,
    }
    properties = Xml.SubElement(suite, "properties")
    for name, value in values.items():
        Xml.SubElement(properties, "property", {"name": name, "value": _clean(value)})


def _add_case(suite: Xml.Element, claim: Claim) -> None:
    case = Xml.SubElement(suite, "testcase", {"classname": SUITE, "name": _clean(claim.name), "time": "0"})
    said = f"{claim.measured} (bar: {claim.bar})"
    if not claim.ok:
        failure = Xml.SubElement(case, "failure", {"type": "claim", "message": _clean(said)})
        failure.text = _clean(f"{claim.name}: {said}. {claim.why}")
    Xml.SubElement(case, "system-out").text = _clean(said)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", text)
