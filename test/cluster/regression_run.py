"""Statements of PostgreSQL's regression files on two databases, and what comes of them."""

import re
from collections import Counter

import psycopg

COPY = re.compile(r"\s*copy\b.*\b(?P<direction>from|to)\s+std(in|out)\b", re.IGNORECASE | re.DOTALL)


class Failure(str):
    """An SQLSTATE, with the error it is of."""

    def __new__(cls, error):
        failure = super().__new__(cls, error.sqlstate)
        failure.message = error.diag.message_primary
        failure.detail = error.diag.message_detail or ""
        return failure


def rounded(value):
    return float(f"{value:.10g}") if isinstance(value, float) else value


def copied(cursor, statement, direction, data):
    """Lines as a multiset, or the number of rows."""
    with cursor.copy(statement) as copy:
        if direction.lower() == "to":
            return Counter(b"".join(bytes(part) for part in copy).split(b"\n"))
        copy.write(data or "")
    return cursor.rowcount


def run(connection, statement, data=None):
    """Rows as a multiset, the number of affected rows, or the SQLSTATE."""
    try:
        with connection.cursor() as cursor:
            if copy := COPY.match(statement):
                return copied(cursor, statement, copy["direction"], data)
            cursor.execute(statement)
            if cursor.description is None:
                return cursor.rowcount
            return Counter(repr(tuple(rounded(value) for value in row)) for row in cursor.fetchall())
    except psycopg.Error as error:
        assert not connection.closed and error.sqlstate, f"{statement}: {error}"
        return Failure(error)


def in_transaction(connection):
    return connection.info.transaction_status != psycopg.pq.TransactionStatus.IDLE


def has_failed(connection):
    return connection.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
