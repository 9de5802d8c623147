// MikroORM 6 with node-postgres and pgvector; its own migrations.
import { EntitySchema, LockMode, MikroORM, raw, UniqueConstraintViolationException } from '@mikro-orm/postgresql';
import { Migration, Migrator } from '@mikro-orm/migrations';
import { cosineDistance, l2Distance, VectorType } from 'pgvector/mikro-orm';
import { data, databaseUrl, distribute, report, Undo, undone, violation } from './app.mjs';

const Item = new EntitySchema({
  name: 'Item',
  tableName: 'items',
  properties: {
    id: { type: 'bigint', primary: true, autoincrement: true },
    category: { type: 'text' },
    name: { type: 'text' },
    price: { type: 'integer', default: 0 },
    embedding: { type: VectorType, dimensions: 8, nullable: true },
  },
});

class Items extends Migration {
  up() {
    this.addSql('create extension if not exists vector');
    this.addSql(`create table "items" ("id" bigserial primary key, "category" text not null, "name" text not null,
      "price" int not null default 0, "embedding" vector(8) null)`);
    this.addSql('create index "items_category" on "items" ("category")');
    this.addSql('create index "items_embedding" on "items" using hnsw ("embedding" vector_l2_ops)');
  }
}
class Distribute extends Migration {
  up() {
    this.addSql("select panvel.create_distributed_table('items', 'id')");
  }
}
class Rating extends Migration {
  up() {
    this.addSql('alter table "items" add column "rating" int not null default 3');
  }
}
const first = [{ name: '1_items', class: Items }, ...(distribute ? [{ name: '2_distribute', class: Distribute }] : [])];

/** The app's connections, after the migrations. */
async function connect(migrationsList) {
  const orm = await MikroORM.init({
    clientUrl: databaseUrl, entities: [Item], extensions: [Migrator], migrations: { migrationsList, snapshot: false },
  });
  await orm.getMigrator().up();
  return orm;
}

const orm = await connect(first);
const fork = () => orm.em.fork();

async function nearest(limit, em = fork(), where = {}, distance = l2Distance) {
  const expression = distance('embedding', data.query);
  const rows = await em.createQueryBuilder(Item).select(['id', raw(`${expression.sql} as distance`, expression.params)])
    .where(where).orderBy({ [distance('embedding', data.query)]: 'asc' }).limit(limit).execute('all');
  return rows.map(({ id, distance }) => [Number(id), distance]);
}

const em = fork();
const created = data.items.map((row) => em.create(Item, row));
await em.persistAndFlush(created);
report('ids', created.map(({ id }) => Number(id)));
const item = await fork().findOneOrFail(Item, '7');
report('loaded', [item.name, item.embedding]);
report('nearest', await nearest(10));
report('cosine', await nearest(5, fork(), {}, cosineDistance));
await fork().transactional(async (em) => {
  await em.execute("set local hnsw.iterative_scan = 'strict_order'");
  report('filtered', await nearest(5, em, { category: 'b', price: { $lt: 50 } }));
});
await fork().transactional(async (em) => {
  report('updated', await em.nativeUpdate(Item, { category: 'a' }, { price: raw('price + 100') }));
  const third = await em.findOneOrFail(Item, '3', { lockMode: LockMode.PESSIMISTIC_WRITE });
  third.embedding = data.query;
});
const [{ total }] = await fork().execute('select sum(price)::int as total from items');
report('total', total);
report('nearest_updated', await nearest(1));
await fork().upsertMany(Item, data.upsert, { onConflictFields: ['id'], onConflictMergeFields: ['name', 'price'] });
const upserted = await fork().find(Item, { id: data.upsert.map(({ id }) => String(id)) }, { orderBy: { id: 'asc' } });
report('upserted', upserted.map(({ id, name, price }) => [Number(id), name, price]));
report('deleted', await fork().nativeDelete(Item, { category: 'c' }));
await undone(() => fork().transactional(async (em) => {
  await em.insert(Item, data.new);
  await em.nativeDelete(Item, { category: 'a' });
  report('inside', await em.count(Item));
  throw new Undo();
}));
report('rolled_back', await fork().count(Item));
report('duplicate', await violation(() => fork().insert(Item, data.upsert[0])));
await orm.close();
const later = await connect([...first, { name: '3_rating', class: Rating }]);
const [{ ratings }] = await later.em.fork().execute('select sum(rating)::int as ratings from items');
report('ratings', ratings);
await later.close();
