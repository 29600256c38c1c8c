"""The RoI head's detection losses (Eq. 1's L_det without the RPN): person or not, and the box."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from personsearch.train.distributed import average_count
from personsearch.train.model.coder import ROI_WEIGHTS, encode
from personsearch.train.model.protonorm import BACKGROUND


def detection_losses(
    person: Tensor, deltas: Tensor, labels: Tensor, rois: Tensor, owners: Tensor
) -> tuple[Tensor, Tensor]:
    """Class and box loss of N RoIs, each divided by the global number of RoIs.

    person  (N, 2) class logits          deltas  (N, 4)
    labels  (N,) BACKGROUND or a person  rois    (N, 4)
    owners  (N, 4) each RoI's person; of no meaning for background
    """
    is_person = labels != BACKGROUND
    count = average_count(len(labels), person)
    class_loss = functional.cross_entropy(person, is_person.long(), reduction="sum") / count
    goals = encode(owners[is_person], rois[is_person], ROI_WEIGHTS)
    box_loss = functional.smooth_l1_loss(deltas[is_person], goals, reduction="sum") / count
    return class_loss, box_loss
