-- The extension installs into a schema of its own and goes without a trace.
begin;
select plan(2);

select has_extension('vector');
create temporary table before as select count(*) as functions from pg_proc;
drop extension vector;
create schema elsewhere;
create extension vector schema elsewhere;
select results_eq('select count(*) from pg_proc', 'select functions from before');

select * from finish();
rollback;
