CREATE EXTENSION IF NOT EXISTS vector;
CREATE TABLE "items" (
    "id" BIGSERIAL NOT NULL,
    "category" TEXT NOT NULL,
    "name" TEXT NOT NULL,
    "price" INTEGER NOT NULL DEFAULT 0,
    "embedding" vector(8),
    CONSTRAINT "items_pkey" PRIMARY KEY ("id")
);
CREATE INDEX "items_category_idx" ON "items"("category");
CREATE INDEX "items_embedding" ON "items" USING hnsw ("embedding" vector_l2_ops);
