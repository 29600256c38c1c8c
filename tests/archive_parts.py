"""Videos with key frames where a test wants them."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from personsearch.core.street.street import Street, StreetSettings


def write_video(path: Path, images: Iterable[np.ndarray], fps: int = 10, gop: int = 10, b_frames: int = 0) -> Path:
    """H.264 with a key frame every `gop` pictures; uint8 (h, w, 3) BGR."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = None
        for number, image in enumerate(images):
            if stream is None:
                options = {"preset": "ultrafast", "crf": "18", "threads": "1", "sc_threshold": "0"}
                stream = container.add_stream("libx264", rate=fps, options=options)
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", gop
                stream.codec_context.max_b_frames = b_frames
            frame = av.VideoFrame.from_ndarray(image, format="bgr24")
            frame.pts, frame.time_base = number, Fraction(1, fps)
            container.mux(stream.encode(frame))
        assert stream is not None
        container.mux(stream.encode(None))
    return path


def street(frames: Iterable[int], people: int = 3, seed: int = 7) -> list[np.ndarray]:
    """Frames of a street with these numbers, ten of them a second."""
    scene = Street(StreetSettings(seed=seed, people=people, fps=10, imbalance=0))
    return [scene.frame(0, number).image for number in frames]


def numbered(frames: int) -> list[np.ndarray]:
    """Small pictures that say which one they are, in grey levels that survive compression."""
    return [np.full((48, 64, 3), 20 + number % 32 * 7, np.uint8) for number in range(frames)]


def number_in(image: np.ndarray) -> int:
    return round((float(image.mean()) - 20) / 7) % 32
