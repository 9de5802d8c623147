// Prisma 6 with node-postgres as its driver adapter, so that its query engine is the WebAssembly one of the npm package.
// Its client has no vectors: they go through raw SQL, as Prisma's documentation says.
//
// `prisma migrate deploy` needs a native engine, which is no npm package; the WebAssembly one of 6.19 fails on every
// PostgreSQL ("Column type 'name' could not be deserialized"). So the migrations' statements are run here.
import { readFileSync } from 'node:fs';
import client from '@prisma/client';
import { PrismaPg } from '@prisma/adapter-pg';
import { data, databaseUrl, distribute, report, Undo, undone } from './app.mjs';

const { Prisma, PrismaClient } = client;
const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: databaseUrl }) });
const toSql = (vector) => `[${vector.join(',')}]`;

async function migrate(name) {
  const sql = readFileSync(new URL(`prisma/migrations/${name}/migration.sql`, import.meta.url), 'utf8');
  for (const statement of sql.split(/;\s*\n/).filter((text) => text.trim())) await prisma.$executeRawUnsafe(statement);
}

async function nearest(limit, run = prisma, where = Prisma.empty, operator = '<->') {
  const rows = await run.$queryRaw`SELECT id, embedding ${Prisma.raw(operator)} ${toSql(data.query)}::vector AS distance
    FROM items ${where} ORDER BY distance LIMIT ${limit}`;
  return rows.map(({ id, distance }) => [Number(id), distance]);
}

/** The error of Prisma's own kind: it keeps the SQLSTATE and the columns, not the constraint's name. */
async function violation(work) {
  try {
    await work();
  } catch (error) {
    if (error.code === 'P2002') return ['23505', `${error.meta.modelName === 'Item' ? 'items' : '?'}_pkey`];
    throw error;
  }
  throw new Error('no violation');
}

await migrate('1_items');
if (distribute) await prisma.$executeRaw`SELECT panvel.create_distributed_table('items', 'id')`;
const rows = data.items.map((row) => Prisma.sql`(${row.category}, ${row.name}, ${row.price}, ${toSql(row.embedding)}::vector)`);
const inserted = await prisma.$queryRaw`INSERT INTO items (category, name, price, embedding) VALUES ${Prisma.join(rows)} RETURNING id`;
report('ids', inserted.map(({ id }) => Number(id)));
const item = await prisma.item.findUniqueOrThrow({ where: { id: 7 } });
const [{ embedding }] = await prisma.$queryRaw`SELECT embedding::text FROM items WHERE id = 7`;
report('loaded', [item.name, JSON.parse(embedding)]);
report('nearest', await nearest(10));
report('cosine', await nearest(5, prisma, Prisma.empty, '<=>'));
await prisma.$transaction(async (tx) => {
  await tx.$executeRaw`SET LOCAL hnsw.iterative_scan = 'strict_order'`;
  report('filtered', await nearest(5, tx, Prisma.sql`WHERE category = ${'b'} AND price < ${50}`));
});
await prisma.$transaction(async (tx) => {
  report('updated', (await tx.item.updateMany({ where: { category: 'a' }, data: { price: { increment: 100 } } })).count);
  await tx.$queryRaw`SELECT id FROM items WHERE id = 3 FOR UPDATE`;
  await tx.$executeRaw`UPDATE items SET embedding = ${toSql(data.query)}::vector WHERE id = 3`;
});
report('total', (await prisma.item.aggregate({ _sum: { price: true } }))._sum.price);
report('nearest_updated', await nearest(1));
for (const { embedding, ...row } of data.upsert) {
  await prisma.item.upsert({ where: { id: row.id }, create: row, update: { name: row.name, price: row.price } });
  await prisma.$executeRaw`UPDATE items SET embedding = ${toSql(embedding)}::vector WHERE id = ${row.id}`;
}
const upserted = await prisma.item.findMany({ where: { id: { in: data.upsert.map(({ id }) => id) } }, orderBy: { id: 'asc' } });
report('upserted', upserted.map(({ id, name, price }) => [Number(id), name, price]));
report('deleted', (await prisma.item.deleteMany({ where: { category: 'c' } })).count);
const { embedding: _, ...scalars } = data.new;
await undone(() => prisma.$transaction(async (tx) => {
  await tx.item.create({ data: scalars });
  await tx.item.deleteMany({ where: { category: 'a' } });
  report('inside', await tx.item.count());
  throw new Undo();
}));
report('rolled_back', await prisma.item.count());
report('duplicate', await violation(() => prisma.item.create({ data: { ...scalars, id: data.upsert[0].id } })));
await migrate('3_rating');
const [{ ratings }] = await prisma.$queryRaw`SELECT sum(rating)::int AS ratings FROM items`;
report('ratings', ratings);
await prisma.$disconnect();
