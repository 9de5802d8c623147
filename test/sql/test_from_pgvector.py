"""A dump of a database with pgvector restores: what pg_dump writes of it, as it writes it."""

DUMP = r"""
SET statement_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET row_security = off;

CREATE EXTENSION IF NOT EXISTS vector WITH SCHEMA public;
COMMENT ON EXTENSION vector IS 'vector data type and ivfflat and hnsw access methods';

SET default_tablespace = '';
SET default_table_access_method = heap;

CREATE TABLE public.items (
    id bigint NOT NULL,
    embedding public.vector(3),
    half public.halfvec(3) DEFAULT '[0,0,1]'::public.halfvec,
    sparse public.sparsevec(5),
    bits bit(4),
    CONSTRAINT near CHECK (((embedding OPERATOR(public.<->) '[0,0,0]'::public.vector) < (100)::double precision))
);
CREATE VIEW public.averages AS
 SELECT public.avg(items.embedding) AS avg, public.sum(items.half) AS sum
   FROM public.items;
CREATE FUNCTION public.match(query public.vector) RETURNS bigint LANGUAGE sql AS $$
    select id from public.items order by embedding operator(public.<=>) query limit 1 $$;

COPY public.items (id, embedding, half, sparse, bits) FROM stdin;
1	[1,2,3]	[1,2,3]	{1:1,5:2}/5	1010
2	[4,5,6]	[0.5,-1,65504]	{}/5	1111
3	\N	\N	\N	\N
\.

ALTER TABLE ONLY public.items ADD CONSTRAINT items_pkey PRIMARY KEY (id);
CREATE INDEX items_embedding_idx ON public.items USING hnsw (embedding public.vector_l2_ops);
CREATE INDEX items_embedding_idx1 ON public.items USING hnsw (embedding public.vector_cosine_ops) WITH (m='24', ef_construction='100');
CREATE INDEX items_half_idx ON public.items USING hnsw (half public.halfvec_ip_ops);
CREATE INDEX items_sparse_idx ON public.items USING hnsw (sparse public.sparsevec_l1_ops);
CREATE INDEX items_bits_idx ON public.items USING hnsw (bits public.bit_hamming_ops);
CREATE INDEX items_half_expression ON public.items USING hnsw (((embedding)::public.halfvec(3)) public.halfvec_l2_ops);
CREATE INDEX items_quantized ON public.items USING hnsw (((public.binary_quantize(embedding))::bit(3)) public.bit_jaccard_ops);
CREATE INDEX items_btree ON public.items USING btree (embedding);
"""


def test_a_dump_restores(db):
    db.execute("drop extension vector")
    db.psql(DUMP)
    assert db.query("select id, embedding::text, half::text, sparse::text, bits::text from items order by id") == [
        (1, "[1,2,3]", "[1,2,3]", "{1:1,5:2}/5", "1010"),
        (2, "[4,5,6]", "[0.5,-1,65504]", "{}/5", "1111"),
        (3, None, None, None, None)]
    assert db.query("select avg::text, sum::text from averages") == [("[2.5,3.5,4.5]", "[1.5,1,65504]")]
    assert db.value("select match('[4,5,6.5]')") == 2
    assert db.value("select count(*) from pg_class c, lateral hnsw_index_check(c.oid) where c.relam = "
                    "(select oid from pg_am where amname = 'hnsw') and c.relkind = 'i'") == 0


def test_the_version_is_one_that_apps_accept(db):
    version = db.value("select extversion from pg_extension where extname = 'vector'")
    assert tuple(map(int, version.split("."))) >= (0, 8, 0)
