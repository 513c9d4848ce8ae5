"""Decoding, held to cantools on real DBC files and to a reader of single bits on anything."""

from __future__ import annotations

import math
import struct
from dataclasses import replace
from typing import Any

import cantools
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from telemetry.signals.dbc import compile_plan
from telemetry.signals.decode import Decoder
from telemetry.signals.frames import Frames, concat, no_frames
from telemetry.signals.plan import Branch, Cut, GroupCut, SignalPlan
from telemetry.signals.schema import Columns, Group, Schema, SignalSpec, physical
from tests.telemetry.signals.dbcfiles import NAMES, dbc, peer, random_frames

# So many of each message that every branch comes, four of five times at least.
FRAMES_EACH = {"own": 60, "tesla_model3_party": 12, "gm_global_a_high_voltage_management": 24}

Told = dict[tuple[int, str], tuple[int | float, float]]


def told(plan: SignalPlan, columns: list[Columns]) -> Told:
    """(raw, physical) of everything by time and signal's name."""
    values: Told = {}
    for batch in columns:
        for spec, raw in zip(plan.schema.groups[batch.group].signals, batch.values, strict=True):
            assert raw is not None
            rows = zip(batch.t_ns.tolist(), raw.tolist(), physical(spec, raw).tolist(), strict=True)
            values.update({(t_ns, spec.path.rpartition(".")[2]): (x, y) for t_ns, x, y in rows})
    return values


def expected(frames: Frames, messages: list[Any]) -> Told:
    """As cantools has it. It says nothing at all of a frame whose multiplexer has a value of no branch."""
    values: Told = {}
    for t_ns, message, length, data in zip(
        frames.t_ns.tolist(), messages, frames.length.tolist(), frames.data, strict=True
    ):
        content = data[:length].tobytes()
        try:
            raw = message.decode(content, decode_choices=False, scaling=False)
        except cantools.database.DecodeError as error:
            # toyota's PCS_HUD has signals beyond its own length, of which cantools says nothing at all.
            if "expected multiplexer id" not in str(error) and message.name != "PCS_HUD":
                raise
            continue
        scaled = message.decode(content, decode_choices=False)
        values.update({(t_ns, name): (raw[name], float(scaled[name])) for name in raw})
    return values


def differing(got: Told, wanted: Told) -> list[tuple[int, str]]:
    return [key for key, (raw, value) in wanted.items() if key not in got or not _same(got[key], raw, value)]


def _same(got: tuple[int | float, float], raw: int | float, value: float) -> bool:
    if isinstance(raw, float) and math.isnan(raw):
        return math.isnan(got[0])
    close = math.isclose(got[1], value, rel_tol=1e-12, abs_tol=1e-9) or got[1] == value
    return got[0] == raw and type(got[0]) is type(raw) and close


@pytest.mark.parametrize("name", NAMES)
def test_every_signal_of_a_real_file_is_what_cantools_says(name: str) -> None:
    source = dbc(name)
    plan = compile_plan([source])
    frames, messages = random_frames(peer(source), FRAMES_EACH.get(name, 2), seed=len(name))
    got, wanted = told(plan, Decoder(plan).decode(frames)), expected(frames, messages)
    signals = {spec.path.rpartition(".")[2] for group in plan.schema.groups for spec in group.signals}
    assert differing(got, wanted) == []
    assert len({name for _, name in wanted}) > 0.9 * len(signals)
    undecided = {t_ns for t_ns, _ in got} - {t_ns for t_ns, _ in wanted}
    assert all(t_ns in undecided for t_ns, name in got.keys() - wanted.keys())


@pytest.mark.parametrize(
    "fault",
    [
        lambda cut: replace(cut, start=cut.start + 1) if cut.start + cut.bits < 60 else cut,
        lambda cut: replace(cut, signed=not cut.signed),
        lambda cut: replace(cut, big_endian=not cut.big_endian),
    ],
    ids=["a_bit_off", "sign", "byte_order"],
)
def test_a_planted_fault_in_the_plan_is_noticed(fault: Any) -> None:
    source = dbc("toyota_new_mc_pt")
    plan = compile_plan([source])
    wrong = replace(plan, sources=tuple(replace(s, cuts=tuple(map(fault, s.cuts))) for s in plan.sources))
    frames, messages = random_frames(peer(source), 2, seed=1)
    assert differing(told(plan, Decoder(wrong).decode(frames)), expected(frames, messages))


def by_bits(cut: Cut, data: bytes) -> int | float:
    """The same number, one bit after another."""
    bits = [
        (data[at // 8] >> (7 - at % 8 if cut.big_endian else at % 8)) & 1
        for at in range(cut.start, cut.start + cut.bits)
    ]
    if not cut.big_endian:
        bits.reverse()
    raw = int("".join(map(str, bits)), 2)
    if cut.real:
        form = {16: "e", 32: "f", 64: "d"}[cut.bits]
        return float(struct.unpack(f">{form}", raw.to_bytes(cut.bits // 8, "big"))[0])
    return raw - (1 << cut.bits) if cut.signed and bits[0] else raw


@st.composite
def cuts(draw: st.DrawFn, width_bits: int) -> Cut:
    real = draw(st.booleans())
    bits = draw(st.sampled_from([16, 32, 64]) if real else st.integers(1, 64))
    start = draw(st.integers(0, width_bits - bits))
    return Cut(start, bits, draw(st.booleans()), not real and draw(st.booleans()), real)


def plan_of(cuts: list[Cut], branches: tuple[Branch, ...] = ()) -> SignalPlan:
    specs = tuple(SignalSpec(f"V.S{number}", cut.form) for number, cut in enumerate(cuts))
    return SignalPlan(Schema((Group("G", specs),)), (GroupCut(0, 1, branches, tuple(cuts)),))


def frames_with(data: list[bytes], width: int) -> Frames:
    count = len(data)
    rows = np.frombuffer(b"".join(data), np.uint8).reshape(count, width)
    return Frames(
        np.arange(count), np.zeros(count, np.uint8), np.full(count, 1, np.uint32), np.full(count, width, np.uint8), rows
    )


@settings(max_examples=60)
@given(st.data(), st.sampled_from([8, 64]))
def test_any_cut_of_any_bytes_is_what_its_bits_say(data: st.DataObject, width: int) -> None:
    drawn = data.draw(st.lists(cuts(width * 8), min_size=1, max_size=6))
    payloads = data.draw(st.lists(st.binary(min_size=width, max_size=width), min_size=1, max_size=3))
    (columns,) = Decoder(plan_of(drawn)).decode(frames_with(payloads, width))
    for cut, values in zip(drawn, columns.values, strict=True):
        assert values is not None
        assert values.dtype == cut.form.dtype
        wanted = [by_bits(cut, payload) for payload in payloads]
        assert all(
            got == want or (got != got and want != want) for got, want in zip(values.tolist(), wanted, strict=True)
        )


def test_frames_that_are_too_short_are_left_out_and_counted_group_by_group() -> None:
    source = dbc("own")
    plan = compile_plan([source])
    frames, _ = random_frames([m for m in peer(source) if m.name == "NESTED"], 50, seed=3)
    cut_short = replace(frames, length=np.where(np.arange(50) % 2, 2, 8).astype(np.uint8))
    whole, short = Decoder(plan), Decoder(plan)
    some = {c.group: len(c) for c in short.decode(cut_short)}
    every = {c.group: len(c) for c in whole.decode(frames)}
    assert not whole.short
    for group, cut in enumerate(plan.sources):
        if cut.can_id == frames.can_id[0]:
            assert short.short[group] == (25 if cut.needs_bytes > 2 else 0)
            if not cut.branches:
                assert some[group] == every[group] - short.short[group]


def test_a_message_longer_than_classic_frames_is_left_out_of_them() -> None:
    decoder = Decoder(plan_of([Cut(70, 8)]))
    assert decoder.decode(frames_with([bytes(8)], 8)) == []
    assert decoder.short[0] == 1


def test_cutting_a_batch_apart_changes_nothing() -> None:
    source = dbc("tesla_model3_party")
    plan = compile_plan([source])
    frames, _ = random_frames(peer(source), 20, seed=5)
    decoder = Decoder(plan)
    whole = told(plan, decoder.decode(frames))
    apart: Told = {}
    for begin in range(0, len(frames), 7):
        apart.update(told(plan, decoder.decode(frames.rows(slice(begin, begin + 7)))))
    assert apart == whole


def test_a_group_decodes_alike_alone_and_among_all() -> None:
    source = dbc("tesla_model3_party")
    plan = compile_plan([source])
    frames, _ = random_frames(peer(source), 5, seed=6)
    every = {columns.group: columns for columns in Decoder(plan).decode(frames)}
    for group in range(0, len(plan.sources), 4):
        alone = Decoder(plan, {group})
        got = told(plan, alone.decode(frames))
        assert got == (told(plan, [every[group]]) if group in every else {})
        assert alone.others == np.count_nonzero(frames.can_id != plan.sources[group].can_id)


def test_nothing_gives_nothing_and_unknown_frames_are_counted() -> None:
    plan = plan_of([Cut(0, 8)])
    decoder = Decoder(plan)
    assert decoder.decode(no_frames()) == []
    assert Decoder(plan, ()).decode(frames_with([bytes(8)], 8)) == []
    strange = frames_with([bytes(8)] * 3, 8)
    assert decoder.decode(replace(strange, bus=np.full(3, 1, np.uint8))) == []
    assert decoder.others == 3


def test_groups_come_by_number_and_rows_by_time() -> None:
    plan = compile_plan([dbc("own", 0), dbc("toyota_adas", 1)])
    parts = [
        random_frames(peer(dbc(name)), 9, seed, bus)[0]
        for seed, (name, bus) in enumerate([("own", 0), ("toyota_adas", 1)])
    ]
    columns = Decoder(plan).decode(concat(parts))
    assert [c.group for c in columns] == sorted({c.group for c in columns})
    assert all((np.diff(c.t_ns) >= 0).all() for c in columns)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 255), min_size=1, max_size=20), st.integers(0, 250), st.integers(0, 5))
def test_a_branch_takes_the_frames_whose_selector_is_in_its_ranges(heads: list[int], low: int, more: int) -> None:
    branch = Branch(Cut(0, 8), ((low, low + more),))
    frames = frames_with([bytes([head]) + bytes(7) for head in heads], 8)
    columns = Decoder(plan_of([Cut(0, 8)], (branch,))).decode(frames)
    wanted = [head for head in heads if low <= head <= low + more]
    assert [value for batch in columns for value in batch.values[0].tolist()] == wanted  # type: ignore[union-attr]


@pytest.mark.soak
@pytest.mark.parametrize("name", NAMES)
def test_many_random_frames_of_every_message_are_what_cantools_says(name: str) -> None:
    source = dbc(name)
    plan = compile_plan([source])
    frames, messages = random_frames(peer(source), 100, seed=99)
    assert differing(told(plan, Decoder(plan).decode(frames)), expected(frames, messages)) == []
