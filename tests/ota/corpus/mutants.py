"""The code under test with one check switched off, found by walking its syntax: so a new check can't be forgotten.

Each mutant runs in a process of its own, which imports our code anew with one module changed, and takes the cases
through it that reach the place. `python -m tests.ota.corpus.mutants [MODULE]` tells which mutants nobody notices.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import re
import resource
import signal
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from tests.ota.corpus.base import Base

ROOT: Final = Path(__file__).parents[3]
MODULES: Final = (
    "trust", "tufclient", "floors", "fetch", "manifest", "facts", "fitness", "ranges", "layout", "delta", "deltafetch",
    "pace", "source", "medium", "zipsource", "updates",
)  # fmt: skip
"""All that stands between a source and a slot. What slots and boot records check is for tests that crash disks."""
SECONDS: Final = 20
MOST_CANDIDATES: Final = 120
SILENT: Final = "it never ended, or took the process with it"
_OF_CHECKS: Final = re.compile(r"demand|fits|_is_to_be|refuse|closed")
_CONSTRAINTS: Final = ("Field", "StringConstraints", "ConfigDict")
_LOOSE: Final = ("alias", "default", "frozen")

Place = tuple[str, int]
"""A module and a line of it."""


@dataclass(frozen=True)
class Mutant:
    """`where` is module and function, `what` the text of what was taken out: both outlive a move of lines. Cases that
    reach one of `lines` are the ones that may notice."""

    module: str
    where: str
    what: str
    lines: tuple[int, ...]
    number: int

    @property
    def name(self) -> str:
        return f"{self.where}: {self.what}"


# --- where checks are -------------------------------------------------------------------------------


@dataclass
class _Site:
    node: ast.AST
    what: str
    lines: tuple[int, ...]
    take_out: Callable[[], None]


def mutants_of(module: str) -> list[Mutant]:
    return [
        Mutant(module, f"{module}.{where}", site.what, site.lines, number)
        for number, (where, site) in enumerate(_sites(_parsed(module)))
    ]


def mutated(mutant: Mutant) -> ast.Module:
    tree = _parsed(mutant.module)
    _, site = list(_sites(tree))[mutant.number]
    site.take_out()
    return ast.fix_missing_locations(tree)


def _parsed(module: str) -> ast.Module:
    return ast.parse((ROOT / "ota" / f"{module}.py").read_text())


def _sites(tree: ast.Module) -> Iterator[tuple[str, _Site]]:
    for where, node in _within(tree, ""):
        for site in _of_node(node, tree):
            yield where, site


def _within(node: ast.AST, where: str) -> Iterator[tuple[str, ast.AST]]:
    for child in ast.iter_child_nodes(node):
        name = f"{where}.{child.name}" if isinstance(child, ast.FunctionDef | ast.ClassDef) else where
        yield name.strip("."), child
        yield from _within(child, name)


def _of_node(node: ast.AST, tree: ast.Module) -> Iterator[_Site]:
    match node:
        case ast.If() if _refuses(node.body):
            yield from _of_condition(node)
        case ast.ExceptHandler() if _refuses(node.body) and not _is_bare(node.body[-1]):
            yield _Site(node, f"except {_text(node.type)}", _lines(node.body), _raising_on(node))
        case ast.Expr(value=ast.Call(func=called)) if _OF_CHECKS.search(_text(called)):
            lines = _refusing_lines(tree, _text(called).rpartition(".")[2]) or (node.lineno,)
            yield _Site(node, _text(node), lines, _setting(node, "value", ast.Constant(None)))
        case ast.Return(value=ast.Compare() | ast.BoolOp() | ast.UnaryOp() as value):
            yield from _of_answer(node, value)
        case ast.IfExp() if "Flaw." in _text(node) and _text(node.body) == "None":
            yield _Site(node, _text(node), (node.lineno,), _setting(node, "orelse", ast.Constant(None)))
        case ast.Call(func=ast.Name(id=name), keywords=keywords) if name in _CONSTRAINTS:
            for keyword in keywords:
                if keyword.arg not in _LOOSE and _text(keyword) != "strict=False":
                    yield _Site(node, f"{_text(keyword)} in {_text(node)}", (), _removing(keywords, keyword))


def _refusing_lines(tree: ast.Module, called: str) -> tuple[int, ...]:
    """Where the function of that name refuses, if it is one of this module's; nothing where it asks others to."""
    its = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    if called not in its:
        return ()
    asked = {node.id for node in ast.walk(its[called]) if isinstance(node, ast.Name)} & set(its)
    refusing = [
        node for name in (called, *sorted(asked)) for node in ast.walk(its[name]) if isinstance(node, ast.Raise)
    ]
    return tuple(node.lineno for node in refusing)


def _refuses(body: Sequence[ast.stmt]) -> bool:
    """It raises, or names a flaw."""
    return (
        isinstance(body[-1], ast.Continue)
        or any(
            isinstance(inner, ast.Raise) or (isinstance(inner, ast.Attribute) and _text(inner).startswith("Flaw."))
            for statement in body
            for inner in ast.walk(statement)
        )
        or (isinstance(body[-1], ast.Return) and _text(body[-1]) in ("return None", "return {}", "return False"))
    )


def _is_bare(statement: ast.stmt) -> bool:
    """It goes on with what was raised, after some tidying up."""
    return isinstance(statement, ast.Raise) and statement.exc is None


def _of_condition(node: ast.If) -> Iterator[_Site]:
    lines = _lines(node.body)
    yield _Site(node, f"if {_text(node.test)}", lines, _setting(node, "test", ast.Constant(False)))
    if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or):
        yield from _of_operands(node.test.values, False, "or", lines)
    for part in ast.walk(node.test):
        if isinstance(part, ast.Compare) and len(part.ops) > 1:
            for number in range(len(part.ops)):
                yield _Site(node, f"link {number} of {_text(part)}", lines, _unlinking(part, number))


def _of_answer(node: ast.Return, value: ast.expr) -> Iterator[_Site]:
    yield _Site(node, _text(node), (node.lineno,), _setting(node, "value", ast.Constant(True)))
    if isinstance(value, ast.BoolOp) and isinstance(value.op, ast.And):
        yield from _of_operands(value.values, True, "and", (node.lineno,))


def _of_operands(values: list[ast.expr], neutral: bool, sign: str, lines: tuple[int, ...]) -> Iterator[_Site]:
    for number, value in enumerate(values):
        what = f"{sign} {_text(value)}"
        yield _Site(value, what, lines, _putting(values, number, ast.Constant(neutral)))


def _putting(values: list[ast.expr], number: int, value: ast.expr) -> Callable[[], None]:
    return lambda: values.__setitem__(number, value)


def _setting(node: ast.AST, field: str, value: ast.AST) -> Callable[[], None]:
    return lambda: setattr(node, field, value)


def _removing(items: list[Any], item: object) -> Callable[[], None]:
    return lambda: items.remove(item)


def _raising_on(handler: ast.ExceptHandler) -> Callable[[], None]:
    return lambda: setattr(handler, "body", [ast.Raise()])


def _unlinking(compare: ast.Compare, number: int) -> Callable[[], None]:
    """`a <= b <= c` without one of its two halves."""

    def take_out() -> None:
        sides = [compare.left, *compare.comparators]
        del compare.ops[number]
        del sides[0 if number == 0 else number + 1]
        compare.left, compare.comparators = sides[0], sides[1:]

    return take_out


def _lines(body: Sequence[ast.stmt]) -> tuple[int, ...]:
    return tuple(statement.lineno for statement in body)


def _text(node: ast.AST | None) -> str:
    return "" if node is None else " ".join(ast.unparse(node).split())


# --- which cases reach them -------------------------------------------------------------------------


def reached_by_cases(base: Base) -> dict[Place, list[str]]:
    """The cases that reach each place where a check could be off. In a process of its own."""
    return {(module, line): names for module, line, names in json.loads(_apart(lambda: _reached_here(base)))}


def _reached_here(base: Base) -> str:
    places: dict[Place, list[str]] = {}
    now: set[Place] = set()
    vehicle = _anew(_Probed(now))
    for case in importlib.import_module("tests.ota.corpus.cases").CASES:
        now.clear()
        vehicle.complaints(case, base, vehicle.quiet_way(case), and_the_twin=False)
        for place in now:
            places.setdefault(place, []).append(case.name)
    return json.dumps([[*place, names] for place, names in places.items()])


# --- a run ------------------------------------------------------------------------------------------


class _Importer(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports modules of ota/ otherwise than they stand there."""

    def changed(self, module: str) -> ast.Module | None:
        """None for one that is as it is."""
        raise NotImplementedError

    def find_spec(self, name: str, path: object = None, target: object = None) -> importlib.machinery.ModuleSpec | None:
        package, _, module = name.rpartition(".")
        if package != "ota" or module not in MODULES or self.changed(module) is None:
            return None
        return importlib.util.spec_from_loader(name, self, origin=str(ROOT / "ota" / f"{module}.py"))

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.rpartition(".")[2]
        tree = self.changed(name)
        assert tree is not None
        exec(compile(ast.fix_missing_locations(tree), f"<{name}>", "exec"), module.__dict__)


class _Changed(_Importer):
    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def changed(self, module: str) -> ast.Module | None:
        return mutated(self._mutant) if module == self._mutant.module else None


class _Probed(_Importer):
    """Each place where a check could be off says so when it is reached."""

    def __init__(self, reached: set[Place]) -> None:
        self._reached = reached

    def changed(self, module: str) -> ast.Module | None:
        tree = _parsed(module)
        lines = {line for _, site in _sites(tree) for line in site.lines}
        for node in ast.walk(tree):
            for field in ("body", "orelse", "finalbody"):
                its = getattr(node, field, None)
                if isinstance(its, list):
                    setattr(node, field, [new for old in its for new in _probed(old, lines)])
        return tree

    def exec_module(self, module: ModuleType) -> None:
        name = module.__name__.rpartition(".")[2]
        module.__dict__["_reached_line"] = lambda line: self._reached.add((name, line))
        super().exec_module(module)


def _probed(statement: ast.stmt, lines: set[int]) -> list[ast.stmt]:
    if statement.lineno not in lines:
        return [statement]
    return [*ast.parse(f"_reached_line({statement.lineno})").body, statement]


@dataclass(frozen=True)
class Verdict:
    """`case` is the one, by its name, that goes otherwise with the mutant; "" when none does. Where no case came to an
    answer, `broke` says how the run ended: that is no notice."""

    case: str = ""
    broke: str = ""


def noticed(mutant: Mutant, names: Sequence[str], base: Base) -> Verdict:
    """In a process of its own."""
    words = spoken(lambda: _in_the_child(mutant, names, base))
    return Verdict(**json.loads(words)) if words else Verdict(broke=SILENT)


def spoken(work: Callable[[], str]) -> str:
    """What it says in a process of its own, or in another one where that ended without a word: it may have been only
    slow. "" when both did."""
    return _apart(work) or _apart(work)


def _apart(work: Callable[[], str]) -> str:
    """What it says, in a process of its own; "" when that ended without a word."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        with os.fdopen(writing, "w") as told:
            told.write(work())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        words = answer.read()
    os.waitpid(child, 0)
    return words


def _in_the_child(mutant: Mutant, names: Iterable[str], base: Base) -> str:
    signal.alarm(SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
    try:
        its = _anew(_Changed(mutant))
    except Exception as error:  # noqa: BLE001
        return json.dumps({"broke": f"it can't even be imported: {error}"})
    try:
        return json.dumps({"case": _first_to_differ(its, names, base, not mutant.lines)})
    except BaseException as error:  # noqa: BLE001
        where = traceback.extract_tb(error.__traceback__)[-1].name
        return json.dumps({"broke": f"the run itself: {error!r} in {where}"})


def _anew(importer: _Importer) -> ModuleType:
    """The vehicle, with all of our code under test imported by that."""
    sys.meta_path.insert(0, importer)
    for name in [name for name in sys.modules if re.match(r"(ota|tests\.ota\.corpus)(\.|$)", name)]:
        del sys.modules[name]
    return importlib.import_module("tests.ota.corpus.vehicle")


def _first_to_differ(vehicle: ModuleType, names: Iterable[str], base: Base, of_the_format: bool) -> str:
    cases = {case.name: case for case in importlib.import_module("tests.ota.corpus.cases").CASES}
    for name in names:
        signal.alarm(SECONDS)
        if of_the_format and not vehicle.is_read_otherwise(cases[name], base):
            continue
        if vehicle.complaints(cases[name], base, vehicle.quiet_way(cases[name])):
            return str(name)
    return ""


def candidates(mutant: Mutant, reached: Mapping[Place, list[str]]) -> list[str]:
    """Those that may notice, the likeliest first: of a place that many reach some of each class."""
    from tests.ota.corpus.cases import CASES

    if not mutant.lines:
        return [case.name for case in CASES if case.name.startswith(("manifest", "runtime"))]
    lists = [reached.get((mutant.module, line), []) for line in mutant.lines]
    names = dict.fromkeys(name for names in sorted(lists, key=len) for name in names)
    if len(names) <= MOST_CANDIDATES:
        return list(names)
    by_class: dict[str, list[str]] = {}
    for case in CASES:
        if case.name in names:
            by_class.setdefault(case.told, []).append(case.name)
    few = max(1, MOST_CANDIDATES // len(by_class))
    return [name for its in by_class.values() for name in its[:: max(1, len(its) // few)][:few]]


def verdicts(modules: Sequence[str], base: Base) -> Iterator[tuple[Mutant, Verdict]]:
    """Of each mutant in its turn."""
    reached = reached_by_cases(base)
    for module in modules:
        for mutant in mutants_of(module):
            yield mutant, noticed(mutant, candidates(mutant, reached), base)


if __name__ == "__main__":
    from tests.ota.corpus.base import founded

    for one, its in verdicts(sys.argv[1:] or MODULES, founded()):
        print(f"{its.case or its.broke or '-':<60} {json.dumps(one.name)}", flush=True)
