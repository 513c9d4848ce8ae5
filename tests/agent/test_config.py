"""outrider.toml: closed and complete; what is wrong with it is said with file, line and the nearest right key."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.config import AgentConfig, load_config
from ecu.errors import UsageFault
from telemetry.records import Purpose


def written(folder: Path, text: str) -> Path:
    path = folder / "outrider.toml"
    path.write_text(text)
    return path


def test_the_daemon_needs_no_file() -> None:
    assert load_config(None) == AgentConfig()


def test_privacy_is_the_default() -> None:
    assert load_config(None).privacy.consents == {Purpose.OPERATION}


def test_the_receiver_may_have_its_section_in_the_same_file(tmp_path: Path) -> None:
    path = written(tmp_path, "[camera]\nname = 'rear'\n[receiver]\nmqtt_port = 1\n")
    assert load_config(path).camera.name == "rear"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[camera]\nsource = ''\nslot = 4\n", ["outrider.toml", "3", "slot", "slots"]),
        ("[perceptoin]\nmodel = 'x'\n", ["outrider.toml", "1", "perceptoin", "perception"]),
        ("[link]\nkind = 'carrier-pigeon'\n", ["outrider.toml", "2", "kind"]),
        ("[camera]\nslots = 1\n", ["outrider.toml", "2", "slots"]),
        ("[camera\n", ["outrider.toml", "1"]),
    ],
)
def test_a_wrong_key_or_value_names_file_line_and_the_nearest_right_one(
    tmp_path: Path, text: str, told: list[str]
) -> None:
    with pytest.raises(UsageFault) as fault:
        load_config(written(tmp_path, text))
    assert all(word in str(fault.value) for word in told), str(fault.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match=r"nowhere\.toml"):
        load_config(tmp_path / "nowhere.toml")


def test_every_field_is_described() -> None:
    sections = [field.annotation for field in AgentConfig.model_fields.values()]
    undescribed = [
        f"{section.__name__}.{name}"
        for section in sections
        if section is not None
        for name, field in section.model_fields.items()
        if not field.description
    ]
    assert undescribed == []
