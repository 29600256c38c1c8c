"""Is a segment worth its decoding? A look at its key frames alone, with the stream's own test for motion."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from personsearch.archive.pictures import KeyPictures, Segment
from personsearch.runtime.cameras.motion import MotionDetector

APART_S = 2.5  # key frames farther apart than this tell nothing: somebody may have passed in between


def nothing_moves(
    segment: Segment,
    ignored: Sequence[Sequence[float]],
    prepare: Callable[[np.ndarray], np.ndarray],
    anybody: Callable[[np.ndarray], bool],
    look_every_s: float,
) -> bool:
    """Whether a segment may be left out: its key frames are near enough to tell, nothing moved in them, and nobody is
    there who stands still.

    ignored  parts of the picture where motion does not count
    prepare  turns, cuts and shrinks a picture as the camera's settings say
    anybody  looks for people in a prepared picture; asked every `look_every_s` seconds
    """
    detector = MotionDetector(ignored)
    before = looked = -math.inf
    count = 0
    for moment, picture in KeyPictures(segment):
        if count and moment - before > APART_S:
            return False
        image = prepare(picture)
        if detector.see(image, moment) != "still" and count:
            return False
        if moment - looked >= look_every_s:
            looked = moment
            if anybody(image):
                return False
        before, count = moment, count + 1
    end = segment.video.duration_s if math.isinf(segment.end_s) else segment.end_s
    return count > 1 and end - before <= 2 * APART_S
