"""The bytes of a release's files and of its manifest, on their way."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ota.errors import FetchError, Flaw, NotThere
from tests.ota.corpus.base import MIB, Json, sha256
from tests.ota.corpus.case import Act, Before, Case
from tests.ota.corpus.draft import Draft
from tests.ota.corpus.metadata import edited


def long(draft: Draft) -> None:
    """A model of three blocks."""
    draft.contents["model.onnx"] = draft.base.new


def bundle_cases() -> Iterator[Case]:
    for before in (Before.FRESH, Before.KEPT):
        where = "" if before is Before.FRESH else " where release 1 is kept"
        for words, change in {
            "flipped in its first block": flipped(0),
            "flipped in its middle block": flipped(MIB + 100),
            "flipped in its last block": flipped(2 * MIB + 4_999),
            "with two blocks swapped": lambda data: data[MIB : 2 * MIB] + data[:MIB] + data[2 * MIB :],
            "of zeros": lambda data: bytes(len(data)),
            "shifted by a byte": lambda data: b"x" + data[:-1],
        }.items():
            yield Case(
                f"file {words}{where}", Flaw.CHANGED_BLOCK, content(change), long, before, words="block [012] of"
            )
    for words, size in (("in its first block", 100), ("at a block's end", MIB), ("in its last block", 2 * MIB + 4_999)):
        yield Case(f"file cut {words}", FetchError, content(cut(size)), long, words="ended")
    yield Case("file of nothing", FetchError, content(lambda data: b""), long)
    yield Case("file that isn't there", NotThere, _gone("image/files/"), long)
    yield Case("file that is another release's", Flaw.CHANGED_BLOCK, _older, long)
    yield from _signed_wrong()
    yield from _of_the_manifest()


def flipped(at: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def cut(size: int) -> Callable[[bytes], bytes]:
    return lambda data: data[:size]


def content(change: Callable[[bytes], bytes], name: str = "model.onnx") -> Act:
    """Of a file under its right name."""

    def act(draft: Draft) -> None:
        path = f"image/files/{sha256(draft.contents[name])}"
        draft.edit("files", lambda files: files.update({path: change(files[path])}))

    return act


def _gone(part: str) -> Act:
    def edit(files: dict[str, bytes]) -> None:
        for path in [path for path in files if path.startswith(part)]:
            del files[path]

    return lambda draft: draft.edit("files", edit)


def _older(draft: Draft) -> None:
    content(lambda data: draft.base.old)(draft)


def _signed_wrong() -> Iterator[Case]:
    """The owner of the kind signed it so."""

    def entry(edit: Callable[[Json], object]) -> Act:
        return edited(lambda its: edit(its["files"][1]))

    for number in range(3):
        yield Case(
            f"file of which block {number} was signed with another hash", Flaw.CHANGED_BLOCK,
            entry(_other_block(number)), long, words=f"block {number}",
        )  # fmt: skip
    yield Case(
        "file whose blocks were signed in another order",
        Flaw.CHANGED_BLOCK,
        entry(lambda its: its["blocks"].reverse()),
        long,
    )
    yield Case(
        "file that was signed a byte shorter",
        Flaw.CHANGED_BLOCK,
        entry(lambda its: its.update(size=its["size"] - 1)),
        long,
    )
    yield Case(
        "file that was signed a byte longer", FetchError, entry(lambda its: its.update(size=its["size"] + 1)), long
    )
    for given in (long, lambda draft: None):
        size = "three blocks" if given is long else "one block"
        yield Case(f"file of {size} whose blocks make another", Flaw.BLOCKS_OF_ANOTHER_FILE, _another_hash, given)


def _other_block(number: int) -> Callable[[Json], object]:
    return lambda its: its["blocks"].__setitem__(number, "0" * 64)


def _another_hash(draft: Draft) -> None:
    wrong, path = "0" * 64, f"image/files/{sha256(draft.contents['model.onnx'])}"
    edited(lambda its: its["files"][1].update(sha256=wrong))(draft)
    draft.edit("files", lambda files: files.update({f"image/files/{wrong}": files[path]}))


def _of_the_manifest() -> Iterator[Case]:
    for words, change in {
        "flipped": lambda data: data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
        "of zeros": lambda data: bytes(len(data)),
        "in another order": lambda data: data[::-1],
    }.items():
        yield Case(f"manifest {words} after it was signed", Flaw.CHANGED_MANIFEST, _manifest(change))
    yield Case("manifest cut", FetchError, _manifest(lambda data: data[:-1]), words="ended after")
    yield Case("manifest of nothing", FetchError, _manifest(lambda data: b""))
    yield Case("manifest that isn't there", NotThere, _gone("image/targets/"))


def _manifest(change: Callable[[bytes], bytes]) -> Act:
    def edit(files: dict[str, bytes]) -> None:
        for path in files:
            if path.startswith("image/targets/"):
                files[path] = change(files[path])

    return lambda draft: draft.edit("files", edit)
