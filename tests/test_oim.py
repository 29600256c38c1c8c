"""OIM and LOIM against a sequential float64 reference written from Eq. 2-8."""

import pytest
import torch

from personsearch.train.oim import OIMLoss


def make(identities: int = 6, queue: int = 5, **options: object) -> OIMLoss:
    loss = OIMLoss(identities, queue, 4, temperature=1 / 30, **options).double()  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    for table in (loss.lut, loss.queue):
        table.copy_(torch.nn.functional.normalize(torch.randn(table.shape, generator=generator, dtype=torch.float64)))
    return loss


def batch(seed: int, count: int = 20) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.nn.functional.normalize(torch.randn(count, 4, generator=generator, dtype=torch.float64))
    labels = torch.randint(-1, 5, (count,), generator=generator)  # many repeats, background and unlabelled
    return x, labels, torch.rand(count, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("momentum", ["iou", 0.5])
def test_update_equals_one_row_after_the_other(seed: int, momentum: float | str) -> None:
    loss = make(momentum=momentum)
    lut, queue, head = loss.lut.clone(), loss.queue.clone(), 0
    x, labels, ious = batch(seed)
    loss.update(x, labels, ious)
    for row, label, iou in zip(x, labels.tolist(), ious.tolist(), strict=True):
        if label > 0:
            step = min(max(iou, 0.0), 0.9) if momentum == "iou" else 1 - float(momentum)
            moved = (1 - step) * lut[label - 1] + step * row
            lut[label - 1] = moved / moved.norm()
        elif label == -1:
            queue[head % len(queue)] = row
            head += 1
    assert torch.allclose(loss.lut, lut, atol=1e-12)
    assert torch.allclose(loss.queue, queue, atol=1e-12)
    assert int(loss.queue_head) == head % len(queue)


def test_loss_is_equation_3_over_labelled_rows() -> None:
    loss = make()
    x, labels, _ = batch(3)
    terms = []
    for row, label in zip(x.tolist(), labels.tolist(), strict=True):
        if label > 0:
            logits = (torch.cat([loss.lut, loss.queue]) @ torch.tensor(row, dtype=torch.float64)) * 30
            terms.append(torch.logsumexp(logits, 0) - logits[label - 1])
    loss = loss.float()
    assert float(loss(x, labels)) == pytest.approx(float(sum(terms) / len(terms)), rel=1e-4)


@pytest.mark.parametrize("labels", [[], [0, 0], [-1, 0, -1]])
def test_batches_without_labelled_people_give_zero_loss_and_gradients(labels: list[int]) -> None:
    loss = make().float()
    x = torch.randn(len(labels), 4, requires_grad=True)
    value = loss(x, torch.tensor(labels, dtype=torch.long))
    value.backward()
    assert float(value) == 0.0
    assert x.grad is None or torch.isfinite(x.grad).all()


def test_forward_changes_nothing() -> None:
    loss = make().float()
    before = {k: v.clone() for k, v in loss.state_dict().items()}
    loss(torch.randn(5, 4), torch.tensor([1, 2, -1, 0, 3]))
    assert all(torch.equal(before[k], v) for k, v in loss.state_dict().items())


def test_more_unlabelled_rows_than_the_queue_holds_keep_the_last_ones() -> None:
    loss = make(queue=3)
    x, _, ious = batch(2, 10)
    loss.update(x, torch.full((10,), -1), ious)
    assert int(loss.queue_head) == 10 % 3
    assert torch.equal(loss.queue[[1, 2, 0]], x[[7, 8, 9]])


def test_perfect_proposals_do_not_override_the_table_and_released_floor_applies() -> None:
    paper, released = make(momentum="iou"), make(momentum="iou", min_step=0.7)
    assert paper._steps(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.0, 0.5, 0.9])
    assert released._steps(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.7, 0.7, 0.9])


def test_queue_head_travels_in_the_state() -> None:
    loss = make()
    loss.update(*batch(4))
    copy = make()
    copy.load_state_dict(loss.state_dict())
    assert int(copy.queue_head) == int(loss.queue_head)
