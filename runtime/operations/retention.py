"""What is kept no longer than it may be: a thread beside the stream looks once an hour.

People whose expiry date passed `retention.expired_days` ago are erased as `forget` does it; old changes leave the undo
log, keys of people who were taken out are destroyed (so that backups forget them), old audit entries are trimmed. An
erasure that was interrupted is finished.
Events go by `journal.keep_hours`, see journal.py.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence

from personsearch.core.errors import GalleryError, UserError
from personsearch.core.files import real_path
from personsearch.runtime.decisions.gallery_file import locked
from personsearch.runtime.decisions.gallery_keys import box_key, keys_file, load_keyring
from personsearch.runtime.decisions.gallery_undo import read_changes, undo_file, write_changes
from personsearch.runtime.operations.forget import Eraser, expired, forget
from personsearch.runtime.operations.forget_gallery import unfinished
from personsearch.runtime.operations.place import Place

log = logging.getLogger("personsearch.retention")
EVERY_S, FIRST_S = 3600.0, 30.0


class Retention:
    """`reload` is called when the gallery was changed, so that the stream takes it over at once."""

    def __init__(
        self, place: Place, expired_days: float, reload: Callable[[], None], erasers: Sequence[Eraser] = ()
    ) -> None:
        self.place, self.expired_days, self.erasers = place, expired_days, erasers
        self._reload, self._stop, self._told = reload, threading.Event(), ""
        self._thread = threading.Thread(target=self._run, name="retention", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join(5)

    def _run(self) -> None:
        wait = FIRST_S
        while not self._stop.wait(wait):
            wait = EVERY_S
            try:
                self.look(time.time())
                self._told = ""
            except (UserError, OSError) as error:  # a folder that cannot be written, say
                if str(error) != self._told:
                    log.warning("what is too old could not be removed: %s", error)
                self._told = str(error)
            except Exception:
                log.exception("what is too old could not be removed")

    def look(self, now: float) -> list[str]:
        """Remove what is too old at unix time `now`; gives the ids of the people erased."""
        place = self.place
        interrupted = unfinished(place.gallery)
        over = [interrupted] * bool(interrupted) + expired(place.load(), now, self.expired_days)
        for person_id in dict.fromkeys(over):
            receipt = forget(place, person_id, self.erasers, reload=self._reload)
            kind = "forgotten" if person_id == interrupted else "expired"
            place.audit.add(kind, person=person_id, complete=receipt["complete"])
            log.info("erased %s (%s)", person_id, kind)
        tidy(place, now)
        place.audit.trim(now)
        return over


def tidy(place: Place, now: float) -> None:
    """Old changes and the keys of people who were taken out long ago. Raises GalleryError."""
    target = real_path(place.gallery)
    undo, keys = undo_file(target), keys_file(target)
    if not undo.exists() and not keys.exists():
        return  # and perhaps a folder in which nothing may be written
    with locked(place.gallery):
        gallery = place.load()
        try:
            changes = read_changes(undo, gallery.revision)
            if undo.exists():
                write_changes(undo, changes, now)
            keyring = gallery.keyring or load_keyring(keys, box_key(place.key))
            before = (len(keyring), dict(keyring.retired))
            keyring.retire(gallery.everybody(), now)
            if before != (len(keyring), keyring.retired):
                keyring.save()
        except OSError as error:
            raise GalleryError(f"{target}: cannot be written ({error.strerror})") from None
