"""Laws of prepared SQL: what SQLAlchemy would do, in the form that each dialect's driver takes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import BigInteger, Connection, Executable, bindparam, select
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.dialects.sqlite.base import SQLiteDialect

from receiver.prepared import ROWS_A_STATEMENT, Inserter, Prepared, _Form, portions
from receiver.tables import coverage, schema


def a_row(seq: int) -> tuple[object, ...]:
    return "veh-001", 1, bytes(16), 2 * seq, 2 * seq + 1


def first_from() -> Executable:
    first = bindparam("first", type_=BigInteger)
    found = select(coverage.c.end_seq).where(coverage.c.first_seq >= first, coverage.c.end_seq > first)
    return found.order_by(coverage.c.first_seq).limit(bindparam("most", type_=BigInteger))


@pytest.fixture
def connection() -> Iterator[Connection]:
    with sqlalchemy.create_engine("sqlite://").connect() as opened:
        schema.create_all(opened)
        opened.commit()
        yield opened


@given(st.integers(0, 5 * ROWS_A_STATEMENT))
def test_any_number_of_rows_is_few_statements(count: int) -> None:
    found = list(portions(count))
    assert sum(found) == count
    assert len(found) <= count // ROWS_A_STATEMENT + ROWS_A_STATEMENT.bit_length()
    assert set(found) <= {1, 2, 4, 8, 16, 32, 64}


@pytest.mark.parametrize("count", [0, 1, 3, ROWS_A_STATEMENT, 2 * ROWS_A_STATEMENT + 5])
def test_every_row_is_inserted_as_it_is(connection: Connection, count: int) -> None:
    rows = [a_row(seq) for seq in range(count)]
    Inserter(coverage).run(connection, rows)
    assert [tuple(row) for row in connection.execute(select(coverage).order_by(coverage.c.first_seq))] == rows


def test_a_parameter_that_the_sql_names_twice_is_given_once(connection: Connection) -> None:
    Inserter(coverage).run(connection, [a_row(seq) for seq in range(10)])
    assert Prepared(first_from, ["first", "most"]).rows(connection, (6, 2)) == [(7,), (9,)]


def test_each_dialect_is_given_parameters_in_its_drivers_form() -> None:
    names = ("first", "most")
    positional = _Form(first_from(), SQLiteDialect(), names)
    assert positional.sql.count("?") == len(positional.arrange((6, 2)))
    named = _Form(first_from(), PGDialect(), names)  # type: ignore[no-untyped-call]
    assert "%(first)s" in named.sql
    assert named.arrange((6, 2)) == {"first": 6, "most": 2}


def test_nothing_to_do_is_no_statement(connection: Connection) -> None:
    Prepared(lambda: coverage.delete(), []).run(connection)
    Inserter(coverage).run(connection, [])
    assert not connection.in_transaction()
