# Sequel with pg, Debian's packages.
require "json"
require "sequel"

DB = Sequel.connect(ENV.fetch("DATABASE_URL"))
DATA = JSON.parse(File.read(ENV.fetch("APP_DATA")), symbolize_names: true)
QUERY = "[#{DATA[:query].join(",")}]"

def report(step, result)
  puts JSON.generate([step, result])
end

def row(item)
  item.merge(embedding: "[#{item[:embedding].join(",")}]")
end

def distance(operator)
  Sequel.lit("embedding #{operator} ?", QUERY)
end

def nearest(limit, items = DB[:items], operator = "<->")
  items.select(:id, distance(operator).as(:distance)).order(:distance).limit(limit).map { |found| [found[:id], found[:distance]] }
end

DB.transaction do
  DB.run("CREATE EXTENSION IF NOT EXISTS vector")
  DB.create_table(:items) do
    primary_key :id, type: :Bignum
    String :category, null: false, text: true, index: true
    String :name, null: false, text: true
    Integer :price, null: false, default: 0
    column :embedding, "vector(8)"
    index :embedding, name: :items_embedding, type: :hnsw, opclass: :vector_l2_ops
  end
  DB.run("SELECT panvel.create_distributed_table('items', 'id')") if ENV.key?("DISTRIBUTE")
end

items = DB[:items]
report("ids", items.returning(:id).multi_insert(DATA[:items].map { |item| row(item) }))
found = items.first(id: 7)
report("loaded", [found[:name], JSON.parse(found[:embedding])])
report("nearest", nearest(10))
report("cosine", nearest(5, items, "<=>"))
DB.transaction do
  DB.run("SET LOCAL hnsw.iterative_scan = 'strict_order'")
  report("filtered", nearest(5, items.where(category: "b") { price < 50 }))
end
DB.transaction do
  report("updated", items.where(category: "a").update(price: Sequel[:price] + 100))
  items.where(id: 3).for_update.first
  items.where(id: 3).update(embedding: QUERY)
end
report("total", items.sum(:price))
report("nearest_updated", nearest(1))
changes = { name: Sequel[:excluded][:name], price: Sequel[:excluded][:price] }
items.insert_conflict(target: :id, update: changes).multi_insert(DATA[:upsert].map { |item| row(item) })
ids = DATA[:upsert].map { |item| item[:id] }
report("upserted", items.where(id: ids).order(:id).select_map(%i[id name price]))
report("deleted", items.where(category: "c").delete)
DB.transaction do
  items.insert(row(DATA[:new]))
  items.where(category: "a").delete
  report("inside", items.count)
  raise Sequel::Rollback
end
report("rolled_back", items.count)
begin
  items.insert(row(DATA[:upsert].first))
rescue Sequel::UniqueConstraintViolation => error
  result = error.wrapped_exception.result
  report("duplicate", [PG::Result::PG_DIAG_SQLSTATE, PG::Result::PG_DIAG_CONSTRAINT_NAME].map { |field| result.error_field(field) })
end
DB.alter_table(:items) { add_column :rating, Integer, null: false, default: 3 }
report("ratings", items.sum(:rating))
