"""Camera URLs: what kind they are, their secrets filled in, and their secrets taken out. No imports: every
capture process loads this."""

from __future__ import annotations

import os
import re
from urllib.parse import urlsplit, urlunsplit

from personsearch.core.errors import ConfigError

NETWORK_SCHEMES = ("rtsp", "rtsps", "http", "https", "rtmp", "srt", "udp", "tcp")
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s'\"]*@")
_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")


def kind_of(url: str) -> str:
    """network, webcam, synthetic, file or unknown."""
    if url.startswith("synthetic:"):
        return "synthetic"
    if re.fullmatch(r"\d{1,3}", url):
        return "webcam"
    scheme = url.split("://", 1)[0].lower() if "://" in url else "file"
    return "network" if scheme in NETWORK_SCHEMES else ("file" if scheme == "file" else "unknown")


def with_secrets(url: str, camera: str = "") -> str:
    """Fill in `${env:NAME}` and `${file:PATH}` (the file's first line). Raises ConfigError if one is missing."""

    def value(match: re.Match[str]) -> str:
        where, name = match.groups()
        try:
            if where == "env":
                return os.environ[name]
            with open(name, encoding="utf-8") as file:
                return file.readline().strip()
        except KeyError:
            raise ConfigError(
                f"camera {camera}: the url needs the environment variable {name}, which is not set"
            ) from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8"
            raise ConfigError(
                f"camera {camera}: the url needs the file {name}, which cannot be read ({reason})"
            ) from None

    return _REFERENCE.sub(value, url)


def without_secrets(url: str) -> str:
    """The URL without user, password and query, for logs and events."""
    if kind_of(url) != "network":
        return scrub(url)
    try:
        parts = urlsplit(url)
    except ValueError:
        return url.split("://", 1)[0] + "://..."
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def scrub(text: str) -> str:
    """Any text with the credentials of the URLs in it replaced."""
    return _CREDENTIALS.sub("***@", text) if "@" in text else text
