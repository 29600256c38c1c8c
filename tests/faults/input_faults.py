"""Malformed input: random damage to bundles, configurations, galleries, pictures and replay requests."""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from delivery_faults import fuzz_replay
from harness import REPOSITORY, Outcome, folder

from personsearch.core.bundle import read_manifest
from personsearch.core.config import load_settings
from personsearch.core.engines.searcher import BundleSearcher
from personsearch.core.errors import UserError
from personsearch.core.street.street import Street, StreetSettings
from personsearch.runtime.decisions.enrolment import from_picture
from personsearch.runtime.decisions.gallery import EnrolledView, Gallery
from personsearch.runtime.decisions.gallery_file import load_gallery, save_gallery
from personsearch.runtime.settings import StreamSettings, default_bundle


def damaged(data: bytes, rng: random.Random) -> bytes:
    """Bits flipped, bytes replaced, cut, doubled, or replaced whole."""
    body = bytearray(data)
    for _ in range(rng.choice((1, 1, 3, 20))):
        kind, at = rng.randrange(5), rng.randrange(max(1, len(body)))
        if kind == 0 and body:
            body[min(at, len(body) - 1)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            body[at : at + rng.randrange(1, 9)] = os.urandom(rng.randrange(9))
        elif kind == 2:
            del body[at:]
        elif kind == 3:
            body[at:at] = body[at : at + 200]
        else:
            body[at : at + 12] = rng.choice((b"null", b"[]", b"{}", b"-1", b"1e999", b"\x00" * 8, b'"' * 5, b": "))
    return bytes(body)


def attempts(seconds: float, act: Callable[[random.Random], None], seed: int) -> tuple[Counter[str], list[str]]:
    """Repeat for some seconds; counts accepted, refused (UserError), and gives whatever else was raised."""
    rng, counts, crashes = random.Random(seed), Counter(), []
    end = time.monotonic() + seconds
    while time.monotonic() < end or counts.total() < 25:  # a busy machine may manage few in the time
        try:
            act(rng)
            counts["accepted"] += 1
        except UserError as error:
            counts["refused"] += 1
            if not str(error).strip():
                crashes.append("an empty message")
        except Exception as error:
            crashes.append(f"{type(error).__name__}: {str(error)[:100]}")
    return counts, crashes


def malformed_input(long: bool) -> Outcome:
    seconds = 30.0 if long else 1.5
    results: dict[str, tuple[Counter[str], list[str]]] = {}
    with folder() as place:
        bundle, gallery_path = place / "bundle", place / "people.gallery"
        shutil.copytree(default_bundle(), bundle, ignore=shutil.ignore_patterns("*.pth"))
        manifest = json.loads((bundle / "manifest.json").read_text())
        manifest["files"].pop("weights.pth", None)
        good_manifest = json.dumps(manifest).encode()
        model_hash, dimensions = manifest["files"]["model.onnx"]["sha256"][:16], manifest["dimensions"]

        def bundle_attempt(rng: random.Random) -> None:
            (bundle / "manifest.json").write_bytes(damaged(good_manifest, rng))
            read_manifest(bundle)

        gallery = Gallery(model_hash, dimensions)
        for number in range(5):
            gallery.add(f"Person {number}", EnrolledView(np.eye(dimensions, dtype=np.float32)[number]))
        save_gallery(gallery, gallery_path)
        good_gallery = gallery_path.read_bytes()

        def gallery_attempt(rng: random.Random) -> None:
            gallery_path.write_bytes(damaged(good_gallery, rng))
            load_gallery(gallery_path, model_hash, dimensions)

        config = place / "cams.yaml"
        good_config = (REPOSITORY / "configs" / "cams.yaml").read_bytes()

        def config_attempt(rng: random.Random) -> None:
            config.write_bytes(damaged(good_config, rng))
            load_settings(config, StreamSettings)

        searcher = BundleSearcher(default_bundle())
        picture = place / "picture.png"
        image = Street(StreetSettings(seed=7)).frame(0, 3).image
        forms = [cv2.imencode(kind, image)[1].tobytes() for kind in (".png", ".jpg", ".bmp", ".webp")]

        def picture_attempt(rng: random.Random) -> None:
            picture.write_bytes(damaged(rng.choice(forms), rng))
            from_picture(searcher, Path(picture), np.array([100, 100, 160, 300], np.float32))

        for seed, (name, act) in enumerate(
            {
                "bundle": bundle_attempt, "gallery": gallery_attempt, "configuration": config_attempt,
                "picture": picture_attempt,
            }.items()
        ):  # fmt: skip
            results[name] = attempts(seconds, act, seed)
    sent, answered, alive = fuzz_replay(seconds)
    crashes = [f"{name}: {c}" for name, (_, found) in results.items() for c in found]
    told = ", ".join(
        f"{name} {c['refused']} of {c['refused'] + c['accepted']} refused" for name, (c, _) in results.items()
    )
    return Outcome(
        "random damage (bits, bytes, cuts, doubled parts) to good files and requests",
        f"{told}; {sent} replay requests, {answered} answers, the service goes on: {alive}; {len(crashes)} crashes",
        not crashes and alive and all(c["refused"] > 0 for c, _ in results.values()),
        {"crashes": crashes[:10], "replay_sent": sent, **{n: dict(c) for n, (c, _) in results.items()}},
    )
