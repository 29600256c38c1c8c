"""What the gates measure does not depend on how much is described for it."""

from dataclasses import astuple

import numpy as np
import pytest
from conftest import REPOSITORY

from personsearch.export.gates import find_data
from personsearch.export.scoring import Subject, accuracy, thresholds
from personsearch.train.data.prw import SearchData
from personsearch.train.model.torch_searcher import TorchSearcher
from personsearch.train.weights.checkpoint import load_network


class Wrong(TorchSearcher):
    """Describes everybody as somebody else from the third frame on."""

    turn = 0

    def embed(self, image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
        self.turn += 1
        return super().embed(image, boxes) * (1 if self.turn < 3 else -1)


def test_describing_only_who_counts_gives_the_figures_of_describing_everybody() -> None:
    network, _ = load_network(REPOSITORY / "models" / "light" / "weights.pth")
    described = [0]
    network.head.register_forward_hook(lambda _, __, rows: described.append(len(rows)))
    street, _ = find_data("", "test", 8)
    images = street.images[::2]
    names = {truth.name for truth in images}
    data = SearchData(images, [query for query in street.queries if query.image in names])
    assert data.queries
    figures, limits, people = [], [], []
    for on_demand in (True, False):
        subject = Subject(TorchSearcher(network), on_demand)
        described[:] = []
        figures.append(astuple(accuracy(subject, data, network.settings.roi.min_score)))
        people.append(sum(described))
        limits.append([row.similarity for row in thresholds(subject, data, network.settings.roi.min_score)])
    assert figures[0] == pytest.approx(figures[1], abs=1e-6)
    assert 0.1 < figures[0][0] <= 1  # people are found, so there is something to lose
    assert figures[0][2] > 0.5
    assert limits[0] == pytest.approx(limits[1], abs=1e-3)
    assert people[0] < 0.8 * people[1]
    wrong = accuracy(Subject(Wrong(network), on_demand=True), data, network.settings.roi.min_score)
    assert wrong.mean_ap < figures[0][0] - 0.05
    assert wrong.detection_ap == figures[0][2]
