-- A server that does not preload panvel refuses the extension, and is otherwise unharmed.
begin;
select plan(4);

select throws_ok('create extension panvel', '55000', 'panvel must be loaded with shared_preload_libraries',
    'CREATE EXTENSION says what is missing');
select hasnt_schema('panvel', 'nothing is left of it');
select lives_ok('load ''panvel''', 'the module loads');
select throws_ok('create extension panvel', '55000', 'panvel must be loaded with shared_preload_libraries',
    'also once the module is loaded');

select * from finish();
rollback;
