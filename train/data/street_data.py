"""The synthetic street as a data set: frames are drawn when they are read, so it needs no disk."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from personsearch.core.errors import DataError
from personsearch.core.records import ImageTruth, Query
from personsearch.core.street.street import Street, parse_street_url, street_of
from personsearch.train.data.prw import SearchData
from personsearch.train.settings import SourceSettings

SCHEME = "synthetic://street?"
TEST_SEED_OFFSET = 1_000_003  # other people in front of other cameras
SECONDS_BETWEEN_FRAMES = 1.1
QUERY_VISIBLE = 0.8


class StreetImages:
    """Pictures named by a street URL plus `#frame`."""

    @staticmethod
    def owns(path: str) -> bool:
        return path.startswith(SCHEME)

    @staticmethod
    def read(path: str) -> np.ndarray:
        url, _, number = path.partition("#")
        return _street(url).frame(parse_street_url(url).camera, int(number)).image


@lru_cache(maxsize=16)
def _street(url: str) -> Street:
    return street_of(parse_street_url(url))


def street_split(source: SourceSettings, split: str) -> SearchData:
    """`frames` pictures spread over the cameras; train and test share no person and no camera."""
    seed = source.seed + (TEST_SEED_OFFSET if split == "test" else 0)
    images: list[ImageTruth] = []
    seen: dict[int, list[tuple[str, np.ndarray, float]]] = {}
    for position in range(source.frames):
        camera, turn = position % source.cameras, position // source.cameras
        url = (
            f"{SCHEME}seed={seed}&camera={camera}&cameras={source.cameras}&people={source.people}"
            f"&identities={source.identities}&imbalance={source.imbalance}&fps=10"
        )
        number = round(turn * SECONDS_BETWEEN_FRAMES * 10)
        try:
            truth = _street(url).truth(camera, number)
        except ValueError as error:
            raise DataError(f"street: {error}") from None
        name = f"c{camera + 1}s1_{number:06d}.jpg"
        images.append(ImageTruth(name, f"{url}#{number}", truth.boxes, truth.identities, camera + 1))
        for identity, box, visible in zip(truth.identities, truth.boxes, truth.visible, strict=True):
            seen.setdefault(int(identity), []).append((name, box, float(visible)))
    queries = []
    if split == "test":
        for identity, places in sorted(seen.items()):
            clear = [place for place in places if place[2] >= QUERY_VISIBLE]
            if clear and len(places) > 1:
                name, box, _ = clear[len(clear) // 2]
                queries.append(Query(name, box, identity))
    return SearchData(images, queries)
