"""What is kept of each live camera over restarts: the mean of its people, which is nobody's embedding.

A file beside the gallery, without pickle, readable by its owner only. It can be lost without harm: a camera without it
learns its mean anew within an hour or so.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from personsearch.core.files import replace_file
from personsearch.runtime.decisions.centring import StoredMean

log = logging.getLogger("personsearch.means")
FORMAT = "personsearch-means/1"
MOST_CAMERAS, MAX_BYTES = 4096, 64 << 20


def means_file(gallery: str | Path) -> Path:
    """people.gallery -> people.gallery.means"""
    return Path(f"{gallery}.means")


def load_means(path: str | Path, model_hash: str, dimensions: int) -> dict[str, StoredMean]:
    """By camera; empty, with a warning, for a damaged file. Means of another model are of no use, and left out."""
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise ValueError("too large")
        with np.load(path, allow_pickle=False) as content:
            if str(content["format"]) != FORMAT:
                raise ValueError("another format")
            if str(content["model_hash"]) != model_hash:
                log.warning("%s: belongs to another model; the cameras' means are learnt anew", path)
                return {}
            names = [str(name) for name in content["cameras"].reshape(-1)]
            means = np.asarray(content["means"], np.float32).reshape(len(names), -1)
            counts, moments = (np.asarray(content[key], np.float64).reshape(-1) for key in ("counts", "moments"))
    except FileNotFoundError:
        return {}
    except Exception as error:  # numpy's parser raises a dozen kinds for a damaged file
        log.warning("%s: not readable (%s); the cameras' means are learnt anew", path, type(error).__name__)
        return {}
    if len(names) > MOST_CAMERAS or not len(names) == len(counts) == len(moments) or means.shape[1:] != (dimensions,):
        log.warning("%s: damaged; the cameras' means are learnt anew", path)
        return {}
    found = {}
    for name, mean, count, moment in zip(names, means, counts.tolist(), moments.tolist(), strict=True):
        good = np.isfinite(mean).all() and float(np.linalg.norm(mean)) <= 1.01
        if good and np.isfinite([count, moment]).all() and count >= 0:
            found[name] = StoredMean(mean, count, moment)
        else:
            log.warning("%s: the mean of camera %s is no mean of embeddings; it is learnt anew", path, name)
    return found


def save_means(path: str | Path, means: Mapping[str, StoredMean], model_hash: str) -> None:
    """Replace the file in one step. Raises OSError; the old one is then as it was."""
    buffer, chosen = io.BytesIO(), sorted(means.items())
    np.savez(
        buffer, format=np.array(FORMAT), model_hash=np.array(model_hash),
        cameras=np.array([name for name, _ in chosen], dtype=np.str_).reshape(-1),
        means=np.array([stored.mean for _, stored in chosen], np.float32),
        counts=np.array([stored.count for _, stored in chosen], np.float64),
        moments=np.array([stored.moment for _, stored in chosen], np.float64),
    )  # fmt: skip
    replace_file(path, buffer.getvalue(), 0o600)
