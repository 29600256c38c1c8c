"""Text that goes to a terminal or a pipe: whatever its encoding, printing never fails, and nothing in it acts."""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from typing import Any, TextIO

JOINERS = "\u200c\u200d"  # zero-width; spelling in Persian, Sinhala and others, and of emoji families
_ACTING = ("Cc", "Cs", "Zl", "Zp")


def set_up_output() -> None:
    """What an output cannot show (a name on a Latin-1 or ASCII terminal) is escaped from now on, in all commands."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def acts(character: str) -> bool:
    """Does a character do something to a line instead of standing in it: controls, line breaks, marks that turn the
    direction of writing, invisible ones, halves of surrogate pairs? Joiners, and the tags of flags, are spelling."""
    category = unicodedata.category(character)
    if category == "Cf":
        return character not in JOINERS and not "\U000e0020" <= character <= "\U000e007f"
    return category in _ACTING


def whole_number(text: str, most: int = 10**9) -> int | None:
    """The number from 0 to `most` that a text is, in plain digits; None for anything else. (Python also reads digits of
    other scripts, calls a superscript a digit which it cannot read, and refuses thousands of them.)"""
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else -1
    return value if 0 <= value <= most else None


def printable(text: str, keep: str = "") -> str:
    """The text with every character that acts escaped, apart from those in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if acts(c) and c not in keep else c for c in text)


def json_bytes(content: Any, indent: int | None = None) -> bytes:
    """UTF-8 for a file: readable, but for a name on the disk that is no text, with which all goes by JSON's escapes."""
    separators = (",", ":") if indent is None else None
    text = json.dumps(content, ensure_ascii=False, indent=indent, separators=separators)
    try:
        return text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent, separators=separators).encode()


def json_line(content: Any, stream: TextIO | None = None) -> str:
    """One line of JSON: readable where the stream can show it, else with JSON's own escapes."""
    text = json.dumps(content, ensure_ascii=False)
    try:
        text.encode(getattr(stream or sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(content)
    return text
