-- sparsevec and the distances of bit strings.
begin;
select no_plan();

select is(v::sparsevec::text, shown) from (values
    ('{1:1.5,3:3.5}/5', '{1:1.5,3:3.5}/5'), (' { 1 : 1.5 ,  3  :  3.5  } / 5 ', '{1:1.5,3:3.5}/5'), ('{}/1', '{}/1'), ('{ }/1', '{}/1'),
    ('{1:0,2:1,3:0}/3', '{2:1}/3'), ('{2:1,1:1}/2', '{1:1,2:1}/2'), ('{1000000000:-1e-30}/1000000000', '{1000000000:-1e-30}/1000000000')) t(v, shown);
create function bad(v text, state text, message text) returns text language sql as $$
    select throws_ok(format('select %L::sparsevec', v), state, message, v) $$;
select bad(v, '22P02', format('invalid input syntax for type sparsevec: "%s"', v))
    from unnest(array['', '[1]', '{', '{ ', '{:', '{,', '{}', '{}/', '{}/1a', '{:}/1', '{,}/1', '{1,}/1', '{:1}/1', '{1:}/1', '{1a:1}/1', '{1:1a}/1', '{1:1,}/1', '{1:1}/x']) v;
select bad(v, '22000', 'sparsevec must have at least 1 dimension') from unnest(array['{}/0', '{}/-1', '{}/-9223372036854775809', '{1:1}/0']) v;
select bad(v, '54000', 'sparsevec cannot have more than 1000000000 dimensions') from unnest(array['{}/1000000001', '{}/2147483648', '{}/9223372036854775808']) v;
select bad(v, '22000', 'sparsevec index out of bounds') from unnest(array['{0:1}/1', '{2:1}/1', '{-2147483649:1}/1', '{2147483648:1}/1', '{99999999999999999999:1}/5']) v;
select bad(v, '22000', 'sparsevec indices must not contain duplicates') from unnest(array['{1:1,1:1}/2', '{1:1,2:1,1:1}/2']) v;
select bad(v, '22003', format('"%s" is out of range for type sparsevec', substring(v from ':([^}]*)'))) from unnest(array['{1:4e38}/1', '{1:-4e38}/1', '{1:1e-46}/1']) v;
select bad('{1:NaN}/1', '22000', 'NaN not allowed in sparsevec');
select bad('{1:-inf}/1', '22000', 'infinite value not allowed in sparsevec');
select bad((select '{' || string_agg(i || ':1', ',') || '}/20000' from generate_series(1, 16001) i), '54000', 'sparsevec cannot have more than 16000 non-zero elements');
select is((select length(('{' || string_agg(i || ':1', ',') || '}/20000')::sparsevec::text) from generate_series(1, 16000) i) > 16000, true);
select throws_ok($$select '{}/3'::sparsevec(2)$$, '22000', 'expected 2 dimensions, not 3');
select throws_ok($$select '{}/3'::sparsevec(0)$$, '22023', 'dimensions for type sparsevec must be at least 1');
select throws_ok($$select '{}/3'::sparsevec(1000000001)$$, '22023', 'dimensions for type sparsevec cannot exceed 1000000000');

select is(sparsevec_send('{1:1,3:-2}/5'), '\x000000050000000200000000' || '\x0000000000000002'::bytea || float4send(1) || float4send(-2));
select is(pg_column_size('{1:1,3:2}/5'::sparsevec), 32);
select is((select typstorage::text from pg_type where oid = 'sparsevec'::regtype), 'e');

-- as the same vectors, dense
create temporary table pairs as
    select seed, array_agg(case when (i * 7 + seed * 3) % 5 < 2 then ((i * 37 + seed * 11) % 19) - 9 else 0 end order by i)::vector a,
           array_agg(case when (i * 3 + seed) % 4 < 2 then ((i * 53 + seed * 7) % 17) - 8 else 0 end order by i)::vector b
    from generate_series(1, 60) seed, generate_series(1, seed) i group by seed;
select is_empty($$select seed from pairs where (a::sparsevec <-> b::sparsevec) <> (a <-> b) or (a::sparsevec <#> b::sparsevec) <> (a <#> b)
                     or (a::sparsevec <+> b::sparsevec) <> (a <+> b) or abs((a::sparsevec <=> b::sparsevec) - (a <=> b)) > 1e-6
                     or l2_norm(a::sparsevec) <> vector_norm(a) or sparsevec_cmp(a::sparsevec, b::sparsevec) <> vector_cmp(a, b)
                     or a::sparsevec::vector <> a or (a::sparsevec = b::sparsevec) <> (a = b)
                     or sparsevec_l2_squared_distance(a::sparsevec, b::sparsevec) <> vector_l2_squared_distance(a, b)$$);
select is_empty($$select 1 from pairs x, pairs y where sparsevec_cmp(x.a::sparsevec, y.b::sparsevec) <> vector_cmp(x.a, y.b)$$);
select is('{}/2'::sparsevec <-> '{1:3,2:4}/2', 5::float8);
select is(inner_product('{1:1,3:3}/4'::sparsevec, '{2:2,4:4}/4'), 0::float8);
select is(cosine_distance('{1:1}/2'::sparsevec, '{}/2'), 'NaN'::float8);
select is(l1_distance('{1:3e38}/1'::sparsevec, '{1:-3e38}/1'), 'Infinity'::float8);
select throws_ok($$select '{1:1}/2'::sparsevec <-> '{1:1}/1'$$, '22000', 'different sparsevec dimensions 2 and 1');
select is(l2_normalize('{1:3,2:4}/2'::sparsevec)::text, '{1:0.6,2:0.8}/2');
select is(l2_normalize('{1:3e38,2:1e-37}/2'::sparsevec)::text, '{1:1}/2');
select is(l2_normalize('{}/2'::sparsevec)::text, '{}/2');

-- order and hash
create temporary table ordered (n int, v sparsevec);
insert into ordered values (1, '{1:-1}/3'), (2, '{}/2'), (3, '{}/3'), (4, '{3:1}/3'), (5, '{2:1}/3'), (6, '{1:1}/3'), (7, '{1:1}/1000000000');
select is_empty($$select * from ordered a, ordered b where (a.v < b.v) <> (a.n < b.n) or (a.v <= b.v) <> (a.n <= b.n) or (a.v = b.v) <> (a.n = b.n)
                  or (a.v <> b.v) <> (a.n <> b.n) or (a.v >= b.v) <> (a.n >= b.n) or (a.v > b.v) <> (a.n > b.n) or sparsevec_cmp(a.v, b.v) <> sign(a.n - b.n)$$);
select is((select count(distinct sparsevec_hash(v)) from ordered), 7::bigint);
select ok(sparsevec_hash_extended(v, 0) & 4294967295 = sparsevec_hash(v)::bigint & 4294967295) from ordered;
create unique index on ordered (v);
create index on ordered using hash (v);
set local enable_seqscan = off;
select is((select n from ordered where v = '{2:1}/3'), 5);

-- casts
select is(array[1, 0, 2]::sparsevec::text, '{1:1,3:2}/3');
select is('{1.5,0}'::numeric[]::sparsevec(2)::text, '{1:1.5}/2');
select is('[1,0,0.5]'::halfvec::sparsevec::text, '{1:1,3:0.5}/3');
select is('{1:1,3:0.5}/3'::sparsevec::halfvec::text, '[1,0,0.5]');
select throws_ok($$select '{1:1}/16001'::sparsevec::vector$$, '54000', 'vector cannot have more than 16000 dimensions');
select throws_ok($$select '{1:70000}/3'::sparsevec::halfvec$$, '22003', '"70000" is out of range for type halfvec');
select throws_ok($$select '{NULL}'::real[]::sparsevec$$, '22004', 'array must not contain nulls');
select throws_ok($$select '{Infinity}'::real[]::sparsevec$$, '22000', 'infinite value not allowed in sparsevec');
select throws_ok($$select array_fill(1, array[16001])::sparsevec$$, '54000', 'sparsevec cannot have more than 16000 non-zero elements');

-- damaged values
create cast (bytea as sparsevec) without function;
select throws_ok(format($$select %s from (values (%L::bytea::sparsevec)) t(v)$$, call, damaged), 'XX001', null, call || ' of ' || damaged)
    from unnest(array['v::text', 'v <-> v', 'v = v', 'sparsevec_send(v)', 'sparsevec_hash(v)', 'v::sparsevec(2)']) call,
         unnest(array['\x', '\x01', '\x010000000100000000000000', '\x00000000' || repeat('00', 8), '\x01000000ffffffff00000000',
                      '\x010000000000000000000000ff', '\x01000000ffffff1f00000000']) damaged;
select throws_ok($$select '\x02000000010000000000000005000000'::bytea::sparsevec::vector$$, 'XX001');
select throws_ok($$select ('\x020000000100000000000000' || '\x050000000000803f'::bytea)::bytea::sparsevec::vector$$, 'XX001', null, 'an index beyond the dimensions');

-- bit strings
select is(B'1100' <~> B'1010', 2::float8);
select is(B'1100' <%> B'1010', 1 - 1 / 3::float8);
select is(jaccard_distance(B'0000', B'0000'), 1::float8);
select is(hamming_distance(B'', B''), 0::float8);
select is(hamming_distance(repeat('10', 4000)::bit(8000), repeat('01', 4000)::bit(8000)), 8000::float8);
select is_empty($$select n from (select n, (n * 7919)::bit(32) || (n * 104729)::bit(32) a, (n * 1299709)::bit(32) || (n * 31)::bit(32) b from generate_series(1, 300) n) t
                  where (a <~> b) <> length(replace((a # b)::text, '0', ''))
                     or (a <%> b) <> 1 - length(replace((a & b)::text, '0', ''))::float8 / length(replace((a | b)::text, '0', ''))$$);
select throws_ok($$select B'11' <~> B'1'$$, '22000', 'different bit lengths 2 and 1');
select throws_ok($$select B'11' <%> B'1'$$, '22000', 'different bit lengths 2 and 1');

select * from finish();
rollback;
