"""Open-set identification on cases small enough to score by hand."""

from pathlib import Path

import numpy as np
import pytest

from personsearch.core.errors import DataError
from personsearch.core.identification import (
    Centre,
    Centring,
    Identification,
    Sightings,
    Trial,
    identify,
    normalised,
    prototypes,
)


def sightings(rows: list[tuple[int, int, list[float]]]) -> Sightings:
    """Rows of (person, camera, embedding), one view each in their order."""
    people, cameras = (np.array([row[i] for row in rows], np.int64) for i in (0, 1))
    embeddings = np.array([row[2] for row in rows] or np.zeros((0, 2)), np.float32)
    return Sightings(embeddings, people, cameras, np.arange(len(rows)))


def circle(count: int, camera: int, shift: tuple[float, float] = (0, 0)) -> list[tuple[int, int, list[float]]]:
    """People at equal distances on the unit circle, moved by what the camera does."""
    angles = 2 * np.pi * np.arange(count) / count
    return [(p, camera, [np.cos(a) + shift[0], np.sin(a) + shift[1]]) for p, a in enumerate(angles)]


def trial(top: list[float], right: list[int], known: list[int]) -> Trial:
    return Trial(np.arange(len(top)), np.array(top), np.array(right, bool), np.array(known, bool))


def test_nobody_at_all_scores_zero() -> None:
    nobody = trial([], [], [])
    assert (nobody.fnir(0.5), nobody.fpir(0.5), nobody.threshold(0.01)) == (0.0, 0.0, float("-inf"))
    empty = Identification([])
    assert empty.figures() == {"FNIR at FPIR 1 %": 0.0, "FNIR at FPIR 10 %": 0.0, "rank-1": 0.0}
    assert set(empty.intervals().values()) == {(0.0, 0.0)}
    with pytest.raises(ValueError, match="at least 4 people"):
        identify(sightings([]))
    assert prototypes(np.zeros((0, 3)), np.zeros(0, int)).shape == (0, 3)


def test_missed_and_misnamed_people_count_alike() -> None:
    # enrolled: found, misnamed, too low; strangers: one above the threshold, one below
    one = trial([0.9, 0.8, 0.3, 0.6, 0.2], [1, 0, 1, 0, 0], [1, 1, 1, 0, 0])
    assert one.fnir(0.5) == pytest.approx(2 / 3)
    assert one.fpir(0.5) == pytest.approx(1 / 2)
    assert Identification([one]).rank_1 == pytest.approx(2 / 3)


def test_the_threshold_lets_the_given_share_of_strangers_pass() -> None:
    strangers = [i / 10 for i in range(11)]
    one = trial([0.95, 0.85, *strangers], [1, 1] + [0] * 11, [1, 1] + [0] * 11)
    assert one.threshold(0.1) == pytest.approx(0.9)
    assert one.threshold(0.0) == pytest.approx(1.0)
    figures = Identification([one]).figures([0.0, 0.1, 0.5])
    assert figures == pytest.approx(
        {"FNIR at FPIR 0 %": 1.0, "FNIR at FPIR 10 %": 0.5, "FNIR at FPIR 50 %": 0.0, "rank-1": 1.0}
    )


def test_figures_are_means_over_trials_each_at_its_own_threshold() -> None:
    easy, hard = trial([0.9, 0.1], [1, 0], [1, 0]), trial([0.5, 0.6], [1, 0], [1, 0])
    both = Identification([easy, hard])
    assert both.fnir(0.01) == pytest.approx(0.5)
    assert both.threshold(0.01) == pytest.approx(0.35)


def test_intervals_resample_people_and_hold_the_figure() -> None:
    rng = np.random.default_rng(0)
    top = np.concatenate([rng.normal(0.7, 0.1, 200), rng.normal(0.4, 0.1, 200)])
    one = Trial(np.arange(400), top, np.ones(400, bool), np.arange(400) < 200)
    spans, figures = Identification([one]).intervals(), Identification([one]).figures()
    for name in ("FNIR at FPIR 1 %", "FNIR at FPIR 10 %"):
        low, high = spans[name]
        assert low < figures[name] < high
    assert spans["rank-1"] == (1.0, 1.0)
    # Trials of the same people say the same: the interval must not shrink by counting them twice.
    assert Identification([one, one]).intervals() == spans
    few = Identification([Trial(np.arange(40), top[180:220], np.ones(40, bool), np.arange(40) < 20)]).intervals()
    assert np.diff(few["FNIR at FPIR 10 %"])[0] > np.diff(spans["FNIR at FPIR 10 %"])[0]


def test_a_resample_is_the_quantile_of_the_repeated_values() -> None:
    from personsearch.core.identification import _quantiles

    rng = np.random.default_rng(1)
    values, counts = rng.normal(size=9), rng.integers(0, 4, (50, 9))
    counts[0] = 0
    got = _quantiles(values, counts, 0.9)
    assert got[0] == -np.inf
    for row, value in zip(counts[1:], got[1:], strict=True):
        assert value == pytest.approx(np.quantile(np.repeat(values, row), 0.9))


def test_people_are_found_in_the_other_camera_and_strangers_are_not() -> None:
    seen = sightings(circle(8, 1) + circle(8, 2))
    result = identify(seen, halves=3)
    assert len(result.trials) == 6  # three halves, two directions
    assert result.figures() == {"FNIR at FPIR 1 %": 0.0, "FNIR at FPIR 10 %": 0.0, "rank-1": 1.0}
    for one in result.trials:
        assert one.known.sum() == 4
        assert one.top[one.known] == pytest.approx(1.0)
        assert one.top[~one.known].max() == pytest.approx(np.cos(np.pi / 4))


def test_what_a_camera_adds_to_everybody_is_taken_off() -> None:
    moved = sightings(circle(8, 1) + circle(8, 2, shift=(3.0, 0.0)))
    plain = identify(Centring("none")(moved)).fnir(0.1)
    centred = identify(Centring("mean", before_l2=True)(moved))
    assert plain > 0.5
    assert centred.fnir(0.1) == 0.0
    for one in centred.trials:
        assert one.top[one.known] == pytest.approx(1.0)


def test_only_the_first_views_are_enrolled() -> None:
    rows = circle(4, 1)
    wrong = [(p, 1, [-e[0], -e[1]]) for p, _, e in rows]  # second views look like somebody else
    seen = sightings(rows + wrong + circle(4, 2))
    first = identify(seen, views=1)
    assert all(one.top[one.known] == pytest.approx(1.0) and one.right[one.known].all() for one in first.trials[::2])
    template = identify(seen, views=2, template=True)  # the mean of opposite views says nothing
    assert all(one.top == pytest.approx(0.0, abs=1e-6) for one in template.trials[::2])


def test_people_of_one_camera_alone_take_no_part() -> None:
    seen = sightings(circle(5, 1) + circle(4, 2) + [(9, 1, [1.0, 0.0])])
    assert all(one.people.tolist() == [0, 1, 2, 3] for one in identify(seen, halves=2).trials)
    with pytest.raises(ValueError, match="two cameras have seen"):
        identify(sightings(circle(8, 1) + [(p + 8, 2, e) for p, _, e in circle(8, 2)]))


def test_everybody_counts_once_in_a_camera() -> None:
    # Eq. 5: a person who stands there for an hour is one prototype
    rows = np.array([[0.0, 0.0]] * 99 + [[1.0, 0.0], [3.0, 0.0]])
    found = prototypes(rows, np.array([5] * 99 + [7, 7]))
    assert found.tolist() == [[0.0, 0.0], [2.0, 0.0]]
    assert Centre.of(found).mean.tolist() == [1.0, 0.0]


def test_a_young_centre_leans_on_the_prior() -> None:
    given, prior = np.array([[2.0, 0.0], [4.0, 0.0]]), Centre(np.array([0.0, 1.0]))
    assert Centre.of(given).mean.tolist() == [3.0, 0.0]
    assert Centre.of(given, k=2).mean.tolist() == [1.5, 0.0]
    assert Centre.of(given, k=2, prior=prior).mean.tolist() == [1.5, 0.5]
    assert Centre.of(given[:0], k=2, prior=prior).mean.tolist() == [0.0, 1.0]
    assert Centre.of(given[:0]).mean.tolist() == [0.0, 0.0]
    spread = Centre.of(given, variance=True, k=2).variance
    assert spread is not None
    assert spread.tolist() == [0.75, 0.25]  # half of its own (1, 0), half of the same in each dimension
    alone = Centre.of(given[:1], variance=True, k=0)
    assert np.isfinite(alone.apply(given)).all()


def test_centring_takes_as_many_people_as_asked_and_always_the_same() -> None:
    seen = sightings(circle(8, 1))
    one, again, other = (Centring(most=2, seed=seed)(seen).embeddings for seed in (0, 0, 1))
    assert (one == again).all()
    assert not np.allclose(one, other)
    assert np.allclose(np.linalg.norm(Centring("none")(seen).embeddings, axis=1), 1)


def test_numbers_that_are_not_finite_and_odd_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="row 1"):
        sightings([(1, 1, [0.0, 1.0]), (2, 1, [np.nan, 1.0])])
    with pytest.raises(ValueError, match="one person, camera and view"):
        Sightings(np.zeros((2, 3)), np.zeros(1), np.zeros(2), np.zeros(2))
    assert normalised(np.zeros((1, 3))).tolist() == [[0, 0, 0]]


def test_sightings_outlive_a_file(tmp_path: Path) -> None:
    seen = sightings(circle(4, 1))
    seen.save(tmp_path / "a.npz")
    assert (Sightings.load(tmp_path / "a.npz").embeddings == seen.embeddings).all()
    (tmp_path / "b.npz").write_bytes(b"PK something else")
    for bad in ("b.npz", "missing.npz"):
        with pytest.raises(DataError, match="--dump"):
            Sightings.load(tmp_path / bad)
