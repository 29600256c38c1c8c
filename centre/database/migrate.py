"""Brings the schema up to date: alembic, from an empty database or any earlier state; once is as good as again."""

from __future__ import annotations

from importlib import resources
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from personsearch.core.errors import UserError
from personsearch.core.redaction import redact

LEAST_POSTGRES = 150000
LOCK = 7_205_759  # of the database: one migration at a time


def migrate(dsn: str) -> str:
    """Gives the revision that the database has afterwards. Raises UserError."""
    script = ScriptDirectory(str(resources.files("personsearch.centre.database") / "migrations"), version_locations=[
        str(resources.files("personsearch.centre.database") / "migrations")
    ])  # fmt: skip
    head = script.get_current_head()
    engine = create_engine("postgresql+psycopg://", creator=lambda: _connect(dsn), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            version = int(connection.execute(text("show server_version_num")).scalar_one())
            if version < LEAST_POSTGRES:
                raise UserError(f"the database is Postgres {version // 10000}; expected 15 or later")
            connection.execute(text(f"select pg_advisory_xact_lock({LOCK})"))

            def steps(revision: Any, _context: Any) -> Any:
                return script._upgrade_revs("head", revision)

            with EnvironmentContext(Config(), script, fn=steps) as environment:
                environment.configure(connection=connection, target_metadata=None)
                with environment.begin_transaction():
                    environment.run_migrations()
    except SQLAlchemyError as error:
        reason = " ".join(str(getattr(error, "orig", None) or error).split())[:300]
        raise UserError(f"the database cannot be used ({redact(reason)}); check its DSN, and pgvector") from None
    except Exception as error:
        if type(error).__module__.startswith("alembic"):
            raise UserError(f"the database was made by a newer version of this program ({error})") from None
        raise
    return str(head)


def _connect(dsn: str) -> Any:
    import psycopg

    return psycopg.connect(dsn, connect_timeout=10)
