"""COCO's annotation files, as far as they speak of people."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, TypeAlias

from pydantic import ConfigDict, Field, ValidationError

from personsearch.core.config import Settings, Whole
from personsearch.core.errors import DataError
from personsearch.core.json_files import faults_of
from personsearch.core.json_text import parse_json
from personsearch.train.data.json_data import Frame, Person

Key: TypeAlias = Whole | str


class _Entry(Settings):
    """COCO's entries hold much that we do not need."""

    model_config = ConfigDict(extra="allow")


class _Image(_Entry):
    id: Key
    file_name: str = Field(min_length=1)
    camera: Whole = 0
    split: Literal["train", "test"] | None = None


class _Category(_Entry):
    id: Key
    name: str = ""


class _Annotation(_Entry):
    image_id: Key
    category_id: Key | None = None
    iscrowd: bool | Whole = 0
    bbox: Any = None
    attributes: dict[str, Any] | None = None


class _File(_Entry):
    images: tuple[_Image, ...]
    annotations: tuple[_Annotation, ...]
    categories: tuple[_Category, ...] = ()


def read_coco(path: Path, identity_key: str, split: str) -> list[Frame]:
    """The frames with their people: annotations of the category `person`, or of the only category. Crowd regions are
    left out.

    identity_key  where an annotation, or its `attributes`, has the number of the person
    split         of images without one
    Raises DataError that names file, entry and field.
    """
    try:
        content = _File.model_validate(parse_json(path.read_bytes(), finite=False))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); --root must name a COCO annotation file") from None
    except ValidationError as error:
        raise DataError(faults_of(path, error)) from None
    except ValueError as error:
        raise DataError(f"{path}: not a COCO annotation file ({error})") from None
    wanted = {c.id for c in content.categories if c.name == "person"} or {c.id for c in content.categories}
    if len(wanted) > 1:
        raise DataError(f"{path}: has {len(wanted)} categories, but none is called person")
    people: dict[Key, list[Person]] = {image.id: [] for image in content.images}
    if len(people) < len(content.images):
        ids = [image.id for image in content.images]
        raise DataError(f"{path}: images: the id {next(i for i in ids if ids.count(i) > 1)!r} stands twice")
    for number, entry in enumerate(content.annotations):
        if entry.iscrowd or (wanted and entry.category_id not in wanted):
            continue
        where = f"{path}: annotations.{number}"
        if entry.image_id not in people:
            raise DataError(f"{where}: image_id: no image has the id {entry.image_id!r}")
        identity = (entry.model_extra or {}).get(identity_key, (entry.attributes or {}).get(identity_key))
        try:
            people[entry.image_id].append(Person(box=entry.bbox, identity=identity))
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise DataError(f"{where}: {field}: {first['msg']}, got {str(first['input'])[:60]!r}") from None
    return [
        Frame(
            file=image.file_name, camera=image.camera, split=image.split or split,  # type: ignore[arg-type]
            people=tuple(people[image.id]),
        )
        for image in content.images
    ]  # fmt: skip
