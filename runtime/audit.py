#!/usr/bin/env python
"""Read and check the audit log: `runtime/audit.py people.gallery.audit [--verify [--expect HASH]] [--begin] [--json]`.

--verify follows the hashes from the first entry to the last and prints the latest one: note it elsewhere (on paper, on
another machine), and give it as --expect later, so that a log that was cut off or written anew is noticed. --begin
makes an empty log; commands use one beside the gallery (GALLERY.audit) by themselves, the stream that of `audit.path`.
Exit status 0, 1 for a broken chain, 2 for wrong input.
"""

from __future__ import annotations

import sys

from personsearch.core.commands import command_line
from personsearch.core.errors import UserError, run_main
from personsearch.core.text import json_line, printable


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = command_line(__doc__)
    parser.add_argument("log", metavar="FILE", help="the audit log")
    parser.add_argument("--verify", action="store_true", help="check the chain")
    parser.add_argument("--expect", default="", metavar="HASH", help="a hash noted earlier, or its first 16 digits")
    parser.add_argument("--begin", action="store_true", help="make an empty log")
    parser.add_argument("--json", action="store_true", help="print entries as they are")
    given = parser.parse_args()
    from personsearch.runtime.operations.audit import AuditLog, entries, verify

    if given.begin:
        AuditLog(given.log).add("begun")
        print(f"began {given.log}")
        return 0
    if given.expect and (len(given.expect) < 16 or set(given.expect) - set("0123456789abcdef")):
        raise UserError(f"--expect {given.expect[:80]}: expected 16 to 64 hexadecimal digits, as --verify prints them")
    if given.verify or given.expect:
        verdict = verify(given.log, given.expect)
        if verdict.torn:
            print(f"{given.log}: ends in {verdict.torn} bytes of an entry whose writer was killed", file=sys.stderr)
        if verdict.fault:
            print(f"{given.log}: BROKEN: {verdict.fault}", file=sys.stderr)
            return 1
        print(f"{given.log}: {verdict.entries} entries from number {verdict.first}, unbroken; latest {verdict.head}")
        return 0
    usual = {"number", "time", "by", "kind", "previous", "hash"}
    for entry in entries(given.log):
        facts = " ".join(f"{key}={json_line(value)}" for key, value in entry.items() if key not in usual)
        text = f"{entry['number']}\t{entry['time']}\t{entry.get('by', '')}\t{entry['kind']}\t{facts}"
        print(json_line(entry) if given.json else printable(text, keep="\t"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
