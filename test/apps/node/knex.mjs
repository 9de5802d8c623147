// Knex with node-postgres and pgvector; its own migrations.
import Knex from 'knex';
import pgvector from 'pgvector/knex';
import { data, databaseUrl, distribute, report, Undo, undone, violation } from './app.mjs';

const knex = Knex({ client: 'pg', connection: databaseUrl });
const items = (run = knex) => run('items');
const row = ({ embedding, ...columns }) => ({ ...columns, embedding: pgvector.toSql(embedding) });

const migrations = {
  '1_items': async (run) => {
    await run.schema.enableExtension('vector');
    await run.schema.createTable('items', (table) => {
      table.bigIncrements('id');
      table.text('category').notNullable().index();
      table.text('name').notNullable();
      table.integer('price').notNullable().defaultTo(0);
      table.vector('embedding', 8);
      table.index(run.raw('embedding vector_l2_ops'), 'items_embedding', 'hnsw');
    });
  },
  '2_distribute': (run) => run.raw("SELECT panvel.create_distributed_table('items', 'id')"),
  '3_rating': (run) => run.schema.alterTable('items', (table) => table.integer('rating').notNullable().defaultTo(3)),
};
const migrate = (names) => knex.migrate.latest({
  migrationSource: {
    getMigrations: async () => names,
    getMigrationName: (name) => name,
    getMigration: async (name) => ({ up: migrations[name], down: async () => {} }),
  },
});
const first = distribute ? ['1_items', '2_distribute'] : ['1_items'];

async function nearest(limit, query = items(), operator = 'l2Distance') {
  const distance = knex[operator]('embedding', data.query);
  const rows = await query.select('id', knex.raw('? as distance', [distance])).orderBy('distance').limit(limit);
  return rows.map(({ id, distance }) => [Number(id), distance]);
}

await migrate(first);
const inserted = await items().insert(data.items.map(row), ['id']);
report('ids', inserted.map(({ id }) => Number(id)));
const item = await items().where({ id: 7 }).first();
report('loaded', [item.name, pgvector.fromSql(item.embedding)]);
report('nearest', await nearest(10));
report('cosine', await nearest(5, items(), 'cosineDistance'));
await knex.transaction(async (trx) => {
  await trx.raw("SET LOCAL hnsw.iterative_scan = 'strict_order'");
  report('filtered', await nearest(5, items(trx).where({ category: 'b' }).andWhere('price', '<', 50)));
});
await knex.transaction(async (trx) => {
  report('updated', await items(trx).where({ category: 'a' }).increment('price', 100));
  await items(trx).where({ id: 3 }).forUpdate().first();
  await items(trx).where({ id: 3 }).update({ embedding: pgvector.toSql(data.query) });
});
report('total', Number((await items().sum('price as total').first()).total));
report('nearest_updated', await nearest(1));
await items().insert(data.upsert.map(row)).onConflict('id').merge(['name', 'price']);
const upserted = await items().whereIn('id', data.upsert.map(({ id }) => id)).orderBy('id');
report('upserted', upserted.map(({ id, name, price }) => [Number(id), name, price]));
report('deleted', await items().where({ category: 'c' }).delete());
const count = async (run = knex) => Number((await items(run).count('* as n').first()).n);
await undone(() => knex.transaction(async (trx) => {
  await items(trx).insert(row(data.new));
  await items(trx).where({ category: 'a' }).delete();
  report('inside', await count(trx));
  throw new Undo();
}));
report('rolled_back', await count());
report('duplicate', await violation(() => items().insert(row(data.upsert[0]))));
await migrate([...first, '3_rating']);
report('ratings', Number((await items().sum('rating as total').first()).total));
await knex.destroy();
