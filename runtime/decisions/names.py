"""Names of people: one spelling for each, and none that could act on the line that shows it."""

from __future__ import annotations

import os
import unicodedata

from personsearch.core.errors import GalleryError
from personsearch.core.text import acts, printable

MAX_NAME = 200  # characters
# Around a name these are as empty as spaces; keyboards, spreadsheets and messengers leave them there.
_OUTSIDE = "\ufeff\u200b\u200e\u200f\u061c\u2060"


def person_name(text: str) -> str:
    """The name as it is kept and compared: Unicode's form NFC, without space around it.

    Joiners (Persian, Sinhala, emoji families) and all kinds of space are part of a name. Raises GalleryError for an
    empty or very long one, and for control characters, line breaks, and invisible marks such as those that turn the
    direction of writing.
    """
    name = text
    if text.isascii() and text.isprintable() and 0 < len(text) <= MAX_NAME and text == text.strip():
        return text  # as most are
    if any("\ud800" <= c <= "\udfff" for c in text):  # bytes of the command line in a locale that is not UTF-8
        try:
            name = os.fsencode(text).decode("utf-8")
        except UnicodeError:
            raise GalleryError(f"the name '{printable(text)[:60]}' is not valid text; expected UTF-8") from None
    name = unicodedata.normalize("NFC", _stripped(name))
    for character in name:
        if acts(character):
            what = unicodedata.name(character, "a control character")
            raise GalleryError(f"the name '{printable(name)[:60]}' holds U+{ord(character):04X} ({what}); leave it out")
    if not any(unicodedata.category(c)[0] not in "CZM" for c in name) or len(name) > MAX_NAME:
        raise GalleryError(
            f"a name must have 1 to {MAX_NAME} characters, some of them visible, got '{printable(name)[:40]}'"
        )
    return name


def _stripped(name: str) -> str:
    before = None
    while before != name:
        before, name = name, name.strip().strip(_OUTSIDE)
    return name
