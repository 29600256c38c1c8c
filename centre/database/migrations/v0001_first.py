"""Boxes, cameras, sightings and stays; what grows is partitioned by day (UTC)."""

from alembic import op

revision, down_revision = "0001", None

SCHEMA = """
create extension if not exists vector;

-- What is known of each box; `sequence` and `boot` of the latest event.
create table boxes (
    box text primary key, boot uuid not null, sequence bigint not null, model text not null default '',
    first_heard timestamptz not null default now(), heard timestamptz not null, event_time timestamptz not null,
    engine text not null default '', engine_reason text not null default '', storage text not null default '',
    settings text not null default '', settings_reason text not null default ''
);

-- `mean` (D,) float16 of the camera's people, for queries that come from it.
create table cameras (
    box text not null, camera text not null, state text not null default '', cause text not null default '',
    since timestamptz, model text not null default '', mean bytea, mean_time timestamptz, primary key (box, camera)
);

-- Every event that was taken: what makes "at least once" of the hub "once" here.
create table received (
    day date not null, boot uuid not null, sequence bigint not null, primary key (day, boot, sequence)
) partition by range (day);

-- One visit to one box, as its latest event says; `day` is that of `started`.
create table sightings (
    day date not null, sighting text not null, box text not null, boot uuid not null, sequence bigint not null,
    person text, stranger text, change text not null, reason text not null, started timestamptz not null,
    last_seen timestamptz not null, cameras jsonb not null, zones jsonb not null, evidence jsonb, model text not null,
    primary key (day, sighting)
) partition by range (day);
create index on sightings (person, started) where person is not null;
create index on sightings (box, started);

-- One stay in one camera; `described` (D,) is the stay's mean view less the mean of the camera's people.
create table stays (
    day date not null, boot uuid not null, sequence bigint not null, sighting text not null, box text not null,
    camera text not null, person text, stranger text, started timestamptz not null, ended timestamptz not null,
    track integer not null, views integer not null, quality real not null, model text not null,
    described halfvec not null, primary key (day, boot, sequence)
) partition by range (day);
create index on stays (box, camera, started);
create index on stays (sighting);

-- How many stays a filter leaves, without counting them.
create table tallies (
    day date not null, box text not null, camera text not null, model text not null, stays bigint not null,
    primary key (day, model, box, camera)
);

-- Ids of people who were erased: their events that come later are not taken.
create table forgotten (person text primary key, since timestamptz not null default now());
"""


def upgrade() -> None:
    op.execute(SCHEMA)
