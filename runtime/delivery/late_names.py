"""Names are resolved late: events carry ids, and a client that may know asks the box who that is."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

FRESH_S, AGAIN_S = 60.0, 5.0  # names are asked for anew after so long; for an id that is not among them, after so long
PERSON_ID = re.compile(r"p-[0-9a-f]{12}")


class LateNames:
    """The box's names by id, asked for when they are needed."""

    def __init__(self, ask: Callable[[], dict[str, str] | None]) -> None:
        """ask  gives everybody's names by id; None if the box does not answer, or does not tell"""
        self._ask, self._names = ask, dict[str, str]()
        self._asked = -AGAIN_S

    def of(self, person_id: str) -> str | None:
        """None for nobody enrolled: forgotten meanwhile, or the box tells no names."""
        age = time.monotonic() - self._asked
        if age > FRESH_S or (age > AGAIN_S and person_id not in self._names):
            found = self._ask()
            self._asked = time.monotonic()
            self._names = self._names if found is None else found
        return self._names.get(person_id)


class NamedEvent(dict[str, Any]):
    """An event as it came; `event["name"]` is the person's name at the time when it is asked for, or None."""

    def __init__(self, content: dict[str, Any], names: LateNames) -> None:
        super().__init__(content)
        self._late = names

    def __missing__(self, key: str) -> Any:
        if key != "name" or "person" not in self:
            raise KeyError(key)
        person = self["person"]
        # Matches carry the name itself, unless the box hides names.
        return self._late.of(person) if person is not None and PERSON_ID.fullmatch(person) else person
