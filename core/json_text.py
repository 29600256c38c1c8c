"""JSON that came from outside, as plain values: what is wrong with it is a ValueError, whatever it is. Imports little:
programs that only subscribe load it."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn


def parse_json(data: bytes | str, finite: bool = True) -> Any:
    """Plain values of a JSON text, with or without a byte order mark.

    finite  refuses NaN and Infinity, which are not JSON but often written, and 1e400, which Python takes for one; else
            they are for the caller to find
    Raises ValueError for what is no JSON, for a key that stands twice in one object, and for endless depth.
    """
    text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
    try:
        if not finite:
            return json.loads(text, object_pairs_hook=_without_twins)
        return json.loads(text, parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_without_twins)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key '{next(n for n in names if names.count(n) > 1)}' stands twice in one object")
    return content


def parse_event(text: bytes | str) -> Any:
    """`parse_json` for thousands of texts a second: keys that stand twice, and numbers beyond all bounds, pass."""
    try:
        return _QUICK.decode(text if isinstance(text, str) else text.decode())
    except RecursionError:
        raise ValueError("nested too deeply") from None


_QUICK = json.JSONDecoder(parse_constant=_no_number)
