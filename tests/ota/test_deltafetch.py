"""Updates by deltas: they save bytes where they are right, and keep nothing from its place where they aren't."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecu.crashdisk import CrashDisk
from ecu.disk import DiskFault
from ota.delta import HEADER, MAX_INDEX_BYTES, Codec, DeltaBlock, Ends, encode_head, made
from ota.deltafetch import MOST_BREAKS, Breaks, DeltaFetch, Old
from ota.errors import FetchError, Flaw, HeldBack, TrustError
from ota.fetch import fetch_bundle, seal_bundle
from ota.kinds import Kind
from ota.landing import InTurn, Landing, Progress
from ota.manifest import BLOCK_BYTES, encode_manifest
from ota.slots import Slot, SlotDamaged, Slots
from tests.ota.changed import Cut
from tests.ota.differing import SIZE, Shop, contents, manifest_of, the_delta, the_path, unwatched, with_release_1

LABELS = len(contents(2)["labels.txt"])


@pytest.fixture(scope="module")
def whole() -> CrashDisk:
    disk = CrashDisk()
    with_release_1(disk)
    return disk


@pytest.fixture
def disk(whole: CrashDisk) -> CrashDisk:
    return whole.after_shutdown()


def opened(disk: CrashDisk) -> Slots:
    return Slots(disk, Kind.MODEL)


def installed(disk: CrashDisk, source: Shop | Cut, breaks: Breaks | None = None) -> Progress:
    """Release 2, sealed and read back."""
    slots = opened(disk)
    came = fetch_bundle(source, manifest_of(2), slots, Slot.B, unwatched, breaks=breaks)
    seal_bundle(encode_manifest(manifest_of(2)), slots, Slot.B)
    return came


def test_what_was_fine_tuned_comes_as_its_difference(disk: CrashDisk) -> None:
    shop = Shop(the_delta())
    came = installed(disk, shop)
    assert came == Progress(SIZE + LABELS, LABELS, SIZE, by_delta=SIZE, delta_bytes=shop.given["deltas"])
    assert shop.given["files"] == 0
    assert shop.given["deltas"] <= 0.12 * SIZE


def test_what_the_good_slot_holds_isnt_fetched_again(disk: CrashDisk) -> None:
    shop = Shop()
    came = installed(disk, shop)
    assert came == Progress(SIZE + LABELS, LABELS, SIZE)
    assert shop.given == {"files": SIZE, "deltas": 0}
    assert shop.asked.count(the_path()) == 1


def test_a_vehicle_that_has_nothing_to_begin_with_asks_for_no_delta() -> None:
    disk, shop = CrashDisk(), Shop(the_delta())
    opened(disk).empty(Slot.B)
    came = installed(disk, shop)
    assert (came.fetched, came.by_delta) == (SIZE + LABELS, 0)
    assert the_path() not in shop.asked


# --- hostile and damaged -----------------------------------------------------------------------------


def flipped(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]


ENDS = Ends(manifest_of(2).files[1].sha256, SIZE, manifest_of(1).files[1].sha256, SIZE)
FIRST_BODY = HEADER.size + 3 * (7 + 12)
HOSTILE: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda data: b"",
    "a page of words": lambda data: b"<html>not found</html>" * 30,
    "the head alone": lambda data: data[:FIRST_BODY],
    "half of its head": lambda data: data[:100],
    "cut in its last body": lambda data: data[:-5],
    "cut in its first body": lambda data: data[: FIRST_BODY + 5],
    "a flipped magic": lambda data: flipped(data, 0),
    "another new file": lambda data: flipped(data, 25),
    "another old file": lambda data: flipped(data, 60),
    "an endless index": lambda data: data[:84] + (MAX_INDEX_BYTES + 1).to_bytes(4, "little") + data[88:],
    "another codec": lambda data: data[:88] + b"\2" + data[89:],
    "a codec nobody knows": lambda data: data[:88] + b"\x63" + data[89:],
    "a flipped body": lambda data: flipped(data, FIRST_BODY + 50),
    "zeros for bodies": lambda data: data[:FIRST_BODY] + bytes(len(data) - FIRST_BODY),
    "raw blocks of its own": lambda data: (
        encode_head(ENDS, [(Codec.RAW, (), ENDS.block_bytes(number)) for number in range(ENDS.count)])
        + (b"evil" * (SIZE // 4 + 1))[:SIZE]
    ),
    "more than there should be": lambda data: data + bytes(100),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_delta_that_isnt_right_costs_its_bytes_and_nothing_else(disk: CrashDisk, what: str) -> None:
    shop = Shop(HOSTILE[what](the_delta()))
    came = installed(disk, shop)
    assert came.kept + came.fetched == came.whole
    assert came.fetched - came.by_delta == shop.given["files"]
    assert came.delta_bytes <= max(len(the_delta()), SIZE) + 5_000
    if what != "more than there should be":
        assert came.unfit > 0
        assert came.words.startswith(the_path())


@given(at=st.integers(0, len(the_delta()) - 1), value=st.integers(1, 255))
@settings(max_examples=12, deadline=None)
def test_one_changed_byte_anywhere_changes_nothing_that_is_installed(whole: CrashDisk, at: int, value: int) -> None:
    data = the_delta()
    changed = data[:at] + bytes([data[at] ^ value]) + data[at + 1 :]
    assert installed(whole.after_shutdown(), Shop(changed)).whole == SIZE + LABELS


def test_a_source_that_gives_more_than_was_asked_for_is_left() -> None:
    disk = CrashDisk()
    with_release_1(disk)

    class Endless(Shop):
        given_in_vain = 0

        def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
            if not path.startswith("deltas/"):
                yield from super().read(path, offset, most)
                return
            while self.given_in_vain < 64 * BLOCK_BYTES:
                self.given_in_vain += 65_536
                yield bytes(65_536)

    shop = Endless()
    came = installed(disk, shop)
    assert came.unfit == 1
    assert shop.given_in_vain == 65_536


def test_an_old_file_that_flash_changed_costs_the_blocks_it_was_for(disk: CrashDisk) -> None:
    disk.write_at("model/a/files/model.onnx", BLOCK_BYTES + 7, b"?")
    shop = Shop(the_delta())
    came = installed(disk, shop)
    assert (came.unfit, came.by_delta) == (1, SIZE - BLOCK_BYTES)
    assert shop.given["files"] == BLOCK_BYTES


def test_an_old_file_that_cant_be_read_keeps_no_release_from_its_place(disk: CrashDisk) -> None:
    old = "model/a/files/model.onnx"
    disk.fail(lambda call: call.act == "read_at" and call.path == old, DiskFault("worn out"))
    came = installed(disk, Shop(the_delta()))
    assert (came.by_delta, came.unfit) == (0, 3)


def test_without_its_hash_a_hostile_block_would_be_in_the_slot(disk: CrashDisk) -> None:
    """What the tests above look at would show it."""

    class Gullible(DeltaFetch):
        def _made(self, index: int, block: DeltaBlock, body: bytes) -> bytes:
            return made(block, body, self._old.read)

    slots, entry, old = opened(disk), manifest_of(2).files[1], manifest_of(1).files[1]
    its = Old(old.sha256, old.size, lambda offset, length: slots.part(Slot.A, old, offset, length))
    raw = HOSTILE["raw blocks of its own"](the_delta())
    for kind, lies_there in ((DeltaFetch, False), (Gullible, True)):
        slots.give_back(Slot.B)
        slots.put_block(Slot.B, manifest_of(2).files[0], 0, contents(2)["labels.txt"])
        with Landing(slots, Slot.B, Progress(SIZE, 0, 0), unwatched, InTurn()) as landing:
            kind(Shop(raw), entry, its, landing, Breaks()).fetch([0, 1, 2])
        path = "model/b/files/model.onnx"
        assert (disk.exists(path) and disk.read_at(path, 0, 4) == b"evil") is lies_there
    with pytest.raises(SlotDamaged):
        slots.seal(Slot.B, encode_manifest(manifest_of(2)))


def test_a_delta_whose_place_on_a_medium_is_damaged_costs_itself_and_no_release(disk: CrashDisk) -> None:
    """Deltas aren't signed: what an archive says of one is no word against what it is for."""

    class Damaged(Shop):
        def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
            if path.startswith("deltas/"):
                raise TrustError(Flaw.MALFORMED_ARCHIVE, "updates.zip says two things of a delta")
            yield from super().read(path, offset, most)

    came = installed(disk, Damaged(the_delta()))
    assert (came.by_delta, came.unfit) == (0, 1)
    assert "two things of a delta" in came.words


@pytest.mark.parametrize(("name", "by_delta", "unfit"), [("model.onnx", 0, 3), ("labels.txt", SIZE, 0)])
def test_a_folder_where_an_old_file_was_keeps_no_release_from_its_place(
    disk: CrashDisk, name: str, by_delta: int, unfit: int
) -> None:
    disk.remove(f"model/a/files/{name}")
    disk.make_folder(f"model/a/files/{name}")
    came = installed(disk, Shop(the_delta()))
    assert (came.by_delta, came.unfit) == (by_delta, unfit)


# --- cuts -------------------------------------------------------------------------------------------


class Breaking(Shop):
    """Breaks off at each delta, and gives files."""

    def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
        for part in super().read(path, offset, most):
            yield part
            if path.startswith("deltas/"):
                raise FetchError("The link was cut.")


def test_a_delta_that_always_breaks_off_keeps_no_release_from_its_place(disk: CrashDisk) -> None:
    shop, breaks = Breaking(the_delta()), Breaks()
    for _ in range(MOST_BREAKS):
        with pytest.raises(FetchError):
            installed(disk, shop, breaks)
    assert installed(disk, shop, breaks).fetched > 0


def test_a_network_that_may_carry_nothing_now_isnt_held_against_a_delta(disk: CrashDisk) -> None:
    class Held(Shop):
        def read(self, path: str, offset: int, most: int) -> Iterator[bytes]:
            yield from super().read(path, offset, min(most, 10))
            raise HeldBack("not on this network")

    breaks = Breaks()
    for _ in range(3 * MOST_BREAKS):
        with pytest.raises(HeldBack):
            installed(disk, Held(the_delta()), breaks)
    assert installed(disk, Shop(the_delta()), breaks).by_delta == SIZE


HEAD = {"delta": 4_096, "files": 0}
"""What is asked for again to know where to go on."""


def all_of(whole: CrashDisk, way: str) -> int:
    shop = Shop(the_delta() if way == "delta" else None)
    installed(whole.after_shutdown(), shop)
    return sum(shop.given.values())


def cut_once(whole: CrashDisk, way: str, after: int) -> int:
    """The bytes that came in all, when the link was cut after so many of them."""
    delta, disk, breaks = the_delta() if way == "delta" else None, whole.after_shutdown(), Breaks()
    first, again = Cut(Shop(delta), after), Cut(Shop(delta), 1 << 40)
    with pytest.raises(FetchError):
        installed(disk, first, breaks)
    opened(disk).empty(Slot.B)
    installed(disk, again, breaks)
    return first.given + again.given


@pytest.mark.parametrize("way", ["delta", "files"])
def test_after_a_cut_at_any_byte_no_more_than_a_block_comes_again(whole: CrashDisk, way: str) -> None:
    all_bytes = all_of(whole, way)
    edges = {HEADER.size, 4_096, FIRST_BODY, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, all_bytes - 1}
    edges |= {all_bytes * part // 5 for part in range(5)}
    for after in edges if way == "files" else {edge for edge in edges if edge < all_bytes}:
        assert cut_once(whole, way, after) - all_bytes <= BLOCK_BYTES + HEAD[way], f"cut after {after} bytes"


@pytest.mark.soak
@pytest.mark.timeout(300)
@pytest.mark.parametrize("way", ["delta", "files"])
def test_after_three_hundred_cuts_at_chance_no_more_than_a_block_comes_again(whole: CrashDisk, way: str) -> None:
    rng, all_bytes = Random(5), all_of(whole, way)
    for after in (rng.randrange(all_bytes) for _ in range(300)):
        assert cut_once(whole, way, after) - all_bytes <= BLOCK_BYTES + HEAD[way], f"cut after {after} bytes"


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_two_thousand_damaged_deltas_install_what_was_signed(whole: CrashDisk) -> None:
    rng, right = Random(6), the_delta()
    for _ in range(2_000):
        data = bytearray(right)
        for _ in range(rng.randrange(1, 6)):
            data[rng.choice((rng.randrange(FIRST_BODY), rng.randrange(len(data))))] = rng.randrange(256)
        wrong = bytes(data[: rng.randrange(len(data))]) if rng.random() < 0.2 else bytes(data)
        shop = Shop(wrong)
        came = installed(whole.after_shutdown(), shop)
        assert came.kept + came.fetched == came.whole
        assert came.delta_bytes <= len(right) + 5_000
