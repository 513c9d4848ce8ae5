"""What the demo writes is read as it was meant, whatever is in it."""

from __future__ import annotations

import tomllib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from agent.config import load_config
from simulator.demo.settings import toml, write_settings

texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.one_of(texts, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(-1e18, 1e18), st.lists(texts))
keys = st.from_regex(r"[a-z_]{1,9}", fullmatch=True)


@given(st.dictionaries(keys, st.dictionaries(keys, values)))
def test_settings_are_read_as_they_were_written(sections: dict[str, dict[str, object]]) -> None:
    assert tomllib.loads(toml(sections)) == sections


def test_an_agent_takes_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "outrider.toml"
    source = f'video:{tmp_path}/"Straße" \U0001f697\\\x7f.avi?loop=1'
    write_settings(path, {"camera": {"source": source}, "run": {"lockstep": True}, "updates": {"poll_s": 0.4}})
    config = load_config(path)
    assert (config.camera.source, config.run.lockstep, config.updates.poll_s) == (source, True, 0.4)
