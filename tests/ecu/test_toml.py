"""Laws of the config loader: nothing wrong is passed over, and what is wrong is named with its line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from ecu.errors import UsageFault
from ecu.toml import line_of, load_toml


class Radio(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    band: int = Field(default=3, gt=0)
    names: tuple[str, ...] = ()


class Car(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")
    doors: int = 4
    radio: Radio = Radio()


def written(folder: Path, text: str) -> Path:
    path = folder / "outrider.toml"
    path.write_text(text)
    return path


def complaint(folder: Path, text: str, section: str = "car") -> str:
    with pytest.raises(UsageFault) as caught:
        load_toml(written(folder, text), Car, section=section)
    return str(caught.value).removeprefix(f"{folder}/")


def test_no_file_and_no_section_are_the_defaults(tmp_path: Path) -> None:
    assert load_toml(None, Car) == Car()
    assert load_toml(written(tmp_path, "[house]\ndoors = 1\n"), Car, section="car") == Car()


def test_a_section_is_read_and_the_others_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path, "[house]\nx = 1\n[car]\ndoors = 2\n[car.radio]\nband = 7\n")
    assert load_toml(path, Car, section="car") == Car(doors=2, radio=Radio(band=7))


def test_a_reader_of_the_whole_file_leaves_only_named_sections_to_others(tmp_path: Path) -> None:
    path = written(tmp_path, "doors = 2\n[house]\nx = 1\n")
    assert load_toml(path, Car, others=("house",)).doors == 2
    with pytest.raises(UsageFault, match="house is unknown"):
        load_toml(path, Car)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[car]\ndoors = 2\ndoor = 3\n", "outrider.toml:3: car.door is unknown. Did you mean doors?"),
        ("[car]\n\n# why\nradio = { bands = 3 }\n", "outrider.toml:4: car.radio.bands is unknown. Did you mean band?"),
        ("[car]\nqqq = 2\n", "outrider.toml:2: car.qqq is unknown. The keys here are doors, radio."),
        ("[car]\ndoors = 'two'\n", "outrider.toml:2: car.doors can't be 'two': Input should be a valid integer"),
        ("[car.radio]\nband = 0\n", "outrider.toml:2: car.radio.band can't be 0: Input should be greater than 0."),
        ("[car.radio]\nnames = [\n 'a',\n 5,\n]\n", "outrider.toml:2: car.radio.names.1 can't be 5"),
        ("a = 1\n[carr]\ndoors = 2\n", "outrider.toml:2: [carr] is no section. Did you mean [car]?"),
        ("[car]\ndoors = = 2\n", "outrider.toml isn't TOML: Invalid value (at line 2, column 9)"),
    ],
)
def test_what_is_wrong_is_told_with_file_line_key_and_the_nearest(tmp_path: Path, text: str, words: str) -> None:
    assert complaint(tmp_path, text).startswith(words)


def test_a_missing_file_and_foreign_bytes_are_the_users_fault(tmp_path: Path) -> None:
    with pytest.raises(UsageFault, match="No such file"):
        load_toml(tmp_path / "none.toml", Car)
    (tmp_path / "bytes.toml").write_bytes(b"a = '\xff'")
    with pytest.raises(UsageFault, match="isn't UTF-8 text at byte 5"):
        load_toml(tmp_path / "bytes.toml", Car)


@given(st.lists(st.sampled_from(["", "# note", 'm = """\na = 1\n"""', "[t]", "x = [\n1,\n2]"]), max_size=6), st.data())
def test_a_keys_line_is_where_its_statement_stands(before: list[str], data: st.DataObject) -> None:
    lines: list[str] = []
    for number, statement in enumerate(before):
        lines += (
            statement.replace("m =", f"m{number} =")
            .replace("[t]", f"[t{number}]")
            .replace("x =", f"x{number} =")
            .split("\n")
        )
    wanted = data.draw(st.sampled_from(["needle = 1", "needle = [\n 1,\n]"]))
    text = "\n".join(["[first]", *lines, "[last]", wanted, "after = 2", ""])
    assert line_of(text, ("last", "needle")) == len(lines) + 3
    assert line_of(text, ("last", "absent")) is None
