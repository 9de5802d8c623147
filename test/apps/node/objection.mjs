// Objection 3 on Knex with node-postgres and pgvector.
import Knex from 'knex';
import { Model, raw } from 'objection';
import pgvector from 'pgvector/objection';
import 'pgvector/knex';
import { data, databaseUrl, distribute, report, Undo, undone, violation } from './app.mjs';

const knex = Knex({ client: 'pg', connection: databaseUrl });

class Item extends Model {
  static tableName = 'items';

  $parseDatabaseJson(json) {
    const row = super.$parseDatabaseJson(json);
    if (row.embedding) row.embedding = pgvector.fromSql(row.embedding);
    if (row.id) row.id = Number(row.id);
    return row;
  }

  $formatDatabaseJson(json) {
    const row = super.$formatDatabaseJson(json);
    if (Array.isArray(row.embedding)) row.embedding = pgvector.toSql(row.embedding);
    return row;
  }
}
Model.knex(knex);

async function migrate() {
  await knex.schema.enableExtension('vector');
  await knex.schema.createTable('items', (table) => {
    table.bigIncrements('id');
    table.text('category').notNullable().index();
    table.text('name').notNullable();
    table.integer('price').notNullable().defaultTo(0);
    table.vector('embedding', 8);
    table.index(knex.raw('embedding vector_l2_ops'), 'items_embedding', 'hnsw');
  });
  if (distribute) await knex.raw("SELECT panvel.create_distributed_table('items', 'id')");
}

async function nearest(limit, query = Item.query(), distance = pgvector.l2Distance) {
  const expression = distance('embedding', data.query);
  const rows = await query.select('id', expression.as('distance')).orderBy('distance').limit(limit);
  return rows.map(({ id, distance }) => [id, distance]);
}

await migrate();
const inserted = await Item.query().insert(data.items);
report('ids', inserted.map(({ id }) => Number(id)));
const item = await Item.query().findById(7);
report('loaded', [item.name, item.embedding]);
report('nearest', await nearest(10));
report('cosine', await nearest(5, Item.query(), pgvector.cosineDistance));
await Item.transaction(async (trx) => {
  await trx.raw("SET LOCAL hnsw.iterative_scan = 'strict_order'");
  report('filtered', await nearest(5, Item.query(trx).where({ category: 'b' }).where('price', '<', 50)));
});
await Item.transaction(async (trx) => {
  report('updated', await Item.query(trx).where({ category: 'a' }).patch({ price: raw('price + 100') }));
  const third = await Item.query(trx).findById(3).forUpdate();
  await third.$query(trx).patch({ embedding: data.query });
});
report('total', Number((await Item.query().sum('price as total').first()).total));
report('nearest_updated', await nearest(1));
await Item.query().insert(data.upsert).onConflict('id').merge(['name', 'price']);
const upserted = await Item.query().findByIds(data.upsert.map(({ id }) => id)).orderBy('id');
report('upserted', upserted.map(({ id, name, price }) => [id, name, price]));
report('deleted', await Item.query().delete().where({ category: 'c' }));
await undone(() => Item.transaction(async (trx) => {
  await Item.query(trx).insert(data.new);
  await Item.query(trx).delete().where({ category: 'a' });
  report('inside', await Item.query(trx).resultSize());
  throw new Undo();
}));
report('rolled_back', await Item.query().resultSize());
report('duplicate', await violation(() => Item.query().insert(data.upsert[0])));
await knex.schema.alterTable('items', (table) => table.integer('rating').notNullable().defaultTo(3));
report('ratings', Number((await Item.query().sum('rating as total').first()).total));
await knex.destroy();
