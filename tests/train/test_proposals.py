"""Figs. S2 and S3: what the network learns from, with the step that LOIM gives it."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import TINY_STREET, assert_user_error, call

from personsearch.core.records import ImageTruth
from personsearch.train.data.samples import load_split, read_image
from personsearch.train.paper.proposals import PANEL, draw_proposals, positive_proposals
from personsearch.train.settings import SourceSettings
from personsearch.train.sides import fit_of
from personsearch.train.weights.checkpoint import load_network


def test_proposals_on_people_have_their_iou_and_loims_step(tiny_checkpoint: Path, tmp_path: Path, monkeypatch) -> None:
    network, _ = load_network(tiny_checkpoint)
    image = next(i for i in load_split(SourceSettings.model_validate(TINY_STREET), "train").images if len(i.boxes))
    one = np.array([[200, 100, 260, 280]], np.float32)  # away from the frame's edge
    truth = ImageTruth(image.name, image.path, one, np.array([3]))
    shares = [0.0, 0.02, 0.2, 0.6]  # of the width that a proposal stands beside the person: the last is no positive
    beside = np.concatenate([one + np.array([s, 0, s, 0], np.float32) * 60 for s in shares])
    _, scale = fit_of(network.settings)(read_image(truth))
    boxes = torch.from_numpy(beside * scale)
    monkeypatch.setattr(network, "propose", lambda *_, **__: [(boxes, torch.ones(len(boxes)))])
    found = positive_proposals(network, [truth, ImageTruth("empty", image.path, np.zeros((0, 4)), np.zeros(0))])
    # The first two are of one class of IoU, so the second of them stays out.
    assert [p.iou for p in found] == pytest.approx([1.0, 0.8 / 1.2], abs=1e-4)
    assert [p.step for p in found] == pytest.approx([0.9, 0.8 / 1.2], abs=1e-4)
    assert np.allclose(found[1].box, beside[2], atol=0.01)
    path = draw_proposals(found, tmp_path / "s2.png", columns=3)
    picture = cv2.imread(str(path))
    assert picture.shape == (5 * PANEL[1], 3 * PANEL[0], 3)
    rows = picture.reshape(5, PANEL[1], 3 * PANEL[0], 3)
    used = [bool((row < 128).any()) for row in rows]
    assert used == [False, True, False, False, True]  # 0.67, and 0.9 to 1


def test_without_a_model_the_command_says_so(tmp_path: Path) -> None:
    assert_user_error(call("train/experiments.py", "proposals", "--out", tmp_path), "expected --model")
