"""Reference tables: a copy on every node, written everywhere or nowhere."""

import threading

import psycopg
import pytest

from panvel_test import wait_until

COLUMNS = "(id int primary key, label text, e vector(3), doubled int generated always as (id * 2) stored)"


@pytest.fixture
def labels(cluster):
    cluster.execute(f"create table labels {COLUMNS}")
    cluster.execute("insert into labels select i, 'L' || i, format('[%s,1,1]', i)::vector from generate_series(1, 300) i")
    cluster.execute("create unique index labels_label on labels (label)")
    cluster.execute("select panvel.create_reference_table('labels')")
    return cluster


def schema_of(cluster, relation):
    return "panvel_s%d" % cluster.value("select distinct shard_id from panvel.shards where relation = %s::regclass", [relation])


def copies(cluster, relation="labels"):
    """What each node has, read behind the coordinator's back."""
    schema = schema_of(cluster, relation)
    nodes = [row[0] for row in cluster.query("select node from panvel.shards where relation = %s::regclass order by 1", [relation])]
    return {node: sorted(cluster.worker(node).query(f"select * from {schema}.{relation}"), key=repr) for node in nodes}


def equal_copies(cluster, relation="labels"):
    all_copies = copies(cluster, relation)
    first = next(iter(all_copies.values()))
    assert all(rows == first for rows in all_copies.values()), all_copies
    return first


def test_every_node_has_a_copy(labels):
    assert len(equal_copies(labels)) == 300
    assert sorted(copies(labels)) == ["w1", "w2", "w3"]
    assert labels.query("select distribution_column, shards, replication_factor from panvel.tables") == [(None, 1, 3)]
    assert labels.query("select hash_min, hash_max, node, role, state from panvel.shards order by node") == [
        (None, None, "w1", "leader", "active"), (None, None, "w2", "follower", "active"),
        (None, None, "w3", "follower", "active")]
    assert labels.value("select count(*) from labels") == 300
    assert labels.value("select pg_relation_size('labels')") == 0
    # The unique index need not have a distribution column.
    assert labels.worker("w2").value(f"select count(*) from pg_indexes where schemaname = '{schema_of(labels, 'labels')}'") == 2


def test_a_plain_read_asks_one_node(labels):
    plan = "\n".join(row[0] for row in labels.query("explain (analyze, timing off) select * from labels where id < 10"))
    assert "Shards: 1 of 1" in plan and plan.count("Node w") == 1


def test_writes_reach_every_copy(labels, error_of):
    with labels.connect() as connection:
        execute = lambda sql: connection.execute(sql)
        assert execute("insert into labels values (301, 'new', '[1,2,3]') returning id, doubled").fetchall() == [(301, 602)]
        assert execute("insert into labels (id, label) select i, 'x' || i from generate_series(1000, 3500) i").rowcount == 2501
        assert execute("insert into labels values (301, 'again') on conflict (id) do update set label = excluded.label").rowcount == 1
        assert execute("insert into labels values (301, 'again') on conflict do nothing").rowcount == 0
        assert execute("update labels set label = label || '!' where id % 3 = 0").rowcount > 900
        assert execute("delete from labels where id % 7 = 0 returning id").rowcount > 300
        with connection.cursor() as cursor, cursor.copy("copy labels (id, label) from stdin") as copy:
            copy.write("5000\tcopied\n5001\tcopied too\n")
        assert error_of(execute, "insert into labels values (5002, 'copied')").sqlstate == "23505"
        before = equal_copies(labels)
        with pytest.raises(ZeroDivisionError), connection.transaction():
            execute("delete from labels")
            assert execute("select count(*) from labels").fetchone() == (0,)
            raise ZeroDivisionError
        assert equal_copies(labels) == before
        plan = "\n".join(row[0] for row in execute("explain (analyze) delete from labels where id = 5000"))
        assert plan.count("rows=1 ") == 3, plan
        assert execute("truncate labels") and equal_copies(labels) == []


def test_a_failure_on_one_copy_leaves_no_change_anywhere(labels, error_of):
    labels.worker("w3").execute(f"alter table {schema_of(labels, 'labels')}.labels add check (id <> 777)")
    before = equal_copies(labels)
    assert error_of(labels.execute, "insert into labels values (777, 'no')").sqlstate == "23514"
    assert error_of(labels.execute, "update labels set id = 777 where id = 7").sqlstate == "23514"
    assert equal_copies(labels) == before


def test_concurrent_writers_leave_equal_copies(labels):
    """Each statement depends on what the others did; in another order on another node it would not be the same."""
    errors = []

    def write(number):
        try:
            with labels.connect() as connection:
                for turn in range(8):
                    connection.execute("insert into labels (id, label) select max(id) + 1, %s from labels where id < 400 "
                                       "on conflict (id) do update set label = excluded.label", [f"{number}-{turn}"])
                    connection.execute("update labels set label = label || %s where length(label) %% 3 = %s",
                                       [str(number), turn % 3])
        except psycopg.Error as error:
            if error.sqlstate != "23505":
                errors.append(error)

    threads = [threading.Thread(target=write, args=[i]) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    equal_copies(labels)


def test_repeatable_read_does_not_split_the_copies(labels):
    """Copies whose snapshots are of different times must not be changed differently."""
    with labels.connect() as reader, labels.connect() as writer:
        reader.execute("begin isolation level repeatable read")
        reader.execute("select count(*) from labels")  # a snapshot on one node only
        writer.execute("insert into labels values (900, 'between')")
        with pytest.raises(psycopg.errors.SerializationFailure, match="reference table"):
            reader.execute("update labels set label = upper(label) where id > 200")
        reader.execute("rollback")
        assert reader.execute("update labels set label = upper(label) where id > 200").rowcount == 101
    equal_copies(labels)


def test_ddl(labels):
    schema = schema_of(labels, "labels")
    labels.execute("create index on labels using hnsw (e vector_l2_ops)")
    labels.execute("drop index labels_label")
    for worker in labels.workers:
        names = [row[0] for row in worker.query(f"select indexname from pg_indexes where schemaname = '{schema}' order by 1")]
        assert names == ["labels_e_idx", "labels_pkey"]
    labels.execute("vacuum analyze labels")
    assert labels.value("select row_estimate from panvel.distributed_table") == 300
    labels.execute("drop table labels")
    for worker in labels.workers:
        assert worker.query("select nspname from pg_namespace where nspname like 'panvel%'") == []
    assert labels.query("select * from panvel.placement") == []


def test_nodes_that_come_and_go(shared_cluster, labels, error_of):
    with labels.connect() as connection:
        connection.execute("select panvel.remove_node('w1')")
    assert sorted(copies(labels)) == ["w2", "w3"]
    assert labels.workers[0].query("select nspname from pg_namespace where nspname like 'panvel%'") == []
    labels.execute("insert into labels values (400, 'while w1 is away')")
    assert labels.query("select node from panvel.shards where role = 'leader'") == [("w2",)]

    w1 = labels.workers[0]
    add = f"select panvel.add_node('w1', '127.0.0.1', {w1.server.port}, '{w1.name}')"
    with labels.connect() as connection:
        connection.execute("begin isolation level repeatable read")
        assert error_of(connection.execute, add).sqlstate == "25001"
        connection.execute("rollback; begin; insert into labels values (401, 'uncommitted')")
        added = threading.Thread(target=labels.execute, args=[add])
        added.start()
        wait_until(lambda: labels.value("select count(*) from pg_locks where not granted") > 0, 60)
        connection.execute("commit")
        added.join()
    assert sorted(copies(labels)) == ["w1", "w2", "w3"]
    assert len(equal_copies(labels)) == 302
    definition = "select indexdef from pg_indexes where schemaname = '%s' order by 1" % schema_of(labels, "labels")
    assert w1.query(definition) == labels.worker("w2").query(definition)

    for name in ("w1", "w2"):
        labels.execute(f"select panvel.remove_node('{name}')")
    error = error_of(labels.execute, "select panvel.remove_node('w3')")
    assert error.sqlstate == "55006" and "only copy" in str(error)


def test_refusals(labels, error_of):
    def refused(sql, sqlstate, message):
        error = error_of(labels.execute, sql)
        assert error.sqlstate == sqlstate and message in str(error), error

    labels.execute("create table d (id int primary key)")
    refused("select panvel.create_reference_table('labels')", "55000", "already distributed")
    refused("select panvel.create_reference_table(null)", "22004", "must not be null")
    refused("select panvel.create_distributed_table('d', 'id', colocate_with => 'labels')", "42809", "reference table")
    labels.execute("create table keyless (n int)")
    labels.execute("select panvel.create_reference_table('keyless')")
    labels.execute("insert into keyless values (1)")
    refused("update keyless set n = random() * 9", "0A000", "keyless")


def test_writes_by_rows_give_equal_copies(labels):
    """What is evaluated once, here, and not again on every copy."""
    labels.execute("update labels set label = id || 'r' || random() where random() < 0.5")
    labels.execute("update labels set label = 'n' || n from generate_series(1, 9) n where n = id")
    labels.execute("delete from labels using generate_series(10, 19) n where n = id")
    rows = equal_copies(labels)
    assert len(rows) == 290 and {row[1] for row in rows if row[0] < 10} == {f"n{n}" for n in range(1, 10)}


def test_a_node_that_is_down(make_cluster, error_of):
    """Reads go to other copies; writes need all nodes, until the lost one is removed."""
    db = make_cluster(workers=2)
    db.execute("create table r (id int primary key, n int); insert into r select i, i from generate_series(1, 9) i")
    db.execute("select panvel.create_reference_table('r')")
    db.workers[0].server.kill9()
    wait_until(lambda: db.value("select status from panvel.nodes where name = 'w1'") == "down", 60)
    for _ in range(4):  # sessions choose by their process id
        assert db.value("select sum(n) from r") == 45
    assert error_of(db.execute, "insert into r values (10, 10)").sqlstate.startswith("08")
    with db.connect() as connection:
        notices = []
        connection.add_notice_handler(lambda notice: notices.append(notice.message_primary))
        connection.execute("select panvel.remove_node('w1')")
        assert any("is down and keeps its copy" in notice for notice in notices), notices
        connection.execute("insert into r values (10, 10)")
        assert connection.execute("select sum(n) from r").fetchone() == (55,)
    assert db.query("select node, role from panvel.shards") == [("w2", "leader")]
