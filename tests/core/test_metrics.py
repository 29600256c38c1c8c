"""The evaluation protocol on cases small enough to score by hand."""

import numpy as np
import pytest

from personsearch.core.metrics import average_precision, detection_scores, not_within, search_scores
from personsearch.core.records import Detections, ImageTruth, Query

BIG = np.array([[0, 0, 100, 200]], np.float32)


def truth(name: str, identity: int, box: np.ndarray = BIG) -> ImageTruth:
    return ImageTruth(name, name, box, np.array([identity] * len(box)), 1)


def found(*rows: tuple[list[float], float, list[float]]) -> Detections:
    if not rows:
        return Detections.empty(2)
    return Detections(*(np.array(column, np.float32) for column in zip(*rows, strict=True)))


QUERY = [Query("q.jpg", BIG[0], 7)]
EMBEDDING = np.array([[1.0, 0.0]], np.float32)
A, B = [1.0, 0.0], [0.0, 1.0]


def test_no_queries_and_no_detections_score_zero() -> None:
    empty = search_scores([], np.zeros((0, 2)), [truth("a.jpg", 7)], {})
    assert (empty.mean_ap, empty.top_k[1]) == (0.0, 0.0)
    scores = search_scores(QUERY, EMBEDDING, [truth("a.jpg", 7)], {})
    assert (scores.mean_ap, scores.top_k[10]) == (0.0, 0.0)


def test_a_missed_image_counts_as_ground_truth() -> None:
    truths = [truth("a.jpg", 7), truth("b.jpg", 7)]
    scores = search_scores(QUERY, EMBEDDING, truths, {"a.jpg": found((BIG[0].tolist(), 1, A)), "b.jpg": found()})
    assert scores.mean_ap == pytest.approx(0.5)
    assert scores.top_k[1] == 1.0


def test_the_querys_own_image_is_excluded() -> None:
    truths = [truth("q.jpg", 7), truth("a.jpg", 7)]
    detections = {"q.jpg": found((BIG[0].tolist(), 1, A)), "a.jpg": found(([300, 0, 400, 200], 1, A))}
    assert search_scores(QUERY, EMBEDDING, truths, detections).mean_ap == 0.0


def test_only_the_most_similar_fitting_detection_is_right() -> None:
    near = [4.0, 0, 104, 200]
    detections = {"a.jpg": found((near, 0.9, [0.9, 0.43]), (BIG[0].tolist(), 0.8, [0.8, 0.6]))}
    scores = search_scores(QUERY, EMBEDDING, [truth("a.jpg", 7)], detections)
    assert scores.mean_ap == pytest.approx(1.0)  # ranks: right, wrong
    swapped = {"a.jpg": found(([300, 0, 400, 200], 0.9, [0.9, 0.43]), (BIG[0].tolist(), 0.8, [0.8, 0.6]))}
    scores = search_scores(QUERY, EMBEDDING, [truth("a.jpg", 7)], swapped)
    assert scores.mean_ap == pytest.approx(0.5)  # ranks: wrong, right
    assert scores.top_k[1] == 0.0
    assert scores.top_k[5] == 1.0


def test_small_boxes_have_a_lower_overlap_threshold() -> None:
    small = np.array([[0, 0, 10, 20]], np.float32)  # threshold 200 / 600 = 1/3
    shifted = [0.0, 8.0, 10.0, 28.0]  # IoU 12 / 28 = 0.43
    scores = search_scores(QUERY, EMBEDDING, [truth("a.jpg", 7, small)], {"a.jpg": found((shifted, 1, A))})
    assert scores.mean_ap == 1.0
    large = [0.0, 80.0, 100.0, 280.0]  # the same share of a large box is too little
    assert search_scores(QUERY, EMBEDDING, [truth("a.jpg", 7)], {"a.jpg": found((large, 1, A))}).mean_ap == 0.0


def test_min_score_galleries_and_unlabelled_people() -> None:
    truths = [truth("a.jpg", 7), truth("b.jpg", -1)]
    detections = {"a.jpg": found((BIG[0].tolist(), 0.4, A)), "b.jpg": found((BIG[0].tolist(), 0.9, A))}
    assert search_scores(QUERY, EMBEDDING, truths, detections, min_score=0.5).mean_ap == 0.0
    scores = search_scores(QUERY, EMBEDDING, truths, detections, galleries=[["a.jpg"]])
    assert scores.mean_ap == 1.0
    tie = search_scores(QUERY, EMBEDDING, truths, detections)
    assert tie.mean_ap == pytest.approx(0.5)  # equal similarities form one step of precision 1/2
    assert tie.top_k[1] == 1.0  # and the order is stable


def test_average_precision_by_hand() -> None:
    hits = np.array([True, False, True])
    assert average_precision(hits, np.array([3.0, 2.0, 1.0])) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.zeros(0, bool), np.zeros(0)) == 0.0


def test_detection_needs_mutual_best_matches() -> None:
    one = truth("a.jpg", -1)
    twice = {"a.jpg": found((BIG[0].tolist(), 0.9, A), ([2.0, 0, 102, 200], 0.8, A))}
    scores = detection_scores([one], twice)
    assert scores.recall == 1.0
    assert scores.ap == pytest.approx(1.0)
    wrong_first = {"a.jpg": found(([200.0, 0, 300, 200], 0.9, A), (BIG[0].tolist(), 0.8, A))}
    assert detection_scores([one], wrong_first).ap == pytest.approx(0.5)
    assert detection_scores([], {}).ap == 0.0


def test_min_gap_leaves_out_frames_nearby_in_the_same_camera() -> None:
    truths = [ImageTruth(f"c1s1_{n:06d}.jpg", "", BIG, np.array([7]), 1) for n in (0, 30, 60)]
    truths.append(ImageTruth("c2s1_000001.jpg", "", BIG, np.array([7]), 2))
    query = [Query("c1s1_000000.jpg", BIG[0], 7)]
    assert not_within(query, truths, 50) == [["c1s1_000060.jpg", "c2s1_000001.jpg"]]
