"""What else keeps something about people: erased together with the gallery."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from personsearch.runtime.history import folder
from personsearch.runtime.operations import reviews
from personsearch.runtime.operations.forget import Eraser
from personsearch.runtime.operations.forget_gallery import Forgotten
from personsearch.runtime.recording import files


def erasers_of(gallery: str | Path, history: str, recordings: str) -> list[Eraser]:
    """gallery  its file; history, recordings  their folders, "" for none"""
    erasers = [_eraser("reviews", reviews.forget_person, reviews.count_person, str(reviews.reviews_file(gallery)))]
    if history:
        erasers.append(_eraser("history", folder.forget_person, folder.count_person, history))
    if recordings:
        erasers.append(_eraser("recordings", files.forget_person, files.count_person, recordings))
    return erasers


def _eraser(kind: str, forget: Callable[[str, str], int], count: Callable[[str, str], int], place: str) -> Eraser:
    def over_ids(each: Callable[[str, str], int]) -> Callable[[Forgotten], int]:
        return lambda who: sum(each(place, person) for person in who.ids)

    return Eraser(kind, over_ids(forget), over_ids(count))
