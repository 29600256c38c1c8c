"""ProtoNorm against Eq. 5-6, written out as loops in float64."""

import pytest
import torch

from personsearch.train.model.protonorm import ProtoNorm, convert_to_protonorm, make_norm
from personsearch.train.model.recompute import recomputed
from personsearch.train.model.resnet import ResNetHead


def reference(x: torch.Tensor, labels: torch.Tensor, background: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean of the prototypes and standard deviation about it, sample by sample."""
    rows = [i for i in range(len(x)) if background or labels[i] != 0]
    groups: dict[object, list[torch.Tensor]] = {}
    for i in rows:
        key = ("alone", i) if labels[i] == -1 else int(labels[i])
        groups.setdefault(key, []).append(x[i])
    mean = sum(sum(g) / len(g) for g in groups.values()) / len(groups)
    var = sum((x[i] - mean) ** 2 for i in rows) / len(rows)
    return mean, var


@pytest.mark.parametrize("background", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_forward_equals_the_equations(seed: int, background: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(17, 5, generator=generator, dtype=torch.float64) * 2 + 1
    labels = torch.randint(-1, 4, (17,), generator=generator)
    norm = ProtoNorm(5, background=background).double()
    mean, var = reference(x, labels, background)
    expected = (x - mean) / torch.sqrt(var + norm.eps)
    assert torch.allclose(norm(x, labels), expected, atol=1e-12)


def test_every_identity_weighs_the_same_however_often_it_appears() -> None:
    x = torch.cat([torch.full((99, 1), 1.0), torch.full((1, 1), 3.0)])
    labels = torch.tensor([1] * 99 + [2])
    norm = ProtoNorm(1)
    norm(x, labels)
    assert norm.running_mean.item() == pytest.approx(0.1 * 2.0)  # the prototypes' mean, not 1.02


def test_gradients_flow_exactly_through_mean_and_variance() -> None:
    labels = torch.tensor([1, 1, 2, -1, 0, 0])
    x = torch.randn(6, 3, dtype=torch.float64, requires_grad=True)
    images = torch.randn(6, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: ProtoNorm(3, affine=True).double()(v, labels), (x,))
    assert torch.autograd.gradcheck(lambda v: ProtoNorm(3).double()(v, labels), (images,))


@pytest.mark.parametrize(
    ("count", "labels", "background"),
    [(0, [], True), (1, [1], True), (1, [-1], True), (3, [0, 0, 0], False), (4, [2] * 4, True), (2, [0, 5], False)],
)
@pytest.mark.parametrize("pixels", [(), (2, 3), (1, 1)])
def test_odd_batches_neither_crash_nor_poison_the_statistics(
    count: int, labels: list[int], background: bool, pixels: tuple[int, ...]
) -> None:
    norm = ProtoNorm(4, background=background, affine=True)
    x = torch.randn(count, 4, *pixels, requires_grad=True)
    out = norm(x, torch.tensor(labels, dtype=torch.long))
    out.square().sum().backward()
    assert out.shape == x.shape
    for value in (out, x.grad, norm.running_mean, norm.running_var):
        assert torch.isfinite(value).all()
    assert (norm.running_var > 0).all()


def test_a_single_value_is_normalised_by_the_running_statistics() -> None:
    norm = ProtoNorm(2)
    norm.running_mean.fill_(1.0)
    out = norm(torch.tensor([[3.0, 5.0]]), torch.tensor([4]))  # its own mean would leave nothing
    assert torch.allclose(out, torch.tensor([[2.0, 4.0]]), atol=1e-4)
    assert norm.running_mean.tolist() == [1, 1]


def test_empty_and_background_only_batches_leave_the_statistics_alone() -> None:
    norm = ProtoNorm(2, background=False)
    norm(torch.zeros(0, 2), torch.zeros(0, dtype=torch.long))
    norm(torch.randn(5, 2) + 9, torch.zeros(5, dtype=torch.long))
    assert norm.running_mean.tolist() == [0, 0]
    assert norm.running_var.tolist() == [1, 1]
    assert int(norm.num_batches_tracked) == 0


def test_running_variance_is_unbiased_and_used_at_test_time() -> None:
    x, labels = torch.randn(8, 3), torch.arange(1, 9)
    norm = ProtoNorm(3, momentum=1.0)
    norm(x, labels)
    assert torch.allclose(norm.running_var, x.var(0, unbiased=True), atol=1e-5)
    norm.eval()
    expected = (x - norm.running_mean) / torch.sqrt(norm.running_var + norm.eps)
    assert torch.allclose(norm(x), expected)


def test_autocast_keeps_statistics_in_float32() -> None:
    norm, x, labels = ProtoNorm(3), torch.randn(6, 3), torch.tensor([1, 1, 2, 2, 3, 3])
    with torch.autocast("cpu", torch.bfloat16):
        low = norm(x.bfloat16(), labels)
    exact = ProtoNorm(3)(x.bfloat16().float(), labels)
    assert low.dtype == torch.bfloat16
    assert torch.allclose(low.float(), exact, atol=2e-2)


def test_labels_are_required_while_training_only() -> None:
    norm = ProtoNorm(3)
    with pytest.raises(ValueError, match="one label per sample"):
        norm(torch.zeros(2, 3))
    norm.eval()(torch.zeros(2, 3))


def test_conversion_keeps_a_networks_function() -> None:
    module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4)).eval()
    module[1].running_mean.normal_()
    module[1].running_var.uniform_(0.5, 2)
    x = torch.randn(2, 3, 4, 4)
    before = module(x)
    convert_to_protonorm(module)
    assert isinstance(module[1], ProtoNorm)
    assert torch.allclose(module(x), before, atol=1e-5)


@pytest.mark.parametrize("kind", ["protonorm", "batchnorm", "none"])
def test_siblings_share_one_signature(kind: str) -> None:
    norm = make_norm(kind, 4, background=True)
    for count in (0, 1, 5):
        assert norm(torch.randn(count, 4), torch.ones(count, dtype=torch.long)).shape == (count, 4)


def test_compiled_in_one_graph_it_computes_the_same() -> None:
    labels = torch.tensor([1, 1, 2, -1, 0, 0])
    for x in (torch.randn(6, 3), torch.randn(6, 3, 2, 2)):
        plain, norm = ProtoNorm(3, affine=True, background=False), ProtoNorm(3, affine=True, background=False)
        compiled = torch.compile(norm, backend="aot_eager", fullgraph=True)
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        expected, got = plain(a, labels), compiled(b, labels)
        expected.pow(3).sum().backward()
        got.pow(3).sum().backward()
        assert torch.allclose(got, expected, atol=1e-6)
        assert torch.allclose(b.grad, a.grad, atol=1e-5)
        assert torch.allclose(norm.running_var, plain.running_var)


@pytest.mark.parametrize("amp", [False, True])
def test_recomputed_activations_give_the_same_gradients_and_move_statistics_once(amp: bool) -> None:
    """OIMNet+++'s conv5 with activation checkpointing against the same without, also under autocast."""
    torch.manual_seed(0)
    plain = ResNetHead(protonorm=True).train()
    saving = ResNetHead(protonorm=True, checkpointing=True).train()
    saving.load_state_dict(plain.state_dict())
    x, labels = torch.randn(5, 1024, 2, 2), torch.tensor([1, 1, 2, 0, -1])
    results = []
    for head in (plain, saving):
        rows = x.clone().requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=amp):
            out = head(rows, labels)
        out.float().square().sum().backward()
        results.append((out, rows.grad))
    assert torch.allclose(results[0][0], results[1][0])
    assert torch.allclose(results[0][1], results[1][1], rtol=1e-3, atol=1e-4)
    assert all(isinstance(m, ProtoNorm) for name, m in saving.named_modules() if ".bn" in name)
    for (name, a), b in zip(plain.state_dict().items(), saving.state_dict().values(), strict=True):
        assert torch.allclose(a, b), name
    assert int(saving.layer4[0].bn1.num_batches_tracked) == 1


def test_recomputed_batchnorm_moves_its_statistics_once_too() -> None:
    block = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.BatchNorm2d(4))
    x = torch.randn(2, 3, 4, 4, requires_grad=True)
    recomputed(block, block, x).sum().backward()
    assert int(block[1].num_batches_tracked) == 1
    assert block[1].momentum == 0.1
