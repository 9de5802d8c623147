-- Distances, arithmetic, comparison, hash and aggregates of vector.
begin;
select no_plan();

create function near(a float8, b float8, what text) returns text language sql as $$
    select ok(abs(a - b) <= 1e-6 * (1 + abs(b)), format('%s: %s is near %s', what, a, b)) $$;

-- distances
select is('[0,0]'::vector <-> '[3,4]', 5::float8);
select is('[1,2]'::vector <#> '[3,4]', -11::float8);
select is('[1,2]'::vector <=> '[2,4]', 0::float8);
select is('[0,0]'::vector <+> '[3,4]', 7::float8);
select is(l2_distance('[1,1,1,1,1,1,1,1,1]'::vector, '[1,1,1,1,1,1,1,4,5]'), 5::float8);
select is(vector_l2_squared_distance('[0,0]', '[3,4]'), 25::float8);
select is(inner_product('[1,1,1,1,1,1,1,1,1]'::vector, '[1,2,3,4,5,6,7,8,9]'), 45::float8);
select is(vector_negative_inner_product('[1,2]', '[3,4]'), -11::float8);
select is(l1_distance('[1,2,3,4,5,6,7,8,9]'::vector, '[0,3,2,5,4,7,6,9,8]'), 9::float8);
select is(cosine_distance('[1,0]'::vector, '[0,2]'), 1::float8);
select is(cosine_distance('[1,1]'::vector, '[1.1,1.1]'), 0::float8);
select is(cosine_distance('[1,1]'::vector, '[-1.1,-1.1]'), 2::float8);
select is(cosine_distance('[1,2,3,4,5,6,7,8,9]'::vector, '[-1,-2,-3,-4,-5,-6,-7,-8,-9]'), 2::float8);
select is(cosine_distance('[1,2]'::vector, '[0,0]'), 'NaN'::float8);
select is(vector_spherical_distance('[1,0]', '[0,1]'), 0.5::float8);
select is(vector_spherical_distance('[2,0]', '[1,0]'), 0::float8);
select is(vector_spherical_distance('[2,0]', '[-1,0]'), 1::float8);
select is(l2_distance('[3e38]'::vector, '[-3e38]'), 'Infinity'::float8);
select is(l1_distance('[3e38]'::vector, '[-3e38]'), 'Infinity'::float8);
select is(inner_product('[3e38]'::vector, '[3e38]'), 'Infinity'::float8);
select is(cosine_distance('[3e38]'::vector, '[3e38]'), 'NaN'::float8);
select is(null::vector <-> '[1]', null);
select throws_ok(format($$select %s('[1,2]'::vector, '[3]')$$, f), '22000', 'different vector dimensions 2 and 1', f)
    from unnest(array['l2_distance', 'inner_product', 'cosine_distance', 'l1_distance', 'vector_l2_squared_distance',
                      'vector_negative_inner_product', 'vector_spherical_distance']) f;
select set_eq($$select oprname::text, (select oprname::text from pg_operator c where c.oid = o.oprcom) as commutator from pg_operator o where oprresult = 'float8'::regtype and oprleft = 'vector'::regtype and oprname in ('<->', '<#>', '<=>', '<+>')$$,
              $$values ('<->', '<->'), ('<#>', '<#>'), ('<=>', '<=>'), ('<+>', '<+>')$$);

-- every SIMD path that this machine runs gives the same answers, from memory and from the heap
create temporary table pairs as
    select dim, array_agg(((i * 37 + dim * 11) % 19) - 9 order by i)::vector a, array_agg(((i * 53 + dim * 7) % 17) - 8 order by i)::vector b
    from generate_series(1, 130) dim, generate_series(1, dim) i group by dim
    union all
    select dim, array_agg(((i * 37 + dim * 11) % 19) - 9 order by i)::vector a, array_agg(((i * 53 + dim * 7) % 17) - 8 order by i)::vector b
    from unnest(array[784, 1536, 16000]) dim, generate_series(1, dim) i group by dim;
create function distances() returns table (dim int, l2 float8, ip float8, cosine float8, l1 float8) language sql as $$
    select dim, round((a <-> b)::numeric, 4)::float8, a <#> b, round((a <=> b)::numeric, 5)::float8, a <+> b from pairs $$;
create temporary table expected as
    select dim, round(sqrt(sum((x - y) ^ 2))::numeric, 4)::float8 l2, -sum(x * y)::float8 ip,
           round((1 - sum(x * y) / nullif(sqrt(sum(x * x) * sum(y * y)), 0))::numeric, 5)::float8 cosine, sum(abs(x - y))::float8 l1
    from (select dim, unnest(a::real[])::float8 x, unnest(b::real[])::float8 y from pairs) s group by dim;
update expected set cosine = 'NaN' where cosine is null;
create function force_simd(path text) returns bool language plpgsql as $$
    begin
        perform set_config('vector.simd', path, true);
        return true;
    exception when feature_not_supported then
        return false;
    end $$;
create function check_simd(path text) returns setof text language plpgsql as $$
    begin
        if force_simd(path) then
            return next is(current_setting('vector.simd'), path);
            return next results_eq('select * from distances() order by dim', 'select * from expected order by dim', path || ' distances');
        else
            return next skip(path || ' does not run here', 2);
        end if;
    end $$;
select check_simd(path) from unnest(array['auto', 'avx512', 'avx2', 'portable']) path;
select throws_ok($$set vector.simd = 'sse9'$$, '22023', 'invalid value for parameter "vector.simd": "sse9"');
reset vector.simd;
select throws_ok($$set vector.no_such_setting = 1$$, '42602');

-- arithmetic
select is(('[1,2,3]'::vector + '[4,5,6]')::text, '[5,7,9]');
select is(('[1,2,3]'::vector - '[4,5,6]')::text, '[-3,-3,-3]');
select is(('[1,2,3]'::vector * '[4,5,6]')::text, '[4,10,18]');
select is(('[1,2,3]'::vector || '[4,5]')::text, '[1,2,3,4,5]');
select is(('[0,1e-38]'::vector * '[1e-38,0]')::text, '[0,0]');
select throws_ok($$select '[3e38]'::vector + '[3e38]'$$, '22003', 'value out of range: overflow');
select throws_ok($$select '[-3e38]'::vector - '[3e38]'$$, '22003', 'value out of range: overflow');
select throws_ok($$select '[1e37]'::vector * '[1e37]'$$, '22003', 'value out of range: overflow');
select throws_ok($$select '[1e-37]'::vector * '[1e-37]'$$, '22003', 'value out of range: underflow');
select throws_ok(format($$select '[1,2]'::vector %s '[3]'$$, o), '22000', 'different vector dimensions 2 and 1', o) from unnest(array['+', '-', '*']) o;
select throws_ok($$select array_fill(0, array[16000])::vector || '[1]'$$, '54000', 'vector cannot have more than 16000 dimensions');
select is((a + b)::real[], (select array_agg(x + y order by n) from unnest(a::real[], b::real[]) with ordinality u(x, y, n))) from pairs where dim in (1, 29, 30, 784);
create temporary table operands as select dim, a, b, a::text a_text, b::text b_text from pairs where dim in (29, 31, 100, 784);
select is((select count(a + b) from operands), 4::bigint);
select ok(a::text = a_text and b::text = b_text, 'addition leaves its operands: ' || dim) from operands;
select is((select count(a - b) from operands), 4::bigint);
select ok(a::text = a_text and b::text = b_text, 'subtraction leaves its operands: ' || dim) from operands;

-- parts and norms
select is(vector_dims('[1,2,3]'::vector), 3);
select is(vector_norm('[3,4]'), 5::float8);
select is(vector_norm('[3e37,4e37]')::real, 5e37::real);
select is(vector_norm('[0,0]'), 0::float8);
select is(l2_normalize('[3,4]'::vector)::text, '[0.6,0.8]');
select is(l2_normalize('[0,0.1]'::vector)::text, '[0,1]');
select is(l2_normalize('[0,0]'::vector)::text, '[0,0]');
select is(l2_normalize('[3e38]'::vector)::text, '[1]');
select is(l2_normalize('[1e-45,0]'::vector)::text, '[1,0]');
select is(binary_quantize('[1,0,-1]'::vector), B'100');
select is(binary_quantize('[0,0.1,-0.2,-0.3,0.4,0.5,0.6,-0.7,0.8,-0.9,1]'::vector), B'01001110101');
select is(binary_quantize('[1,2,3,-4,5,6,-7,8,1,-2,-3,4,5,-6,7,8,-1,2,3]'::vector), B'1110110110011011011');
select is(length(binary_quantize(array_fill(1, array[16000])::vector)), 16000);
select is(subvector('[1,2,3,4,5]'::vector, 1, 3)::text, '[1,2,3]');
select is(subvector('[1,2,3,4,5]'::vector, 3, 2)::text, '[3,4]');
select is(subvector('[1,2,3,4,5]'::vector, -1, 3)::text, '[1]');
select is(subvector('[1,2,3,4,5]'::vector, 3, 9)::text, '[3,4,5]');
select is(subvector('[1,2,3,4,5]'::vector, 3, 2147483647)::text, '[3,4,5]');
select is(subvector('[1,2,3,4,5]'::vector, -2147483644, 2147483647)::text, '[1,2]');
select throws_ok(format($$select subvector('[1,2,3,4,5]'::vector, %s)$$, a), '22000', 'vector must have at least 1 dimension', a)
    from unnest(array['1, 0', '3, -1', '-1, 2', '6, 1', '2147483647, 10', '-2147483648, -2147483648', '-2147483648, 2147483647']) a;

-- comparison: element by element, then length
create temporary table ordered (n int, v vector);
insert into ordered values (1, '[-2,5]'), (2, '[1]'), (3, '[1,2]'), (4, '[1,2,3]'), (5, '[1,3]'), (6, '[2]'), (7, '[10,-1]');
select results_eq('select n from ordered order by v', 'select n from ordered order by n');
select results_eq('select n from ordered order by v desc', 'select n from ordered order by n desc');
select is_empty($$select * from ordered a, ordered b where (a.v < b.v) <> (a.n < b.n) or (a.v <= b.v) <> (a.n <= b.n) or (a.v = b.v) <> (a.n = b.n)
                  or (a.v <> b.v) <> (a.n <> b.n) or (a.v >= b.v) <> (a.n >= b.n) or (a.v > b.v) <> (a.n > b.n) or vector_cmp(a.v, b.v) <> sign(a.n - b.n)$$);
select ok('[0]'::vector = '[-0]' and vector_cmp('[0]', '[-0]') = 0);

-- hash agrees with =
select is(vector_hash('[0,1,0]'), vector_hash('[-0,1,-0]'));
select is(vector_hash_extended('[0,1,0]', 7), vector_hash_extended('[-0,1,-0]', 7));
select ok(vector_hash_extended(v, 0) & 4294967295 = vector_hash(v)::bigint & 4294967295, 'lower half of the extended hash') from ordered;
select ok(vector_hash_extended(v, 0) <> vector_hash_extended(v, 1)) from ordered;
select is((select count(distinct vector_hash(v)) from ordered), 7::bigint);
select is((select count(distinct vector_hash(a)) from pairs where dim > 5), (select count(distinct a) from pairs where dim > 5));
-- Nodes of different versions route rows by these values: they must never change.
select is(vector_hash_extended('[1,2,3]', 0), (-4624425145219813914)::bigint);
select is((select vector_hash_extended(array_agg(i)::vector, 0) from generate_series(1, 784) i), (-7914169132667417855)::bigint);

-- btree and hash: index, merge and hash joins, DISTINCT, GROUP BY
create temporary table items as select i id, array[i % 10, i % 7, case when i % 2 = 0 then 0 else '-0'::float4 end]::real[]::vector v from generate_series(1, 1000) i;
create index on items (v);
create index on items using hash (v);
analyze items;
create function plan_of(query text) returns text language plpgsql as $$
    declare line text; result text := '';
    begin
        for line in execute 'explain (costs off) ' || query loop result := result || line || E'\n'; end loop;
        return result;
    end $$;
set local enable_seqscan = off;
set local enable_bitmapscan = off;
select matches(plan_of($$select * from items where v < '[1]'$$), 'Index Scan using items_v_idx ');
select is((select count(*) from items where v < '[1]'), 100::bigint);
drop index items_v_idx;
select matches(plan_of($$select * from items where v = '[3,3,0]'$$), 'Index Scan using items_v_idx1 ');
select is((select count(*) from items where v = '[3,3,0]'), (select count(*) from items where id % 10 = 3 and id % 7 = 3));
reset enable_seqscan;
reset enable_bitmapscan;
create function check_join(method text) returns setof text language plpgsql as $$
    begin
        perform set_config('enable_' || other, 'off', true) from unnest(array['nestloop', 'hashjoin', 'mergejoin']) other where other <> method;
        return next matches(plan_of('select count(*) from items a join items b using (v)'), case method when 'nestloop' then 'Nested Loop' when 'hashjoin' then 'Hash Join' else 'Merge Join' end);
        return next is((select count(*) from items a join items b using (v)), (select sum(n * n)::bigint from (select count(*) n from items group by id % 10, id % 7) s), method);
        perform set_config('enable_' || other, 'on', true) from unnest(array['nestloop', 'hashjoin', 'mergejoin']) other;
    end $$;
select check_join(method) from unnest(array['nestloop', 'hashjoin', 'mergejoin']) method;
select matches(plan_of('select v from items group by v'), 'HashAggregate');
select is((select count(*) from (select v from items group by v) s), 70::bigint);
set local enable_hashagg = off;
select doesnt_match(plan_of('select v from items group by v'), 'HashAggregate');
select is((select count(*) from (select v from items group by v) s), 70::bigint);
reset enable_hashagg;
select is((select count(distinct v) from items), 70::bigint);
create temporary table keyed (v vector(2) primary key);
insert into keyed values ('[1,2]'), ('[1,3]');
select throws_ok($$insert into keyed values ('[1,2]')$$, '23505');

-- aggregates
select is((select avg(v)::text from unnest(array['[1,2,3]'::vector, '[3,5,7]', null]) v), '[2,3.5,5]');
select is((select sum(v)::text from unnest(array['[1,2,3]'::vector, '[3,5,7]', null]) v), '[4,7,10]');
select is((select avg(v)::text from unnest(array[]::vector[]) v), null);
select is((select sum(v)::text from unnest(array[]::vector[]) v), null);
select is((select avg(v)::text from unnest(array[null]::vector[]) v), null);
select is((select avg(v)::text from unnest(array['[3e38]'::vector, '[3e38]']) v), '[3e+38]');
select throws_ok($$select avg(v) from unnest(array['[1,2]'::vector, '[3]']) v$$, '22000', 'expected 2 dimensions, not 1');
select throws_ok($$select sum(v) from unnest(array['[1,2]'::vector, '[3]']) v$$, '22000', 'different vector dimensions 2 and 1');
select throws_ok($$select sum(v) from unnest(array['[3e38]'::vector, '[3e38]']) v$$, '22003', 'value out of range: overflow');
select is(vector_accum('{0}', '[1,2,3]'), '{1,1,2,3}'::float8[]);
select is(vector_accum('{0,0,0,0}', '[1,2,3]'), '{1,1,2,3}'::float8[]);
select is(vector_accum('{1,5,6}', '[1,2]'), '{2,6,8}'::float8[]);
select is(vector_combine('{1,2}', '{3,4}'), '{4,6}'::float8[]);
select is(vector_combine('{0}', '{3,4}'), '{3,4}'::float8[]);
select is(vector_combine('{3,4}', '{0}'), '{3,4}'::float8[]);
select is(vector_combine('{0}', '{0}'), '{0}'::float8[], 'two workers without rows');
select is(vector_avg('{2,4,6}')::text, '[2,3]');
select is(vector_avg('{0}')::text, null);
select throws_ok($$select vector_accum('{0,0}', '[1,2,3]')$$, '22000', 'expected 1 dimensions, not 3');
select throws_ok(format('select vector_accum(%L, %L)', s, '[1]'), '22023', 'vector_accum: expected state array', s) from unnest(array['{}', '{NULL}', '{{0}}', '{1,NULL}']) s;
select throws_ok(format('select vector_combine(%L, %L)', s, '{0}'), '22023', 'vector_combine: expected state array', s) from unnest(array['{}', '{{1,2}}']) s;
select throws_ok(format('select vector_combine(%L, %L)', '{0}', s), '22023', 'vector_combine: expected state array', s) from unnest(array['{}', '{{1,2}}']) s;
select throws_ok($$select vector_avg('{}')$$, '22023', 'vector_avg: expected state array');
select throws_ok($$select vector_avg('{1}')$$, '22000', 'vector must have at least 1 dimension');
select throws_ok($$select vector_combine('{1,2}', '{1,2,3}')$$, '22000', 'expected 1 dimensions, not 2');
select throws_ok($$select vector_avg(array_agg(n)) from generate_series(1, 16002) n$$, '54000', 'vector cannot have more than 16000 dimensions');
select throws_ok($$select vector_accum(array_agg(n), '[1]') from generate_series(1, 16002) n$$, '54000', 'vector cannot have more than 16000 dimensions');
-- groups, windows and values in the heap are not overwritten by the running sum
create temporary table grouped as select i id, i % 3 g, array_fill(i, array[case when i % 3 = 0 then 2 else 600 end])::vector v from generate_series(1, 300) i;
create temporary table untouched as select * from grouped;
select results_eq('select g, sum(v), avg(v) from grouped group by g order by g',
                  'select g, array_fill(sum(id), array[max(vector_dims(v))])::real[]::vector, array_fill(avg(id), array[max(vector_dims(v))])::vector from grouped group by g order by g');
select is_empty($$select * from (select id, sum(v) over (partition by g order by id) s, sum(id) over (partition by g order by id) e, v from grouped) w
                  where s <> array_fill(e, array[vector_dims(v)])::int[]::vector$$);
select is_empty($$select * from (select id, avg(v) over (partition by g order by id rows 3 preceding) s, avg(id) over (partition by g order by id rows 3 preceding) e, v from grouped) w
                  where s <> array_fill(e, array[vector_dims(v)])::vector$$);
select is_empty('select id, v from grouped except select id, v from untouched');

select * from finish();
rollback;
