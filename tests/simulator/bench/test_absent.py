"""What isn't installed here takes no row away: it stands there without a number, and its bar isn't met."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ecu.errors import EXIT_NO
from simulator.bench import cli, codec, dbc
from simulator.bench.fifty import fifty_signals, windows
from simulator.bench.link import bench as link
from simulator.bench.link import ways
from simulator.bench.link.blocks import BlockKind
from simulator.bench.link.load import Felt
from simulator.bench.metric import Metric, unless
from simulator.bench.ota import delta, install
from simulator.bench.spool import wear
from simulator.bench.spool.stores import STORES, missing

HOUSE = Path(__file__).parents[3]
BARRED = Metric("m", 1.0, "x", "of nine", 2.0)


def bars(metrics: Sequence[Metric]) -> list[tuple[str, str, float | None, str]]:
    return [(metric.metric, metric.unit, metric.bar, metric.sense) for metric in metrics]


def demand_unmet(there: Sequence[Metric], absent: Sequence[Metric], what: str) -> None:
    """The same rows, each without a number, with a word of what is missing."""
    assert bars(absent) == bars(there)
    assert not any(math.isnan(metric.value) for metric in there)
    assert all(math.isnan(metric.value) and what in metric.how for metric in absent)
    assert all(metric.ok == (metric.bar is None) for metric in absent)


def test_a_row_without_its_peer_keeps_its_bar_and_misses_it() -> None:
    demand_unmet([BARRED], unless("no peer here", BARRED), "no peer here")
    assert unless(None, BARRED) == [BARRED]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_null(value: float) -> None:
    told = json.dumps(Metric("m", value, "x", "how", 2.0).as_json(), allow_nan=False)
    assert json.loads(told) == {"metric": "m", "value": None, "unit": "x", "bar": 2.0, "ok": False, "how": "how"}


@pytest.mark.parametrize("form", [["--json"], []])
def test_a_bar_that_couldnt_be_measured_ends_the_command_as_one_that_was_missed(
    form: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(cli.BENCHES, "absent", __name__)
    ended = CliRunner().invoke(cli.app, ["absent", *form])
    assert ended.exit_code == EXIT_NO
    assert "not measured" in ended.stdout
    if form:
        (row,) = json.loads(ended.stdout)["metrics"]
        assert (row["value"], row["bar"], row["ok"]) == (None, 2.0, False)


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make here")
@pytest.mark.parametrize(("first", "ended"), [("met", 0), ("missed", 2)])
def test_make_bench_ends_as_the_worst_of_them(tmp_path: Path, first: str, ended: int) -> None:
    outrider = tmp_path / "outrider"
    outrider.write_text('#!/bin/sh\necho "$2"; test "$2" = met')
    outrider.chmod(0o755)
    command = ["make", "-o", ".venv/.dev", "bench", f"BIN={tmp_path}", f"BENCHES={first} met"]
    # A make that runs these tests tells the ones below it that they are.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    made = subprocess.run(command, cwd=HOUSE, env=environment, capture_output=True, text=True)
    assert (made.stdout.split()[:2], made.returncode) == ([first, "met"], ended)


def test_make_bench_leaves_none_out() -> None:
    (line,) = [line for line in (HOUSE / "Makefile").read_text().splitlines() if line.startswith("BENCHES := ")]
    assert line.split()[2:] == list(cli.BENCHES)


def run() -> list[Metric]:
    """As a benchmark whose peer isn't here."""
    return unless("no peer here", BARRED)


def test_an_install_without_rauc_keeps_rauc_and_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    absent = install._beside_rauc(payload_mib=1, rounds=1)
    walls = {"ours": [1.0], "bare": [1.0], "rauc": [1.0]}
    there = install._said(walls, "", None)
    assert bars(absent) == bars(there)
    assert [metric.metric for metric in absent if not metric.ok] == ["install over rauc"]
    demand_unmet(there[3:], absent[3:], "rauc, dbus-daemon")


def test_a_delta_without_its_peers_keeps_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    name, took = "zstd -19 --patch-from", delta._Took(1.0, 1.0, 1.0)
    demand_unmet(delta._peer(name, took), delta._patch_from(b"old", b"new"), "zstd isn't installed")
    demand_unmet(delta._peer(name, took), delta._peer(name, delta._Took(), "bsdiff4 isn't installed"), "bsdiff4")


def test_the_codec_without_snappy_keeps_its_bar() -> None:
    schema, batches = fifty_signals(2)
    its = ("50 signals", schema, windows(batches, 1), 1.0, 8.0)
    demand_unmet(codec._beside_fleetwise(*its, lambda data: data), codec._beside_fleetwise(*its, None), "snappy")


def test_a_made_bus_without_cantools_keeps_its_bar() -> None:
    there = dbc._made_rows(dbc._Made(2e6, "cantools 1", 1e5, 20.0), None)
    demand_unmet(there, dbc._made_rows(dbc._Made(), "cantools isn't installed"), "cantools")


def test_a_link_that_isnt_installed_keeps_its_rows() -> None:
    way = ways.Way("none", "outrider_has.no_such", "nothing", ways._mqtt)
    there = [Metric(ways._title(way, kind), 1.0, "blocks/s", "") for kind in BlockKind]
    demand_unmet(there, ways._rows(way), "outrider_has.no_such")


def test_an_endpoint_without_mosquitto_keeps_its_rows() -> None:
    felt = Felt(10, 1.0, 1.0, 1.0, 1, (1.0, 1.0), (1.0, 1.0))
    own = link._Felt(felt, felt)
    demand_unmet(link._mosquitto_rows(own, own, 5.0, 1), link._mosquitto_rows(own, None, math.nan, 1), "mosquitto")


def test_every_store_has_a_row_for_every_commit() -> None:
    rows = [wear._row(store, ms, 1.0, "") for ms in wear.BARS for store in STORES]
    assert [row.bar for row in rows if row.bar is not None] == list(wear.BARS.values())
    for store in STORES:
        absent = [row for row in rows if store in row.metric and math.isnan(row.value)]
        assert bool(absent) == (missing(store) is not None)
