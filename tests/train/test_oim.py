"""OIM and LOIM against a sequential float64 reference written from Eq. 2-8."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from hypothesis.extra.numpy import arrays

from personsearch.train.model.oim import OIMLoss


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


LABELS = st.lists(st.integers(-1, 6), max_size=25)  # several rows of one identity, background, unlabelled, or nothing


@settings(max_examples=80, deadline=None)
@given(st.data(), LABELS, st.sampled_from(["iou", 0.5, 0.0]), st.sampled_from([0.0, 0.7]), st.integers(0, 7))
def test_loss_and_update_equal_the_equations_row_by_row(data, labels, momentum, floor, queue_size) -> None:
    """Two steps against a sequential float64 reference from Eq. 2-4, 7 and 8."""
    loss = make(queue=queue_size, momentum=momentum, min_step=floor)
    lut, queue, head = loss.lut.clone(), loss.queue.clone(), 0
    for _ in range(2):
        seed = data.draw(st.integers(0, 10_000))
        x = torch.nn.functional.normalize(
            torch.randn(len(labels), 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        )
        ious = torch.from_numpy(data.draw(arrays("float64", len(labels), elements=st.floats(0, 1))))
        terms = []
        for row, label in zip(x, labels, strict=True):
            if label > 0:  # Eq. 2-3
                logits = torch.cat([lut, queue]) @ row / loss.temperature
                terms.append(-torch.log(torch.exp(logits[label - 1]) / torch.exp(logits).sum()))
        expected = float(sum(terms) / len(terms)) if terms else 0.0
        assert float(loss(x, torch.tensor(labels, dtype=torch.long))) == pytest.approx(expected, rel=1e-9)
        loss.update(x, torch.tensor(labels, dtype=torch.long), ious)
        for row, label, iou in zip(x, labels, ious.tolist(), strict=True):
            if label > 0:
                step = min(max(iou, floor), 0.9) if momentum == "iou" else 1 - momentum
                moved = (1 - step) * lut[label - 1] + step * row  # Eq. 7 with Eq. 8, or Eq. 4
                lut[label - 1] = moved / moved.norm()
            elif label == -1 and queue_size:
                queue[head] = row
                head = (head + 1) % queue_size
        assert torch.allclose(loss.lut, lut, atol=1e-10)
        assert torch.allclose(loss.queue, queue, atol=0)
        assert int(loss.queue_head) == head


def test_loss_is_equation_3_over_labelled_rows() -> None:
    loss = make()
    x, labels, _ = batch(3)
    terms = []
    for row, label in zip(x.tolist(), labels.tolist(), strict=True):
        if label > 0:
            logits = (torch.cat([loss.lut, loss.queue]) @ torch.tensor(row, dtype=torch.float64)) * 30
            terms.append(torch.logsumexp(logits, 0) - logits[label - 1])
    assert float(loss(x, labels)) == pytest.approx(float(sum(terms) / len(terms)), rel=1e-9)


@pytest.mark.parametrize("labels", [[], [0, 0], [-1, 0, -1]])
def test_batches_without_labelled_people_give_zero_loss_and_gradients(labels: list[int]) -> None:
    loss = make().float()
    x = torch.randn(len(labels), 4, requires_grad=True)
    value = loss(x, torch.tensor(labels, dtype=torch.long))
    value.backward()
    assert float(value.detach()) == 0.0
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
    assert paper.steps(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.0, 0.5, 0.9])
    assert released.steps(torch.tensor([0.0, 0.5, 1.0])).tolist() == pytest.approx([0.7, 0.7, 0.9])


def test_queue_head_travels_in_the_state() -> None:
    loss = make()
    loss.update(*batch(4))
    copy = make()
    copy.load_state_dict(loss.state_dict())
    assert int(copy.queue_head) == int(loss.queue_head)
