"""Nothing secret leaves: every log, event, health answer and error passes through `redact`.

A URL may be malformed, so no parser is asked where its password is. Two things are taken out of each text: everything
that stands between `scheme://` and the last `@` behind it, and the secrets themselves, which are remembered
whenever settings are read or `${env:...}` and `${file:...}` are filled in. Imports little: capture processes load it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote

MIN_SECRET = 4  # characters; anything shorter would be found within ordinary words
HIDDEN = "***"
_CREDENTIALS = re.compile(r"(:/+)(?!/|\*{3}@)[^\n]*@")
_SCHEME = re.compile(r"^\s*[A-Za-z][A-Za-z0-9+.-]*:/{0,2}")
_QUERY_SECRET = re.compile(r"(?:pass\w*|pwd|token|secret|key|auth\w*|sig\w*|credential\w*)=([^&;\s#]+)", re.I)
_known: tuple[str, ...] = ()  # as they may be written, longest first; replaced as a whole, since threads read it


def remember(secret: str) -> None:
    """From now on `redact` takes this value out of every text, also as it is written in URLs, JSON and Python."""
    written = {secret, secret.strip(), unquote(secret), quote(secret, safe=""), quote(secret)}
    written |= {json.dumps(s)[1:-1] for s in written} | {repr(s)[1:-1] for s in written}
    global _known
    if fresh := {s for s in written if len(s) >= MIN_SECRET}.difference(_known):
        _known = tuple(sorted({*_known, *fresh}, key=len, reverse=True))


def remember_url(url: str) -> None:
    """Remember what a URL, perhaps a malformed one, may hold of secrets: the password, and values in the query."""
    scheme = _SCHEME.match(url)
    rest = url[scheme.end() :] if scheme else url
    for part in [rest] if scheme and scheme[0].endswith("//") else [rest, url]:  # without, no scheme perhaps
        user, colon, password = part.partition(":")
        for end in (i for i, letter in enumerate(part) if letter == "@"):  # any of them may end the password
            if colon and end > len(user):
                remember(password[: end - len(user) - 1])
            elif len(part[:end]) >= 8:
                remember(part[:end])  # a token may stand alone; so may a user's name, which is no secret
    _, colon, password = rest.partition(":")
    if scheme and colon and "@" not in rest and not re.match(r"\d*(?:[/?#]|$)", password) and not rest.startswith("["):
        remember(password)  # no port: the end of the URL is missing
    if scheme:
        for value in _QUERY_SECRET.findall(rest):
            remember(value)


def remember_dsn(dsn: str) -> None:
    """The same for a database's URL, or its `key=value ...`. What libpq says of a malformed one shows pieces of it."""
    remember_url(dsn)
    user_info = dsn.partition("://")[2].rpartition("@")[0]
    for piece in re.split(r"[/?#@:\[\]]", user_info.partition(":")[2]):
        remember(piece)
    if "://" not in dsn:
        for word in dsn.split():
            key, equals, value = word.partition("=")
            if not equals or "password" in key:  # a password with a space in it goes on without a key
                remember((value if equals else word).strip("'\""))


def remember_urls(data: object) -> None:
    """The same for all texts within a configuration as YAML gives it."""
    waiting, seen = [data], set()
    while waiting:  # not by recursion: YAML may be nested deeply, and hold itself
        part = waiting.pop()
        if isinstance(part, str):
            if "@" in part or "://" in part:
                remember_url(part)
        elif isinstance(part, Mapping | Sequence) and id(part) not in seen:
            seen.add(id(part))
            waiting += [*part.keys(), *part.values()] if isinstance(part, Mapping) else part


def redact(text: str) -> str:
    """The text as anybody may read it."""
    if "@" in text:
        text = _CREDENTIALS.sub(rf"\1{HIDDEN}@", text)
    for secret in _known:
        if secret in text:
            text = text.replace(secret, HIDDEN)
    return text


def cut(text: str) -> str:
    """A text that was given in the place of a value, without all up to the last `@`: it may be part of a URL."""
    before, at, after = text.rpartition("@")
    return redact(f"{HIDDEN}@{after}" if at and (":" in before or " " in before or len(text) > 60) else text)
