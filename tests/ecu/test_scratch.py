"""What is scratch is gone after its act, and after a kill with the next one; what another still uses stays."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ecu.scratch import scratch_folder

HOLDS = """
import sys
from pathlib import Path
from ecu.scratch import scratch_folder
with scratch_folder("its-", Path(sys.argv[1])) as folder:
    (folder / "x").touch()
    print(folder, flush=True)
    sys.stdin.read()
"""


def holding(root: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(root)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_it_is_its_owners_alone_and_nothing_of_it_stays(tmp_path: Path) -> None:
    with scratch_folder("its-", tmp_path) as folder:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        (folder / "deep").mkdir()
        (folder / "deep/file").write_bytes(b"x")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next_and_what_a_living_one_uses_stays(tmp_path: Path) -> None:
    with holding(tmp_path) as killed, holding(tmp_path) as living:
        assert killed.stdout is not None
        assert living.stdout is not None
        left, used = Path(killed.stdout.readline().strip()), Path(living.stdout.readline().strip())
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        assert left.exists()
        with scratch_folder("its-", tmp_path) as mine:
            assert sorted(tmp_path.iterdir()) == sorted([used, mine])
        assert (used / "x").exists()
        living.communicate()
    assert list(tmp_path.iterdir()) == []


def test_nothing_else_by_that_prefix_is_touched(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    root = tmp_path / "root"
    root.mkdir()
    (root / "its-link").symlink_to(elsewhere)
    (root / "its-file").touch()
    (root / "others").mkdir()
    with scratch_folder("its-", root):
        pass
    assert {path.name for path in root.iterdir()} == {"its-link", "its-file", "others"}
    assert (elsewhere / "kept").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can leave a folder to somebody else")
def test_another_users_folder_is_left_to_them(tmp_path: Path) -> None:
    (tmp_path / "its-theirs").mkdir()
    os.chown(tmp_path / "its-theirs", 65534, 65534)
    with scratch_folder("its-", tmp_path):
        pass
    assert (tmp_path / "its-theirs").exists()
