"""Manifests and metadata that are changed by chance: some known to break a rule, and some that may be anything."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any, Final

from tests.ota.corpus.base import MIB, Json
from tests.ota.corpus.manifests import FACTS

Step = str | int
Place = tuple[Step, ...]

UNFIT_CHARACTERS: Final = "\x00\x07\x1b\x7f\x85\u00ad\u200b\u202e\u2028\ue000\ufeff\U000e0001"
"""Of the general categories C, Zl and Zp: no text of a manifest may have one."""
FREE: Final = ("hardware",)
"""The only list whose order is the owner's."""
NEEDED: Final = frozenset({
    "kind", "name", "version", "release", "hardware", "files", "path", "size", "sha256", "blocks", "scheme", "value",
    "low", "high", "n", "evaluation", "file", "tolerance", "p99_ms",
})  # fmt: skip
STRANGE: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, 1 << 53, (1 << 53) + 1, 1 << 63, 1 << 64, -(1 << 70), 10**400,
    "", " ", "x", "a" * 300, "\ud800", "\x00", "../..", "ä", "2030-01-01T00:00:00Z", "9" * 50, [], {}, [[]], [None],
    {"": 0}, {"sha256": "0" * 64}, ["x"], float("inf"), float("nan"),
)  # fmt: skip


def valid(rng: Random) -> Json:
    """A manifest that holds, with some of all that it may say."""
    facts = {key: copy.deepcopy(value) for key, value in FACTS.items() if rng.random() < 0.7}
    sizes = {"labels.txt": rng.randrange(1, 99), "model.onnx": rng.randrange(0, 3 * MIB)}
    files = [
        {"path": path, "size": size, "sha256": _hash(rng), "blocks": [_hash(rng) for _ in range(-(-size // MIB))]}
        for path, size in sizes.items()
    ]
    its = {"kind": "model", "name": "drive", "version": f"{rng.randrange(9)}.{rng.randrange(99)}"}
    release = rng.choice((1, 2, 7, 1 << 53))
    return {"schema": 1, **its, "release": release, "hardware": ["x86_64"], "files": files, **facts}


def canonical(content: object) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _hash(rng: Random) -> str:
    return f"{rng.getrandbits(256):064x}"


def places(content: object, at: Place = ()) -> Iterator[Place]:
    """Every value below the whole, by the way to it."""
    items: Any = (
        content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    )
    for step, value in items:
        yield (*at, step)
        yield from places(value, (*at, step))


def value_at(content: Any, place: Place) -> Any:
    for step in place:
        content = content[step]
    return content


# --- manifests that break a rule --------------------------------------------------------------------


def broken(rng: Random) -> tuple[bytes, str]:
    """A manifest that breaks one rule at least, and the name of the rule."""
    while True:
        content = valid(rng)
        rule = rng.choice(RULES)
        data = rule(content, rng)
        if data is not None:
            return data, rule.__name__.strip("_")


def _another_type(content: Json, rng: Random) -> bytes | None:
    def other(value: object) -> object:
        kinds = [None, "7", [7], {"x": 7}, *([7] if isinstance(value, str | list | dict) else [])]
        return rng.choice([its for its in kinds if type(its) is not type(value)])

    return _replaced(content, rng, lambda place, value: True, other)


def _a_truth_for_a_number(content: Json, rng: Random) -> bytes | None:
    # 1 and true are equal to the library where only one value may stand: that is another form.
    return _replaced(content, rng, lambda place, value: type(value) in (int, float), lambda _: rng.random() < 0.5)


def _an_unfit_character(content: Json, rng: Random) -> bytes | None:
    def spoiled(text: str) -> str:
        at = rng.randrange(len(text) + 1)
        return text[:at] + rng.choice(UNFIT_CHARACTERS) + text[at:]

    return _replaced(content, rng, lambda place, value: isinstance(value, str), spoiled)


def _a_text_too_long(content: Json, rng: Random) -> bytes | None:
    return _replaced(content, rng, lambda place, value: isinstance(value, str), lambda text: text * 5_000 + "aaaa")


def _no_text(content: Json, rng: Random) -> bytes | None:
    return _replaced(content, rng, lambda place, value: isinstance(value, str), lambda _: "")


def _a_number_beyond(content: Json, rng: Random) -> bytes | None:
    numbers = (-1, -(1 << 60), 1 << 60, 10**30, -1e300)
    free = ("low", "high", "tolerance", "value")
    return _replaced(
        content, rng, lambda place, value: type(value) in (int, float) and place[-1] not in free,
        lambda _: rng.choice(numbers),
    )  # fmt: skip


def _an_unknown_key(content: Json, rng: Random) -> bytes | None:
    at = rng.choice([(), *(place for place in places(content) if isinstance(value_at(content, place), dict))])
    value_at(content, at)[rng.choice(("hidden", "Schema", "x" * 99, "", "name2", "__class__"))] = rng.choice(
        (0, None, [])
    )
    return canonical(content)


def _a_key_less(content: Json, rng: Random) -> bytes | None:
    at = _some(content, rng, lambda place, _: place[-1] in NEEDED and not _is_optional(place))
    if at is not None:
        del value_at(content, at[:-1])[at[-1]]
    return None if at is None else canonical(content)


def _is_optional(place: Place) -> bool:
    """By the same name as one that is needed elsewhere."""
    return place[0] in ("runtime", "budgets") and place[-1] not in ("hardware", "p99_ms")


def _one_twice(content: Json, rng: Random) -> bytes | None:
    at = _some(content, rng, lambda place, value: isinstance(value, list) and bool(value) and place[-1] not in FREE)
    if at is None:
        return None
    its = value_at(content, at)
    its.insert(rng.randrange(len(its) + 1), copy.deepcopy(rng.choice(its)))
    return canonical(content)


def _the_other_way_round(content: Json, rng: Random) -> bytes | None:
    at = _some(content, rng, lambda place, value: isinstance(value, list) and len(value) > 1 and place[-1] != "blocks")
    if at is not None:
        value_at(content, at).reverse()
    return None if at is None else canonical(content)


def _an_empty_list(content: Json, rng: Random) -> bytes | None:
    return _replaced(content, rng, lambda place, value: isinstance(value, list) and bool(value), lambda _: [])


def _a_path_that_leads_elsewhere(content: Json, rng: Random) -> bytes | None:
    path = rng.choice(
        ("../x", "/x", "a/../x", ".", "..", "a//b", "a/", "./a", "~", "-a", "a\\b", "a:b", "CON ", "a/.b")
    )
    content["files"][rng.randrange(2)]["path"] = path
    return canonical(content)


def _a_key_again(content: Json, rng: Random) -> bytes | None:
    data = canonical(content)
    key = rng.choice(sorted(content))
    again = b'"%s":%s,' % (key.encode(), canonical(content[key]))
    return b"{" + again + data[1:]


def _in_another_order(content: Json, rng: Random) -> bytes | None:
    keys = list(content)
    while keys == sorted(keys):
        rng.shuffle(keys)
    shuffled = {key: content[key] for key in keys}
    return json.dumps(shuffled, separators=(",", ":"), ensure_ascii=False).encode()


def _with_space(content: Json, rng: Random) -> bytes | None:
    data = canonical(content)
    at = rng.choice([at for at in range(len(data)) if data[at : at + 1] in b'{}[]:,"' and not _is_in_text(data, at)])
    return data[:at] + rng.choice((b" ", b"\n", b"\t", b"\r\n")) + data[at:]


def _is_in_text(data: bytes, at: int) -> bool:
    return data[:at].replace(b'\\"', b"").count(b'"') % 2 == 1


def _with_an_escape(content: Json, rng: Random) -> bytes | None:
    data = canonical(content)
    letters = [at for at in range(1, len(data)) if data[at : at + 1].isalpha() and _is_in_text(data, at)]
    at = rng.choice([at for at in letters if data[at - 1 : at] != b"\\"])  # that one is escaped already
    return data[:at] + b"\\u%04x" % data[at] + data[at + 1 :]


def _cut(content: Json, rng: Random) -> bytes | None:
    data = canonical(content)
    return data[: rng.randrange(len(data))]


def _with_more(content: Json, rng: Random) -> bytes | None:
    return canonical(content) + rng.choice((b"x", b"{}", b"\0", b" ", b"]", b"\xff"))


def _with_bytes_that_are_no_text(content: Json, rng: Random) -> bytes | None:
    data = canonical(content)
    at = rng.randrange(len(data) + 1)
    return data[:at] + rng.choice((b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80")) + data[at:]


def _a_number_in_another_form(content: Json, rng: Random) -> bytes | None:
    data = canonical(content)
    ends = [at for at in range(1, len(data)) if data[at - 1 : at].isdigit() and data[at : at + 1] in b",}]"
            and not _is_in_text(data, at)]  # fmt: skip
    at = rng.choice(ends)
    return data[:at] + rng.choice((b".0", b"e0", b"E+0", b".", b"e", b"_0", b"L")) + data[at:] if not _is_fraction(
        data, at) else data[:at] + rng.choice((b"0", b"e0", b"x")) + data[at:]  # fmt: skip


def _is_fraction(data: bytes, at: int) -> bool:
    while data[at - 1 : at].isdigit():
        at -= 1
    return data[at - 1 : at] == b"."


def _nested(content: Json, rng: Random) -> bytes | None:
    depth = rng.choice((1, 2, 10, 300, 3_000))
    key = rng.choice(sorted(content))
    inner = canonical(content.pop(key))
    return canonical(content)[:-1] + b',"%s":' % key.encode() + b"[" * depth + inner + b"]" * depth + b"}"


RULES: Final[tuple[Callable[[Json, Random], bytes | None], ...]] = (
    _another_type, _a_truth_for_a_number, _an_unfit_character, _a_text_too_long, _no_text, _a_number_beyond,
    _an_unknown_key, _a_key_less, _one_twice, _the_other_way_round, _an_empty_list, _a_path_that_leads_elsewhere,
    _a_key_again, _in_another_order, _with_space, _with_an_escape, _cut, _with_more, _with_bytes_that_are_no_text,
    _a_number_in_another_form, _nested,
)  # fmt: skip


def _some(content: Json, rng: Random, fits: Callable[[Place, Any], bool]) -> Place | None:
    found = [place for place in places(content) if fits(place, value_at(content, place))]
    return rng.choice(found) if found else None


def _replaced(
    content: Json, rng: Random, fits: Callable[[Place, Any], bool], by: Callable[[Any], object]
) -> bytes | None:
    at = _some(content, rng, fits)
    if at is None:
        return None
    value_at(content, at[:-1])[at[-1]] = by(value_at(content, at))
    return canonical(content)


# --- anything ---------------------------------------------------------------------------------------


def scrambled(data: bytes, rng: Random) -> bytes:
    """Some bytes of it changed, left out, doubled or put in."""
    its = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 5))):
        at, end = sorted((rng.randrange(len(its) + 1), min(len(its), rng.randrange(len(its) + 1))))
        end = min(end, at + rng.choice((1, 1, 2, 20, 400)))
        match rng.randrange(5):
            case 0 if at < len(its):
                its[at] ^= 1 << rng.randrange(8)
            case 1:
                del its[at:end]
            case 2:
                its[at:at] = its[at:end]
            case 3:
                its[at:at] = rng.randbytes(rng.choice((1, 3, 30)))
            case _ if at < len(its):
                its[at] = rng.choice(b'"{}[],:0123456789-+.eEtfn\\/ \x00\xff')
    return bytes(its)


def strange(content: Json, rng: Random) -> Json:
    """One place of it anything: another value, gone, or with a key more."""
    its = copy.deepcopy(content)
    at = rng.choice(list(places(its)))
    above = value_at(its, at[:-1])
    match rng.randrange(4):
        case 0:
            del above[at[-1]]
        case 1 if isinstance(above, dict):
            above[rng.choice(("", "x", "_type", "version", "delegations", "keyids", "sha256", "\ud800"))] = _strange(
                rng
            )
        case 2 if isinstance(above, dict):
            above[rng.choice(list(above))] = copy.deepcopy(above[at[-1]])
        case _:
            above[at[-1]] = _strange(rng)
    return its


def _strange(rng: Random) -> Any:
    return copy.deepcopy(rng.choice(STRANGE))
