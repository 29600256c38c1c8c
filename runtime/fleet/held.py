"""What a box of a group says that it holds: for the centre, under the box's own key of the bucket."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable

from personsearch.runtime.fleet.bucket import Bucket, held_key
from personsearch.runtime.fleet.group import held_report
from personsearch.runtime.fleet.sealing import GroupKey
from personsearch.runtime.fleet.shared_state import SharedState

REPORT_S = 60.0  # so often, also where nothing has changed


class HeldReport:
    def __init__(self, box: str, model_hash: str, bucket: Bucket, key: GroupKey, say: Callable[[str], None]) -> None:
        """say  an error, in words, for the log"""
        self._box, self._model_hash, self._bucket, self._key, self._say = box, model_hash, bucket, key, say
        self._told = b""
        self._next = 0.0

    @property
    def due(self) -> bool:
        return time.monotonic() >= self._next

    def expire(self) -> None:
        """Whatever was told, the group may not have it any more."""
        self._next = 0.0

    async def tell(self, people: Iterable[str], state: SharedState, anew: Iterable[str]) -> None:
        """Whenever that has changed, and now and then.

        people  ids of who is in the gallery; anew: of who must be enrolled anew. Raises BucketDown.
        """
        held = {i: state.people[i].stamp.version if i in state.people else 0 for i in people}
        erased = {i: {"time": e.time, "complete": e.complete} for i, e in state.forgotten.items()}
        content = json.dumps([held, erased, sorted(anew)]).encode()
        if content == self._told and not self.due:
            return
        self._told, self._next = content, time.monotonic() + REPORT_S
        report = held_report(self._box, self._model_hash, held, erased, sorted(anew), self._key)
        if len(report) > self._bucket.largest:
            self._say(
                f"the report of {len(held)} people has {len(report)} bytes, more than the hub's max_payload takes "
                f"({self._bucket.largest}); raise it, or the centre does not see what is held here"
            )
            return
        await self._bucket.put(held_key(self._box), report)
