// Sequelize 6 with node-postgres and pgvector.
import { DataTypes, Op, Sequelize } from 'sequelize';
import pgvector from 'pgvector/sequelize';
import { data, databaseUrl, distribute, report, Undo, undone, violation } from './app.mjs';

pgvector.registerTypes(Sequelize);

// Sequelize learns a type's parser when it connects: the extension comes first, as from a migration's own process.
const migration = new Sequelize(databaseUrl, { logging: false });
await migration.query('CREATE EXTENSION IF NOT EXISTS vector');
await migration.close();

const sequelize = new Sequelize(databaseUrl, { logging: false });
const Item = sequelize.define('Item', {
  id: { type: DataTypes.BIGINT, primaryKey: true, autoIncrement: true, get() { return Number(this.getDataValue('id')); } },
  category: { type: DataTypes.TEXT, allowNull: false },
  name: { type: DataTypes.TEXT, allowNull: false },
  price: { type: DataTypes.INTEGER, allowNull: false, defaultValue: 0 },
  embedding: { type: DataTypes.VECTOR(8) },
}, {
  tableName: 'items',
  timestamps: false,
  indexes: [
    { fields: ['category'] },
    { name: 'items_embedding', fields: ['embedding'], using: 'hnsw', operator: 'vector_l2_ops' },
  ],
});

async function nearest(limit, options = {}, distance = pgvector.l2Distance) {
  const expression = distance('embedding', data.query, sequelize);
  const rows = await Item.findAll({ attributes: ['id', [expression, 'distance']], order: [expression], limit, ...options });
  return rows.map((row) => [row.id, row.get('distance')]);
}

await Item.sync();
if (distribute) await sequelize.query("SELECT panvel.create_distributed_table('items', 'id')");
const items = await Item.bulkCreate(data.items);
report('ids', items.map((item) => item.id));
const item = await Item.findByPk(7);
report('loaded', [item.name, item.embedding]);
report('nearest', await nearest(10));
report('cosine', await nearest(5, {}, pgvector.cosineDistance));
await sequelize.transaction(async (transaction) => {
  await sequelize.query("SET LOCAL hnsw.iterative_scan = 'strict_order'", { transaction });
  report('filtered', await nearest(5, { where: { category: 'b', price: { [Op.lt]: 50 } }, transaction }));
});
await sequelize.transaction(async (transaction) => {
  const [updated] = await Item.update({ price: sequelize.literal('price + 100') }, { where: { category: 'a' }, transaction });
  report('updated', updated);
  const third = await Item.findByPk(3, { transaction, lock: true });
  await third.update({ embedding: data.query }, { transaction });
});
report('total', await Item.sum('price'));
report('nearest_updated', await nearest(1));
await Item.bulkCreate(data.upsert, { updateOnDuplicate: ['name', 'price'] });
const upserted = await Item.findAll({ where: { id: data.upsert.map((row) => row.id) }, order: ['id'] });
report('upserted', upserted.map((row) => [row.id, row.name, row.price]));
report('deleted', await Item.destroy({ where: { category: 'c' } }));
await undone(() => sequelize.transaction(async (transaction) => {
  await Item.create(data.new, { transaction });
  await Item.destroy({ where: { category: 'a' }, transaction });
  report('inside', await Item.count({ transaction }));
  throw new Undo();
}));
report('rolled_back', await Item.count());
report('duplicate', await violation(() => Item.create(data.upsert[0])));
await sequelize.getQueryInterface().addColumn('items', 'rating', { type: DataTypes.INTEGER, allowNull: false, defaultValue: 3 });
const [[{ sum }]] = await sequelize.query('SELECT sum(rating)::int FROM items');
report('ratings', sum);
await sequelize.close();
