"""Where boxes will be: a Kalman filter of constant velocity in seconds, so that any frame rate will do.

Centre x, centre y, width and height move independently, so each is a filter of its own, of position and velocity, and
no matrices are needed. The state of T boxes is an array (T, 5, 4): rows position, velocity, variance of the position,
covariance of both, variance of the velocity; columns the four coordinates; pixels and seconds.
"""

from __future__ import annotations

import numpy as np

# Standard deviations as shares of the box's height, so that near and far people are treated alike.
MEASURED = 0.05  # of a measured coordinate
START_SPEED = 1.0  # per second: nothing is known about a new track's velocity
STRAY = 1.0  # by how much a velocity (per second) strays within a second
FADE_S = np.array([4.0, 4.0, 0.4, 0.4])  # a velocity that is not confirmed dies away in so many seconds


def begin(boxes: np.ndarray) -> np.ndarray:
    """(T, 5, 4) states of boxes (T, 4) xyxy that are seen for the first time."""
    position = _coordinates(boxes)
    height = np.maximum(position[:, 3:], 1.0)
    nothing = np.zeros_like(position)
    spread, speed = nothing + (MEASURED * height) ** 2, nothing + (START_SPEED * height) ** 2
    return np.stack([position, nothing, spread, nothing, speed], axis=1)


def predict(states: np.ndarray, elapsed: np.ndarray) -> np.ndarray:
    """States (T, 5, 4) after `elapsed` (T,) seconds without a measurement."""
    position, velocity, pp, pv, vv = states.transpose(1, 0, 2)
    time = np.maximum(np.reshape(elapsed, (-1, 1)), 0.0)
    stray = (STRAY * np.maximum(position[:, 3:], 1.0)) ** 2
    fade = np.exp(-time / FADE_S)
    reach = FADE_S * (1 - fade)
    pp = pp + 2 * reach * pv + reach**2 * vv + stray * time**3 / 3
    pv = fade * (pv + reach * vv) + stray * time**2 / 2
    return np.stack([position + reach * velocity, fade * velocity, pp, pv, fade**2 * vv + stray * time], axis=1)


def correct(states: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Predicted states (T, 5, 4) after boxes (T, 4) xyxy were measured."""
    position, velocity, pp, pv, vv = states.transpose(1, 0, 2)
    expected = pp + (MEASURED * np.maximum(position[:, 3:], 1.0)) ** 2
    gain, gain_v = pp / expected, pv / expected
    error = _coordinates(boxes) - position
    return np.stack(
        [position + gain * error, velocity + gain_v * error, (1 - gain) * pp, (1 - gain) * pv, vv - gain_v * pv], axis=1
    )


def boxes_of(states: np.ndarray) -> np.ndarray:
    """(T, 4) xyxy; a side that would have shrunk to nothing is one pixel long."""
    centre, size = states[:, 0, :2], np.maximum(states[:, 0, 2:], 1.0)
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1)


def _coordinates(boxes: np.ndarray) -> np.ndarray:
    boxes = boxes.astype(np.float64)
    return np.concatenate([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], axis=1)
