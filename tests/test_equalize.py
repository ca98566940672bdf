"""Equalization: no scale changes what a network computes, and each formula gives what its paper says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compression.errors import CompressionError
from compression.graph import deep_copy, parameter_map, trace
from compression.posttraining import equalize as module
from compression.posttraining.equalize import KINDS, equalize
from compression.posttraining.pairs import find_pairs
from compression.posttraining.smooth import GRID
from compression.quant import quantize
from tests.oracle import shake

C = 6


class Residual(nn.Module):
    """Two branches of which one is the identity of a layer's output: all members of the sum are scaled together."""

    def __init__(self, begin: nn.Module, activation: nn.Module) -> None:
        super().__init__()
        self.begin, self.activation = begin, activation
        self.inner, self.end = nn.Conv2d(C, C, 3, padding=1), nn.Conv2d(C, 4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.begin(x)
        return self.end(F.relu(x + self.inner(self.activation(x))))


class Whole(nn.Module):
    """Rounds towards zero."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.int().float()


class SharedNorm(nn.Module):
    """One layer norm that two layers read, and a third whose rows attention mixes."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.query, self.value = nn.LayerNorm(C), nn.Linear(C, C), nn.Linear(C, C)
        self.out = nn.Linear(C, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.norm(x)
        weights = torch.softmax(self.query(x) @ self.query(x).transpose(1, 2), dim=-1)
        return self.out(weights @ self.value(x))


def conv(inputs: int, outputs: int, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, **more)


IMAGE, TOKENS = (3, 8, 8), (5, C)
LEGAL: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], int]] = {
    "conv-relu-conv": (lambda: nn.Sequential(conv(3, C), nn.ReLU(), conv(C, 4)), IMAGE, 1),
    "conv-norm-relu-conv": (
        lambda: nn.Sequential(conv(3, C, bias=False), nn.BatchNorm2d(C), nn.ReLU(), conv(C, 4)), IMAGE, 1,
    ),
    "depthwise": (
        lambda: nn.Sequential(
            conv(3, C), nn.BatchNorm2d(C), nn.ReLU(), conv(C, 2 * C, groups=C), nn.ReLU(), conv(2 * C, 4, groups=2)
        ), IMAGE, 2,
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, C, 2), nn.LeakyReLU(), nn.ConvTranspose2d(C, 4, 2, groups=2)),
        IMAGE, 1,
    ),
    "max pool and flatten": (
        lambda: nn.Sequential(conv(3, C), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(), nn.Flatten(), nn.Linear(C * 16, 3)),
        IMAGE, 1,
    ),
    "mean pool": (
        lambda: nn.Sequential(conv(3, C), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(C, 3)), IMAGE, 1,
    ),
    "residual": (lambda: Residual(conv(3, C), nn.ReLU()), IMAGE, 1),
    "layer norm": (lambda: nn.Sequential(nn.LayerNorm(C), nn.Linear(C, 8), nn.ReLU(), nn.Linear(8, 3)), TOKENS, 2),
    "attention": (SharedNorm, TOKENS, 2),
}  # fmt: skip
ENDED: dict[str, Callable[[], nn.Module]] = {
    "relu6": lambda: nn.Sequential(conv(3, C), nn.ReLU6(), conv(C, 4)),
    "hardtanh": lambda: nn.Sequential(conv(3, C), nn.Hardtanh(), conv(C, 4)),
    "gelu": lambda: nn.Sequential(conv(3, C), nn.GELU(), conv(C, 4)),
    "silu": lambda: nn.Sequential(conv(3, C), nn.BatchNorm2d(C), nn.SiLU(), conv(C, 4)),
    "sum with the input": lambda: Residual(nn.Identity(), nn.ReLU()),
    "sum of unequal branches": lambda: Residual(conv(3, C), nn.GELU()),
    "whole numbers": lambda: nn.Sequential(conv(3, C), Whole(), conv(C, 4)),
    "no reader": lambda: nn.Sequential(conv(3, C), nn.ReLU()),
}


def built(make: Callable[[], nn.Module], seed: int = 0) -> nn.Module:
    """Shaken, with channels of ranges that differ by factors up to 100."""
    torch.manual_seed(seed)
    model = shake(make()).eval()
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.ConvTranspose2d):
            factors = 10 ** (2 * torch.rand(len(layer.weight)) - 1)
            layer.weight.data *= factors.reshape(-1, *[1] * (layer.weight.dim() - 1))
    return model


def apart(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max() / second.abs().max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", LEGAL)
@torch.no_grad()
def test_the_function_is_unchanged(case: str, kind: str) -> None:
    make, shape, pairs = LEGAL[case]
    model = built(make)
    x = torch.randn(4, *shape)
    graph, dense = trace(model, x[:1]), deep_copy(model)
    report = equalize(model, graph, kind, [x], bits={"0": 3, "3": 3})
    assert sum(pair.reader_ranges is not None for pair in report.pairs) == pairs
    assert apart(model(x), dense(x)) <= 1e-5
    if kind != "awq":  # which may find that nothing is best
        assert any(not torch.equal(a, b) for a, b in zip(model.parameters(), dense.parameters(), strict=True))


@pytest.mark.parametrize("case", [*LEGAL])
@torch.no_grad()
def test_any_scale_at_all_changes_nothing(case: str) -> None:
    make, shape, _ = LEGAL[case]
    model = built(make)
    x = torch.randn(4, *shape)
    expected, tensors = model(x), parameter_map(model)
    for pair in find_pairs(model, trace(model, x[:1])):
        pair.scale(tensors, torch.logspace(-1, 1, pair.units, dtype=torch.float64))
    assert apart(model(x), expected) <= 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ENDED)
def test_a_chain_that_ends_is_left_alone(case: str, kind: str) -> None:
    model = built(ENDED[case])
    x = torch.randn(4, *((C, 8, 8) if case == "sum with the input" else IMAGE))
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    report = equalize(model, trace(model, x[:1]), kind, [x])
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, state[name])}
    assert all(pair.reader_ranges is None for pair in report.pairs)
    norms = {"0.weight", "0.bias", "1.weight", "1.running_mean", "1.running_var"}
    assert changed <= (norms if case == "silu" and kind == "cle" else set())


def test_a_weight_that_is_read_otherwise_stays() -> None:
    """A matrix that is also an embedding, or whose mean is taken, has no channels that may be scaled."""

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.linear, self.end = nn.LayerNorm(C), nn.Linear(C, C), nn.Linear(C, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.end(F.relu(self.linear(self.norm(x)))) + self.linear.weight.mean()

    model = shake(Tied()).eval()
    assert find_pairs(model, trace(model, torch.randn(1, *TOKENS))) == ()


# Formulas -------------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_two_layers_in_closed_form() -> None:
    model = built(lambda: nn.Sequential(nn.Linear(5, C), nn.ReLU(), nn.Linear(C, 4)))
    first, bias, second = (each.detach().clone() for each in (model[0].weight, model[0].bias, model[2].weight))
    equalize(model, trace(model, torch.randn(1, 5)), "cle")
    rows, columns = first.abs().amax(1), second.abs().amax(0)
    s = (columns / rows).sqrt()
    torch.testing.assert_close(model[0].weight, first * s[:, None])
    torch.testing.assert_close(model[0].bias, bias * s)
    torch.testing.assert_close(model[2].weight, second / s)
    torch.testing.assert_close(model[0].weight.abs().amax(1), (rows * columns).sqrt())


@torch.no_grad()
def test_at_the_end_rows_and_columns_of_the_folded_network_have_equal_ranges() -> None:
    """Convolution, depthwise convolution and linear projection, each with its norm folded in by hand."""
    model = built(
        lambda: nn.Sequential(
            nn.Conv2d(3, C, 1, bias=False), nn.BatchNorm2d(C), nn.ReLU(),
            conv(C, C, groups=C, bias=False), nn.BatchNorm2d(C), nn.ReLU(),
            nn.Conv2d(C, 4, 1, bias=False), nn.BatchNorm2d(4),
        )
    )  # fmt: skip
    report = equalize(model, trace(model, torch.randn(1, *IMAGE)), "cle")
    assert report.sweeps < 500

    def folded(layer: int) -> torch.Tensor:
        norm = model[layer + 1]
        rows = norm.weight / (norm.running_var + norm.eps).sqrt()
        return (model[layer].weight * rows[:, None, None, None]).abs()

    expand, depthwise, project = (folded(layer) for layer in (0, 3, 6))
    torch.testing.assert_close(expand.amax((1, 2, 3)), depthwise.amax((1, 2, 3)), rtol=1e-3, atol=0)
    torch.testing.assert_close(depthwise.amax((1, 2, 3)), project.amax((0, 2, 3)), rtol=1e-3, atol=0)
    for layer in (0, 3, 6):  # what is rounded is the weight before the norm: its rows have one range
        rows = model[layer].weight.abs().amax((1, 2, 3))
        torch.testing.assert_close(rows, rows.max().expand_as(rows), rtol=1e-5, atol=0)


@torch.no_grad()
def test_smooth_as_its_formula_says() -> None:
    model = built(SharedNorm)
    dense, x = deep_copy(model), torch.randn(8, *TOKENS)
    equalize(model, trace(model, x[:1]), "smooth", [x[:4], x[4:]], alpha=0.75)
    inputs = dense.norm(x).abs().amax((0, 1))
    weights = torch.maximum(dense.query.weight.abs().amax(0), dense.value.weight.abs().amax(0))
    s = inputs**0.75 / weights**0.25
    torch.testing.assert_close(model.norm.weight, dense.norm.weight / s)
    torch.testing.assert_close(model.norm.bias, dense.norm.bias / s)
    torch.testing.assert_close(model.query.weight, dense.query.weight * s)


def rounding_error(weight: torch.Tensor, scales: torch.Tensor, x: torch.Tensor, bits: int) -> float:
    """Σ (xW - xQ(W·s)/s)², the largest weight on the last level."""
    scaled, levels = weight * scales, 2 ** (bits - 1) - 1
    step = scaled.abs().max() / levels
    return float((x @ ((scaled / step).round() * step / scales - weight).T).square().sum())


@torch.no_grad()
def test_awq_takes_the_best_exponent_of_its_grid() -> None:
    gains = []
    for seed in range(6):
        model = built(lambda: nn.Sequential(nn.LayerNorm(C), nn.Linear(C, 40)), seed)
        model[0].weight.data *= torch.logspace(-1, 1, C)
        x = torch.randn(8, *TOKENS)
        rows, weight = model[0](x).reshape(-1, C), model[1].weight.detach().clone()
        (pair,) = equalize(model, trace(model, x[:1]), "awq", [x], bits={"1": 3}, clip="max").pairs
        errors = []
        for alpha in GRID:
            s = rows.abs().mean(0) ** alpha
            errors.append(rounding_error(weight, s / (s.max() * s.min()).sqrt(), rows, 3))
        assert pair.alpha is not None
        assert errors[GRID.index(pair.alpha)] == pytest.approx(min(errors), rel=1e-3)
        assert min(errors) <= errors[0]
        gains.append(errors[0] / min(errors))
    assert max(gains) > 1.2


@torch.no_grad()
def test_cle_restores_what_random_channel_factors_cost() -> None:
    """Per-tensor 8-bit rounding: of the network, with channels scaled by up to 100, and equalized again."""
    torch.manual_seed(0)
    plain = nn.Sequential(conv(3, 32), nn.ReLU(), conv(32, 32), nn.ReLU(), conv(32, 8)).eval()
    x = torch.randn(8, *IMAGE)
    scaled, expected = deep_copy(plain), plain(x)
    for first, second in ((0, 2), (2, 4)):
        s = 10 ** (4 * torch.rand(32) - 2)
        scaled[first].weight *= s[:, None, None, None]
        scaled[first].bias *= s
        scaled[second].weight /= s[:, None, None]
    equalized = deep_copy(scaled)
    equalize(equalized, trace(equalized, x[:1]), "cle")
    errors = [apart(quantize(model, 8)(x), expected) for model in (plain, scaled, equalized)]
    assert errors[1] > 10 * errors[0]
    assert errors[2] < 2 * errors[0]


@torch.no_grad()
def test_high_biases_go_into_the_next_layer() -> None:
    """Where every activation is above c nothing changes at all, and the activation's range is smaller by c."""
    model = nn.Sequential(nn.BatchNorm1d(C), nn.ReLU(), nn.Linear(C, 3)).eval()
    model = nn.Sequential(nn.Linear(4, C, bias=False), *model).eval()
    torch.nn.init.normal_(model[0].weight)
    model[1].weight.data = torch.full((C,), 0.5)
    model[1].bias.data = torch.tensor([4.0, 0.0, 2.0, 1.0, 9.0, 1.2])
    x = torch.randn(1, 4).clamp(-0.3, 0.3).expand(2, 4) * torch.tensor([[1.0], [0.1]])
    dense = deep_copy(model)
    report = equalize(model, trace(model, x[:1]), "cle", absorb=True)
    assert report.absorbed == 3  # beta - 3 gamma > 0; scales leave the sign
    equalize(dense, trace(dense, x[:1]), "cle")
    assert float(model[:3](x).max()) < float(dense[:3](x).max())
    torch.testing.assert_close(model(x), dense(x), rtol=1e-4, atol=1e-5)


# Refusals -------------------------------------------------------------------------------------------------------------


def test_what_cannot_be_is_refused() -> None:
    model = built(LEGAL["conv-relu-conv"][0])
    graph = trace(model, torch.randn(1, *IMAGE))
    with pytest.raises(CompressionError, match="equalize must be one of cle, smooth, awq"):
        equalize(model, graph, "best")  # type: ignore[arg-type]
    with pytest.raises(CompressionError, match="give batches"):
        equalize(model, graph, "smooth")
    with pytest.raises(CompressionError, match="alpha must be a number"):
        equalize(model, graph, "smooth", [torch.randn(2, *IMAGE)], alpha=2)
    with pytest.raises(CompressionError, match="before quantizers are attached"):
        equalize(quantize(deep_copy(model), 8), graph, "cle")


def test_a_changed_function_is_refused_and_undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if GELU let scales pass: the pairs of the same network with a ReLU."""
    legal, model = (built(lambda act=act: nn.Sequential(conv(3, C), act(), conv(C, 4))) for act in (nn.ReLU, nn.GELU))
    x = torch.randn(1, *IMAGE)
    pairs = find_pairs(legal, trace(legal, x))
    monkeypatch.setattr(module, "find_pairs", lambda *_: pairs)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(CompressionError, match="nothing was changed"):
        equalize(model, trace(model, x), "cle")
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
