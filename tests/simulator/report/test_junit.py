"""A CI server reads the same verdict from the XML as a person from the page."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree as Xml

import pytest
from hypothesis import given
from hypothesis import strategies as st

from simulator.claims import Verdict
from simulator.report.junit import junit
from tests.simulator.report.synthetic import HOST, evidence, verdict


@pytest.mark.parametrize("failing", [False, True])
def test_the_suite_counts_its_claims_and_failures(failing: bool) -> None:
    root = Xml.fromstring(junit(evidence(failing=failing)))
    suite = root.find("testsuite")
    assert root.tag == "testsuites"
    assert suite is not None
    assert (suite.get("name"), suite.get("tests"), suite.get("failures")) == (
        "outrider.demo",
        "12",
        "2" if failing else "0",
    )
    assert (suite.get("time"), suite.get("timestamp")) == ("61.400", "2027-03-04T15:30:00+00:00")
    assert len(suite.findall("testcase/failure")) == (2 if failing else 0)


def test_a_failure_says_what_was_measured_against_what_and_why_it_matters() -> None:
    failure = Xml.fromstring(junit(evidence(failing=True))).find(".//failure")
    assert failure is not None
    said = "893 confirmed: 0 missing, 1 twice, 0 altered (bar: 0 missing, 0 twice, 0 altered)"
    assert failure.get("message") == said
    assert failure.text is not None
    assert said in failure.text
    assert failure.text.endswith("what the car said it kept, the cloud has, once, unchanged.")


def test_the_host_is_in_the_properties() -> None:
    found = {p.get("name"): p.get("value") for p in Xml.fromstring(junit(evidence())).iter("property")}
    assert found["host.cpu"] == HOST.cpu
    assert found["host.isa"] == HOST.isa
    assert found["mode"] == "real speed"


@given(st.text())
def test_any_text_leaves_a_document_that_parses(text: str) -> None:
    claim = replace(verdict(failing=True).failed[0], name=text, why=text, measured=text, bar=text)
    bare = evidence_with(Verdict((claim,), 1.0), text)
    assert len(list(Xml.fromstring(bare).iter("testcase"))) == 1


def evidence_with(judged: Verdict, text: str) -> str:
    return junit(replace(BASE, verdict=judged, mode=text, host=replace(HOST, cpu=text)))


BASE = replace(evidence(), verdict=Verdict((), 0.0))
