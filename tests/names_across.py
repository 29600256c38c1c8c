#!/usr/bin/env python
"""Enrol people in one camera, stream another one, and count who gets which name, by person, by visit and by track.

    python tests/names_across.py --crops cross-camera/views --cameras 01 02 [--json FILE]
    python tests/names_across.py --street SEED
    python tests/names_across.py --data PEOPLE_MOT --cameras 1 1 --split 0.5

--crops makes a video of the second camera's pictures (tests/crop_video.py) and enrols from the first camera's pictures;
--street takes two virtual cameras of the synthetic street; --data a set in PRW's layout whose people are in both
cameras, or one camera split in time. Half of the people are enrolled with --views pictures each by runtime/enroll.py;
the others are strangers. runtime/stream.py reads both cameras (the first one so that its light can be learnt, its
events do not count), runtime/subscribe.py hears the events; --set match.threshold=0.5 changes the settings.

An event belongs to the person whose annotated box it overlaps most (IoU >= 0.5). A visit is a person's presence without
a gap of two seconds; seconds count from its beginning to its first right name, in the time of the video.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from box_run import REPOSITORY, enrol, hear_matches
from figures import save_figures
from places import Place, of_crops, of_frames, of_street

from personsearch.core.boxes import iou
from personsearch.core.errors import UserError, run_main

SAME_IOU = 0.5
GAP_S = 2.0  # absence that ends a visit


def main() -> int:
    return run_main(_main)


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--crops", type=Path, metavar="DIR", help="pictures of people in two cameras")
    source.add_argument("--street", type=int, metavar="SEED", help="the synthetic street")
    source.add_argument("--data", type=Path, metavar="ROOT", help="a data set in PRW's layout")
    parser.add_argument("--cameras", nargs=2, metavar=("ENROL", "STREAM"), help="names or numbers of the cameras")
    parser.add_argument("--split", type=float, default=0.0, help="of one camera: share of the frames to enrol from")
    parser.add_argument("--views", type=int, default=2, help="pictures a person is enrolled with")
    parser.add_argument("--bundle", default=str(REPOSITORY / "models" / "edge"))
    parser.add_argument("--seed", type=int, default=0, help="which half is enrolled")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of cams.yaml")
    parser.add_argument("--json", default="", metavar="FILE", help="write the figures")
    given = parser.parse_args()
    if given.street is None and not given.cameras:
        raise UserError("--cameras ENROL STREAM: which camera people are enrolled in, and which one is streamed")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.crops:
            first, second = of_crops(given.crops, given.cameras, folder, given.seed)
        elif given.data:
            first, second = of_frames(given.data, given.cameras, given.split, folder)
        else:
            first, second = of_street(given.street, folder)
        people = np.intersect1d(sorted(first.pictures), sorted(second.people))
        if len(people) < 2:
            raise UserError(f"{len(people)} people are in both cameras; enrolling half of them needs 2 or more")
        chosen = sorted(int(p) for p in np.random.default_rng(given.seed).permutation(people)[: len(people) // 2])
        for person in chosen:
            for picture in first.pictures[person][: given.views]:
                enrol(given.bundle, folder / "people.gallery", f"P{person}", picture.path, picture.box)
        settings: dict[str, Any] = {
            "bundle": given.bundle, "gallery": str(folder / "people.gallery"), "match": {"repeat_s": 0},
            "cameras": [{"name": n, "url": p.url, "pace": "fast"} for n, p in (("first", first), ("second", second))],
        }  # fmt: skip
        for change in given.set:
            override(settings, change)
        events, log = hear_matches(folder, settings)
    figures = count(events, second, set(chosen))
    found = re.findall(r"^second .*\(tracks (\d+)\)", log, re.MULTILINE)
    figures["tracks"]["all"] = int(found[-1]) if found else 0
    print(log.strip().splitlines()[-1])
    print(f"enrolled {len(chosen)} people with {given.views} views each")
    for unit, row in figures.items():
        print(f"{unit}: " + ", ".join(f"{name} {value}" for name, value in row.items()))
    if given.json:
        save_figures(given.json, {"enrolled": len(chosen), **figures})
    return 0


def override(settings: dict[str, Any], change: str) -> None:
    """match.threshold=0.5: a value of a section, in YAML."""
    key, equals, value = change.partition("=")
    *sections, last = key.split(".")
    if not equals or not last:
        raise UserError(f"--set {change}: expected KEY=VALUE, for example match.threshold=0.5")
    for section in sections:
        settings = settings.setdefault(section, {})
    settings[last] = yaml.safe_load(value)


def count(events: Sequence[dict[str, Any]], place: Place, enrolled: set[int]) -> dict[str, dict[str, Any]]:
    """Names given in a place by person, by visit and by track. People are called P followed by their number."""
    visits = [(person, *visit) for person, seen in place.people.items() for visit in visits_of(seen, place.fps)]
    said: list[tuple[int, int, int, int]] = []  # frame, track, owner (-1: nobody annotated), name
    for event in events:
        index = event["frame"]["index"]
        if event["camera"] == "second" and index in place.truths:
            owner = owner_of(event["bounding_box"], place.truths[index])
            said.append((index, event["track"], owner, int(event["person"][1:])))
    by_person: dict[int, list[tuple[int, int]]] = {}
    by_track: dict[int, Counter[str]] = {}
    for index, track, owner, name in said:
        by_person.setdefault(owner, []).append((index, name))
        verdict = "right" if owner == name else "nobody" if owner < 0 else "wrong" if owner in enrolled else "stranger"
        by_track.setdefault(track, Counter())[verdict] += 1

    def names(person: int, begin: int, end: int) -> list[tuple[int, int]]:
        return [(i, name) for i, name in by_person.get(person, []) if begin <= i <= end]

    def row(units: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
        known = [(p, names(p, *span)) for p, *span in units if p in enrolled]
        strangers = [names(p, *span) for p, *span in units if p not in enrolled]
        return {
            "enrolled": len(known),
            "named right": sum(any(name == p for _, name in given) for p, given in known),
            "named wrong": sum(any(name != p for _, name in given) for p, given in known),
            "strangers": len(strangers),
            "strangers named": sum(bool(given) for given in strangers),
        }

    waits = []
    for person, begin, end in visits:
        right = [index for index, name in names(person, begin, end) if name == person]
        waits += [(min(right) - begin) / place.fps] if right else []
    majority = Counter(verdicts.most_common(1)[0][0] for verdicts in by_track.values())
    return {
        "people": row([(person, min(seen), max(seen)) for person, seen in place.people.items()]),
        "visits": row(visits),
        "tracks": {
            "named": len(by_track), "right": majority["right"], "wrong": majority["wrong"],
            "strangers": majority["stranger"], "nobody annotated": majority["nobody"],
        },
        "seconds until the first right name": {
            "visits": len(waits),
            "median": round(float(np.median(waits)), 2) if waits else None,
            "p95": round(float(np.percentile(waits, 95)), 2) if waits else None,
        },
    }  # fmt: skip


def visits_of(seen: Sequence[int], fps: float) -> list[tuple[int, int]]:
    """First and last frame of each presence; `seen` are the frames that show the person."""
    frames = np.sort(np.asarray(seen))
    parts = np.split(frames, np.flatnonzero(np.diff(frames) > GAP_S * fps) + 1)
    return [(int(part[0]), int(part[-1])) for part in parts if len(part)]


def owner_of(box: dict[str, float], truth: tuple[np.ndarray, np.ndarray]) -> int:
    """Whose annotated box an event's box overlaps most; -1: nobody's, or somebody's without an identity."""
    boxes, identities = truth
    if not len(boxes):
        return -1
    given = np.array([[box["x"], box["y"], box["x"] + box["w"], box["y"] + box["h"]]], np.float32)
    overlap = iou(given, boxes)[0]
    return int(identities[overlap.argmax()]) if overlap.max() >= SAME_IOU else -1


if __name__ == "__main__":
    sys.exit(main())
