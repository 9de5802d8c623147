"""Errors of workers arrive as if the table were local, but for the node in their context."""

import pytest


@pytest.fixture
def db(cluster):
    cluster.execute("create schema shop")
    cluster.execute(
        "create table shop.items (id int primary key, parent int, price int not null"
        " constraint positive check (price > 0), unique (id, parent))"
    )
    cluster.execute("select panvel.create_distributed_table('shop.items', 'id')")
    cluster.execute("create table plain (like shop.items including all)")
    cluster.execute("insert into shop.items values (1, 1, 1)")
    return cluster


def fields(error):
    diag = error.diag
    return (diag.sqlstate, diag.schema_name, diag.table_name, diag.column_name, diag.constraint_name)


@pytest.mark.parametrize(
    "values, expected",
    [
        ("(1, 2, 3)", ("23505", "shop", "items", None, "items_pkey")),
        ("(2, 2, null)", ("23502", "shop", "items", "price", None)),
        ("(2, 2, -1)", ("23514", "shop", "items", None, "positive")),
    ],
)
def test_names_are_the_users(db, error_of, values, expected):
    error = error_of(db.execute, f"insert into shop.items values {values}")
    assert fields(error) == expected
    assert "panvel_s" not in error.diag.message_primary
    assert "panvel_s" not in (error.diag.message_detail or "")
    assert 'on node "w' in error.diag.context


def test_two_roles_need_two_connections(db, error_of):
    """panvel.max_connections_per_node is a bound: one more role in a transaction is an error."""
    roles = [f"role{i}_{db.name}" for i in (1, 2)]
    for server in db.cluster.servers:
        for role in roles:
            server.execute(f"create role {role} login superuser")
    try:
        with db.connect(autocommit=False) as session:
            session.execute("set panvel.max_connections_per_node = 2")
            session.execute("select from shop.items for update")
            session.execute(f"set local role {roles[0]}")
            session.execute("select from shop.items for update skip locked")
            session.execute(f"savepoint a; set local role {roles[1]}")
            error = error_of(session.execute, "select count(*) from shop.items")
            assert error.sqlstate == "53300" and "max_connections_per_node" in error.diag.message_hint
            session.execute("rollback to a; commit")
            # Not in one transaction: an idle connection gives way.
            for role in roles * 2:
                session.execute(f"set role {role}")
                session.execute("select count(*) from shop.items")
                session.commit()
    finally:
        for server in db.cluster.servers:
            for role in roles:
                server.execute(f"drop role {role}")
