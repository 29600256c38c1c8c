"""Typed YAML: pydantic checks the values, and an error names file, line and key."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from personsearch.core.errors import ConfigError, UserError


class Settings(BaseModel):
    """Base of every configuration section: unknown keys are errors, values are frozen after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True)


T = TypeVar("T", bound=Settings)
_CREDENTIALS = re.compile(r"(?<=://)[^/@\s'\"]*@")  # user and password of a URL never go into a message


def load_settings(path: str | Path, model: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a YAML file into `model`; `overrides` are `a.b=value` strings whose values are YAML.

    Raises ConfigError for a missing file, bad YAML, an unknown key, a wrong type or a bad override.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a UTF-8 text file with YAML") from None
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "nested too deeply"
        raise ConfigError(f"{path}{line}: not valid YAML: {problem}") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: expected `key: value` lines, got a {type(data).__name__}")
    for override in overrides:
        _apply(data, override)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, path, node, model, overrides)) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"'{override}': expected key=value, for example train.epochs=2")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError:
        raise ConfigError(f"'{override}': the value is not valid YAML") from None
    *parents, last = key.split(".")
    for parent in parents:
        data = data.setdefault(parent, {})
        if not isinstance(data, dict):
            raise ConfigError(f"'{override}': '{parent}' is a value, not a section")
    data[last] = parsed


def _explain(
    error: ValidationError, path: Path, node: yaml.Node | None, model: type[BaseModel], overrides: Sequence[str]
) -> str:
    lines = []
    for problem in error.errors():
        location = [part for part in problem["loc"] if not str(part).startswith("function-")]
        key = ".".join(str(part) for part in location)
        given = any(o.split("=")[0] == key for o in overrides)
        where = "command line" if given else f"{path}:{_line(node, location)}"
        if problem["type"] == "extra_forbidden":
            text = f"unknown key '{key}'; known here: {', '.join(_known(model, location[:-1]))}"
        elif problem["type"] == "missing":
            text = f"'{key}' is required but missing"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            text = f"'{key}': {message}, got {_CREDENTIALS.sub('***@', str(problem['input']))[:60]!r}"
        lines.append(f"{where}: {text}")
    return "\n       ".join(lines)


def _line(node: yaml.Node | None, location: Sequence[str | int]) -> int:
    """The 1-based line of the deepest part of `location` that the file has."""
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _known(model: type[BaseModel], location: Sequence[str | int]) -> list[str]:
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            break
        arguments = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)), current)
    return list(getattr(current, "model_fields", {}))


def parse_size(option: str, text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH of a command line -> (height, width) in pixels. Raises UserError that names the option."""
    size = re.fullmatch(r"(\d+)x(\d+)", text)
    if not size:
        raise UserError(f"{option}: expected HEIGHTxWIDTH such as 480x864, got '{text}'")
    return int(size[1]), int(size[2])
