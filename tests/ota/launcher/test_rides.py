"""A launcher and real runtimes: whatever a release does, what was good before runs again."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ota.attempts import Boot, verdict
from ota.machine import Event
from tests.ota.launcher.garage import WITHIN_S, Garage, Started, a_garage

STUBBORN = "signal.signal(signal.SIGTERM, signal.SIG_IGN); notify('READY=1'); say('deaf')"


@pytest.fixture
def garage(tmp_path: Path) -> Iterator[Garage]:
    with a_garage(tmp_path) as garage:
        yield garage


def ready(started: Started) -> Started:
    started.do("notify('READY=1'); say('ready')")
    assert started.says() == "ready"
    return started


# --- what a release may do wrong -------------------------------------------------------------------


def fork_wildly(started: Started) -> None:
    started.do("notify('READY=1'); [os.fork() for _ in range(7)]; signal.pause()")


WRONGS: dict[str, tuple[Callable[[Started], object], str]] = {
    "exits 0": (lambda started: started.do("sys.exit(0)"), "exit 0"),
    "exits 0 once it was ready": (lambda started: ready(started).do("sys.exit(0)"), "exit 0"),
    "asks to be started again": (lambda started: ready(started).do("sys.exit(75)"), "exit 75"),
    "is killed": (lambda started: started.do("os.kill(os.getpid(), 9)"), "signal 9"),
    "hangs before it is ready": (lambda started: None, "not ready"),
    "hangs once it was ready": (ready, "watchdog"),
    "forks wildly": (fork_wildly, "too many processes"),
    "writes a file without end": (
        lambda started: started.do("os.ftruncate(os.open('big', os.O_CREAT | os.O_RDWR), 1 << 31)"),
        "exit 1",
    ),
}


@pytest.mark.parametrize("wrong", WRONGS)
def test_whatever_a_release_does_wrong_it_is_tried_three_times_and_what_was_good_runs_on(
    tmp_path: Path, wrong: str
) -> None:
    act, how = WRONGS[wrong]
    within_s = "0.1" if wrong.startswith("hangs") else "20"
    options = ("--processes", "60", "--ready-s" if how == "not ready" else "--progress-s", within_s)
    with a_garage(tmp_path, *options) as garage:
        garage.install("a")
        garage.install("b")
        garage.write(good="a", trial="b", state="armed")
        garage.launch()
        for attempt in "123":
            tried = garage.next()
            assert (tried.slot, tried.trial) == ("b", attempt)
            assert garage.record()["attempts"] == int(attempt)
            act(tried)
            tried.gone()
        good = garage.next()
        assert (good.slot, good.trial, good.rescue) == ("a", "", "")
        ready(good)
        assert garage.ends() == [how] * 3
        assert (garage.record()["good"], garage.record()["state"]) == ("a", "trial")
        assert verdict([Boot(**boot) for boot in garage.record()["boots"]])[0] is Event.UNFIT
        garage.end()


@pytest.mark.parametrize("source", ["import nothing_there", "raise SystemExit('no')", "def", "\0", ""])
def test_a_release_that_ends_as_it_is_imported_is_given_up(garage: Garage, source: str) -> None:
    garage.install("b", source)
    garage.arm()
    garage.launch()
    assert garage.next().slot == "factory"
    assert len(set(garage.ends())) == 1
    assert garage.ends()[0] in ("exit 1", "exit 0")
    garage.end()


def test_one_that_ignores_that_it_should_end_is_killed_and_it_is_its_fault(tmp_path: Path) -> None:
    with a_garage(tmp_path, "--stop-s", "0.1") as garage:
        garage.install("b")
        garage.arm()
        for _ in range(3):
            garage.launch()
            tried = garage.next()
            tried.do(STUBBORN)
            tried.says()
            garage.end()
        assert garage.ends() == ["ignored SIGTERM"] * 3
        garage.launch()
        assert garage.next().slot == "factory"


def test_one_that_fills_the_disk_is_ended_and_leaves_the_room_that_its_scratch_took(tmp_path: Path) -> None:
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small file system can't be mounted here")
    fill = "file = open(os.environ['TMPDIR'] + '/full', 'wb'); [file.write(b'x' * 65536) for _ in range(400)]"
    try:
        with a_garage(tmp_path) as garage:
            garage.install("b")
            garage.arm()
            garage.launch()
            for _ in range(3):
                tried = garage.next()
                tried.do(fill)
                tried.gone()
            ready(garage.next())
            assert set(garage.ends()) <= {"disk full", "exit 1"}  # whoever notices first
            assert os.statvfs(tmp_path).f_bavail * os.statvfs(tmp_path).f_frsize > 22 << 20
            garage.end()
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


# --- trials that go well, or are cut ---------------------------------------------------------------


def test_a_release_that_keeps_itself_is_what_starts_from_then_on(garage: Garage) -> None:
    garage.install("b")
    garage.arm()
    garage.launch()
    tried = ready(garage.next())
    garage.write(good="b", state="committed")
    tried.do("sys.exit(75)")
    again = garage.next()
    assert (again.slot, again.trial) == ("b", "")
    assert again.folder == garage.home / "b" / "files"
    assert "boots" not in garage.record()
    garage.end()


def test_a_drive_that_ends_within_a_trial_proves_nothing(garage: Garage) -> None:
    garage.install("b")
    garage.arm()
    for _ in range(3):
        garage.launch()
        ready(garage.next())
        garage.end()
    assert garage.ends() == ["stopped"] * 3
    assert verdict([Boot(**boot) for boot in garage.record()["boots"]])[0] is Event.EXHAUSTED
    garage.launch()
    assert garage.next().slot == "factory"


def test_a_launcher_that_is_killed_takes_its_runtime_with_it_and_refunds_no_attempt(garage: Garage) -> None:
    garage.install("b")
    garage.arm()
    for attempt in "123":
        garage.launch()
        tried = garage.next()
        assert tried.trial == attempt
        garage.launchers[-1].kill()
        tried.gone()
    garage.launch()
    assert garage.next().slot == "factory"
    assert garage.ends() == ["", "", ""]


def test_a_release_whose_bytes_changed_is_never_run_and_it_is_not_its_fault(garage: Garage) -> None:
    garage.install("b")
    (garage.home / "b" / "files" / "runtime.py").write_text("raise SystemExit(1)")
    garage.arm()
    garage.launch()
    assert garage.next().slot == "factory"
    assert (garage.ends(), garage.record()["attempts"]) == (["damaged"], 3)
    assert verdict([Boot(**boot) for boot in garage.record()["boots"]])[0] is Event.EXHAUSTED


def test_a_trial_has_a_scratch_folder_that_nothing_of_is_left(garage: Garage) -> None:
    garage.install("b")
    garage.arm()
    garage.launch()
    tried = garage.next()
    tried.do("Path(os.environ['TMPDIR'], 'left').write_text('x'); say(os.environ['TMPDIR'])")
    assert tried.says() == str(garage.home / "scratch")
    garage.end()
    assert not (garage.home / "scratch").exists()


# --- what is good ----------------------------------------------------------------------------------


def test_without_any_record_what_was_shipped_runs_and_ends_in_order(garage: Garage) -> None:
    launcher = garage.launch()
    started = ready(garage.next())
    assert (started.slot, started.trial, started.rescue) == ("factory", "", "")
    garage.end()
    assert launcher.returncode == 0


@pytest.mark.parametrize("spoil", ["change", "add", "remove", "link", "manifest"])
def test_a_good_slot_that_is_damaged_gives_way_to_what_was_good_before(garage: Garage, spoil: str) -> None:
    garage.install("a")
    garage.install("b", **{"lib/deep.py": "1"})
    garage.write(good="b")
    files = garage.home / "b" / "files"
    match spoil:
        case "change":
            (files / "lib/deep.py").write_text("2")
        case "add":
            (files / "json.py").write_text("import evil")
        case "remove":
            (files / "lib/deep.py").unlink()
        case "link":
            (files / "lib/deep.py").rename(files / "elsewhere.py")
            (files / "lib/deep.py").symlink_to("../elsewhere.py")
        case "manifest":
            (garage.home / "b" / "bundle.json").write_text("{}")
    garage.launch()
    assert ready(garage.next()).slot == "a"
    assert "slot b isn't started" in garage.end()


def test_where_both_records_are_damaged_what_was_shipped_runs(garage: Garage) -> None:
    garage.install("a")
    garage.write(good="a")
    for twin in "01":
        (garage.home / f"boot.{twin}").write_bytes(b"\0" * 4096)
    garage.launch()
    assert ready(garage.next()).slot == "factory"


def test_the_third_crash_starts_rescue_mode_and_a_crash_there_what_was_good_before(garage: Garage) -> None:
    garage.install("a")
    garage.install("b")
    garage.write(good="b")
    garage.launch()
    for _ in range(3):
        started = ready(garage.next())
        assert (started.slot, started.rescue) == ("b", "")
        started.do("sys.exit(9)")
    for slot in ("b", "a", "factory", "factory"):
        started = garage.next()
        assert started.slot == slot
        assert started.rescue == "it ended 3 times within ten minutes: exit 9, exit 9, exit 9"
        started.do("sys.exit(1)")
    garage.end()


def test_crashes_are_counted_over_a_launcher_that_is_killed(garage: Garage) -> None:
    for _ in range(3):
        garage.launch()
        started = garage.next()
        assert not started.rescue
        garage.launchers[-1].kill()
        started.gone()
    garage.launch()
    assert garage.next().rescue == "it ended 3 times within ten minutes: cut, cut, cut"


def test_one_that_asks_to_be_started_again_has_not_crashed(garage: Garage) -> None:
    garage.launch()
    for _ in range(5):
        started = ready(garage.next())
        assert not started.rescue
        started.do("sys.exit(75)")
    ready(garage.next())
    garage.end()


def test_who_is_stopped_and_started_in_rescue_mode_begins_anew(garage: Garage) -> None:
    garage.launch()
    for _ in range(3):
        garage.next().do("sys.exit(1)")
    assert ready(garage.next()).rescue
    garage.end()


def test_nothing_that_a_runtime_started_outlives_it(garage: Garage) -> None:
    garage.launch()
    started = ready(garage.next())
    started.do("[os.fork() or os.setsid() for _ in range(3)]; say(os.getpid()); signal.pause()")
    pids = {started.says() for _ in range(8)}
    os.kill(started.pid, signal.SIGKILL)
    ready(garage.next())
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)


# --- what systemd hears ----------------------------------------------------------------------------


def test_systemd_hears_the_runtime_through_its_launcher_and_nobody_else(garage: Garage, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(WITHIN_S)
        garage.launch(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="1000000")
        started = garage.next()
        stranger = "import os; os.system('true')"
        started.do(f"subprocess.run([sys.executable, '-c', {stranger!r}])")
        started.do("pid = os.fork()")
        started.do("pid or (notify('READY=1'), os._exit(0)); os.waitpid(pid, 0); say('forged')")
        assert started.says() == "forged"
        ready(started)
        heard = [systemd.recv(100)]
        while heard[-1] != b"READY=1":
            heard.append(systemd.recv(100))
        assert set(heard[:-1]) <= {b"WATCHDOG=1"}
        started.do("notify('WATCHDOG=1')")
        garage.end()
        heard = [systemd.recv(100)]
        while heard[-1] != b"STOPPING=1":
            heard.append(systemd.recv(100))


def test_two_launchers_never_run_one_state(garage: Garage) -> None:
    garage.launch()
    ready(garage.next())
    assert garage.launch().wait(WITHIN_S) == 3
    garage.launchers.pop().communicate()
    garage.end()
