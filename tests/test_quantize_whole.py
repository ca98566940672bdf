"""``quantize`` and OPQ's ``attach`` change all layers or none: what cannot carry a quantizer is refused, by name."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

import compression as cx
from compression.errors import CompressionError
from compression.methods.opq import allocate, attach
from compression.pack import pack, unpack
from compression.quant import activation_quantizers, fold, integer_weights, quantize, weight_quantizers

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def layers(last: nn.Module) -> nn.Sequential:
    """A sound layer first, so that a refusal that comes too late has changed something."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), last)


class Refusing(nn.Conv2d):
    """A class from which none can be derived without a word, as parametrization does."""

    def __init_subclass__(cls, **options: str) -> None:
        if "word" not in options:
            raise TypeError("say word=")


def set_weight(module: nn.Module, weight: Any) -> nn.Module:
    module._parameters["weight"] = weight
    return module


def with_attribute() -> nn.Module:
    layer = nn.Conv2d(4, 4, 3)
    layer.input_quantizer = "mine"  # type: ignore[assignment]
    return layer


def fake_quantized() -> nn.Module:
    layer = nn.Conv2d(4, 4, 3)
    layer.weight_fake_quant = nn.Identity()
    return layer


CASES: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "pruning mask": (lambda: prune.l1_unstructured(nn.Conv2d(4, 4, 3), "weight", 0.3), "prune.remove"),
    "structured pruning mask": (lambda: prune.ln_structured(nn.Conv2d(4, 4, 3), "weight", 0.5, 2, 0), "prune.remove"),
    "pruned bias": (lambda: prune.l1_unstructured(nn.Conv2d(4, 4, 3), "bias", 0.5), "prune.remove"),
    "old weight norm": (lambda: weight_norm(nn.Conv2d(4, 4, 3)), "remove_weight_norm"),
    "old spectral norm": (lambda: spectral_norm(nn.Conv2d(4, 4, 3)), "remove_spectral_norm"),
    "new weight norm": (lambda: parametrizations.weight_norm(nn.Conv2d(4, 4, 3)), "remove_parametrizations"),
    "new spectral norm": (lambda: parametrizations.spectral_norm(nn.Conv2d(4, 4, 3)), "remove_parametrizations"),
    "orthogonal": (lambda: parametrizations.orthogonal(nn.Conv2d(4, 4, 3)), "remove_parametrizations"),
    "quantized already": (lambda: quantize(nn.Conv2d(4, 4, 3), 8), "already carries a quantizer"),
    "quantized by torch": (fake_quantized, "already carries a quantizer"),
    "on meta": (lambda: nn.Conv2d(4, 4, 3, device="meta"), "meta device"),
    "lazy": (lambda: nn.LazyConv2d(4, 3), "run the model once"),
    "integers": (
        lambda: set_weight(nn.Conv2d(4, 4, 3), nn.Parameter(torch.ones(4, 4, 3, 3, dtype=torch.int8), False)),
        "torch.int8",
    ),
    "complex": (lambda: nn.Conv2d(4, 4, 3, dtype=torch.complex64), "complex64"),
    "float8": (
        lambda: set_weight(nn.Conv2d(4, 4, 3), nn.Parameter(torch.ones(4).to(torch.float8_e4m3fn), False)), "float8_",
    ),
    "sparse": (lambda: set_weight(nn.Linear(4, 4), nn.Parameter(torch.eye(4).to_sparse())), "sparse"),
    "not a leaf": (lambda: set_weight(nn.Linear(4, 4), torch.ones(4, 4, requires_grad=True) * 2), "detached"),
    "no weight": (lambda: set_weight(nn.Linear(4, 4), None), "computes its weight"),
    "not finite": (
        lambda: set_weight(nn.Linear(4, 4), nn.Parameter(torch.full((4, 4), float("nan")))), "not finite",
    ),
    "a name that is taken": (with_attribute, "rename it"),
    "a class of its own": (lambda: Refusing(4, 4, 3), "nothing was changed"),
}  # fmt: skip


def attributes(model: nn.Module) -> list[Any]:
    """Everything that hangs on the modules: classes, attributes, what is in their dictionaries, and the numbers."""
    values: list[Any] = []
    for name, module in model.named_modules():
        values += [name, type(module)]
        for key, value in vars(module).items():
            inside = [(inner, id(item)) for inner, item in value.items()] if isinstance(value, dict) else id(value)
            values.append((key, id(value), inside))
    numbers = [tensor for tensor in model.parameters() if not (is_lazy(tensor) or tensor.is_meta or tensor.is_sparse)]
    return [*values, *(tensor.detach().clone().reshape(-1).view(torch.uint8).tolist() for tensor in numbers)]


@pytest.mark.parametrize("case", CASES)
def test_what_cannot_be_quantized_is_refused_and_nothing_is_changed(case: str) -> None:
    make, words = CASES[case]
    model = layers(make())
    before = attributes(model)
    with pytest.raises(CompressionError, match=words) as refused:
        quantize(model, 8, per_channel=case == "on meta")
    assert "\n" not in str(refused.value)
    assert case == "a class of its own" or "'2'" in str(refused.value)
    assert attributes(model) == before
    assert weight_quantizers(layers(nn.Conv2d(4, 4, 3))) == {}
    quantize(model, 8, layers=["0"])  # the sound one alone
    assert type(model[0]).__name__ == "ParametrizedConv2d"


@pytest.mark.parametrize("case", [case for case in CASES if case != "quantized already"])
def test_opq_attaches_to_all_layers_or_to_none(case: str) -> None:
    model = layers(CASES[case][0]())
    allocation = allocate(layers(nn.Conv2d(4, 4, 3)), 0.5, 4)
    before = attributes(model), model[0].weight.clone()
    with pytest.raises(CompressionError):
        attach(model, allocation)
    assert attributes(model) == before[0]
    assert torch.equal(model[0].weight, before[1])


def test_a_refusal_after_hooks_were_registered_takes_them_back() -> None:
    model = layers(Refusing(4, 4, 3)).eval()
    handle = model[0].register_forward_hook(lambda module, args, output: output * 2)
    expected = model(X)
    with pytest.raises(CompressionError):
        quantize(model, 8, calibration=X)
    assert torch.equal(model(X), expected)
    handle.remove()
    assert torch.allclose(model[0](X) * 2, layers(Refusing(4, 4, 3))[0](X) * 2)
    assert len(model[0]._forward_hooks) == 0
    assert pickle.loads(pickle.dumps(model.state_dict())).keys() == layers(nn.Conv2d(4, 4, 3)).state_dict().keys()


def test_a_weight_whose_channels_lie_two_ways_is_refused_per_channel_only() -> None:
    one, two = nn.Conv2d(4, 6, 3, bias=False), nn.ConvTranspose2d(6, 4, 3, bias=False)
    two.weight = one.weight
    model = nn.Sequential(one, two)
    with pytest.raises(CompressionError, match="share one weight"):
        quantize(model, 8, per_channel=True)
    first, second = weight_quantizers(quantize(model, 8)).values()
    assert first is second


class Standardized(nn.Conv2d):
    """A convolution whose own forward changes its weight first."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(input, weight, self.bias)


def frozen(layer: nn.Module) -> nn.Module:
    layer.requires_grad_(False)
    return layer


WORKS: dict[str, Callable[[], nn.Module]] = {
    "forward of its own": lambda: Standardized(4, 4, 3),
    "frozen": lambda: frozen(nn.Conv2d(4, 4, 3)),
    "empty": lambda: nn.Linear(6, 0),
    "pruning removed": lambda: prune.remove(prune.l1_unstructured(nn.Conv2d(4, 4, 3), "weight", 0.3), "weight"),
    "zero": lambda: set_weight(nn.Conv2d(4, 4, 3), nn.Parameter(torch.zeros(4, 4, 3, 3))),
    "lazy, run once": lambda: nn.LazyConv2d(4, 3),
}


@pytest.mark.parametrize("case", WORKS)
def test_unusual_layers_are_quantized_as_any_other(case: str) -> None:
    model = layers(WORKS[case]()).eval()
    model(X)
    trains = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
    raw = model[2].weight.detach().clone()
    twin = copy.deepcopy(model)
    quantize(model, 6, calibration=X, activation_bits=16)
    (_, integers) = integer_weights(model).values()
    expected = integers.codes * integers.step
    step = integers.step if isinstance(integers.step, float) else integers.step.item()
    assert float((expected - raw).abs().max() if raw.numel() else 0) <= step / 2 + 1e-7
    twin[2].weight.data.copy_(expected)  # the layer's own forward, on the quantized weight
    twin[0].weight.data.copy_(model[0].weight)
    torch.testing.assert_close(model(X), twin(X), atol=1e-3, rtol=1e-3)
    for name, parameter in model.named_parameters():
        plain = name.replace("parametrizations.weight.original", "weight")
        if plain in trains:
            assert parameter.requires_grad == trains[plain]


@pytest.mark.parametrize("per_channel", [False, True])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_types_are_kept_and_the_values_are_those_of_the_codes(dtype: torch.dtype, per_channel: bool) -> None:
    model = layers(nn.Conv2d(4, 4, 3)).to(dtype)
    raw = [model[index].weight.detach().clone() for index in (0, 2)]
    quantize(model, 8, calibration=X.to(dtype), per_channel=per_channel)
    output = model(X.to(dtype))
    assert output.dtype == dtype
    output.float().square().mean().backward()
    for parameter in model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.dtype == parameter.dtype
    for module, weight, quantizer in zip((model[0], model[2]), raw, weight_quantizers(model).values(), strict=True):
        step = torch.as_tensor(quantizer.step(), dtype=torch.float64)
        assert torch.equal(module.weight, (torch.round(weight.double() / step) * step).to(dtype))
    for quantizer in activation_quantizers(model).values():
        assert quantizer(X.to(dtype)).dtype == dtype
    assert {parameter.dtype for parameter in fold(model).parameters() if parameter.dim() > 1} == {dtype}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_the_promises_of_training_cutting_and_packing(dtype: torch.dtype, tmp_path: Path) -> None:
    torch.manual_seed(0)
    head = (nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3), *head).to(dtype)
    x, y = torch.randn(8, 3, 8, 8).to(dtype), torch.arange(8) % 4
    graph = cx.trace(model, x)
    cx.quantize(model, 16, per_channel=dtype == torch.float16)
    optimizer = cx.QASSO(model, graph, sparsity=0.5, bits=(4, 8), total_steps=40, lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        F.cross_entropy(model(x).float(), y).backward()
        optimizer.step()
    small, cut = cx.slim_report(model.eval(), graph, (x,))
    assert sum(cut.removed.values()) == 12  # half of 8 + 16
    assert cut.equality == 0
    assert all(q.bits() == round(q.bits()) and 4 <= q.bits() <= 8 for q in weight_quantizers(model).values())
    pack(model, tmp_path / "p")
    plain, twin = fold(model), fold(model)
    for parameter in twin.parameters():
        nn.init.zeros_(parameter)
    twin.load_state_dict(unpack(tmp_path / "p"))
    for (name, one), two in zip(plain.state_dict().items(), twin.state_dict().values(), strict=True):
        assert torch.equal(one, two), name
    assert small(x).dtype == dtype


@pytest.mark.parametrize("options", [{}, {"codebook": "channel"}, {"grid": "survivor"}])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_opq_rounds_half_precision_on_its_own_grid(dtype: torch.dtype, options: dict[str, Any], tmp_path: Path) -> None:
    model = layers(nn.Conv2d(4, 4, 3)).to(dtype)
    attach(model, allocate(model, 0.4, 6, **options))
    assert model(X.to(dtype)).dtype == dtype
    for name, integers in integer_weights(model).items():
        assert torch.equal(model.get_submodule(name).weight, integers.weight().to(dtype))
    pack(model, tmp_path / "p")
    assert all(
        torch.equal(fold(model).state_dict()[name], tensor.to(dtype)) for name, tensor in unpack(tmp_path / "p").items()
    )
