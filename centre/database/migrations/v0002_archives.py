"""Visits of recorded video among the stays: which archives there are, and which video a visit is in."""

from alembic import op

revision, down_revision = "0002", "0001"

SCHEMA = """
-- Cameras of archives. `boot` marks their stays; `made_of` says what these were made of, empty until all are there.
create table archives (
    box text not null, camera text not null, boot uuid not null default gen_random_uuid(),
    made_of text not null default '', primary key (box, camera)
);

-- The video with the best view, and where in it; null for what a box told.
alter table stays add column video text, add column video_s double precision;
"""


def upgrade() -> None:
    op.execute(SCHEMA)
