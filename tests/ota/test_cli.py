"""`outrider ota` as whoever sits at the desk meets it: each verb, its answer in JSON and in words, its exit code.

Mutants of ota/desk that these tests were seen to catch: `verify` without its blocks, and with the repository's roots
in place of the given ones; `publish` that takes an assignment by half; `sign` with the kind's key in place of --key;
the disk's own words left as they are; `--json` with anything else on standard output.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ecu.clock import SteppingClock, SystemClock
from ecu.disk import DiskDenied, DiskFull
from ecu.errors import EXIT_ENVIRONMENT, EXIT_NO, EXIT_USAGE, OutriderError
from ota.desk.arguments import on_the_disk_of
from ota.errors import NoRoomForUpdate
from ota.kinds import Kind
from ota.repository import Desk, KeyFolder
from ota.repository.alone import LOCK, alone
from ota.repository.keys import ALL_KEYS
from outrider import ClickException, run
from tests.ota.fleet import DAY_NS, Fleet, Unsynced

PACKAGE = Path(__file__).parents[2] / "inference/models/drive-detect-1.0"


@dataclass
class Office:
    """A folder with a repository and its keys, and the command line over it."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    @property
    def keys(self) -> Path:
        return self.folder / "keys"

    def said(self, verb: str, *arguments: str | Path) -> str:
        """Standard output of a verb that was done."""
        self.capsys.readouterr()
        where = {"keygen": [], "verify": ["--repo"], "inspect": ["--repo"], "add": ["--repo"]}.get(
            verb, ["--repo", "--keys"]
        )
        where = ["--keys"] if verb == "keygen" else where
        given = [
            word for option in where if option not in arguments for word in (option, str(self.folder / option[2:]))
        ]
        assert run(["ota", verb, *map(str, arguments), *given]) == 0
        return self.capsys.readouterr().out

    def told(self, verb: str, *arguments: str | Path) -> Any:
        return json.loads(self.said(verb, *arguments, "--json"))

    def refused(self, code: int, verb: str, *arguments: str | Path) -> str:
        """One clear paragraph, with that exit code."""
        with pytest.raises(OutriderError) as refused:
            self.said(verb, *arguments)
        assert refused.value.exit_code == code, refused.value
        words = str(refused.value)
        assert words.isprintable()
        return words

    def released(self, version: str = "1.0", release: int = 1, *more: str) -> str:
        """Added, signed and published to car-1; its target."""
        folder = self.folder / f"in-{version}-{release}"
        folder.mkdir()
        (folder / "a.bin").write_bytes(b"%d" % release * 100)
        name = ["--name", "drive", "--version", version, "--release", str(release), *more]
        target: str = self.told("add", folder, "--kind", "model", *name)["target"]
        self.told("sign", "--role", "model")
        self.told("publish", "--vehicle", "car-1", "--target", target)
        return target


@pytest.fixture(scope="session")
def founded_now(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As `init` makes it, at today's time."""
    folder = tmp_path_factory.mktemp("office")
    keys = KeyFolder(folder / "keys")
    keys.generate([*ALL_KEYS, "anna"])
    (folder / "repo").mkdir()
    Desk(Unsynced(folder / "repo"), SystemClock()).found(keys, {})
    return folder


@pytest.fixture
def office(founded_now: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Office:
    shutil.copytree(founded_now, tmp_path / "office")
    return Office(tmp_path / "office", capsys)


@pytest.fixture
def empty(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Office:
    (tmp_path / "office").mkdir()
    return Office(tmp_path / "office", capsys)


def tree(folder: Path) -> dict[str, bytes]:
    """Every file's content, without the lock, which has none."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


# --- the whole way ----------------------------------------------------------------------------------


def test_from_no_key_to_a_vehicle_that_would_install_the_shipped_model(empty: Office) -> None:
    made = empty.told("keygen")["keys"]
    assert [line["name"] for line in made] == list(ALL_KEYS)
    assert all(line["is_new"] and len(line["key_id"]) == 64 for line in made)
    roots = empty.told("init")["roots"]
    added = empty.told(
        "add", PACKAGE, "--kind", "model", "--release", "1", "--hardware", "x86_64", "--hardware", "aarch64"
    )
    assert (added["target"], added["is_draft"]) == ("model/drive-detect-1.0.json", True)
    signed = empty.told("sign", "--role", "model")
    assert signed["is_signed"]
    assert signed["draft"]["changes"] == added["drafts"][0]["changes"]
    published = empty.told("publish", "--vehicle", "car-1", "--vehicle", "car-2", "--target", "model/drive-detect-1.0")
    assert published["kinds"] == ["model"]
    assert [its["vehicle"] for its in published["assigned"]] == ["car-1", "car-2"]
    note = empty.told("inspect")
    assert note["roots"] == roots
    assert [its["target"] for its in note["releases"]] == ["model/drive-detect-1.0.json"]
    assert note["releases"][0]["hardware"] == ["x86_64", "aarch64"]
    model_key = next(line["key_id"] for line in made if line["name"] == "model")
    assert note["releases"][0]["signed_by"] == [model_key]
    assert note["vehicles"][0]["targets"] == ["model/drive-detect-1.0.json"]
    for vehicle, hardware in (("car-1", "x86_64"), ("car-2", "aarch64")):
        verdict = empty.told("verify", "--vehicle", vehicle, "--hardware", hardware)
        assert verdict["ok"]
        assert verdict["installs"][0]["title"] == "model drive-detect 1.0 (release 1)"
        assert verdict["installs"][0]["bytes"] == sum(path.stat().st_size for path in PACKAGE.iterdir())


def test_each_verb_tells_people_what_it_did(empty: Office) -> None:
    folder = empty.folder / "in"
    folder.mkdir()
    (folder / "limits.toml").write_bytes(b"[x]\n")
    assert "was there" not in empty.said("keygen")
    assert "new" not in empty.said("keygen", "model")
    assert "by these SHA-256" in empty.said("init")
    about = ["--kind", "config", "--name", "limits", "--version", "2.0", "--release", "7"]
    assert "outrider ota sign --role config" in empty.said("add", folder, *about)
    assert "1 of 1 signatures. It can be published" in empty.said("sign", "--role", "config")
    assert "Published the drafts of config." in empty.said(
        "publish", "--vehicle", "car-1", "--target", "config/limits-2.0"
    )
    assert "already: there is nothing to sign" in empty.said("add", folder, *about)
    assert "No draft became current" in empty.said("publish")
    note = empty.said("inspect")
    assert "config/limits-2.0.json" in note
    assert "car-1" in note
    release = empty.said("inspect", "config/limits-2.0")
    assert "limits.toml" in release
    assert "1 files, 4 bytes" in release
    assert "car-1 (any) would install config limits 2.0 (release 7). 4 bytes" in empty.said(
        "verify", "--vehicle", "car-1", "--hardware", "any"
    )
    assert "nothing" in empty.said("publish", "--vehicle", "car-1", "--withdraw")
    assert "would install nothing" in empty.said("verify", "--vehicle", "car-1")


def test_the_front_door_leads_here_and_a_refusal_is_one_paragraph_without_a_traceback(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "outrider", "ota", "inspect", "--repo", str(tmp_path / "\x1b[2J")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (EXIT_USAGE, "")
    assert done.stderr.startswith("There is no repository in ")
    assert done.stderr.rstrip("\n").isprintable()


# --- keygen and init --------------------------------------------------------------------------------


def test_a_key_that_is_there_is_listed_and_never_written_over(office: Office) -> None:
    before = tree(office.keys)
    lines = office.told("keygen", "anna", "ben", "anna")["keys"]
    assert [(line["name"], line["is_new"]) for line in lines] == [("anna", False), ("ben", True)]
    assert {name: data for name, data in tree(office.keys).items() if name != "ben.pem"} == before


def test_owners_are_read_or_refused_by_their_words(empty: Office) -> None:
    empty.told("keygen")
    empty.told("keygen", "anna", "ben", "carl")
    for wrong in ("model=2", "model=two:anna", "model=0:anna", "model=2:", "model=999:anna", "model=\x1b[2J:anna"):
        assert "Write it once a kind, like model=2:anna,ben,carl" in empty.refused(
            EXIT_USAGE, "init", "--owners", wrong
        )
    assert "firmware is no kind" in empty.refused(EXIT_USAGE, "init", "--owners", "firmware=1:anna")
    assert "Write it once a kind" in empty.refused(
        EXIT_USAGE, "init", "--owners", "model=1:anna", "--owners", "model=1:ben"
    )
    assert "There is no key dora" in empty.refused(EXIT_USAGE, "init", "--owners", "model=1:dora")
    empty.told("init", "--owners", "model=2:anna,ben,carl")
    folder = empty.folder / "in"
    folder.mkdir()
    (folder / "a").touch()
    empty.told("add", folder, "--kind", "model", "--name", "a", "--version", "1.0", "--release", "1")
    assert "can't sign model" in empty.refused(EXIT_USAGE, "sign", "--role", "model")
    assert "It needs 1 more." in empty.said("sign", "--role", "model", "--key", "anna")
    assert "has 1 of 2 signatures" in empty.refused(EXIT_USAGE, "publish")
    assert empty.told("sign", "--role", "model", "--key", "carl", "--key", "ben")["is_signed"]
    assert empty.told("publish")["kinds"] == ["model"]


def test_a_repository_is_founded_once(office: Office) -> None:
    before = tree(office.repo)
    assert "There is a repository in this folder already" in office.refused(EXIT_USAGE, "init")
    assert tree(office.repo) == before


def test_a_file_where_a_folder_should_be_is_a_fault_of_usage(empty: Office) -> None:
    empty.keys.touch()
    assert "isn't a folder" in empty.refused(EXIT_USAGE, "keygen")
    empty.keys.unlink()
    empty.told("keygen")
    empty.repo.touch()
    assert "isn't a folder" in empty.refused(EXIT_USAGE, "init")
    assert "There is no repository" in empty.refused(EXIT_USAGE, "inspect")


# --- add and sign -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "needs --name and --version"),
        ("{", "says no name and version"),
        ("[]", "says no name and version"),
        ('{"name": "drive"}', "says no name and version"),
        ('{"name": 1, "version": "1.0"}', "says no name and version"),
        ('{"name": "\\u001b[2J", "version": "1.0"}', "with the name \\x1b[2J."),
        ("\udcff", "says no name and version"),
    ],
)
def test_a_model_is_named_by_its_package_or_by_whoever_adds_it(office: Office, content: str | None, words: str) -> None:
    folder = office.folder / "in"
    folder.mkdir()
    (folder / "a").touch()
    if content is not None:
        (folder / "model.json").write_bytes(content.encode(errors="surrogateescape"))
    assert words in office.refused(EXIT_USAGE, "add", folder, "--kind", "model", "--release", "1")
    named = ["--name", "mine", "--version", "3.1"]
    assert office.told("add", folder, "--kind", "model", "--release", "1", *named)["target"] == "model/mine-3.1.json"


def test_only_a_models_package_names_its_release(office: Office) -> None:
    assert "needs --name" in office.refused(EXIT_USAGE, "add", PACKAGE, "--kind", "evaluation", "--release", "1")


@pytest.mark.parametrize("kind", ["modle", "MODEL", "", "\x1b[2J"])
def test_an_unknown_kind_is_refused_with_those_that_there_are(office: Office, kind: str) -> None:
    for words in (
        office.refused(EXIT_USAGE, "add", PACKAGE, "--kind", kind, "--release", "1"),
        office.refused(EXIT_USAGE, "sign", "--role", kind),
    ):
        assert "The kinds are model, evaluation, state, crops, config" in words
        assert ("Did you mean model?" in words) == (kind == "modle")


def test_a_folder_that_isnt_there_is_named_before_anything_else_is_asked_for(office: Office) -> None:
    before = tree(office.repo)
    for words in (
        office.refused(EXIT_USAGE, "add", office.folder / "none", "--kind", "model", "--release", "1"),
        office.refused(EXIT_USAGE, "add", PACKAGE / "model.json", "--kind", "model", "--release", "1"),
    ):
        assert words.startswith("Can't read the folder ")
    assert tree(office.repo) == before


def test_a_release_number_that_vehicles_would_refuse_is_told_to_whoever_adds_it(office: Office) -> None:
    office.released("1.0", 5)
    folder = office.folder / "in"
    folder.mkdir()
    (folder / "a").touch()
    about: list[str | Path] = [folder, "--kind", "model", "--name", "drive", "--version", "1.1"]
    assert office.told("add", *about, "--release", "5")["not_below"] == ["model/drive-1.0.json"]
    assert "isn't above that of model/drive-1.0.json: a vehicle" in office.said("add", *about, "--release", "4")
    assert office.told("add", *about, "--release", "6")["not_below"] == []
    assert "isn't above" not in office.said("add", *about, "--release", "6")


def test_nothing_is_signed_by_another_kinds_key_or_without_a_draft(office: Office) -> None:
    assert "Nothing of kind model waits" in office.refused(EXIT_USAGE, "sign", "--role", "model")
    office.told("add", PACKAGE, "--kind", "model", "--release", "1")
    words = office.refused(EXIT_USAGE, "sign", "--role", "model", "--key", "campaign")
    assert "can't sign model: it is campaign's" in words
    assert "There is no key zoe" in office.refused(EXIT_USAGE, "sign", "--role", "model", "--key", "zoe")
    assert "can't be a key's name" in office.refused(EXIT_USAGE, "sign", "--role", "model", "--key", "../x")


def test_what_lasts_too_short_is_renewed_by_its_kinds_key(office: Office) -> None:
    office.released()
    assert "Nothing of kind model waits" in office.refused(EXIT_USAGE, "sign", "--role", "model")
    assert "only its expiry" in office.said("sign", "--role", "model", "--renew")
    assert office.told("publish")["kinds"] == ["model"]


# --- publish and inspect ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [
        ("--vehicle", "car-1"), ("--target", "model/drive-1.0"), ("--withdraw",),
        ("--vehicle", "car-1", "--target", "model/drive-1.0", "--withdraw"),
        ("--target", "model/drive-1.0", "--withdraw"),
    ],
)  # fmt: skip
def test_half_an_assignment_is_none(office: Office, arguments: tuple[str, ...]) -> None:
    office.released()
    before = tree(office.repo)
    assert "An assignment needs --vehicle" in office.refused(EXIT_USAGE, "publish", *arguments)
    assert tree(office.repo) == before


@pytest.mark.parametrize(
    ("vehicle", "target", "words"),
    [
        ("../car", "model/drive-1.0", "../car can't be a vehicle's name"),
        ("\x1b[2J", "model/drive-1.0", "\\x1b[2J can't be a vehicle's name"),
        ("car-1", "model/drive-9.0", "There is no release model/drive-9.0.json here. There are: model/drive-1.0.json"),
        ("car-1", "\x1b[2J", "There is no release \\x1b[2J.json here"),
    ],
)
def test_what_cant_be_assigned_changes_nothing(office: Office, vehicle: str, target: str, words: str) -> None:
    office.released()
    before = tree(office.repo)
    assert words in office.refused(EXIT_USAGE, "publish", "--vehicle", vehicle, "--target", target)
    assert tree(office.repo) == before


def test_an_unsigned_draft_stops_a_publication_unless_it_is_left(office: Office) -> None:
    target = office.released()
    office.told("add", PACKAGE, "--kind", "model", "--release", "2")
    assert "To publish without it: --leave-drafts" in office.refused(EXIT_USAGE, "publish")
    told = office.told("publish", "--leave-drafts")
    assert (told["kinds"], told["renewed"][0]["targets"]) == ([], [target])
    assert len(office.told("inspect")["drafts"]) == 1
    assert "0 of 1" in office.said("inspect")


def test_without_the_directors_keys_the_image_repository_can_still_be_published(office: Office) -> None:
    office.released()
    for path in office.keys.glob("director-*"):
        path.unlink()
    assert office.told("publish")["left"][0]["vehicle"] == "car-1"
    assert "these assignments end when they did before" in office.said("publish")
    assert "There is no key director-targets" in office.refused(
        EXIT_USAGE, "publish", "--vehicle", "car-1", "--target", "model/drive-1.0"
    )


def test_of_one_release_every_file_is_told(office: Office) -> None:
    office.told("add", PACKAGE, "--kind", "model", "--release", "4")
    office.told("sign", "--role", "model")
    office.told("publish")
    told = office.told("inspect", "model/drive-detect-1.0.json")
    assert (told["kind"], told["name"], told["version"], told["release"]) == ("model", "drive-detect", "1.0", 4)
    assert {entry["path"]: entry["size"] for entry in told["files"]} == {
        path.name: path.stat().st_size for path in PACKAGE.iterdir()
    }
    assert [entry["blocks"] for entry in told["files"] if entry["path"] == "u8s8.onnx"] == [4]
    assert "There is no published release model/none.json" in office.refused(EXIT_USAGE, "inspect", "model/none")
    assert "\\x1b[2J" in office.refused(EXIT_USAGE, "inspect", "\x1b[2J")


# --- verify -----------------------------------------------------------------------------------------


def attacked(office: Office, attack: str, *more: str | Path) -> str:
    """Refused by that name, in words and in JSON, with exit code 1."""
    words = office.refused(EXIT_NO, "verify", "--vehicle", "car-1", *more)
    assert words.startswith(f"{attack}: ")
    assert "car-1 (" in (out := office.capsys.readouterr().out), out
    office.refused(EXIT_NO, "verify", "--vehicle", "car-1", *more, "--json")
    told = json.loads(office.capsys.readouterr().out)
    assert (told["ok"], told["attack"], told["installs"]) == (False, attack, [])
    # Today's date to the second may be among them.
    assert told["words"].startswith(f"{attack}: ")
    return words


def test_a_refusal_is_told_by_its_attack(office: Office) -> None:
    office.released("1.0", 1, "--hardware", "aarch64")
    assert "is for aarch64, this is x86_64" in attacked(office, "wrong-hardware", "--hardware", "x86_64")
    (stored,) = (path for path in (office.repo / "image/files").iterdir() if b"CycloneDX" not in path.read_bytes())
    whole = stored.read_bytes()
    stored.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "block 0 of a.bin" in attacked(office, "tampered", "--hardware", "aarch64")
    stored.write_bytes(whole)
    shutil.move(next((office.repo / "image/targets/model").iterdir()), office.folder)
    lost = office.refused(EXIT_ENVIRONMENT, "verify", "--vehicle", "car-1", "--hardware", "aarch64")
    assert "has no targets/model/" in lost


def test_the_roots_of_another_fleet_believe_nothing(office: Office, fleet: Fleet) -> None:
    office.released()
    other = fleet.repo
    roots = {name: other / f"{name}/metadata/1.root.json" for name in ("director", "image")}
    attacked(office, "wrong-signer", "--director-root", roots["director"])
    attacked(office, "wrong-signer", "--image-root", roots["image"])
    own = [office.repo / f"{name}/metadata/1.root.json" for name in ("director", "image")]
    assert office.told("verify", "--vehicle", "car-1", "--director-root", own[0], "--image-root", own[1])["ok"]
    assert "Can't read the root" in office.refused(
        EXIT_USAGE, "verify", "--vehicle", "car-1", "--image-root", office.folder / "none"
    )


def test_what_nobody_made_last_longer_is_a_freeze(office: Office) -> None:
    office.released()
    late = SteppingClock(wall_ns=SystemClock().wall_ns() - 9 * DAY_NS)
    Desk(Unsynced(office.repo), late).publish(KeyFolder(office.keys))
    assert "expired on" in attacked(office, "freeze")
    assert "expired" in office.said("inspect")
    office.told("publish")
    assert office.told("verify", "--vehicle", "car-1")["ok"]


def test_a_vehicle_that_the_director_doesnt_know_is_named_with_those_it_does(office: Office) -> None:
    office.released()
    assert "It knows: car-1." in office.refused(EXIT_USAGE, "verify", "--vehicle", "car-9")
    assert "\\x1b[2J can't be a vehicle's name" in office.refused(EXIT_USAGE, "verify", "--vehicle", "\x1b[2J")


def test_looking_changes_nothing(office: Office) -> None:
    target = office.released()
    before = tree(office.folder)
    office.said("inspect")
    office.said("inspect", target)
    office.said("verify", "--vehicle", "car-1")
    assert tree(office.folder) == before


def test_what_somebody_changed_in_the_directors_folder_is_an_attack_for_a_vehicle(office: Office) -> None:
    office.released()
    path = office.repo / "director/vehicles/car-1/timestamp.json"
    path.write_bytes(path.read_bytes().replace(b'"version": 1', b'"version": 7'))
    attacked(office, "tampered")
    path.write_bytes(b"{}")
    attacked(office, "malformed")


def test_what_is_no_root_is_a_fault_of_usage(office: Office) -> None:
    office.released()
    other = office.folder / "some"
    timestamp = (office.repo / "image/metadata/timestamp.json").read_bytes()
    for content in (b"", b"{}", b"\xff", timestamp):
        other.write_bytes(content)
        assert "is no root" in office.refused(EXIT_USAGE, "verify", "--vehicle", "car-1", "--image-root", other)


# --- the computer -----------------------------------------------------------------------------------


def test_an_option_that_is_missing_is_a_fault_of_usage(office: Office) -> None:
    with pytest.raises(ClickException) as wrong:
        run(["ota", "publish", "--repo", str(office.repo)])
    assert wrong.value.exit_code == EXIT_USAGE


def test_two_desks_never_write_at_once_and_looking_waits_for_nobody(office: Office) -> None:
    target = office.released()
    add = "add", PACKAGE, "--kind", "model", "--release", "2"
    verbs: list[tuple[str | Path, ...]] = [("init",), add, ("sign", "--role", "model"), ("publish",)]
    with alone(office.repo):
        before = tree(office.repo)
        for verb, *arguments in verbs:
            words = office.refused(EXIT_ENVIRONMENT, str(verb), *arguments)
            assert words.startswith("Another outrider ota is at work in ")
        assert tree(office.repo) == before
        assert target in office.said("inspect")
        assert office.told("verify", "--vehicle", "car-1")["ok"]
    assert office.told("add", *add[1:])["is_draft"]


def test_a_desk_that_was_killed_keeps_nobody_out(office: Office) -> None:
    held = "import sys; from pathlib import Path; from ota.repository.alone import alone\n"
    held += "with alone(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", held, str(office.repo)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        assert "is at work in" in office.refused(EXIT_ENVIRONMENT, "publish")
        other.kill()
    office.told("publish")


def test_what_ends_soon_is_told_at_every_publication(office: Office) -> None:
    def ending() -> list[str]:
        return [its["role"] for its in office.told("publish")["ending"]]

    assert ending() == []
    keys, now_ns = KeyFolder(office.keys), SystemClock().wall_ns()
    kinds = [kind.value for kind in Kind]
    for days, roles in ((59, []), (61, kinds), (334, kinds), (336, ["director root", "root", "targets", *kinds])):
        then = Desk(Unsynced(office.repo), SteppingClock(wall_ns=now_ns + days * DAY_NS))
        assert [its.role for its in then.publish(keys).ending] == roles
    late = Desk(Unsynced(office.repo), SteppingClock(wall_ns=now_ns - 80 * DAY_NS))
    late.images.renew(Kind.MODEL)
    office.told("sign", "--role", "model")
    said = office.said("publish")
    assert "Ends soon" in said
    assert "outrider ota sign --role KIND --renew" in " ".join(said.split())
    assert "director root" in office.said("inspect")


def limited(blocks: int) -> Callable[[], None]:
    """A process that can write no file beyond that: the nearest to a full disk that needs no other disk."""
    import resource
    import signal

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (blocks, blocks))

    return limit


def test_a_write_that_the_computer_refuses_is_of_the_environment_and_changes_nothing(office: Office) -> None:
    target = office.released()
    folder = office.folder / "large"
    folder.mkdir()
    (folder / "a.bin").write_bytes(os.urandom(300_000))
    before = tree(office.repo)
    about = ["--kind", "config", "--name", "a", "--version", "1.0", "--release", "1", "--repo", str(office.repo)]
    command = [sys.executable, "-m", "outrider", "ota", "add", str(folder), *about]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, preexec_fn=limited(100_000))
    assert (done.returncode, done.stdout) == (EXIT_ENVIRONMENT, "")
    assert "Traceback" not in done.stderr
    assert "File too large" in done.stderr
    assert tree(office.repo) == before
    assert office.told("verify", "--vehicle", "car-1")["installs"][0]["target"] == target


@pytest.mark.parametrize("place", ["image/files", "drafts", "image/targets"])
def test_a_file_where_the_repository_has_a_folder_is_of_the_environment(office: Office, place: str) -> None:
    shutil.rmtree(office.repo / place, ignore_errors=True)
    (office.repo / place).touch()
    words = office.refused(EXIT_ENVIRONMENT, "add", PACKAGE, "--kind", "model", "--release", "1")
    assert "isn't a folder, as it should be" in words or "Not a directory" in words


def test_a_full_disk_and_a_forbidden_one_are_told_in_a_desks_words(office: Office) -> None:
    with (
        pytest.raises(NoRoomForUpdate, match="is full") as full,
        on_the_disk_of(office.repo),
    ):
        raise DiskFull("the spool's words")
    assert full.value.exit_code == EXIT_ENVIRONMENT
    words = "Permission denied. Run as the owner of that folder"
    for where, named in ((None, office.repo), (str(office.keys), office.keys)):
        with pytest.raises(DiskDenied, match=f"write {named}: {words}"), on_the_disk_of(office.repo):
            raise DiskDenied("the spool's words") from PermissionError(13, "Permission denied", where)
