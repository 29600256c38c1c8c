"""Which visits of two segments are one."""

from __future__ import annotations

import numpy as np
import pytest

from personsearch.archive.joining import joined
from personsearch.archive.parts import Edge, Part, Row

ADA, BEA = np.eye(8, dtype=np.float32)[:2]
LEFT, RIGHT = np.array([100, 100, 140, 200], np.float32), np.array([400, 100, 440, 200], np.float32)
BORDER = 60.0


def visit(name: str, started: float, ended: float, looks: np.ndarray, box: np.ndarray, quality: float = 0.5) -> Row:
    return Row(
        name, "yard", started, ended, "a.mp4", started, 1, 1, quality, box, looks, [started], [quality], box[None],
        looks[None], box, box,
    )  # fmt: skip


def part(number: int, rows: list[Row], edges: list[Edge] = [], video: str = "a", begin: float = 0.0) -> Part:  # noqa: B006
    about = {"started": begin, "begin": BORDER * number, "number": number}
    return Part(f"{video}/{number:05d}", 8, about, rows, edges)


def border(row: int, box: np.ndarray) -> list[Edge]:
    return [Edge(BORDER + n / 10, row, box + n) for n in range(10)]


def join(*parts: Part) -> list[tuple[str, float, float]]:
    return sorted((row.id, row.started, row.ended) for row in joined(parts, 10.0, 0.6))


def test_nothing_comes_of_nothing() -> None:
    assert join() == join(part(0, []), part(1, [])) == []


def test_boxes_of_the_same_pictures_join_whoever_they_show() -> None:
    """Also where looks say nothing: seen from the front before the border, and from behind after it."""
    first = part(0, [visit("a", 50, 62, ADA, LEFT), visit("b", 55, 62, BEA, RIGHT)], border(0, LEFT) + border(1, RIGHT))
    second = part(
        1, [visit("c", 60, 70, ADA, RIGHT), visit("d", 60, 64, BEA, LEFT)], border(0, RIGHT) + border(1, LEFT)
    )
    assert join(first, second) == [("a", 50, 64), ("b", 55, 70)]


def test_whoever_was_hidden_at_the_border_is_joined_by_looks_and_place() -> None:
    lost = part(0, [visit("a", 50, 58, ADA, LEFT)])
    assert join(lost, part(1, [visit("c", 61, 70, ADA, LEFT)])) == [("a", 50, 70)]
    for other in (visit("c", 61, 70, BEA, LEFT), visit("c", 69, 70, ADA, LEFT), visit("c", 58.1, 70, ADA, RIGHT)):
        lost = part(0, [visit("a", 50, 58, ADA, LEFT)])
        assert len(join(lost, part(1, [other]))) == 2


def test_a_visit_goes_over_many_borders_and_keeps_the_best_views() -> None:
    parts = [
        part(n, [visit(f"v{n}", BORDER * n, BORDER * (n + 1) + 2, ADA, LEFT, 0.2 + n / 10)],
             border_of(n) + border_of(n + 1)) for n in range(4)
    ]  # fmt: skip
    (row,) = joined(parts, 10.0, 0.6)
    assert (row.id, row.started, row.ended, row.views) == ("v0", 0.0, 242.0, 4)
    assert row.view_qualities == [pytest.approx(q) for q in (0.5, 0.4, 0.3, 0.2)]
    assert row.video_s == BORDER * 3


def border_of(number: int) -> list[Edge]:
    return [Edge(BORDER * number + n / 10, 0, LEFT) for n in range(10)]


def test_the_next_file_of_a_camera_goes_on_with_its_visits_but_not_one_much_later() -> None:
    first = part(0, [visit("a", 50, 58, ADA, LEFT)])
    assert join(first, part(0, [visit("c", 63, 70, ADA, LEFT)], video="b", begin=62)) == [("a", 50, 70)]
    first = part(0, [visit("a", 50, 58, ADA, LEFT)])
    assert len(join(first, part(0, [visit("c", 75, 80, ADA, LEFT)], video="b", begin=74))) == 2
