"""Camera URLs and names of files: what kind they are, their secrets filled in, and how they are shown. Imports
little: every capture process loads this."""

from __future__ import annotations

import os
import re

from personsearch.core.errors import ConfigError
from personsearch.core.redaction import HIDDEN, cut, redact, remember, remember_url

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "srt", "udp", "tcp")
_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_SLASH_MISSING = re.compile(rf"(?:{'|'.join(NETWORK_SCHEMES)}):(?!//)", re.I)
_PLAIN = re.compile(  # what can be shown of a URL: scheme, host, port and path
    r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:[^/?#]*@)?(?P<host>[^\s@:/?#\[\]]*|\[[0-9A-Za-z:.%]*\])(?P<port>:\d*)?"
    r"(?P<path>/[^\s@?#]*)?(?:[?#][^@]*)?"
)
_USER_INFO = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:-]|%[0-9A-Fa-f]{2})*")
_kinds: dict[str, str] = {}  # of URLs that begin with a reference: asked for many times a second
MOST_SECRET = 4096  # characters: /dev/zero has no end of its first line
ENCODE = (
    "if the user or the password holds / ? # % an at sign or a space, percent-encode it "
    "(%2F for /, %3F for ?, %23 for #, %25 for %, %40 for an at sign, %20 for a space)"
)


def kind_of(url: str) -> str:
    """network, webcam, synthetic, file or unknown."""
    if re.fullmatch(r"\d{1,3}|/dev/(?:video\d+|v4l/.+)", url):
        return "webcam"
    scheme = _SCHEME.match(url.lstrip())
    name = scheme[1].lower() if scheme else "unknown" if _SLASH_MISSING.match(url.lstrip()) else "file"
    if name == "synthetic" or url.startswith("synthetic:"):
        return "synthetic"
    return "network" if name in NETWORK_SCHEMES else "file" if name == "file" else "unknown"


def kind_with_secrets(url: str) -> str:
    """`kind_of` the URL once its secrets are filled in: its scheme may come from `${env:...}`."""
    if not url.lstrip().startswith("${"):
        return kind_of(url)
    if url not in _kinds:
        try:
            _kinds[url] = kind_of(with_secrets(url))
        except ConfigError:
            return "network"
    return _kinds[url]


def with_secrets(url: str, camera: str = "") -> str:
    """Fill in `${env:NAME}` and `${file:PATH}` (the file's first line). Raises ConfigError if one is missing.

    camera  whose url it is, for the error; none for another text of cams.yaml
    """
    what = f"camera {camera}: the url" if camera else "a value in the file"

    def value(match: re.Match[str]) -> str:
        where, name = match.groups()
        try:
            if where == "env":
                found = os.environ[name]
            else:
                with open(name, encoding="utf-8") as file:
                    found = file.readline(MOST_SECRET).strip()
        except KeyError:
            raise ConfigError(f"{what} needs the environment variable {name}, which is not set") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise ConfigError(f"{what} needs the file {name}, which cannot be read ({reason})") from None
        first, after = url[: match.start()].endswith(("://", "@")), url[match.end() :]
        user = first and after.startswith(":") and "@" in after
        host = first and re.match(r"[:/]|$", after) and "@" not in after + found
        if not user and not host and kind_of(found) == "file":
            remember(found)
            remember(found.partition(":")[2])  # it may hold user and password
        return found

    filled = _REFERENCE.sub(value, url)
    remember_url(filled)
    return filled


def without_secrets(url: str) -> str:
    """The URL without user, password and query, for logs and events. Of one that is malformed, only what stands behind
    its last `@`."""
    if kind_of(url) in ("file", "webcam", "synthetic"):
        return cut(url)
    plain, hidden = _PLAIN.fullmatch(url.strip()), ""
    if plain is None and (scheme := _SCHEME.match(url.lstrip())) and "@" in url:
        plain, hidden = _PLAIN.fullmatch(scheme[0] + url.rpartition("@")[2].strip()), f"{HIDDEN}@"
    if plain is None:
        return f"{re.match(r'[A-Za-z]*', url.lstrip())[0]}://..."  # type: ignore[index]
    return redact(f"{plain['scheme']}://{hidden}{plain['host']}{plain['port'] or ''}{plain['path'] or ''}")


def advice(url: str) -> tuple[str, bool]:
    """What is suspicious about a network URL, in a sentence, and whether it cannot work like that."""
    url = url.strip()
    scheme = _SCHEME.match(url)
    if scheme is None:
        return f"expected two slashes, as in rtsp://USER:PASSWORD@HOST/PATH; {ENCODE}", True
    rest = url[scheme.end() :]
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user_info, _, address = authority.rpartition("@")
    if not re.fullmatch(r"(?:\[[0-9A-Fa-f:.%A-Za-z]*\]|[^\s:@\[\]]*)(?::\d{0,5})?", address):
        return f"no host and port stand where a URL has them; {ENCODE}", True
    odd = not _USER_INFO.fullmatch(user_info) or "@" in rest[len(authority) :]
    return (ENCODE if odd else ""), False


def address_of(url: str) -> str:
    """A network URL as FFmpeg wants it: its scheme in small letters, no space around it."""
    scheme, colon, rest = url.strip().partition(":")
    return scheme.lower() + colon + rest
