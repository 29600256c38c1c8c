"""Typed YAML: pydantic checks the values, and an error names file, line and key. JSON files: `core/json_files.py`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeVar, get_args, get_origin

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
)

from personsearch.core.errors import ConfigError, UserError
from personsearch.core.files import read_file
from personsearch.core.redaction import HIDDEN, cut, remember, remember_dsn, remember_urls
from personsearch.core.yaml_text import YamlFault, parse_yaml


class Settings(BaseModel):
    """Base of every configuration section: unknown keys are errors, values are frozen after loading, numbers are
    finite, true is not 1, and text holds no NUL, which no file's name and no database takes."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)
    former: ClassVar[Mapping[str, str]] = {}  # keys of earlier versions, and what took their place

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, value: object, info: ValidationInfo) -> object:
        parts = value if isinstance(value, list | tuple) else (value,)
        if any(isinstance(part, str) and "\0" in part for part in parts):
            raise ValueError("expected text without the character NUL")
        if any(isinstance(part, bool) for part in parts):
            kinds = _kinds(cls.model_fields[info.field_name or ""].annotation)  # type: ignore[arg-type]
            if kinds & {int, float} and bool not in kinds:
                raise ValueError("expected a number, not true or false")
        return value


def _never_shown(remembering: Callable[[str], None]) -> AfterValidator:
    def see(value: str) -> str:
        remembering(value)
        return value

    return AfterValidator(see)


# Texts that no log, event or error shows from then on: a secret itself, and a database's address that may hold one.
Secret = Annotated[str, _never_shown(remember)]
SecretDsn = Annotated[str, _never_shown(remember_dsn)]


@cache
def _kinds(annotation: Any) -> frozenset[Any]:
    """The plain types in an annotation."""
    if get_origin(annotation) is Literal:
        return frozenset()
    return frozenset({annotation}).union(*(_kinds(part) for part in get_args(annotation) if _is_type(part)))


def _is_type(part: Any) -> bool:
    return isinstance(part, type) or get_origin(part) is not None


def _whole(value: object) -> object:
    if isinstance(value, float) and not (value.is_integer() and abs(value) <= LARGEST):
        raise ValueError(f"expected a whole number of at most {LARGEST}")
    return int(value) if isinstance(value, float) else value


LARGEST = 2**53  # whole numbers up to here are the same in every program that writes JSON or MATLAB files
Whole = Annotated[int, BeforeValidator(_whole), Field(strict=True, ge=-LARGEST, le=LARGEST)]  # 7.0 is 7, "7" is not
LARGEST_PIXEL = 1e6  # no picture is larger
Pixel = Annotated[float, Field(strict=True, ge=-LARGEST_PIXEL, le=LARGEST_PIXEL)]
T = TypeVar("T", bound=Settings)
SECRETS = ("secret", "password", "token")  # what the keys of such values end with
MOST_BYTES = 16 << 20  # of a file


def load_settings(path: str | Path, model: type[T], overrides: Sequence[str] = ()) -> T:
    """Read a YAML file into `model`; `overrides` are `a.b=value` strings whose values are YAML.

    Raises ConfigError for a missing file, bad YAML, an unknown key, a wrong type or a bad override.
    """
    path = Path(path)
    try:
        text = read_file(path, MOST_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path}: cannot read the configuration ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: expected a UTF-8 text file with YAML") from None
    try:
        node, data = parse_yaml(text)
    except YamlFault as fault:
        raise ConfigError(f"{path}:{fault.line}: {fault}") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise ConfigError(f"{path}:1: expected `key: value` lines, got a {type(data).__name__}")
    # Sections that begin with x- hold anchors for the others.
    data = {key: value for key, value in data.items() if not (isinstance(key, str) and key.startswith("x-"))}
    for override in overrides:
        _apply(data, override)
    remember_urls(data)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise ConfigError(_explain(error, path, node, model, overrides)) from None


def _apply(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"'{override}': expected key=value, for example train.epochs=2")
    try:
        _, parsed = parse_yaml(value)
    except YamlFault as fault:
        raise ConfigError(f"'{override}': {fault}") from None
    *parents, last = key.split(".")
    place: Any = data
    for parent in parents:
        at = _position(place, parent, override)
        place = place.setdefault(at, {}) if isinstance(place, dict) else place[at]
        if not isinstance(place, dict | list):
            raise ConfigError(f"'{override}': '{parent}' is a value, not a section")
    place[_position(place, last, override)] = parsed


def _position(place: dict[str, Any] | list[Any], part: str, override: str) -> Any:
    """A part of an override's key as what a section or a list is indexed by: items of lists have numbers from 0."""
    if isinstance(place, dict):
        return part
    if not part.isdecimal() or int(part) >= len(place):
        raise ConfigError(f"'{override}': expected the number of a list's item, 0 to {len(place) - 1}, got '{part}'")
    return int(part)


def _explain(
    error: ValidationError, path: Path, node: yaml.Node | None, model: type[BaseModel], overrides: Sequence[str]
) -> str:
    lines, problems = [], error.errors()
    listed: set[tuple[int | str, ...]] = set()  # sections whose keys were told
    for problem in problems:
        if problem["type"] == "too_short" and any(_inside(other["loc"], problem["loc"]) for other in problems):
            continue  # what was refused by itself does not count as missing, too
        location = [part for part in problem["loc"] if not str(part).startswith("function-")]
        key = ".".join(str(part) for part in location)
        given = any(o.split("=")[0] == key for o in overrides)
        where = "command line" if given else f"{path}:{_line(node, location)}"
        if problem["type"] == "extra_forbidden":
            text = f"unknown key '{cut(key)}'"
            inside, section = _section(model, location[:-1]), tuple(location[:-1])
            known = list(getattr(inside, "model_fields", {}))
            if former := getattr(inside, "former", {}).get(location[-1]):
                text += f", of an earlier version: {former}"
            elif alike := get_close_matches(str(location[-1]), known, n=1, cutoff=0.75):
                text += f"; is '{alike[0]}' meant?"
            elif section not in listed:
                listed.add(section)
                text += f"; known here: {', '.join(known)}"
        elif problem["type"] == "missing":
            text = f"'{key}' is required but missing"
        elif problem["type"] == "string_type" and isinstance(problem["input"], bool | int | float | date):
            value = HIDDEN if _is_secret(location) else _scalar(node, location, problem["input"])
            text = f"'{key}': expected text, got {value}; write it in quotes"
        else:
            message = problem["msg"].removeprefix("Value error, ")
            text = f"'{key}': {message}, got {_shown(location, problem['input'])}"
        lines.append(f"{where}: {text}")
    return "\n       ".join(lines)


def _is_secret(location: Sequence[str | int]) -> bool:
    return bool(location) and str(location[-1]).endswith(SECRETS)


def _shown(location: Sequence[str | int], value: object) -> str:
    """The beginning of a value, in which no secret stands: of a web address no path, which is what some webhooks keep
    secret."""
    text = HIDDEN if _is_secret(location) else cut(str(value))
    text = re.sub(r"(https?://[^/?#\s]*)[/?#\s].*", r"\1/...", text, flags=re.S | re.I)
    return repr(text[:60])


def _inside(location: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(location) > len(outer) and location[: len(outer)] == outer


def _scalar(node: yaml.Node | None, location: Sequence[str | int], value: object) -> str:
    """A value as the file has it: `no` is false in YAML, and `1e3` a number."""
    found = _find(node, location)
    return found.value if isinstance(found, yaml.ScalarNode) else str(value)


def _find(node: yaml.Node | None, location: Sequence[str | int]) -> yaml.Node | None:
    """The part of the tree at `location`; None if the file does not have it."""
    path = _path(node, location)
    return path[-1][1] if len(path) == len(location) else None


def _line(node: yaml.Node | None, location: Sequence[str | int]) -> int:
    """The 1-based line of the deepest part of `location` that the file has."""
    path = _path(node, location)
    return path[-1][0] if path else 1


def _path(node: yaml.Node | None, location: Sequence[str | int]) -> list[tuple[int, yaml.Node]]:
    """Line (from 1 on) and node of each part of `location`, as deep as the file has it."""
    path: list[tuple[int, yaml.Node]] = []
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
        path.append((line, node))
    return path


def _section(model: type[BaseModel], location: Sequence[str | int]) -> Any:
    """The settings' class at that place, as far as the way there is known."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = getattr(current, "model_fields", {}).get(part)
        if field is None:
            break
        arguments = [field.annotation, *getattr(field.annotation, "__args__", ())]
        current = next((a for a in arguments if isinstance(a, type) and issubclass(a, BaseModel)), current)
    return current


def parse_size(option: str, text: str) -> tuple[int, int]:
    """HEIGHTxWIDTH of a command line -> (height, width) in pixels. Raises UserError that names the option."""
    size = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if not size:
        raise UserError(f"{option}: expected HEIGHTxWIDTH such as 480x864, got '{text}'")
    return int(size[1]), int(size[2])
