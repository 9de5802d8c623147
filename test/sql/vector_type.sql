-- The type itself: text, type modifier, binary form, storage, casts; every error with its SQLSTATE.
begin;
select no_plan();

-- text input and output
create function shown(v vector) returns text language sql immutable return v::text;
select is(shown('[1,2,3]'), '[1,2,3]');
select is(shown('[-1,-2,-3]'), '[-1,-2,-3]');
select is(shown('[1.,2.,.5]'), '[1,2,0.5]');
select is(shown('[+1, 0x10 ,1e2]'), '[1,16,100]');
select is(shown(E' [\t1\n,\x0b2 ,\f  3\r ] '), '[1,2,3]');
select is(shown('[1.23456,0.1]'), '[1.23456,0.1]');
select is(shown('[1.5e38,-1.5e+38]'), '[1.5e+38,-1.5e+38]');
select is(shown('[100000,1000000,0.0001,0.00001]'), '[100000,1e+06,0.0001,1e-05]');
select is(shown('[16777217,0.333333333333]'), '[1.6777216e+07,0.33333334]');
select is(shown('[1e-46,-1e-46,1e-45]'), '[0,-0,1e-45]');
create temporary table floats as
    select (case when random() < 0.5 then -1 else 1 end * random() * 10 ^ (random() * 75 - 38))::float4 x from generate_series(1, 3000);
select is((select array_agg(x)::vector::text from floats),
          (select '[' || string_agg(x::text, ',') || ']' from floats), 'prints floats as float4 does');
select is((select ('[' || string_agg(x::text, ',') || ']')::vector::real[] from floats),
          (select array_agg(x) from floats), 'reads back what it prints');
select is(length((select ('[' || string_agg('-1.1754944e-38', ',') || ']')::vector::text from generate_series(1, 16000))), 16000 * 15 + 1);

-- text errors
create function bad(v text, state text, message text) returns text language sql as $$
    select throws_ok(format('select %L::vector', v), state, message) $$;
select bad('[hello,1]', '22P02', 'invalid input syntax for type vector: "[hello,1]"');
select bad(v, '22P02', format('invalid input syntax for type vector: "%s"', v))
    from unnest(array['', '1,2,3', '[', '[ ', '[,', '[,]', '[1,]', '[1a]', '[1,,3]', '[1, ,3]', '[1,2,3', '[1,2,3]9', '{1}', '[1e]']) v;
select bad('[]', '22000', 'vector must have at least 1 dimension');
select bad('[ ]', '22000', 'vector must have at least 1 dimension');
select bad('[NaN,1]', '22000', 'NaN not allowed in vector');
select bad('[Infinity,1]', '22000', 'infinite value not allowed in vector');
select bad('[1,-inf]', '22000', 'infinite value not allowed in vector');
select bad('[4e38,1]', '22003', '"4e38" is out of range for type vector');
select bad('[1,-1e400 ]', '22003', '"-1e400" is out of range for type vector');
select bad('[1' || repeat(',1', 16000) || ']', '54000', 'vector cannot have more than 16000 dimensions');
select is(vector_dims(('[1' || repeat(',1', 15999) || ']')::vector), 16000);
create function detail_of(query text) returns text language plpgsql as $$
    declare result text;
    begin
        execute query;
        return null;
    exception when others then
        get stacked diagnostics result = pg_exception_detail;
        return result;
    end $$;
select is(detail_of($$select '1]'::vector$$), 'Vector contents must start with "[".');
select is(detail_of($$select '[1]x'::vector$$), 'Junk after closing right brace.');

-- type modifier
select is('[1,2,3]'::vector(3)::text, '[1,2,3]');
select is(format_type('vector'::regtype, 3), 'vector(3)');
select throws_ok($$select '[1,2,3]'::vector(2)$$, '22000', 'expected 2 dimensions, not 3');
select throws_ok($$select v::vector(2) from (values ('[1,2,3]'::vector)) t(v)$$, '22000', 'expected 2 dimensions, not 3');
select throws_ok($$select '{"[1,2,3]"}'::vector(2)[]$$, '22000', 'expected 2 dimensions, not 3');
select throws_ok($$select '[1]'::vector(3, 2)$$, '22023', 'invalid type modifier');
select throws_ok($$select '[1]'::vector('a')$$, '22P02', 'invalid input syntax for type integer: "a"');
select throws_ok($$select '[1]'::vector(0)$$, '22023', 'dimensions for type vector must be at least 1');
select throws_ok($$select '[1]'::vector(-1)$$, '22023', 'dimensions for type vector must be at least 1');
select throws_ok($$select '[1]'::vector(16001)$$, '22023', 'dimensions for type vector cannot exceed 16000');
create temporary table typed (v vector(3));
select throws_ok($$insert into typed values ('[1,2]')$$, '22000', 'expected 3 dimensions, not 2');
select throws_ok($$insert into typed values (array[1,2])$$, '22000', 'expected 3 dimensions, not 2');
select lives_ok($$insert into typed values ('[1,2,3]'), (array[1,2,3]), (array[1,2,3]::real[]), (array[1.5,2,3]), (array[1,2,3]::float8[]), (null)$$);

-- binary form: int16 dim, int16 0, float4 each
select is(vector_send('[1,-2.5]'), '\x00020000' || float4send(1) || float4send(-2.5));
select is(vector_send('[-0]'), '\x0001000080000000'::bytea);

-- storage: external, -1, int4 alignment, as pgvector
select results_eq($$select typlen::int, typalign::text, typstorage::text, typbyval, typcategory::text from pg_type where oid = 'vector'::regtype$$,
                  $$values (-1, 'i', 'e', false, 'U')$$);
select results_eq($$select distinct pg_column_size(v) from typed where v is not null$$, 'values (17)', 'short header: 1 + 4 + 12 bytes');
create temporary table stored (id int, v vector);
insert into stored select n, array_agg((n * 31 + i * 7) % 1000) from unnest(array[1, 2, 28, 29, 30, 31, 32, 100, 499, 500, 784, 2000, 16000]) n, generate_series(1, n) i group by n;
select is(vector_dims(v), id) from stored order by id;
select is(v::text, (select '[' || string_agg(((id * 31 + i * 7) % 1000)::text, ',' order by i) || ']' from generate_series(1, id) i), id || ' dimensions, stored')
    from stored order by id;
select is(v <-> v::text::vector, 0::float8) from stored;
select ok(v = v::text::vector and vector_hash(v) = vector_hash(v::text::vector)) from stored;
select is(vector_send(v), vector_send(v::text::vector)) from stored;

-- a value whose dimension contradicts its size is an error, not a read beyond its end
create cast (bytea as vector) without function;
select is(('\x0200' || '\x0000'::bytea || '\x0000803f00000040'::bytea)::bytea::vector::text, '[1,2]');
select throws_ok(format($$select %s from (values (%L::bytea::vector)) t(v)$$, call, damaged), 'XX001', null, call || ' of ' || damaged)
    from unnest(array['v::text', 'v <-> v', 'v + v', 'v = v', 'vector_send(v)', 'vector_hash(v)', 'v::vector(2)', 'v::real[]', 'vector_accum(array[0], v)']) call,
         unnest(array['\x', '\x01', '\x0000', '\x02000000', '\x020000000000803f', '\x010000000000803f00000040', '\xffff00000000803f', '\x000000000000803f',
                      '\x803e0000' || repeat('00', 200)]) damaged;
drop cast (bytea as vector);

-- casts
select is(array[1,2,3]::vector::text, '[1,2,3]');
select is(array[1.0,2.5,3]::vector::text, '[1,2.5,3]');
select is('{1,2,3}'::real[]::vector::text, '[1,2,3]');
select is('{1,0.1,3}'::float8[]::vector(3)::text, '[1,0.1,3]');
select is('{1e-46,-1e-46}'::float8[]::vector::text, '[0,-0]');
select is('[1,2.5,3]'::vector::real[], '{1,2.5,3}'::real[]);
create function needs_real(x real[]) returns real language sql return x[1];
select is(needs_real('[1.5,2]'::vector), 1.5::real, 'implicit to real[]');
select throws_ok($$select '{1,2,3}'::real[]::vector(2)$$, '22000', 'expected 2 dimensions, not 3');
select throws_ok($$select '{NULL}'::real[]::vector$$, '22004', 'array must not contain nulls');
select throws_ok($$select '{1,NULL}'::numeric[]::vector$$, '22004', 'array must not contain nulls');
select throws_ok($$select '{NaN}'::real[]::vector$$, '22000', 'NaN not allowed in vector');
select throws_ok($$select '{1,NaN}'::numeric[]::vector$$, '22000', 'NaN not allowed in vector');
select throws_ok($$select '{Infinity}'::float8[]::vector$$, '22000', 'infinite value not allowed in vector');
select throws_ok($$select '{-Infinity}'::real[]::vector$$, '22000', 'infinite value not allowed in vector');
select throws_ok($$select '{4e38}'::float8[]::vector$$, '22000', 'infinite value not allowed in vector');
select throws_ok($$select '{}'::real[]::vector$$, '22000', 'vector must have at least 1 dimension');
select throws_ok($$select '{{1}}'::int[]::vector$$, '22000', 'array must be 1-D');
select throws_ok($$select array_fill(0, array[16001])::vector$$, '54000', 'vector cannot have more than 16000 dimensions');
select throws_ok($$select array_to_vector(array_fill(0, array[16001]), 16001, false)$$, '54000', 'vector cannot have more than 16000 dimensions');
select is('[5:7]={1,2,3}'::int[]::vector::text, '[1,2,3]');
select set_eq($$select castsource::regtype::text, casttarget::regtype::text, castcontext::text from pg_cast where 'vector'::regtype in (castsource, casttarget)$$,
              $$values ('vector', 'vector', 'i'), ('vector', 'real[]', 'i'), ('integer[]', 'vector', 'a'), ('real[]', 'vector', 'a'),
                       ('double precision[]', 'vector', 'a'), ('numeric[]', 'vector', 'a'),
                       ('vector', 'halfvec', 'i'), ('halfvec', 'vector', 'a'), ('vector', 'sparsevec', 'i'), ('sparsevec', 'vector', 'a')$$);

-- every function of the type is immutable, strict and parallel safe
select is_empty($$select p.oid::regprocedure from pg_proc p, pg_depend d, pg_extension e
                  where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.refobjid = e.oid and d.deptype = 'e' and e.extname = 'vector'
                    and 'vector'::regtype = any (string_to_array(p.proargtypes::text, ' ')::oid[] || p.prorettype) and p.prokind = 'f'
                    and not (p.provolatile = 'i' and p.proisstrict and p.proparallel = 's')$$);

select * from finish();
rollback;
