// Drizzle with node-postgres; its own vector type, distances and migrator.
import { and, asc, cosineDistance, eq, inArray, l2Distance, lt, sql, sum } from 'drizzle-orm';
import { drizzle } from 'drizzle-orm/node-postgres';
import { migrate } from 'drizzle-orm/node-postgres/migrator';
import { bigserial, index, integer, pgTable, text, vector } from 'drizzle-orm/pg-core';
import pg from 'pg';
import { data, databaseUrl, distribute, report, Undo, undone, violation } from './app.mjs';

const items = pgTable('items', {
  id: bigserial('id', { mode: 'number' }).primaryKey(),
  category: text('category').notNull(),
  name: text('name').notNull(),
  price: integer('price').notNull().default(0),
  embedding: vector('embedding', { dimensions: 8 }),
}, (table) => [
  index('items_category').on(table.category),
  index('items_embedding').using('hnsw', table.embedding.op('vector_l2_ops')),
]);
const pool = new pg.Pool({ connectionString: databaseUrl });
const db = drizzle({ client: pool });

async function nearest(limit, run = db, where = undefined, distance = l2Distance) {
  const found = distance(items.embedding, data.query);
  const rows = await run.select({ id: items.id, distance: found }).from(items).where(where).orderBy(asc(found)).limit(limit);
  return rows.map(({ id, distance }) => [id, distance]);
}

await migrate(db, { migrationsFolder: new URL('drizzle', import.meta.url).pathname });
if (distribute) await db.execute(sql`SELECT panvel.create_distributed_table('items', 'id')`);
const inserted = await db.insert(items).values(data.items).returning({ id: items.id });
report('ids', inserted.map(({ id }) => id));
const [item] = await db.select().from(items).where(eq(items.id, 7));
report('loaded', [item.name, item.embedding]);
report('nearest', await nearest(10));
report('cosine', await nearest(5, db, undefined, cosineDistance));
await db.transaction(async (tx) => {
  await tx.execute(sql`SET LOCAL hnsw.iterative_scan = 'strict_order'`);
  report('filtered', await nearest(5, tx, and(eq(items.category, 'b'), lt(items.price, 50))));
});
await db.transaction(async (tx) => {
  const updated = await tx.update(items).set({ price: sql`${items.price} + 100` }).where(eq(items.category, 'a'));
  report('updated', updated.rowCount);
  await tx.select().from(items).where(eq(items.id, 3)).for('update');
  await tx.update(items).set({ embedding: data.query }).where(eq(items.id, 3));
});
const [{ total }] = await db.select({ total: sum(items.price) }).from(items);
report('total', Number(total));
report('nearest_updated', await nearest(1));
await db.insert(items).values(data.upsert).onConflictDoUpdate({
  target: items.id,
  set: { name: sql`excluded.name`, price: sql`excluded.price` },
});
const ids = data.upsert.map(({ id }) => id);
const upserted = await db.select().from(items).where(inArray(items.id, ids)).orderBy(items.id);
report('upserted', upserted.map(({ id, name, price }) => [id, name, price]));
report('deleted', (await db.delete(items).where(eq(items.category, 'c'))).rowCount);
await undone(() => db.transaction(async (tx) => {
  await tx.insert(items).values(data.new);
  await tx.delete(items).where(eq(items.category, 'a'));
  report('inside', await tx.$count(items));
  throw new Undo();
}));
report('rolled_back', await db.$count(items));
report('duplicate', await violation(() => db.insert(items).values(data.upsert[0])));
await db.execute(sql`ALTER TABLE ${items} ADD COLUMN "rating" integer DEFAULT 3 NOT NULL`);
const { rows: [{ ratings }] } = await db.execute(sql`SELECT sum(rating)::int AS ratings FROM ${items}`);
report('ratings', ratings);
await pool.end();
