"""Texts and histories by chance: what is of the language, what nearly is, and what wants out of it.

`Grower(rng, paths)` writes expressions; `hostile` spoils one; `scene(rng)` is a history with the same samples in lists.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

import numpy as np

from telemetry.capture.history import History, Keep
from telemetry.signals.schema import Columns, Form, Group, Schema, SignalSpec
from tests.telemetry.capture.reference import Past

PATHS: Final = (
    "Vehicle.Speed",
    "Vehicle.Chassis.Brake.PedalPosition",
    "Vehicle.ADAS.ABS.IsEngaged",
    "gear",
    "a.b_1.C2",
)
SILENT: Final = "Vehicle.Never.Told"
WINDOWS: Final = ("avg", "low", "high", "rate", "count")
MILLISECOND_NS: Final = 1_000_000

_NUMBERS: Final = (
    "0",
    "1",
    "2",
    "3",
    "0.5",
    "2.5",
    "1e3",
    "100",
    "0.1",
    "1e308",
    "1E-308",
    "1.7976931348623157e308",
    "7",
)
_SIGNS: Final = ("+", "-", "*", "/", "%")
_RELATIONS: Final = ("<", "<=", ">", ">=", "==", "!=")

ESCAPES: Final = (
    "().__class__", "(1).real", "(Vehicle.Speed).__init__", "abs(1).real", "abs(1)(2)", "abs(Vehicle.Speed)(1)",
    "(abs)(1)", "f'{Vehicle.Speed}'", "f'{abs(1)}'", "[x for x in (1, 2)]", "{x: 1 for x in (1,)}", "(x for x in (1,))",
    "lambda: 1", "(lambda: 1)()", "(y := 1)", "__import__('os')", "Vehicle.__class__", "Vehicle._hidden", "'a'", "b'a'",
    "2 ** 9", "7 // 2", "1 << 2", "~1", "1j", "...", "None", "Vehicle.Speed[0]", "(1, 2)", "[1]", "{1}",
    "1 if 2 else 3", "!", "_",
    "x is 1", "1 in x", "abs(*x)", "abs(**x)", "abs(x=1)", "abs(1,)", "min(1)", "avg(Vehicle.Speed)", "age(1)",
    "avg(Vehicle.Speed, 0)", "avg(Vehicle.Speed, 120001)", "avg(Vehicle.Speed, 5.0)", "avg(1, 5)", "Vehicle.Speed . x",
    "Vehicle.if.Speed", "01", "1_000", "0x10", "1e999", "9" * 400, "eval(1)", "abs", "true", "yield", "await x", "@",
    "+1", "\\", "\n", "\0", "#", ";", "$", "`", "()", "( )", "not", "-", ",", ".", "..", "1.", ".5", "1.5.2", "3and",
    "Ｖehicle.Speed", "Vеhicle.Speed", "abѕ(1)", "１", "\u2212" + "1", "\u00a0", "\u200b", "∞", "ﬁ", "\u2028", "\x0c",
    "(" * 33 + "1" + ")" * 33, "-" * 17 + "1", "not " * 17 + "True", "(" * 500, "-" * 900, "Vehicle" + ".a" * 100,
    "1" + " + 1" * 17, "min(" * 17 + "1" + ", 1)" * 17, " or ".join(["Vehicle.Speed > 1"] * 65),
)  # fmt: skip


class Grower:
    """Grows expressions, mostly small ones, of every part of the language."""

    def __init__(self, rng: Random, paths: Sequence[str] = (*PATHS, SILENT)) -> None:
        self._rng = rng
        self._paths = paths

    def expression(self) -> str:
        return self.truth(4) if self._rng.random() < 0.7 else self.number(4)

    def truth(self, room: int) -> str:
        if room <= 0 or self._rng.random() < 0.45:
            return self._comparison(room)
        grow: Callable[[int], str] = self._rng.choice((self._joined, self._joined, self._denied, self._small_truth))
        return self._bracketed(grow(room - 1))

    def number(self, room: int) -> str:
        if room <= 0 or self._rng.random() < 0.5:
            return self._small_number()
        grow: Callable[[int], str] = self._rng.choice((self._arithmetic, self._arithmetic, self._negative, self._call))
        return self._bracketed(grow(room - 1))

    def _joined(self, room: int) -> str:
        word = self._rng.choice(("and", "or"))
        return f" {word} ".join(f"({self.truth(room)})" if self._rng.random() < 0.4 else self.truth(room)
                                for _ in range(self._rng.choice((2, 2, 3))))  # fmt: skip

    def _denied(self, room: int) -> str:
        return f"not {self.truth(room)}"

    def _small_truth(self, room: int) -> str:
        path, ms = self._path(), self._ms()
        inner = self.truth(room) if self._rng.random() < 0.3 else self.number(room)
        return self._rng.choice((f"changed({path}, {ms})", f"isnull({inner})", f"isnull({path})", "True", "False"))

    def _comparison(self, room: int) -> str:
        parts = [self.number(room - 1) for _ in range(self._rng.choice((2, 2, 2, 3)))]
        text = parts[0]
        for part in parts[1:]:
            text += f"{self._space()}{self._rng.choice(_RELATIONS)}{self._space()}{part}"
        return f"({text})" if self._rng.random() < 0.2 else text

    def _arithmetic(self, room: int) -> str:
        sign = self._rng.choice(_SIGNS)
        return f"{self._operand(room)}{self._space()}{sign}{self._space()}{self._operand(room)}"

    def _operand(self, room: int) -> str:
        return f"({self.number(room)})" if self._rng.random() < 0.3 else self.number(room)

    def _negative(self, room: int) -> str:
        return f"-{self._operand(room)}"

    def _call(self, room: int) -> str:
        if self._rng.random() < 0.3:
            return f"abs({self.number(room)})"
        count = self._rng.choice((2, 2, 3))
        return f"{self._rng.choice(('min', 'max'))}({', '.join(self.number(room) for _ in range(count))})"

    def _small_number(self) -> str:
        path = self._path()
        window = f"{self._rng.choice(WINDOWS)}({path},{self._space()}{self._ms()})"
        return self._rng.choice((path, path, self._rng.choice(_NUMBERS), self._rng.choice(_NUMBERS), window, window,
                                 f"age({path})"))  # fmt: skip

    def _bracketed(self, text: str) -> str:
        return f"({text})" if self._rng.random() < 0.2 else text

    def _path(self) -> str:
        return self._rng.choice(self._paths)

    def _ms(self) -> int:
        return self._rng.choice((1, 5, 20, 50, 100, 400, 1000, 120_000))

    def _space(self) -> str:
        return self._rng.choice(("", " ", " ", "  ", "\t", "\n"))

    def hostile(self) -> str:
        """An expression that was spoilt; now and then it is one all the same."""
        text, rng = self.expression(), self._rng
        at, until = sorted((rng.randrange(len(text) + 1), rng.randrange(len(text) + 1)))
        escape = rng.choice(ESCAPES)
        return rng.choice((
            escape,
            f"{escape} > Vehicle.Speed",
            f"Vehicle.Speed > 1 and {escape}",
            f"abs({escape}) < Vehicle.Speed",
            text[:at] + escape + text[at:],
            text[:at] + text[until:],
            text[:at] + text[at:until] * 2 + text[until:],
            text[:at] + rng.choice("().,-+*/%<>=!_ \"'[]{}:~&|^@#eE01aT\n\0é") + text[at:],
            "".join(rng.sample(text, len(text))),
        ))  # fmt: skip


def forest(rng: Random, share_hostile: float = 0.5) -> Callable[[], str]:
    """Texts without end."""
    grower = Grower(rng)
    return lambda: grower.hostile() if rng.random() < share_hostile else grower.expression()


@dataclass(frozen=True)
class Scene:
    """The same samples in a History and in lists. `instants_ns` rise, and some lie beside all samples."""

    history: History
    pasts: dict[str, Past]
    instants_ns: list[int]
    batches: list[list[Columns]]


_SPECS: Final = (
    SignalSpec(PATHS[0]),
    SignalSpec(PATHS[1], Form.INT, scale=0.5, offset=-1.0),
    SignalSpec(PATHS[2], Form.UINT),
    SignalSpec(PATHS[3]),
    SignalSpec(PATHS[4]),
)
SCHEMA: Final = Schema(
    (
        Group("fast", _SPECS[:2], 10_000),
        Group("switches", _SPECS[2:4]),
        Group("odd", _SPECS[4:]),
        # Two branches of a multiplexer both tell what chooses between them.
        Group("again", (_SPECS[3],)),
        Group("silent", (SignalSpec(SILENT),)),
    )
)


def scene(rng: Random, batches: int = 3) -> Scene:
    """A few batches: regular samples, bursts, gaps, stamps that repeat or go back, values that aren't numbers."""
    keeps = {path: Keep(rng.choice((3, 40, 90, 400)), rng.choice((1, 30, 200, 5000)) * MILLISECOND_NS)
             for path in (*PATHS, SILENT)}  # fmt: skip
    history = History(SCHEMA, keeps)
    pasts = {path: Past(keep.samples, keep.stale_after_ns) for path, keep in keeps.items()}
    now_ns, taken = rng.randrange(10**12), []
    for _ in range(batches):
        batch = [_columns(rng, group, now_ns) for group in range(4) if rng.random() < 0.8]
        history.put(batch)
        _put(pasts, batch)
        taken.append(batch)
        now_ns = max([now_ns, *(int(columns.t_ns[-1]) for columns in batch)]) + rng.choice((1, 10**6, 10**9))
    return Scene(history, pasts, _instants(rng, pasts, now_ns), taken)


def _columns(rng: Random, group: int, from_ns: int) -> Columns:
    t_ns = [from_ns + 1]
    for _ in range(rng.choice((1, 10, 40, 90))):
        t_ns.append(t_ns[-1] + rng.choice((0, 1, 10**6, 10**6, 10**7, 10**7, 10**8)))
    if rng.random() < 0.1:
        t_ns[0] -= 10**9
    signals = SCHEMA.groups[group].signals
    return Columns(group, np.array(t_ns, np.int64), tuple(_values(rng, signal.form, len(t_ns)) for signal in signals))


def _values(rng: Random, form: Form, count: int) -> Any:
    if rng.random() < 0.05:
        return None
    if form is not Form.FLOAT:
        return np.array([rng.choice((0, 0, 1, 2, 5, rng.randrange(1000))) for _ in range(count)], form.dtype)
    odd = rng.choice((0.0, 0.0, 0.1, 0.9))
    return np.array([_odd(rng) if rng.random() < odd else _usual(rng) for _ in range(count)])


def _usual(rng: Random) -> float:
    return rng.choice((0.0, 1.0, 2.5, float(rng.randrange(-3, 100)), rng.uniform(-1, 1), rng.gauss(80, 30)))


def _odd(rng: Random) -> float:
    return rng.choice((float("nan"), float("nan"), float("inf"), -float("inf"), 1.7e308, -1.7e308, 5e-324, -0.0, 1e16))


def _put(pasts: dict[str, Past], batch: list[Columns]) -> None:
    samples: dict[str, list[tuple[int, float]]] = {}
    for columns in batch:
        for spec, raw in zip(SCHEMA.groups[columns.group].signals, columns.values, strict=True):
            if raw is not None:
                values = [float(value) * spec.scale + spec.offset for value in raw.tolist()]
                samples.setdefault(spec.path, []).extend(zip(columns.t_ns.tolist(), values, strict=True))
    for path, told in samples.items():
        for t_ns, value in sorted(told, key=lambda sample: sample[0]):
            pasts[path].put(t_ns, value)


def _instants(rng: Random, pasts: dict[str, Past], now_ns: int) -> list[int]:
    stamps = [t_ns for past in pasts.values() for t_ns, _ in past.samples]
    beside = [rng.choice([*stamps, now_ns]) + rng.choice((-1, 1, 10**6, 10**8, 10**10)) for _ in range(20)]
    return sorted({*stamps, *beside, now_ns})
