"""Another distribution's package under one of our names is found before it runs, and the answer says what to do."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import ecu
from ecu.errors import EXIT_ENVIRONMENT
from ecu.ownership import NAMES, NameTaken, check

ROOT = Path(ecu.__file__).parent.parent
FIX = r"virtual environment of its own"


def test_our_own_packages_are_ours() -> None:
    check(path=[str(ROOT)])


def test_every_package_of_ours_is_checked() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/py.typed")}
    assert set(NAMES) == packages


def test_a_package_standing_before_ours_is_found(tmp_path: Path) -> None:
    (tmp_path / "inference").mkdir()
    (tmp_path / "inference" / "__init__.py").write_text("raise SystemExit('it was run')\n")
    with pytest.raises(NameTaken, match=rf"'inference' from {tmp_path}/inference/__init__\.py.*{FIX}") as caught:
        check(path=[str(tmp_path), str(ROOT)])
    assert caught.value.exit_code == EXIT_ENVIRONMENT
    check(path=[str(ROOT), str(tmp_path)])


def test_even_a_marked_copy_elsewhere_is_not_ours(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "ota", tmp_path / "ota", ignore=shutil.ignore_patterns("__pycache__"))
    with pytest.raises(NameTaken, match=rf"'ota' from {tmp_path}/ota"):
        check(path=[str(tmp_path), str(ROOT)])


def test_a_single_file_of_that_name_is_found(tmp_path: Path) -> None:
    (tmp_path / "agent.py").write_text("")
    with pytest.raises(NameTaken, match=rf"{tmp_path}/agent\.py"):
        check(path=[str(tmp_path), str(ROOT)])


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A site-packages folder with our packages in it, as pip leaves it."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "__init__.py", tmp_path / name)
    for file in ("ownership.py", "errors.py"):
        shutil.copy(ROOT / "ecu" / file, tmp_path / "ecu")
    return tmp_path


def start(installed: Path) -> subprocess.CompletedProcess[str]:
    script = f"import sys; sys.path.insert(0, {str(installed)!r}); from ecu.ownership import check; check()"
    return subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=False)


def test_an_undisturbed_installation_starts(installed: Path) -> None:
    assert start(installed).returncode == 0


@pytest.mark.parametrize("theirs", ['__version__ = "1.0"\n', "", '# __distribution__ = "outrider"\n'])
def test_files_written_over_ours_are_found(installed: Path, theirs: str) -> None:
    (installed / "inference" / "__init__.py").write_text(theirs)
    ran = start(installed)
    assert ran.returncode != 0
    assert f"{installed}/inference/__init__.py isn't Outrider's" in ran.stderr


def test_a_missing_package_is_found(installed: Path) -> None:
    shutil.rmtree(installed / "receiver")
    assert f"'receiver' is missing from {installed}" in start(installed).stderr


def test_looking_imports_nothing() -> None:
    before = set(sys.modules)
    check(path=[str(ROOT)])
    assert set(sys.modules) == before
