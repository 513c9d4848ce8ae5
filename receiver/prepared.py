"""SQL that every commit runs: built by SQLAlchemy once a dialect, run with plain tuples.

SQLAlchemy's own way costs a statement 0.1 ms and a row several microseconds: more than the database needs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Dialect, Executable, Table, bindparam, insert
from sqlalchemy.sql.compiler import SQLCompiler

ROWS_A_STATEMENT: Final = 64

Values = tuple[Any, ...]


class Prepared:
    """A statement whose bound parameters, in the order of `names`, are given as tuples."""

    def __init__(self, build: Callable[[], Executable], names: Sequence[str]) -> None:
        self._build = build
        self._names = tuple(names)
        self._forms: dict[str, _Form] = {}

    def rows(self, connection: Connection, values: Values) -> list[Values]:
        form = self._form(connection.dialect)
        return [tuple(row) for row in connection.exec_driver_sql(form.sql, form.arrange(values))]

    def run(self, connection: Connection, *many: Values) -> None:
        """Once for each tuple; not at all for none."""
        if many:
            form = self._form(connection.dialect)
            connection.exec_driver_sql(form.sql, [form.arrange(values) for values in many])

    def _form(self, dialect: Dialect) -> _Form:
        if (form := self._forms.get(dialect.name)) is None:
            form = self._forms[dialect.name] = _Form(self._build(), dialect, self._names)
        return form


class _Form:
    """What one dialect's driver takes: its SQL, and how it wants the parameters."""

    def __init__(self, statement: Executable, dialect: Dialect, names: tuple[str, ...]) -> None:
        compiled = statement.compile(dialect=dialect)  # type: ignore[attr-defined]
        assert isinstance(compiled, SQLCompiler)
        self.sql = str(compiled)
        # What the dialect added by itself: LIMIT brings an OFFSET of 0.
        added = {name: value for name, value in compiled.params.items() if name not in names}
        self._names = *names, *added
        self._added = tuple(added.values())
        self._places = [self._names.index(name) for name in compiled.positiontup or ()]
        self._as_given = self._places == list(range(len(names)))

    def arrange(self, values: Values) -> Any:
        if self._as_given:
            return values
        values = values + self._added
        if self._places:
            return tuple(values[place] for place in self._places)
        return dict(zip(self._names, values, strict=True))


class Inserter:
    """Rows into `table`, many a statement: at the end of each, another thread may take the interpreter and keep it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._columns = [column.name for column in table.columns]
        self._statements = {count: self._statement(count) for count in _powers_of_two(ROWS_A_STATEMENT)}

    def run(self, connection: Connection, rows: Sequence[Values]) -> None:
        """Each row has all columns in the table's order."""
        at = 0
        for count in portions(len(rows)):
            values = tuple(value for row in rows[at : at + count] for value in row)
            self._statements[count].run(connection, values)
            at += count

    def _statement(self, count: int) -> Prepared:
        names = [[f"{name}_{row}" for name in self._columns] for row in range(count)]

        def build() -> Executable:
            return insert(self._table).values([self._bound(row) for row in names])

        return Prepared(build, [name for row in names for name in row])

    def _bound(self, names: Sequence[str]) -> dict[str, Any]:
        return {column: bindparam(name) for column, name in zip(self._columns, names, strict=True)}


def portions(count: int) -> Iterator[int]:
    """Powers of two, the largest first, that add up to `count`: few different statements for any number of rows."""
    while count:
        portion = min(ROWS_A_STATEMENT, 1 << count.bit_length() - 1)
        yield portion
        count -= portion


def _powers_of_two(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length())]
