"""What a release asks for is held against what is here, and a version is compared as its numbers."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ota.errors import Attack, DoesNotFit, TrustError
from ota.facts import Peer, Runtime
from ota.fitness import Held, Host, conflicts_of, fits
from ota.kinds import Kind
from ota.manifest import BundleManifest, file_entry
from ota.ranges import RANGE_PATTERN, is_within

HOST = Host("x86_64", "3.11.7", "0.5.0", "1.20.1", "cp311-linux_x86_64", "a" * 64)
versions = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(lambda numbers: ".".join(map(str, numbers)))


def numbers(version: str) -> list[int]:
    parts = [int(part) for part in version.split(".")]
    return parts + [0] * (4 - len(parts))


def release(kind: Kind = Kind.MODEL, hardware: str = "any", **facts: Any) -> BundleManifest:
    files = (file_entry("a", iter([b"x"])),)
    return BundleManifest(kind=kind, name="drive", version="1.0", release=5, hardware=(hardware,), files=files, **facts)


@given(versions, versions, versions)
def test_a_range_is_what_lies_between_its_ends(version: str, least: str, below: str) -> None:
    assert re.fullmatch(RANGE_PATTERN.strip("^$"), f">={least},<{below}")
    assert is_within(version, f">={least},<{below}") == (numbers(least) <= numbers(version) < numbers(below))
    assert is_within(version, f"=={least}") == (numbers(version) == numbers(least))
    assert is_within(version, f">{least}") != is_within(version, f"<={least}")


@pytest.mark.parametrize(("version", "wanted"), [
    ("1.20", "==1.20.0"), ("1.20.0", "<=1.20"), ("2", ">=2.0.0.0"), ("10.0", ">9"), ("1.9", "<1.10"),
])  # fmt: skip
def test_a_number_that_is_missing_is_zero_and_numbers_arent_text(version: str, wanted: str) -> None:
    assert is_within(version, wanted)


@given(versions, st.sampled_from(["", "rc1", ".dev0", "+", "-alpha", ".1.2.3.4.5"]))
def test_what_stands_behind_a_versions_numbers_counts_for_nothing(version: str, behind: str) -> None:
    if not behind.startswith(".1"):
        assert is_within(version + behind, f"=={version}")
    assert is_within(version + behind, f">={version}")


@pytest.mark.parametrize("version", ["", "v1.2", "unknown", "-1", " 1.2"])
def test_what_is_no_version_is_in_no_range(version: str) -> None:
    assert not is_within(version, ">=0")


@pytest.mark.parametrize("facts", [
    {}, {"hardware": "x86_64"}, {"runtime": Runtime(python=">=3.11,<3.14", onnxruntime=">=1.20", outrider=">=0.5")},
    {"kind": Kind.RUNTIME, "runtime": Runtime(abi="cp311-linux_x86_64", dependencies="a" * 64)},
    {"kind": Kind.RUNTIME, "runtime": Runtime(dependencies="b" * 64, brings_dependencies=True)},
])  # fmt: skip
def test_what_can_run_here_fits(facts: dict[str, Any]) -> None:
    fits(release(**facts), HOST)


@pytest.mark.parametrize(("facts", "words"), [
    ({"hardware": "aarch64"}, "is for aarch64, this is x86_64"),
    ({"kind": Kind.RUNTIME, "runtime": Runtime(abi="cp312-linux_x86_64")}, "built for cp312-linux_x86_64"),
])  # fmt: skip
def test_a_release_for_another_computer_is_refused_as_wrong_hardware(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(TrustError, match=words) as refused:
        fits(release(**facts), HOST)
    assert refused.value.attack is Attack.WRONG_HARDWARE


@pytest.mark.parametrize(("facts", "words"), [
    ({"runtime": Runtime(python="<3.11")}, "needs Python <3.11, here is 3.11.7"),
    ({"runtime": Runtime(onnxruntime=">=1.21")}, "needs ONNX Runtime >=1.21, here is 1.20.1"),
    ({"runtime": Runtime(outrider=">=0.6")}, "needs Outrider >=0.6, here is 0.5.0"),
    ({"kind": Kind.RUNTIME, "runtime": Runtime(dependencies="b" * 64)}, "doesn't bring them"),
])  # fmt: skip
def test_a_release_for_another_runtime_waits_and_is_no_attack(facts: dict[str, Any], words: str) -> None:
    with pytest.raises(DoesNotFit, match=words):
        fits(release(**facts), HOST)


def test_a_release_that_needs_what_isnt_here_at_all_doesnt_fit() -> None:
    with pytest.raises(DoesNotFit, match="here is none"):
        fits(release(runtime=Runtime(onnxruntime=">=1")), Host("x86_64", "3.11.7", "0.5.0"))


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_what_is_required_is_there_and_what_conflicts_is_not(least: int, most: int, here: int) -> None:
    least, most = min(least, most), max(least, most)
    peer = Peer(kind=Kind.CONFIG, name="car", least=least, most=most)
    held = [Held(Kind.CONFIG, "car", here)]
    is_there = least <= here <= most
    assert (conflicts_of(release(requires=(peer,)), held) == ()) == is_there
    assert (conflicts_of(release(conflicts=(peer,)), held) == ()) == (not is_there)


@pytest.mark.parametrize("other", [Held(Kind.PLAN, "car", 3), Held(Kind.CONFIG, "bus", 3)])
def test_another_kind_or_name_is_another_release(other: Held) -> None:
    peer = Peer(kind=Kind.CONFIG, name="car")
    assert conflicts_of(release(requires=(peer,)), [other])
    assert not conflicts_of(release(conflicts=(peer,)), [other])
