"""Batches of every form and habit, as hypothesis makes them."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec, Values

_LAST_NS = (1 << 63) - 1

_numbers = {
    Form.INT: st.one_of(st.integers(-3, 3), st.integers(-1000, 1000), st.integers(-(1 << 63), (1 << 63) - 1)),
    Form.UINT: st.one_of(st.integers(0, 3), st.integers(0, (1 << 64) - 1)),
    Form.FLOAT: st.one_of(
        st.integers(-4000, 4000).map(lambda whole: whole / 100),
        st.floats(width=32),
        st.floats(),
        st.sampled_from([0.0, -0.0, float("nan"), float("inf")]),
    ),
}


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    forms = draw(st.lists(st.lists(st.sampled_from(Form), max_size=5), min_size=1, max_size=4))
    periods = st.one_of(st.none(), st.sampled_from([10_000, 100_000]), st.integers(-5, 1 << 62))
    return Schema(
        tuple(
            Group(f"g{i}", tuple(SignalSpec(f"V.G{i}.S{j}", form) for j, form in enumerate(group)), draw(periods))
            for i, group in enumerate(forms)
        )
    )


@st.composite
def parts(draw: st.DrawFn, schema: Schema, max_rows: int = 60) -> Columns:
    """Times in whole microseconds."""
    group = draw(st.integers(0, len(schema.groups) - 1))
    rows = draw(st.integers(1, max_rows))
    values = tuple(draw(st.one_of(st.none(), columns(spec.form, rows))) for spec in schema.groups[group].signals)
    return Columns(group, draw(times(rows)), values)


@st.composite
def times(draw: st.DrawFn, rows: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rising: of an even pace with jitter, or anything."""
    if draw(st.booleans()):
        pace, start = draw(st.sampled_from([0, 10_000, 33_333])), draw(st.integers(0, 1 << 50))
        jitter = draw(st.lists(st.integers(0, 300), min_size=rows, max_size=rows))
        us = start + np.arange(rows) * pace + np.array(jitter, np.int64)
    else:
        edge = _LAST_NS // 1000
        us = np.array(draw(st.lists(st.integers(-edge, edge), min_size=rows, max_size=rows)), np.int64)
    return np.sort(us) * 1000


@st.composite
def columns(draw: st.DrawFn, form: Form, rows: int) -> Values:
    """Noise, a constant, a walk, a counter or a few outliers."""
    dtype, number = form.dtype, _numbers[form]
    match draw(st.integers(0, 3)):
        case 0:
            return np.full(rows, draw(number), dtype)
        case 1:
            return (np.arange(rows) * draw(st.integers(1, 30)) % draw(st.integers(1, 50))).astype(dtype)
        case 2:
            walk = np.cumsum(draw(st.lists(st.integers(-2, 2), min_size=rows, max_size=rows))) + 120
            far = np.array(draw(st.lists(number, max_size=2)), dtype)
            walked = walk.astype(dtype)
            walked[: min(len(far), rows)] = far[:rows]
            return walked
        case _:
            return np.array(draw(st.lists(number, min_size=rows, max_size=rows)), dtype)


def alone(schema: Schema, batch: Columns) -> dict[str, bytes]:
    """What it tells, by path, to the last bit; its times as the path ""."""
    specs = schema.groups[batch.group].signals
    told = {spec.path: values.tobytes() for spec, values in zip(specs, batch.values, strict=True) if values is not None}
    return {"": batch.t_ns.tobytes(), **told}


def assert_same(found: Columns, expected: Columns) -> None:
    """To the last bit."""
    assert found.group == expected.group
    assert found.t_ns.tobytes() == expected.t_ns.tobytes()
    assert len(found.values) == len(expected.values)
    for one, other in zip(found.values, expected.values, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())
