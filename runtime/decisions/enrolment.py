"""From pictures, a video or a track of a running stream to views worth enrolling, and what is wrong with them."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from cv2 import IMWRITE_JPEG_QUALITY, IMWRITE_JPEG_SAMPLING_FACTOR, IMWRITE_JPEG_SAMPLING_FACTOR_444, imencode

from personsearch.core.boxes import clip, iou
from personsearch.core.config import LARGEST_PIXEL
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import DataError, GalleryError, UserError
from personsearch.core.pictures import is_grey, read_picture
from personsearch.core.quality import Quality, quality_of
from personsearch.core.records import Detections
from personsearch.core.text import whole_number
from personsearch.core.tracking.tracker import Tracker, TrackingSettings
from personsearch.core.videos import USUAL_FPS, Video
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.person import Crop

FLOOR = 0.02  # quality below which a view does more harm than good
SAME_BOX = 0.5  # IoU at which a found person is the one at the given box
FOLLOW_S, BETWEEN_S, MOST_VIEWS = 20.0, 0.4, 5  # of a video
LIKE_ANOTHER = 0.55  # similarity of two people (centred) that deserves a warning
MARGIN = 0.1  # of a kept picture, in heights of the person
# Recognition lives on colour: at quality 90 with the usual halved colour, a person of 72 pixels was described with a
# cosine of 0.87 to the frame's own description; so it is 0.98.
JPEG = [IMWRITE_JPEG_QUALITY, 95, IMWRITE_JPEG_SAMPLING_FACTOR, IMWRITE_JPEG_SAMPLING_FACTOR_444]
DUPLICATE = 0.995  # cosine of two views of one person that say the same


@dataclass(frozen=True)
class Seen:
    """A person in a picture, and how well he can be seen."""

    where: str  # file, and frame of a video
    embedding: np.ndarray  # (D,)
    quality: Quality
    grey: bool = False
    crop: Crop | None = None  # the picture around the person, for a later model


def from_picture(searcher: BundleSearcher, path: str | Path, box: np.ndarray | None) -> Seen:
    """The person at `box` (4,) xyxy, or the only one in the picture.

    Raises DataError for an unreadable picture, a box outside it, nobody, or several people.
    """
    image = read_picture(path)
    h, w = image.shape[:2]
    (found,) = searcher.find([image])
    if box is None:
        if len(found) == 0:
            raise DataError(f"{path}: no person found; say where the person is with --box x,y,w,h ({w}x{h} pixels)")
        if len(found) > 1:
            raise DataError(f"{path}: {len(found)} people found; choose one of{_listing(found)}")
        box = found.boxes[0]
    seen = describe_person(searcher, image, box, found, str(path))
    return Seen(str(path), *seen, is_grey(image), cut_out(image, box))


def from_video(searcher: BundleSearcher, path: str, box: np.ndarray, at_s: float) -> list[Seen]:
    """Follow the person who is at `box` at `at_s` seconds, for up to 20 s, and keep the best views.

    Raises DataError if the video cannot be read, ends before, or nobody is there.
    """
    video = Video(path)
    fps = video.fps or USUAL_FPS
    tracker = Tracker(TrackingSettings(), searcher.manifest.min_score)
    low = min(searcher.manifest.min_score, TrackingSettings().low_score)
    followed: int | None = None
    seen: list[tuple[float, Seen]] = []
    step = max(1, round(fps / 10))
    started = False
    for _, moment, image in video.every(step):
        if moment < at_s - 1.0:  # a second before, so that the tracker knows everybody
            continue
        if moment > at_s + FOLLOW_S:
            break
        (found,) = searcher.find([image], low if searcher.manifest.describe == "demand" else None)
        tracks = tracker.update(found, moment)
        if not started and moment >= at_s - 0.5 / fps:
            started = True
            overlaps = iou(box[None], np.array([t.box for t in tracks]).reshape(-1, 4))[0]
            if not len(overlaps) or overlaps.max() < SAME_BOX:
                raise DataError(f"{path}: nobody was found at the box at {at_s:g} s; people there:{_listing(found)}")
            followed = tracks[int(overlaps.argmax())].number
        mine = next((t for t in tracks if t.number == followed), None)
        if mine is None or mine.low or (seen and moment - seen[-1][0] < BETWEEN_S):
            continue
        quality = quality_of(image, mine.box, mine.score, mine.covered)
        if quality.value >= FLOOR:
            embedding = searcher.embed(image, mine.box[None])[0]
            where, crop = f"{path} at {moment:.1f} s", cut_out(image, mine.box)
            seen.append((moment, Seen(where, embedding, quality, is_grey(image), crop)))
    if not started:
        raise DataError(f"{path}: ends before {at_s:g} s")
    if not seen:
        raise DataError(f"{path}: the person at the box is never seen well enough; try another moment")
    best = sorted(seen, key=lambda item: -item[1].quality.value)[:MOST_VIEWS]
    return [view for _, view in sorted(best, key=lambda item: item[0])]


def describe_person(
    searcher: BundleSearcher, image: np.ndarray, box: np.ndarray, found: Detections, name: str
) -> tuple[np.ndarray, Quality]:
    """Embedding (D,) and quality of the person at `box` (4,) xyxy, among all that were found. Raises DataError."""
    h, w = image.shape[:2]
    inside = clip(box[None], h, w)[0]
    if (inside[2:] - inside[:2] < 2).any():
        raise DataError(f"{name}: the box lies outside the picture, which has {w}x{h} pixels")
    overlaps = iou(inside[None], found.boxes)[0] if len(found) else np.zeros(0)
    own = int(overlaps.argmax()) if len(overlaps) and overlaps.max() >= SAME_BOX else None
    score = float(found.scores[own]) if own is not None else 0.0
    # A box that a person drew tightly around somebody is not cut off: only the frame's border cuts.
    whole = inside[0] <= 1 and inside[1] <= 1 and inside[2] >= w - 1 and inside[3] >= h - 1
    quality = quality_of(image, inside, max(score, 0.3) if whole else score, _hidden(inside, found, own))
    if whole:  # a picture of one person alone, cut out by somebody else
        quality = Quality(quality.size, quality.sharpness, quality.light, 1.0, quality.score)
    return searcher.embed(image, inside[None])[0], quality


def cut_out(image: np.ndarray, box: np.ndarray) -> Crop:
    """The person at `box` (4,) xyxy with a margin of a tenth of the height, as JPEG."""
    h, w = image.shape[:2]
    inside = clip(box[None], h, w)[0]
    margin = MARGIN * (inside[3] - inside[1])
    x1, y1 = np.maximum(np.floor(inside[:2] - margin), 0).astype(int).tolist()
    x2, y2 = np.minimum(np.ceil(inside[2:] + margin), [w, h]).astype(int).tolist()
    jpeg = imencode(".jpg", image[y1:y2, x1:x2], JPEG)[1].tobytes()
    left, top, right, bottom = (inside - np.array([x1, y1, x1, y1], np.float32)).tolist()
    return Crop(jpeg, (left, top, right, bottom))


def _hidden(box: np.ndarray, found: Detections, own: int | None) -> float:
    """Share of the box that others in front of it (lower feet) cover, at most."""
    area = float((box[2] - box[0]) * (box[3] - box[1]))
    shares = [0.0]
    for number, other in enumerate(found.boxes):
        if number != own and other[3] > box[3]:
            across = np.clip(np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2]), 0, None)
            shares.append(float(across[0] * across[1]) / max(area, 1e-6))
    return max(shares)


def _listing(found: Detections) -> str:
    return "".join(
        f"\n         --box {x1:.0f},{y1:.0f},{x2 - x1:.0f},{y2 - y1:.0f}   score {score:.2f}"
        for (x1, y1, x2, y2), score in zip(found.boxes, found.scores, strict=True)
    )


def check_quality(seen: list[Seen], force: bool) -> list[str]:
    """Warnings, a line each. Raises UserError for a view below the floor unless `force`."""
    warnings = []
    for view in seen:
        words = view.quality.complaints()
        if view.quality.value < FLOOR and not force:
            raise UserError(
                f"{view.where}: too poor to enrol ({', '.join(words) or 'hardly a person'}; quality "
                f"{view.quality.value:.2f}, at least {FLOOR:g} is needed); give a better picture, or use --force"
            )
        if words:
            warnings.append(f"{view.where}: {', '.join(words)} (quality {view.quality.value:.2f})")
        if view.grey:
            warnings.append(
                f"{view.where}: has no colour, by which people are recognised as well; cameras in colour may miss this "
                "person, a picture in colour is better"
            )
    return warnings


def check_likeness(gallery: Gallery, name: str, views: list[EnrolledView]) -> list[str]:
    """Warnings about people who look alike or are written alike, and about views that say nothing new."""
    from personsearch.runtime.decisions.lineup import EXCLUDED, Lineup

    warnings = []
    own = np.array([v.embedding for v in gallery.views_of(name)], np.float32)
    for number, view in enumerate(views, start=1):
        earlier = [*own, *(v.embedding for v in views[: number - 1])]
        if len(earlier) and float(np.max(np.array(earlier) @ view.embedding)) > DUPLICATE:
            warnings.append(f"view {number} of {name} is nearly the same as another one; other sides help more")
    if name not in gallery:
        alike = [person for person in gallery.people if _folded(person) == _folded(name)]
        warnings += [f"'{person}' is enrolled as well, and written nearly like '{name}'" for person in alike]
    together = Gallery(gallery.model_hash, gallery.dimensions)
    for record in gallery.everybody().values():
        together.put(record)
    for view in views:
        together.add(name, view)
    lineup = Lineup(together, lambda _: None)
    if len(lineup.people) > 1:
        row = lineup.similarities(lineup.mean_of(name)[None])[0]
        for person, value in zip(lineup.people, row, strict=True):
            if person != name and value > LIKE_ANOTHER:
                warnings.append(f"{name} looks like {person} already (similarity {value:.2f}); are they one person?")
    if name in gallery and gallery.person(name).negatives:
        before = Lineup(gallery, lambda _: None)
        rows = before.similarities(np.array([before.centre(view) for view in views]))
        if (rows[:, before.people.index(name)] == EXCLUDED).any():
            warnings.append(f"this looks like somebody who was said not to be {name} (--not)")
    return warnings


def _folded(name: str) -> str:
    """As people read it: without case, accents and space."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    return "".join(c for c in letters if not unicodedata.combining(c) and not c.isspace())


def track_of(text: str) -> tuple[str, int]:
    """`yard/17` -> camera and number. Raises UserError."""
    camera, slash, number = text.rpartition("/")
    track = whole_number(number, 1 << 53)
    if not slash or not camera or track is None:
        raise UserError(f"--track {text}: expected CAMERA/NUMBER as match events have them, for example yard/17")
    return camera, track


def no_track(camera: str, number: int) -> GalleryError:
    return GalleryError(
        f"track {camera}/{number}: the stream keeps no views of it (any more); views last as long as the person is in "
        "sight and some seconds longer"
    )


def parse_box(text: str) -> np.ndarray | None:
    """`x,y,w,h` of a command line -> (4,) xyxy, or None for nothing. Raises UserError."""
    if not text:
        return None
    try:
        x, y, w, h = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--box {text}: expected four numbers x,y,w,h in pixels") from None
    if not (w > 0 and h > 0 and np.abs([x, y, w, h]).max() <= LARGEST_PIXEL):
        raise UserError(f"--box {text}: expected numbers of pixels, width and height positive")
    return np.array([x, y, x + w, y + h], np.float32)
