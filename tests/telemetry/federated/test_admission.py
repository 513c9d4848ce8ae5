"""What the cloud takes into its buffer: the honest update, and nothing that differs from it in one thing alone."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from telemetry.federated.admission import Known, admit_update
from telemetry.federated.errors import Refusal, UpdateRefused
from telemetry.federated.payload import SparseDelta, encode_delta
from telemetry.federated.plan import LabelSource, Plan
from telemetry.federated.update import MAX_PAYLOAD_BYTES, ModelUpdate, signed_part

BASE, OLDER, OLDEST = ("a" * 64, "b" * 64, "c" * 64)
PLAN = Plan(
    name="lights-1", model="light-state@1.0", base=BASE, graph="1" * 64, layout="2" * 64, parameters=1000,
    source=LabelSource.CONFIRMED, steps=8, batch=32, learning_rate=0.05, clip=1.0, keep=50, min_examples=8, updates=5,
    max_staleness=1, not_after=2_000_000_000,
)  # fmt: skip
KNOWN = Known(plans={PLAN.name: PLAN}, bases={OLDEST: 1, OLDER: 2, BASE: 3}, newest=3, sent=frozenset({1}))
DELTA = SparseDelta(1000, np.array([3, 500]), np.array([0.5, -0.25], np.float32))


def sign(message: bytes) -> bytes:
    return hashlib.sha256(b"car-1" + message).digest()


def verify(message: bytes, signature: bytes) -> bool:
    return signature == sign(message)


def signed(**changes: Any) -> ModelUpdate:
    update = ModelUpdate(PLAN.name, BASE, PLAN.graph, PLAN.layout, 2, encode_delta(DELTA))
    update = replace(update, **changes)
    return replace(update, signature=sign(signed_part(update)))


def test_an_honest_update_is_what_it_says() -> None:
    taken = admit_update("car-1", signed(), verify, KNOWN)
    assert (taken.vehicle, taken.staleness) == ("car-1", 0)
    assert taken.delta.indices.tolist() == [3, 500]


def test_as_stale_as_the_plan_takes_is_taken_and_said() -> None:
    assert admit_update("car-1", signed(base=OLDER), verify, KNOWN).staleness == 1


@pytest.mark.parametrize(
    ("changes", "refusal", "words"),
    [
        ({"plan": "lights-2"}, Refusal.UNKNOWN_PLAN, "there is no plan lights-2"),
        ({"base": "d" * 64}, Refusal.WRONG_BASE, "nobody here made the model dddddddddddd"),
        ({"base": OLDEST}, Refusal.STALE, "its base is 2 aggregates old, plan lights-1 takes 1"),
        ({"graph": "3" * 64}, Refusal.WRONG_LAYOUT, "its graph or layout isn't that of plan lights-1"),
        ({"layout": "3" * 64}, Refusal.WRONG_LAYOUT, "its graph or layout isn't that of plan lights-1"),
        ({"seq": 1}, Refusal.REPLAYED, "car-1 has sent update 1 of plan lights-1 before"),
        ({"seq": 6}, Refusal.EXCESSIVE, "update 6 of 5 that plan lights-1 allows"),
        ({"seq": 0}, Refusal.EXCESSIVE, "update 0 of 5"),
        ({"seq": -3}, Refusal.EXCESSIVE, "update -3 of 5"),
        ({"payload": bytes(MAX_PAYLOAD_BYTES + 1)}, Refusal.TOO_LARGE, "65537 bytes, 65536 are the most"),
        ({"payload": b"noise"}, Refusal.MALFORMED, "5 bytes are no update"),
    ],
)
def test_what_differs_in_one_thing_is_refused_by_its_name(
    changes: dict[str, Any], refusal: Refusal, words: str
) -> None:
    with pytest.raises(UpdateRefused, match=words) as refused:
        admit_update("car-1", signed(**changes), verify, KNOWN)
    assert refused.value.refusal is refusal


@pytest.mark.parametrize(
    "changes", [{"seq": 3}, {"base": OLDER}, {"plan": "x"}, {"graph": "x"}, {"layout": "x"}, {"payload": b"x"}]
)
def test_no_field_can_be_changed_behind_the_signature(changes: dict[str, Any]) -> None:
    with pytest.raises(UpdateRefused, match="its signature isn't that of car-1") as refused:
        admit_update("car-1", replace(signed(), **changes), verify, KNOWN)
    assert refused.value.refusal is Refusal.FOREIGN


def test_two_fields_cant_be_shifted_into_each_other() -> None:
    assert signed_part(signed(plan="ab", base="c")) != signed_part(signed(plan="a", base="bc"))
