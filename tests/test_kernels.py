"""The quantizer's fast ways against its plain one: same values bit for bit, same gradients, whatever the layout."""

from __future__ import annotations

import copy
import itertools
import shutil
from functools import cache

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from compression.quant import Quantizer, fold, kernels, native, quantize, weight_quantizers
from compression.quant.fused import Fused
from compression.quant.op import fake_quantize


def straight_through(
    x: torch.Tensor, d: torch.Tensor, q: torch.Tensor, rounding: torch.dtype, unsigned: bool
) -> torch.Tensor:
    """The surrogate in torch's own differentiable operations, fp64: autograd is the oracle.

    Only the rounding is decided in fp32, as it is there.
    """
    inside = (x <= q) & (x >= (0 if unsigned else -q))
    clipped = torch.where(inside, x, q * (x.sign().clamp(min=0) if unsigned else x.sign()))
    whole = torch.round(clipped.detach().to(rounding) / d.detach().to(rounding)).double()
    return clipped + d * (whole - clipped / d).detach()


def layouts() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    dense = torch.randn(3, 4, 9, 7)
    return {
        "contiguous": dense,
        "channels last": dense.contiguous(memory_format=torch.channels_last),
        "transposed": torch.randn(40, 30).t(),
        "with gaps": torch.randn(20, 30)[:, ::3],
        "expanded": torch.randn(1, 30).expand(6, 30),
        "one number": torch.tensor(0.37),
        "nothing": torch.zeros(0, 5),
        "pieces": torch.randn(3 * kernels.PIECE + 17),
        "bf16": torch.randn(500).bfloat16(),
        "fp64": torch.randn(500, dtype=torch.float64),
    }


@cache
def fused() -> Fused:
    """The version for accelerators, compiled for this processor."""
    if shutil.which("g++") is None:
        pytest.skip("no C++ compiler, with which torch compiles for the CPU")
    return Fused(torch.device("cpu"))


@pytest.fixture(params=["pass by pass", "compiled", "fused"])
def compiled(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    if request.param == "fused":
        monkeypatch.setitem(kernels._fused, "cpu", fused())
        return True
    compiled = request.param == "compiled"
    with kernels.using(False):
        why = kernels.compile_kernels() if compiled else None
    if why is not None:
        pytest.skip(why)
    return compiled


@pytest.mark.parametrize("unsigned", [False, True])
@pytest.mark.parametrize("layout", list(layouts()))
def test_values_and_gradients_whatever_the_layout(layout: str, unsigned: bool, compiled: bool) -> None:
    x = layouts()[layout]
    step, clip = torch.tensor(0.0371), torch.tensor(0.9)
    upstream = torch.randn(x.shape, dtype=torch.promote_types(x.dtype, torch.float32))
    leaf, d, q = (t.detach().clone().requires_grad_() for t in (x, step, clip))
    with kernels.using(compiled):
        output = fake_quantize(leaf, d, q, None, unsigned)
        output.backward(upstream)
    restored = kernels.codes(x, step, clip, unsigned).to(torch.int32).to(output.dtype) * step
    assert not unsigned or not (restored < 0).any()
    assert torch.equal(output, restored)
    assert not (output.detach().signbit() & (output.detach() == 0)).any(), "-0 would not survive packing"
    leaf64, d64, q64 = (t.detach().double().requires_grad_() for t in (x, step, clip))
    straight_through(leaf64, d64, q64, output.dtype, unsigned).backward(upstream.double())
    assert leaf.grad is not None and leaf64.grad is not None
    assert torch.equal(leaf.grad, leaf64.grad.to(x.dtype))
    for mine, oracle in ((d, d64), (q, q64)):
        assert mine.grad is not None and oracle.grad is not None
        scale = float(upstream.abs().sum()) * 1e-6 + 1e-12
        torch.testing.assert_close(mine.grad.double(), oracle.grad, rtol=1e-4, atol=scale)


def test_a_value_at_the_bound_keeps_its_gradient_and_the_next_one_does_not(compiled: bool) -> None:
    for bound in (0.9, 1.0, 3.1415927, 1e-6):
        q = torch.tensor(bound, requires_grad=True)
        beyond = torch.nextafter(q.detach(), torch.tensor(10.0))
        x = torch.stack([q.detach(), beyond, -q.detach(), -beyond]).requires_grad_()
        with kernels.using(compiled):
            fake_quantize(x, torch.tensor(bound / 7, requires_grad=True), q).backward(torch.tensor([1.0, 2, 4, 8]))
        assert x.grad is not None and q.grad is not None
        assert x.grad.tolist() == [1, 0, 4, 0]
        assert q.grad.item() == pytest.approx(2 - 8)


def test_threads_share_the_loop_and_change_nothing_but_the_order_of_sums() -> None:
    with kernels.using(False):
        if (why := kernels.compile_kernels()) is not None:
            pytest.skip(why)
    x, upstream = torch.randn(2, native.SHARED_FROM), torch.randn(2, native.SHARED_FROM)
    results, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            leaf, d, q = x.clone().requires_grad_(), torch.tensor(0.01), torch.tensor(1.2)
            d.requires_grad_(), q.requires_grad_()
            with kernels.using(True):
                output = fake_quantize(leaf, d, q)
                output.backward(upstream)
            results.append((output.detach(), leaf.grad, d.grad, q.grad))
    finally:
        torch.set_num_threads(before)
    (a, b, c, e), (f, g, h, i) = results
    assert torch.equal(a, f) and torch.equal(b, g)
    torch.testing.assert_close((c, e), (h, i), rtol=1e-4, atol=1e-2)


def test_without_a_compiler_it_says_so_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "_native", None)
    monkeypatch.setattr(native.shutil, "which", lambda name: None)
    monkeypatch.delenv("CC", raising=False)
    assert "C compiler" in str(kernels.compile_kernels())
    monkeypatch.setenv("CC", "false")
    assert "native.c" in str(kernels.compile_kernels())
    assert torch.isfinite(Quantizer(1.0, 4)(torch.randn(9))).all()


class Net(nn.Module):
    """A convolution used once, one used twice, and one that is not used."""

    def __init__(self, checkpointed: bool = False) -> None:
        super().__init__()
        self.first, self.twice = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.unused, self.out = nn.Linear(4, 4), nn.Linear(4, 2)
        self.checkpointed = checkpointed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        for _ in range(2):
            again: torch.Tensor = checkpoint(self.twice, x, use_reentrant=False) if self.checkpointed else self.twice(x)
            x = again.relu()
        out: torch.Tensor = self.out(x.mean((2, 3)))
        return out


def gradients(model: nn.Module, x: torch.Tensor) -> dict[str, torch.Tensor | None]:
    model.zero_grad()
    model(x).square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("checkpointed", [False, True])
def test_weights_quantized_together_are_those_quantized_one_by_one(checkpointed: bool) -> None:
    torch.manual_seed(1)
    x = torch.randn(2, 3, 8, 8)
    together = quantize(Net(checkpointed), 4)
    alone = copy.deepcopy(together)
    alone._forward_pre_hooks.clear()
    assert torch.equal(together(x), alone(x))
    ours, theirs = gradients(together, x), gradients(alone, x)
    assert ours["unused.bias"] is ours["unused.parametrizations.weight.original"] is None
    for name, gradient in theirs.items():
        if gradient is not None:
            torch.testing.assert_close(ours[name], gradient, rtol=1e-5, atol=1e-6)
    assert all(quantizer.ready is None for quantizer in weight_quantizers(together).values())  # type: ignore[attr-defined]


def test_together_is_one_node_and_only_in_training() -> None:
    model = quantize(Net(), 4)
    seen: list[str] = []
    model.first.register_forward_pre_hook(lambda module, args: seen.append(type(module.weight.grad_fn).__name__))
    for mode, graded in itertools.product((True, False), (True, False)):
        model.train(mode)
        with torch.set_grad_enabled(graded):
            model(torch.randn(1, 3, 8, 8))
    assert seen == ["_TogetherBackward", "NoneType", "_DirectBackward", "NoneType"]


def test_copies_and_folded_models_are_their_own() -> None:
    x = torch.randn(2, 3, 8, 8)
    model = quantize(Net(), 4)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.first.parametrizations.weight.original.zero_()  # type: ignore[union-attr,operator]
    before, after = model(x), twin(x)
    assert not torch.equal(before, after)
    assert torch.equal(model(x), before)
    plain = fold(model)
    assert not plain._forward_pre_hooks and not plain._forward_hooks
    assert torch.equal(plain(x), before)


def test_a_failing_forward_pass_leaves_nothing_behind() -> None:
    model = quantize(Net(), 4)
    with pytest.raises(RuntimeError):
        model(torch.randn(1, 5, 8, 8))
    assert all(quantizer.ready is None for quantizer in weight_quantizers(model).values())  # type: ignore[attr-defined]
    gradients(model, torch.randn(1, 3, 8, 8))


def test_whole_models_can_be_compiled_around_the_quantizers() -> None:
    model = quantize(Net(), 4, calibration=torch.randn(2, 3, 8, 8))
    x = torch.randn(2, 3, 8, 8)
    expected, result = model(x), torch.compile(model, backend="aot_eager")(x)
    torch.testing.assert_close(result, expected)
    result.sum().backward()
    assert model.first.parametrizations.weight.original.grad is not None  # type: ignore[union-attr]
