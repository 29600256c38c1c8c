"""What operators answered about names and guesses, kept beside the gallery: so that an answer can be taken back after a
restart, and compared with what the calibration said.

No name and no embedding stands in it: ids, figures, and hashes of the views that an answer added.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field

from personsearch.core.config import Settings
from personsearch.core.errors import GalleryError
from personsearch.core.files import replace_file
from personsearch.core.json_text import parse_json
from personsearch.runtime.decisions.gallery_file import locked
from personsearch.runtime.decisions.person import EnrolledView

FORMAT = "personsearch-reviews/1"
MOST, MAX_BYTES = 10_000, 64 << 20


class Answer(Settings):
    """said    id of the person that the stream named or guessed; similarity, log_likelihood_ratio, views: how surely
    person  id of whose views these became, or are said not to be; empty if nothing was learned
    added   a mark of each of those views
    before  id of whom the visit was told to be until the answer corrected that, empty for nobody; None if it did not
    time    unix seconds
    """

    row: str = Field(max_length=64)
    kind: Literal["sighting", "match", "candidate"]
    answer: Literal["yes", "no", "name"]
    camera: str = Field("", max_length=64)
    said: str = Field(max_length=64)
    person: str = Field("", max_length=64)
    similarity: float | None = None
    log_likelihood_ratio: float | None = None
    views: int = 0
    added: tuple[str, ...] = ()
    before: str | None = None
    time: float


class _File(Settings):
    format: str
    answers: tuple[Answer, ...]


def reviews_file(gallery: str | Path) -> Path:
    """people.gallery -> people.gallery.reviews"""
    return Path(f"{gallery}.reviews")


def mark_of(view: EnrolledView) -> str:
    """By which a view is found again, and from which nobody can be told."""
    return hashlib.sha256(np.asarray(view.embedding, "<f4").tobytes()).hexdigest()[:24]


def load_reviews(path: str | Path) -> dict[str, Answer]:
    """By row, the oldest first; empty if there is no file. Raises GalleryError for a damaged one."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise GalleryError(f"{path}: larger than {MAX_BYTES} bytes; remove it, and answers are counted anew")
        content = _File.model_validate(parse_json(path.read_bytes()))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise GalleryError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError:
        raise GalleryError(f"{path}: no file of answers; remove it, and they are counted anew") from None
    if content.format != FORMAT:
        raise GalleryError(f"{path}: expected format {FORMAT}, got {content.format[:40]!r}")
    return {answer.row: answer for answer in content.answers}


def add_answer(path: str | Path, answer: Answer) -> None:
    """Instead of an earlier one about the same row. Raises GalleryError."""
    _change(path, lambda answers: [*(a for a in answers if a.row != answer.row), answer][-MOST:])


def remove_answer(path: str | Path, row: str) -> None:
    _change(path, lambda answers: [a for a in answers if a.row != row])


def forget_person(path: str | Path, person: str) -> int:
    """Take out every answer that has to do with this id; gives how many. Raises GalleryError."""
    count = count_person(path, person)
    if count:
        _change(path, lambda answers: [a for a in answers if person not in (a.said, a.person, a.before)])
    return count


def count_person(path: str | Path, person: str) -> int:
    return sum(person in (a.said, a.person, a.before) for a in load_reviews(path).values())


def _change(path: str | Path, what: Callable[[Iterable[Answer]], list[Answer]]) -> None:
    with locked(path):
        kept = what(load_reviews(path).values())
        content = _File(format=FORMAT, answers=tuple(kept)).model_dump(mode="json")
        try:
            replace_file(path, (json.dumps(content) + "\n").encode(), 0o600)
        except OSError as error:
            raise GalleryError(f"{path}: cannot be written ({error.strerror}); the answer is not kept") from None
