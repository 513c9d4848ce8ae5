"""A runtime's release says what it needs beside it, and isn't armed where that is missing."""

from __future__ import annotations

import importlib.metadata
import zipfile
from pathlib import Path

import pytest

from ota.errors import Attack, TrustError
from ota.runtime import FACTS_NAME, RuntimeFacts, read_facts, unpack_wheel, why_unfit, write_facts

FACTS = RuntimeFacts("cpython-311", {"numpy": "2.1.0", "tuf": "7.0.1"})
HERE = {"numpy": "2.1.0", "tuf": "7.0.1", "rich": "13"}


def version(name: str) -> str:
    if name not in HERE:
        raise importlib.metadata.PackageNotFoundError(name)
    return HERE[name]


def test_one_that_was_tested_with_what_there_is_here_fits() -> None:
    assert not why_unfit(FACTS, "cpython-311", version)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (RuntimeFacts("cpython-312", FACTS.wheels), "it is for cpython-312, and here runs cpython-311"),
        (RuntimeFacts("cpython-311", {"numpy": "2.2.0"}), "numpy 2.2.0 (there is 2.1.0)"),
        (RuntimeFacts("cpython-311", {"torch": "2.0"}), "torch 2.0 (there is none)"),
    ],
)
def test_one_for_another_interpreter_or_other_libraries_is_told_apart_by_name(facts: RuntimeFacts, words: str) -> None:
    assert words in why_unfit(facts, "cpython-311", version)


def test_equal_wheels_have_one_digest_in_whatever_order() -> None:
    turned = RuntimeFacts("cpython-311", dict(reversed(FACTS.wheels.items())))
    assert turned.dependency_digest == FACTS.dependency_digest
    assert write_facts(turned) == write_facts(FACTS)
    assert RuntimeFacts("cpython-311", {"numpy": "2.1.0"}).dependency_digest != FACTS.dependency_digest


def test_facts_are_read_as_they_were_written_and_nonsense_is_refused() -> None:
    assert read_facts(write_facts(FACTS)) == FACTS
    for nonsense in (b"", b"{}", b"[]", b"\xff", b'{"python": "x", "wheels": {}, "more": 1}', b"[" * 5000):
        with pytest.raises(TrustError) as refused:
            read_facts(nonsense)
        assert refused.value.attack is Attack.MALFORMED


def test_a_wheel_becomes_a_releases_folder(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "ours.whl", "w") as wheel:
        wheel.writestr("agent/__init__.py", "1")
        wheel.writestr("outrider-1.0.dist-info/METADATA", "Name: outrider")
    unpack_wheel(tmp_path / "ours.whl", tmp_path / "out", FACTS)
    assert (tmp_path / "out/agent/__init__.py").read_text() == "1"
    assert read_facts((tmp_path / "out" / FACTS_NAME).read_bytes()) == FACTS


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil", "a/../../evil", "a\\evil", FACTS_NAME])
def test_a_wheel_that_reaches_outside_is_refused(tmp_path: Path, name: str) -> None:
    with zipfile.ZipFile(tmp_path / "ours.whl", "w") as wheel:
        wheel.writestr(name, "1")
    with pytest.raises(ValueError, match="can't be in a release"):
        unpack_wheel(tmp_path / "ours.whl", tmp_path / "out", FACTS)
