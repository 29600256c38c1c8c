"""Codes in memory take the place of HNSW: a number for each day and model says whether they are as the database is."""

from alembic import op

revision, down_revision = "0003", "0002"

SCHEMA = """
-- `version` grows by one with each transaction that writes or deletes stays of a day and model.
create table stay_versions (
    day date not null, model text not null, dimensions integer not null, version bigint not null default 1,
    primary key (day, model)
);
insert into stay_versions (day, model, dimensions)
    select day, model, max(vector_dims(described)) from stays group by day, model;

do $$
declare name regclass;
begin
    for name in
        select i.indexrelid from pg_index i join pg_class c on c.oid = i.indexrelid join pg_am a on a.oid = c.relam
        where a.amname = 'hnsw' and i.indrelid in (select inhrelid from pg_inherits where inhparent = 'stays'::regclass)
    loop
        execute format('drop index %s', name);
    end loop;
end $$;
"""


def upgrade() -> None:
    op.execute(SCHEMA)
