CREATE EXTENSION IF NOT EXISTS vector;
--> statement-breakpoint
CREATE TABLE "items" (
	"id" bigserial PRIMARY KEY NOT NULL,
	"category" text NOT NULL,
	"name" text NOT NULL,
	"price" integer DEFAULT 0 NOT NULL,
	"embedding" vector(8)
);
--> statement-breakpoint
CREATE INDEX "items_category" ON "items" USING btree ("category");
--> statement-breakpoint
CREATE INDEX "items_embedding" ON "items" USING hnsw ("embedding" vector_l2_ops);
