// TypeORM 0.3 with node-postgres; its own vector column and migrations.
import 'reflect-metadata';
import { DataSource, EntitySchema, LessThan, In } from 'typeorm';
import { data, databaseUrl, distribute, report, Undo, undone, violation } from './app.mjs';

const number = { from: Number, to: (value) => value };
const Item = new EntitySchema({
  name: 'Item',
  tableName: 'items',
  columns: {
    id: { type: 'bigint', primary: true, generated: 'increment', primaryKeyConstraintName: 'items_pkey', transformer: number },
    category: { type: 'text' },
    name: { type: 'text' },
    price: { type: 'integer', default: 0 },
    embedding: { type: 'vector', length: 8, nullable: true },
  },
});

class Items1 {
  async up(queryRunner) {
    await queryRunner.query('CREATE EXTENSION IF NOT EXISTS vector');
    await queryRunner.query(`CREATE TABLE "items" ("id" BIGSERIAL NOT NULL, "category" text NOT NULL, "name" text NOT NULL,
      "price" integer NOT NULL DEFAULT 0, "embedding" vector(8), CONSTRAINT "items_pkey" PRIMARY KEY ("id"))`);
    await queryRunner.query('CREATE INDEX "items_category" ON "items" ("category")');
    await queryRunner.query('CREATE INDEX "items_embedding" ON "items" USING hnsw ("embedding" vector_l2_ops)');
  }
}
Object.defineProperty(Items1, 'name', { value: 'Items1700000000001' });
class Distribute2 {
  async up(queryRunner) {
    await queryRunner.query("SELECT panvel.create_distributed_table('items', 'id')");
  }
}
Object.defineProperty(Distribute2, 'name', { value: 'Distribute1700000000002' });
class Rating3 {
  async up(queryRunner) {
    await queryRunner.query('ALTER TABLE "items" ADD "rating" integer NOT NULL DEFAULT 3');
  }
}
Object.defineProperty(Rating3, 'name', { value: 'Rating1700000000003' });
const first = distribute ? [Items1, Distribute2] : [Items1];

/** The app's connections, after the migrations. */
async function connect(migrations) {
  const source = new DataSource({ type: 'postgres', url: databaseUrl, entities: [Item], migrations });
  await source.initialize();
  await source.runMigrations();
  return source;
}

const source = await connect(first);
const items = source.getRepository(Item);
const toSql = (vector) => `[${vector.join(',')}]`;

async function nearest(limit, manager = source.manager, where = {}, operator = '<->') {
  const { entities, raw } = await manager.getRepository(Item).createQueryBuilder('item')
    .addSelect(`item.embedding ${operator} :query`, 'distance').where(where).orderBy('distance')
    .setParameter('query', toSql(data.query)).limit(limit).getRawAndEntities();
  return entities.map(({ id }, i) => [id, raw[i].distance]);
}

const saved = await items.save(data.items.map((row) => ({ ...row })));
report('ids', saved.map(({ id }) => Number(id)));
const item = await items.findOneByOrFail({ id: 7 });
report('loaded', [item.name, item.embedding]);
report('nearest', await nearest(10));
report('cosine', await nearest(5, source.manager, {}, '<=>'));
await source.transaction(async (manager) => {
  await manager.query("SET LOCAL hnsw.iterative_scan = 'strict_order'");
  report('filtered', await nearest(5, manager, { category: 'b', price: LessThan(50) }));
});
await source.transaction(async (manager) => {
  report('updated', (await manager.increment(Item, { category: 'a' }, 'price', 100)).affected);
  const third = await manager.findOne(Item, { where: { id: 3 }, lock: { mode: 'pessimistic_write' } });
  third.embedding = data.query;
  await manager.save(Item, third);
});
report('total', Number(await items.sum('price')));
report('nearest_updated', await nearest(1));
// TypeORM inserts into an auto-increment column only when it is named.
const insertWithId = (rows, manager = source.manager) => manager.createQueryBuilder().insert().into(Item, Object.keys(data.upsert[0])).values(rows);
await insertWithId(data.upsert).orUpdate(['name', 'price'], ['id']).execute();
const upserted = await items.find({ where: { id: In(data.upsert.map(({ id }) => id)) }, order: { id: 'ASC' } });
report('upserted', upserted.map(({ id, name, price }) => [id, name, price]));
report('deleted', (await items.delete({ category: 'c' })).affected);
await undone(() => source.transaction(async (manager) => {
  await insertWithId(data.new, manager).execute();
  await manager.delete(Item, { category: 'a' });
  report('inside', await manager.count(Item));
  throw new Undo();
}));
report('rolled_back', await items.count());
report('duplicate', await violation(() => insertWithId(data.upsert[0]).execute()));
await source.destroy();
const later = await connect([...first, Rating3]);
const [{ ratings }] = await later.query('SELECT sum(rating)::int AS ratings FROM items');
report('ratings', ratings);
await later.destroy();
