"""Which detection is which track: buffered overlap, and the assignment that is best for all together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from personsearch.core.boxes import area, iou


def buffered(boxes: np.ndarray, share: float | np.ndarray) -> np.ndarray:
    """Boxes (N, 4) grown on each side by a share (one, or (N,)) of their own width and height, so that people who
    moved further than their own width still meet (Yang et al., WACV 2023, Eq. 1)."""
    margin = (boxes[:, 2:] - boxes[:, :2]) * np.reshape(share, (-1, 1))
    return np.concatenate([boxes[:, :2] - margin, boxes[:, 2:] + margin], axis=1)


def affinity(predicted: np.ndarray, found: np.ndarray, buffer: float) -> np.ndarray:
    """(T, N) how well boxes found (N, 4) fit the predicted ones (T, 4), from 0 to 1: buffered IoU times the ratio of
    the heights, because a person's height changes slowly, unlike his width."""
    overlap = iou(buffered(predicted, buffer), buffered(found, buffer))
    height, other = predicted[:, None, 3] - predicted[:, None, 1], found[None, :, 3] - found[None, :, 1]
    return overlap * np.minimum(height, other) / np.maximum(np.maximum(height, other), 1e-9)


def assign(value: np.ndarray, least: float) -> list[tuple[int, int]]:
    """Pairs (row, column) with the greatest sum of `value` (T, N) above `least`; no pair is worth less than that.

    Shortest augmenting paths (Jonker and Volgenant 1987); as many columns again, worth nothing, leave a row alone.
    """
    possible = value >= least
    rows, columns = np.flatnonzero(possible.any(1)), np.flatnonzero(possible.any(0))
    part = np.where(possible, value - least, 0.0)[np.ix_(rows, columns)]
    n, m = part.shape
    cost = np.concatenate([-part, np.zeros((n, n))], axis=1)
    row_of, column_of = np.full(m + n, -1), np.full(n, -1)
    of_row, of_column = np.zeros(n), np.zeros(m + n)  # the dual variables
    for start in range(n):
        shortest, came_from = np.full(m + n, np.inf), np.full(m + n, -1)
        closed = np.zeros(m + n, bool)
        row, reached, visited = start, 0.0, []
        while row >= 0:
            visited.append((row, reached))
            distance = reached + cost[row] - of_row[row] - of_column
            better = (distance < shortest) & ~closed
            shortest[better], came_from[better] = distance[better], row
            column = int(np.where(closed, np.inf, shortest).argmin())
            reached, closed[column] = float(shortest[column]), True
            row = int(row_of[column])
        for row, before in visited:
            of_row[row] += reached - before
        of_column[closed] -= reached - shortest[closed]
        row = -1
        while row != start:  # from the free column back to the start
            row = int(came_from[column])
            row_of[column] = row
            column, column_of[row] = int(column_of[row]), column
    pairs = [(int(rows[r]), int(columns[c])) for r, c in enumerate(column_of) if c < m]
    return [pair for pair in pairs if possible[pair]]


def ambiguous(value: np.ndarray, pairs: Sequence[tuple[int, int]], margin: float) -> list[bool]:
    """For each pair (row, column) of `value` (T, N): does another row or column fit it nearly as well?"""
    result = []
    for row, column in pairs:
        others = np.concatenate([np.delete(value[row], column), np.delete(value[:, column], row)])
        result.append(bool(len(others) and others.max() > value[row, column] - margin))
    return result


def inside(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(N,) greatest share of each box (N, 4) that lies in one of the others (M, 4)."""
    if not len(others):
        return np.zeros(len(boxes))
    size = np.minimum(boxes[:, None, 2:], others[None, :, 2:]) - np.maximum(boxes[:, None, :2], others[None, :, :2])
    return (np.maximum(size, 0).prod(-1) / np.maximum(area(boxes), 1e-9)[:, None]).max(1)


def covered(boxes: np.ndarray) -> np.ndarray:
    """(N,) share of each box (N, 4) that boxes in front of it cover; whoever's feet are lower in the picture is nearer
    to the camera. Counted on a grid of 8x16 points a box."""
    x, y = np.meshgrid((np.arange(8) + 0.5) / 8, (np.arange(16) + 0.5) / 16)
    points = boxes[:, None, :2] + np.stack([x.ravel(), y.ravel()], 1) * (boxes[:, None, 2:] - boxes[:, None, :2])
    points, other = points[:, None], boxes[None, :, None]  # (N, 1, 128, 2), (1, N, 1, 4)
    hit = ((points >= other[..., :2]) & (points < other[..., 2:])).all(-1)
    in_front = boxes[None, :, 3] > boxes[:, None, 3]
    return (hit & in_front[..., None]).any(1).mean(1)
