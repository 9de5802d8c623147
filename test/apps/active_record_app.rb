# Active Record with pg, Debian's packages; vector as an attribute type of the app's own.
require "active_record"
require "json"

DATA = JSON.parse(File.read(ENV.fetch("APP_DATA")))
ActiveRecord::Base.establish_connection(ENV.fetch("DATABASE_URL").sub("postgres://", "postgresql://"))
ActiveRecord::Migration.verbose = false

class VectorType < ActiveRecord::Type::Value
  def type = :vector
  def cast_value(value) = value.is_a?(String) ? JSON.parse(value) : value
  def serialize(value) = value && "[#{value.join(",")}]"
end

class Item < ActiveRecord::Base
  attribute :embedding, VectorType.new

  def self.distance(operator)
    Arel.sql(sanitize_sql_array(["embedding #{operator} ?", "[#{DATA["query"].join(",")}]"]))
  end

  def self.nearest(limit, operator = "<->")
    order(distance(operator)).limit(limit).pluck(:id, distance(operator))
  end
end

class CreateItems < ActiveRecord::Migration[6.1]
  def change
    enable_extension "vector"
    create_table :items do |t|
      t.text :category, null: false, index: true
      t.text :name, null: false
      t.integer :price, null: false, default: 0
      t.column :embedding, "vector(8)"
    end
    add_index :items, :embedding, name: :items_embedding, using: :hnsw, opclass: :vector_l2_ops
    execute "SELECT panvel.create_distributed_table('items', 'id')" if ENV.key?("DISTRIBUTE")
  end
end

class AddRating < ActiveRecord::Migration[6.1]
  def change
    add_column :items, :rating, :integer, null: false, default: 3
  end
end

def report(step, result)
  puts JSON.generate([step, result])
end

def rows(items)
  items.map { |item| item.dup }
end

CreateItems.migrate(:up)
Item.reset_column_information
report("ids", Item.insert_all!(rows(DATA["items"]), returning: :id).rows.flatten)
item = Item.find(7)
report("loaded", [item.name, item.embedding])
report("nearest", Item.nearest(10))
report("cosine", Item.nearest(5, "<=>"))
Item.transaction do
  Item.connection.execute("SET LOCAL hnsw.iterative_scan = 'strict_order'")
  report("filtered", Item.where(category: "b").where("price < ?", 50).nearest(5))
end
Item.transaction do
  report("updated", Item.where(category: "a").update_all("price = price + 100"))
  third = Item.lock.find(3)
  third.update!(embedding: DATA["query"])
end
report("total", Item.sum(:price))
report("nearest_updated", Item.nearest(1))
Item.upsert_all(rows(DATA["upsert"]), unique_by: :id)
ids = DATA["upsert"].map { |row| row["id"] }
report("upserted", Item.where(id: ids).order(:id).pluck(:id, :name, :price))
report("deleted", Item.where(category: "c").delete_all)
Item.transaction do
  Item.create!(DATA["new"])
  Item.where(category: "a").delete_all
  report("inside", Item.count)
  raise ActiveRecord::Rollback
end
report("rolled_back", Item.count)
begin
  Item.create!(DATA["upsert"].first)
rescue ActiveRecord::RecordNotUnique => error
  result = error.cause.result
  report("duplicate", [PG::Result::PG_DIAG_SQLSTATE, PG::Result::PG_DIAG_CONSTRAINT_NAME].map { |field| result.error_field(field) })
end
AddRating.migrate(:up)
Item.reset_column_information
report("ratings", Item.sum(:rating))
