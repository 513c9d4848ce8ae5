"""The demo as a command: what it prints, what it leaves, how it says no, and how it ends when it is told to."""

from __future__ import annotations

import json
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ecu.errors import EXIT_ENVIRONMENT
from tests.end_to_end.performance import command, environment, perform
from tests.verbs import said

REPORT = {"report.html", "junit.xml", "claims.json", "drive.mcap"}

Process = tuple[int, str]
"""A pid and its start time, so that a successor under the same number isn't taken for it."""


@pytest.fixture
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="or-") as folder:
        yield Path(folder)


# --- where no report can be written -----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/nowhere", "/sys/report", "n" * 300])
def test_a_place_where_no_report_can_be_is_named_before_the_drive(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    # A drive begins with a folder here, which can't be made.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere" / "nowhere"))
    code, out, err = said("demo", "--fast", "--json", "--report", tmp_path / place)
    assert code in (2, EXIT_ENVIRONMENT)
    assert out == ""
    assert place in err
    assert "elsewhere" not in err, "the drive has begun"
    assert (tmp_path / "file").read_text() == "no folder"


def started(arguments: list[str], temporary: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command(*arguments), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(temporary),
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a job in the background ignores it
    )  # fmt: skip


# --- one whole run ----------------------------------------------------------------------------------------------------


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_run_prints_its_claims_and_leaves_its_report_and_nothing_else(temporary: Path, tmp_path: Path) -> None:
    busy = {"notes.txt": "mine", "report.html": "an earlier one", "claims.json": "an earlier one"}
    for name, text in busy.items():
        (tmp_path / name).write_text(text)
    performed = perform(["--fast", "--json", "--report", str(tmp_path)], environment(temporary))

    told = json.loads(performed.out)
    assert set(told) == {"seconds", "claims"}
    assert all(set(claim) == {"claim", "measured", "bar", "ok"} for claim in told["claims"])
    assert performed.err == ""
    assert performed.exit_code == (0 if all(claim["ok"] for claim in told["claims"]) else 1)

    assert {path.name for path in tmp_path.iterdir()} == {*REPORT, "notes.txt"}
    assert (tmp_path / "claims.json").read_text() == performed.out
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "<html" in (tmp_path / "report.html").read_text()
    assert list(temporary.iterdir()) == []


# --- Ctrl-C -----------------------------------------------------------------------------------------------------------

Moment = Callable[[int, Path], bool]


def pairing(pid: int, temporary: Path) -> bool:
    return any(temporary.glob("outrider-*/receiver/receiver.sock"))


def driving(pid: int, temporary: Path) -> bool:
    return any(log.stat().st_size > 5_000 for log in temporary.glob("outrider-*/witness.log"))


def proving(pid: int, temporary: Path) -> bool:
    return any(b"\0replay\0" in _command_line(child) for child in descendants(pid))


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("moment", [pairing, driving, proving], ids=lambda moment: moment.__name__)
def test_a_run_that_is_interrupted_says_so_and_leaves_nobody_and_nothing(
    moment: Moment, temporary: Path, tmp_path: Path
) -> None:
    demo, family = ended_at(moment, signal.SIGINT, temporary, tmp_path)
    assert demo.communicate(timeout=60) == ("", "Interrupted.\n")
    assert demo.returncode == EXIT_ENVIRONMENT
    assert list(temporary.iterdir()) == []
    wait_until(lambda: not any(map(is_running, family)), within_s=10)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_run_that_is_killed_leaves_nobody(temporary: Path, tmp_path: Path) -> None:
    demo, family = ended_at(driving, signal.SIGKILL, temporary, tmp_path)
    demo.wait()
    wait_until(lambda: not any(map(is_running, family)), within_s=10)
    demo.communicate()


def ended_at(
    moment: Moment, number: signal.Signals, temporary: Path, report: Path
) -> tuple[subprocess.Popen[str], set[Process]]:
    """A run that was sent the signal at that moment, and the processes that it had then."""
    demo = started(["--fast", "--json", "--report", str(report)], temporary)
    wait_until(lambda: moment(demo.pid, temporary) or demo.poll() is not None)
    family = descendants(demo.pid)
    assert family
    demo.send_signal(number)
    return demo, family


def wait_until(reached: Callable[[], bool], within_s: float = 120.0) -> None:
    deadline = time.monotonic() + within_s
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def descendants(pid: int) -> set[Process]:
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        if fields := _stat(int(stat.parent.name)):
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found, front = set[int](), [pid]
    while front:
        front = [child for parent in front for child in children.get(parent, []) if child not in found]
        found |= set(front)
    return {(child, fields[19]) for child in found if (fields := _stat(child))}


def is_running(process: Process) -> bool:
    pid, started = process
    fields = _stat(pid)
    return fields is not None and fields[19] == started and fields[0] not in ("Z", "X")


def _stat(pid: int) -> list[str] | None:
    """State, parent and so on, as in proc(5) from field 3; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _command_line(process: Process) -> bytes:
    try:
        return Path(f"/proc/{process[0]}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""
