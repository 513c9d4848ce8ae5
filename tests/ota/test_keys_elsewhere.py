"""Keys that lie in a token sign as those in files do, and a vehicle can't tell which it was.

The token is SoftHSM's, made for each run; where it or its library isn't installed, these tests say so and are skipped.
Mutants that they were seen to catch: the signature as the token gives it, not in DER; the hash of another curve; a
signature that isn't checked against the public key in NAME.uri; a PIN taken from the URI.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ecu.errors import OutriderError
from ota.errors import RepositoryFault
from ota.repository import KeyFolder
from ota.repository.pkcs11 import parse
from ota.repository.remote import decode, encode
from outrider import run
from tests.ota.fleet import Fleet

MODULE = Path("/usr/lib/softhsm/libsofthsm2.so")
PIN = "1234"
TOKEN = "the desk's"


@pytest.fixture(scope="module")
def token(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A token with two keys on P-256 and one on P-384; its URI without the id."""
    pkcs11 = pytest.importorskip("pkcs11", reason="python-pkcs11 isn't installed: pip install outrider[hsm]")
    if not MODULE.exists() or shutil.which("softhsm2-util") is None:
        pytest.skip("SoftHSM isn't installed: apt-get install softhsm2")
    folder = tmp_path_factory.mktemp("softhsm")
    (folder / "tokens").mkdir()
    (folder / "softhsm2.conf").write_text(f"directories.tokendir = {folder / 'tokens'}\n")
    before = os.environ.get("SOFTHSM2_CONF")
    os.environ["SOFTHSM2_CONF"] = str(folder / "softhsm2.conf")
    command = ["softhsm2-util", "--init-token", "--free", "--label", TOKEN, "--pin", PIN, "--so-pin", "0000"]
    subprocess.run(command, check=True, capture_output=True)
    from pkcs11.util.ec import encode_named_curve_parameters

    library = pkcs11.lib(str(MODULE))
    library.reinitialize()
    with library.get_token(token_label=TOKEN).open(rw=True, user_pin=PIN) as session:
        for number, curve in ((b"\x01", "secp256r1"), (b"\x02", "secp384r1"), (b"\x03", "secp256r1")):
            named = {pkcs11.Attribute.EC_PARAMS: encode_named_curve_parameters(curve)}
            its = session.create_domain_parameters(pkcs11.KeyType.EC, named, local=True)
            its.generate_keypair(store=True, id=number, label=f"key-{number[0]}")
    yield f"pkcs11:token={TOKEN.replace(' ', '%20')};{{}}?module-path={MODULE}"
    if before is None:
        del os.environ["SOFTHSM2_CONF"]
    else:
        os.environ["SOFTHSM2_CONF"] = before


@pytest.fixture
def pin(tmp_path: Path) -> Path:
    path = tmp_path / "pin"
    path.write_text(f"{PIN}\n")
    return path


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> Any:
    capsys.readouterr()
    assert run(["ota", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize(
    ("which", "scheme"), [("id=%01", "ecdsa-sha2-nistp256"), ("object=key-2", "ecdsa-sha2-nistp384")]
)
def test_a_model_signed_in_a_token_is_installed_by_a_vehicle(
    token: str, pin: Path, fleet: Fleet, tmp_path: Path, capsys: pytest.CaptureFixture[str], which: str, scheme: str
) -> None:
    keys, repo, online = tmp_path / "hsm", fleet.repo, fleet.folder / "keys"
    made = told(capsys, "keygen", "anna", "--keys", keys, "--uri", token.format(which), "--pin-file", pin)
    assert made["keys"][0]["is_new"]
    assert sorted(path.name for path in keys.iterdir()) == ["anna.uri"]
    assert PIN not in (keys / "anna.uri").read_text()
    assert decode((keys / "anna.uri").read_bytes())[1].scheme == scheme
    model = fleet.keys.key_id("model")
    told(capsys, "rotate", "model", "--repo", repo, "--remove", model[:16], "--add", keys / "anna.uri")
    told(capsys, "sign", "--repo", repo, "--keys", online, "--role", "targets")
    sign: list[str | Path] = ["sign", "--repo", repo, "--keys", keys, "--role", "model", "--key", "anna"]
    assert told(capsys, *sign, "--pin-file", pin)["is_signed"]
    fleet.publish()
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"weights")
    add = ["--kind", "model", "--name", "drive", "--version", "1.0", "--release", "1"]
    told(capsys, "add", folder, "--repo", repo, *add)
    told(capsys, *sign, "--pin-file", pin)
    fleet.publish()
    fleet.director.assign("car-1", [fleet.images.target("model/drive-1.0.json")], fleet.keys)
    assert [offer.target for offer in fleet.trust(tmp_path / "state").refresh(fleet.source())] == [
        "model/drive-1.0.json"
    ]


def test_a_wrong_pin_a_missing_key_and_a_missing_token_are_said_in_one_paragraph(token: str, tmp_path: Path) -> None:
    for uri, secret, words in (
        (token.format("id=%01"), "9999", "PIN"),
        (token.format("id=%09"), PIN, "no key"),
        (token.format("id=%01").replace("desk", "attic"), PIN, "does nothing"),
        (token.format("id=%01").replace("softhsm2", "nothing"), PIN, "does nothing"),
    ):
        with pytest.raises(RepositoryFault, match=words) as refused:
            KeyFolder(tmp_path, lambda _, its=secret: its).refer("anna", uri)  # type: ignore[misc]
        assert str(refused.value).isprintable()
        assert not list(tmp_path.iterdir())


def test_a_token_with_another_key_than_was_noted_signs_nothing(token: str, tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path, lambda _: PIN)
    folder.refer("anna", token.format("id=%01"))
    _, key = decode((tmp_path / "anna.uri").read_bytes())
    (tmp_path / "anna.uri").write_bytes(encode(token.format("id=%03"), key))
    with pytest.raises(RepositoryFault, match="Nothing was signed"):
        folder.signer("anna").sign(b"metadata")


def test_a_pin_in_a_file_that_the_uri_names_is_used(token: str, pin: Path, tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path / "keys")
    folder.refer("anna", f"{token.format('id=%01')}&pin-source=file:{pin}")
    signer = folder.signer("anna")
    signer.public_key.verify_signature(signer.sign(b"metadata"), b"metadata")


# --- names of keys, without any token -----------------------------------------------------------------


@pytest.mark.parametrize(
    "uri",
    [
        "pkcs11:", "pkcs11:token=a;id=%01", "pkcs11:token=a?module-path=/x", "pkcs11:id=%01?module-path=/x",
        "pkcs11:token=a;id=%01?module-path=/x&pin-value=1234", "pkcs11:token=a;id=%01;pin-value=1?module-path=/x",
        "pkcs11:token=a;id=%01?module-path=/x&pin-source=pin", "pkcs11:token=a;id=%01?module-path=/x&pin-source=|cat",
    ],
)  # fmt: skip
def test_a_uri_that_names_no_key_is_refused_and_its_pin_not_repeated(uri: str) -> None:
    with pytest.raises(RepositoryFault) as refused:
        parse(uri)
    assert "1234" not in str(refused.value)


@pytest.mark.parametrize("uri", ["file:/x", "hsm:", "vault:x", "http://x", "", "gpg:1"])
def test_a_uri_of_another_sort_is_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(RepositoryFault, match="names no key"):
        KeyFolder(tmp_path).refer("anna", uri)


@pytest.mark.parametrize(("uri", "library"), [
    ("awskms:alias/model", "boto3"), ("azurekms://vault.vault.azure.net/keys/model", "azure.keyvault.keys"),
    ("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "google.cloud.kms"),
])  # fmt: skip
def test_a_cloud_whose_library_isnt_there_says_which_extra_brings_it(tmp_path: Path, uri: str, library: str) -> None:
    try:
        __import__(library)
    except ImportError:
        with pytest.raises(RepositoryFault, match=r"outrider\[\w+kms\]"):
            KeyFolder(tmp_path).refer("model", uri)
    else:
        pytest.skip(f"{library} is installed")


@pytest.mark.parametrize(
    "content", [b"", b"x", b"pkcs11:token=a\n", b"awskms:a\nrsassa-pss-sha256\nno pem\n", b"\xff\n\n"]
)
def test_a_damaged_uri_file_is_said_with_what_makes_it_anew(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "anna.uri").write_bytes(content)
    with pytest.raises(OutriderError):
        KeyFolder(tmp_path).signer("anna")


def test_two_keys_of_one_name_are_none(tmp_path: Path) -> None:
    folder = KeyFolder(tmp_path)
    folder.generate(["anna"])
    (tmp_path / "anna.uri").write_text("x")
    with pytest.raises(RepositoryFault, match="Move one of them away"):
        folder.signer("anna")
