"""SQLAlchemy 1.4 with psycopg2, vector as a user-defined type; Alembic for the migrations."""

import sqlalchemy as sa
from alembic.migration import MigrationContext
from alembic.operations import Operations
from app import database_url, distribute, load, report
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session, declarative_base
from sqlalchemy.types import UserDefinedType


class Vector(UserDefinedType):
    cache_ok = True

    def __init__(self, dimensions):
        self.dimensions = dimensions

    def get_col_spec(self, **_):
        return f"vector({self.dimensions})"

    def bind_processor(self, dialect):
        return lambda value: None if value is None else "[" + ",".join(map(str, value)) + "]"

    def result_processor(self, dialect, coltype):
        return lambda text: None if text is None else [float(x) for x in text[1:-1].split(",")]

    class comparator_factory(UserDefinedType.Comparator):
        def l2_distance(self, other):
            return self.op("<->", return_type=sa.Float)(other)

        def cosine_distance(self, other):
            return self.op("<=>", return_type=sa.Float)(other)


Base = declarative_base()


class Item(Base):
    __tablename__ = "items"
    id = sa.Column(sa.BigInteger, primary_key=True)
    category = sa.Column(sa.Text, nullable=False, index=True)
    name = sa.Column(sa.Text, nullable=False)
    price = sa.Column(sa.Integer, nullable=False, server_default="0")
    embedding = sa.Column(Vector(8))
    __table_args__ = (
        sa.Index("items_embedding", "embedding", postgresql_using="hnsw", postgresql_with={"m": 16, "ef_construction": 64},
                 postgresql_ops={"embedding": "vector_l2_ops"}),
    )


def migrate(engine):
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE EXTENSION IF NOT EXISTS vector"))
        Base.metadata.create_all(connection)
        if distribute:
            connection.execute(sa.text("SELECT panvel.create_distributed_table('items', 'id')"))


def nearest(session, query, limit, *filters):
    distance = Item.embedding.l2_distance(query).label("distance")
    rows = session.execute(sa.select(Item.id, distance).where(*filters).order_by(distance).limit(limit))
    return [[id, distance] for id, distance in rows]


def main():
    data = load()
    query = data["query"]
    engine = sa.create_engine(database_url.replace("postgres://", "postgresql+psycopg2://"))
    migrate(engine)
    with Session(engine) as session, session.begin():
        items = [Item(**row) for row in data["items"]]
        session.add_all(items)
        session.flush()
        report("ids", [item.id for item in items])
    with Session(engine) as session:
        item = session.get(Item, 7)
        report("loaded", [item.name, item.embedding])
        report("nearest", nearest(session, query, 10))
        distance = Item.embedding.cosine_distance(query)
        report("cosine", [[id, d] for id, d in session.execute(sa.select(Item.id, distance).order_by(distance).limit(5))])
    with Session(engine) as session, session.begin():
        session.execute(sa.text("SET LOCAL hnsw.iterative_scan = 'strict_order'"))
        report("filtered", nearest(session, query, 5, Item.category == "b", Item.price < 50))
    with Session(engine) as session, session.begin():
        done = session.execute(sa.update(Item).where(Item.category == "a").values(price=Item.price + 100),
                               execution_options={"synchronize_session": False})
        report("updated", done.rowcount)
        session.get(Item, 3).embedding = query
    with Session(engine) as session:
        report("total", session.scalar(sa.select(sa.func.sum(Item.price))))
        report("nearest_updated", nearest(session, query, 1))
    with Session(engine) as session, session.begin():
        statement = insert(Item).values(data["upsert"])
        changes = {"name": statement.excluded.name, "price": statement.excluded.price}
        session.execute(statement.on_conflict_do_update(index_elements=["id"], set_=changes))
    with Session(engine) as session:
        ids = [row["id"] for row in data["upsert"]]
        rows = session.execute(sa.select(Item.id, Item.name, Item.price).where(Item.id.in_(ids)).order_by(Item.id))
        report("upserted", [list(row) for row in rows])
    with Session(engine) as session, session.begin():
        report("deleted", session.query(Item).filter(Item.category == "c").delete(synchronize_session=False))
    with Session(engine) as session:
        session.add(Item(**data["new"]))
        session.query(Item).filter(Item.category == "a").delete(synchronize_session=False)
        session.flush()
        report("inside", session.query(Item).count())
        session.rollback()
        report("rolled_back", session.query(Item).count())
    with Session(engine) as session:
        try:
            session.execute(sa.insert(Item).values(data["upsert"][0]))
        except sa.exc.IntegrityError as error:
            report("duplicate", [error.orig.pgcode, error.orig.diag.constraint_name])
    with engine.begin() as connection:
        operations = Operations(MigrationContext.configure(connection))
        operations.add_column("items", sa.Column("rating", sa.Integer, nullable=False, server_default="3"))
        report("ratings", connection.scalar(sa.text("SELECT sum(rating) FROM items")))


main()
