#!/usr/bin/env python
"""Passwords of the operator's page. One of:

  personsearch-page-password NAME [--role viewer] [--users page.users]    asks for the password, twice
  personsearch-page-password NAME < FILE                                  reads it from the file's first line
  personsearch-page-password --list
  personsearch-page-password NAME --remove

Operators may change things (enrol, settings, review), viewers look. `page.users` in cams.yaml names the file. A running
page takes changes over at once; whoever was logged in by an old password is logged out.
"""

from __future__ import annotations

import getpass
import sys
from pathlib import Path

from personsearch.core.commands import command_line
from personsearch.core.errors import UserError, run_main


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("name", nargs="?", default="", help="of the user")
    parser.add_argument("--users", default="page.users", metavar="FILE", help="the file that keeps the hashes")
    parser.add_argument("--role", choices=("operator", "viewer"), default="operator")
    parser.add_argument("--list", action="store_true", help="print names and roles")
    parser.add_argument("--remove", action="store_true", help="let the user in no more")
    given = parser.parse_args()
    from personsearch.runtime.page.access import load_users, remove_user, set_password

    if given.list:
        for name, entry in sorted(load_users(Path(given.users)).items() if Path(given.users).exists() else ()):
            print(f"{name}\t{entry.role}")
        return 0
    if not given.name:
        raise UserError("give the user's name, or --list")
    if given.remove:
        remove_user(given.users, given.name)
        print(f"{given.name} may not log in any more")
        return 0
    set_password(given.users, given.name, _password(given.name), given.role)
    print(f"{given.name} ({given.role}) may log in; hashes are in {given.users}")
    return 0


def _password(name: str) -> str:
    if not sys.stdin.isatty():
        return sys.stdin.readline().rstrip("\r\n")
    first = getpass.getpass(f"password of {name}: ")
    if getpass.getpass("again: ") != first:
        raise UserError("the two passwords differ; nothing was changed")
    return first


if __name__ == "__main__":
    sys.exit(main())
