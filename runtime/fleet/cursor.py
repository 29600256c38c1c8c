"""How far a sink has come: the id of the last event that the other side accepted, in a small file."""

from __future__ import annotations

import contextlib
import json
import logging
import re
from pathlib import Path

from personsearch.core.files import replace_file
from personsearch.core.json_text import parse_json
from personsearch.core.locks import only_one

log = logging.getLogger("personsearch.fleet")
EVENT_ID = re.compile(r"[0-9a-f]{32}-[0-9]{1,18}")


class Cursor:
    def __init__(self, folder: Path, sink: str) -> None:
        self.path = folder / f"{sink}.json"
        self._unsaved = ""

    def load(self) -> str:
        """The id, or "" if there is none or the file is damaged: then everything is sent that the journal has."""
        if self._unsaved:
            return self._unsaved
        try:
            found = parse_json(self.path.read_bytes())["id"]
            if EVENT_ID.fullmatch(found):
                return str(found)
        except FileNotFoundError:
            return ""
        except (OSError, ValueError, LookupError, TypeError):
            pass
        log.warning("%s: no position can be read from it; the whole journal is sent again", self.path)
        return ""

    def save(self, event_id: str) -> None:
        """What the disk does not take is remembered as long as this program runs."""
        try:
            replace_file(self.path, json.dumps({"id": event_id}).encode() + b"\n", mode=0o600)
            self._unsaved = ""
        except OSError as error:
            if not self._unsaved:
                log.warning("%s: the position cannot be written (%s); it is kept in memory", self.path, error.strerror)
            self._unsaved = event_id


def only_forwarder(folder: Path) -> contextlib.AbstractContextManager[None]:
    """Holds the folder of the positions. Raises UserError while another process does, or it cannot be written."""
    advice = "set another fleet.state"
    taken = f"another process forwards these events; end it (the stream starts one by itself), or {advice}"
    return only_one(folder / "lock", taken, advice)
