"""Quantizers of every make in a network: the same groups and the same graph as the float twin, before and after."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from oracle import check_removal, shake, some_units
from torch import nn
from torch.nn.utils import parametrize

from compression.graph import Code, Graph, Reason, slim_report, trace, zero_units
from compression.quant import quantize

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Plain(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 6, 3)
        self.norm, self.relu, self.head = nn.BatchNorm2d(6), nn.ReLU(), nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.relu(self.norm(self.second(self.relu(self.first(x))))).mean((2, 3)))


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 6, 3, padding=1)
        self.outer, self.norm, self.head = nn.Conv2d(6, 8, 3, padding=1), nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        x = F.relu(x + self.norm(self.outer(F.relu(self.inner(x)))))
        return self.head(x.mean((2, 3)))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth = nn.Conv2d(3, 6, 1, bias=False), nn.Conv2d(6, 6, 3, groups=6)
        self.point, self.head = nn.Conv2d(6, 10, 1), nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self.point(F.relu6(self.depth(F.relu6(self.stem(x))))))
        return self.head(x.mean((2, 3)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.num_heads = 4
        self.embed, self.qkv, self.proj = nn.Linear(3, 16), nn.Linear(16, 48), nn.Linear(16, 16)
        self.up, self.down, self.head = nn.Linear(16, 24), nn.Linear(24, 16), nn.Linear(16, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x.flatten(2).transpose(1, 2))
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).reshape(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        x = x + self.down(F.gelu(self.up(x)))
        return self.head(x.mean(1))


NETWORKS = [Plain, Residual, Depthwise, Attention]


class Geta(nn.Module):
    """GETA's own formula in plain operations: exp(t log|x|), clipped by a where, with its sign."""

    def __init__(self, weight: torch.Tensor | None) -> None:
        super().__init__()
        self.d, self.q_m, self.t = (nn.Parameter(torch.tensor(value)) for value in (0.05, 1.0, 1.1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size = torch.where(x.abs() > 0, torch.exp(self.t * torch.log(x.abs() + 1e-12)), 0.0)
        size = torch.where(x.abs() >= self.q_m, torch.exp(self.t * torch.log(self.q_m.abs() + 1e-6)), size)
        return torch.sign(x) * (self.d * torch.round(size / self.d))


class StraightThrough(nn.Module):
    """The rounded value, with the gradient of what was rounded."""

    def __init__(self, weight: torch.Tensor | None) -> None:
        super().__init__()
        self.step = 0.05

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (torch.clamp(torch.round(x / self.step), -127, 127) * self.step - x).detach()


class Lsq(nn.Module):
    """Learned step sizes: one per output channel of a weight, one for all data; bounds are learned numbers too."""

    def __init__(self, weight: torch.Tensor | None) -> None:
        super().__init__()
        shape = () if weight is None else (weight.shape[0],) + (1,) * (weight.ndim - 1)
        self.s, self.bound = nn.Parameter(torch.full(shape, 0.05)), nn.Parameter(torch.tensor(100.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        s = (self.s - self.s * 0.1).detach() + self.s * 0.1
        v = torch.clamp(x / s, -self.bound, self.bound)
        return ((v.round() - v).detach() + v) * s


class Fixed(nn.Module):
    """DoReFa's rounding to whole multiples of 1/n, of data between 0 and a learned bound as in PACT."""

    def __init__(self, weight: torch.Tensor | None) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.tensor(2.0))
        self.low = None if weight is not None else 0.0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.minimum(torch.clamp(x, min=-8.0 if self.low is None else self.low), self.alpha) / self.alpha
        return torch.round(x * 255) / 255 * self.alpha


class Dynamic(nn.Module):
    """Data over the range of every position, measured at every pass; weights over a fixed one."""

    def __init__(self, weight: torch.Tensor | None) -> None:
        super().__init__()
        self.fixed = weight is not None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.fixed:
            return (x * 20).round() / 20
        scale = 127 / x.abs().amax(dim=-1 if x.ndim == 2 else 1, keepdim=True).clamp(min=1e-5)
        return x + ((x * scale).round().clamp(-128, 127) / scale - x).detach()


def _per_layer(make: Callable[[torch.Tensor | None], nn.Module]) -> Callable[[nn.Module], nn.Module]:
    """Layers that hold two quantizers as modules of their own, as such projects write them."""

    def forward(self: Any, x: torch.Tensor) -> torch.Tensor:
        x, weight = self.quan_a(x), self.quan_w(self.weight)
        if isinstance(self, nn.Linear):
            return F.linear(x, weight, self.bias)
        return self._conv_forward(x, weight, self.bias)

    def attach(model: nn.Module) -> nn.Module:
        for module in list(model.modules()):
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                module.quan_a, module.quan_w = make(None), make(module.weight)
                module.__class__ = type(f"Q{type(module).__name__}", (type(module),), {"forward": forward})
        return model

    return attach


def _own(model: nn.Module) -> nn.Module:
    return quantize(model, 8, calibration=IMAGE, exponent=True)


def _parametrized(model: nn.Module) -> nn.Module:
    for module in list(model.modules()):
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            parametrize.register_parametrization(module, "weight", Lsq(module.weight))
    return model


def _torch(model: nn.Module) -> nn.Module:
    import torch.ao.quantization as ao

    def make(weight: torch.Tensor | None) -> nn.Module:
        if weight is None:
            return ao.FakeQuantize()
        return ao.default_per_channel_weight_fake_quant()

    model = _per_layer(make)(model).eval()
    model(IMAGE)
    return model.apply(ao.disable_observer)


def _learnable(model: nn.Module) -> nn.Module:
    from torch.ao.quantization import MovingAverageMinMaxObserver, MovingAveragePerChannelMinMaxObserver
    from torch.ao.quantization._learnable_fake_quantize import _LearnableFakeQuantize

    def make(weight: torch.Tensor | None) -> nn.Module:
        if weight is None:
            fake = _LearnableFakeQuantize(MovingAverageMinMaxObserver, 0, 255, scale=0.05, zero_point=0.0)
        else:
            observer = MovingAveragePerChannelMinMaxObserver
            options = {"dtype": torch.qint8, "qscheme": torch.per_channel_symmetric}
            fake = _LearnableFakeQuantize(observer, -128, 127, 0.05, 0.0, len(weight), **options)
        fake.enable_param_learning()
        return fake

    return _per_layer(make)(model)


def _prepared(fused: bool) -> Callable[[nn.Module], nn.Module]:
    import torch.ao.quantization as ao

    def prepare(model: nn.Module) -> nn.Module:
        data = ao.FakeQuantize.with_args(observer=ao.MovingAverageMinMaxObserver, quant_min=0, quant_max=255)
        plain = ao.QConfig(data, ao.default_per_channel_weight_fake_quant)
        model.train().qconfig = ao.get_default_qat_qconfig("fbgemm") if fused else plain  # type: ignore[assignment]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = ao.prepare_qat(model)
        model(IMAGE)
        return model.eval().apply(ao.disable_observer)

    return prepare


QUANTIZERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "own": _own,
    "geta": _per_layer(Geta),
    "straight-through": _per_layer(StraightThrough),
    "lsq": _per_layer(Lsq),
    "parametrized": _parametrized,
    "dorefa": _per_layer(Fixed),
    "dynamic": _per_layer(Dynamic),
    "torch": _torch,
    "learnable": _learnable,
    "prepare_qat": _prepared(False),
    "prepare_qat, fused": _prepared(True),
}


def built(network: type[nn.Module], quantizer: str | None = None) -> nn.Module:
    torch.manual_seed(0)
    model = network()
    return (QUANTIZERS[quantizer](model) if quantizer else model).eval()


def described(graph: Graph) -> list[tuple[Any, ...]]:
    """Groups with everything in them that is not a quantizer's."""
    return [
        (g.id, g.units, g.prunable, g.reason, g.exact,
         [(m.name, m.dim, m.role, m.numel, m.positions.tolist()) for m in g.members
          if m.role != "quantizer" and not m.buffer])
        for g in graph.groups
    ]  # fmt: skip


def without_quantizers(graph: Graph) -> tuple[list[tuple[str, str, str | None]], set[tuple[str, str]]]:
    """The graph with the nodes of its branches taken out and their neighbours joined."""
    removed = {node for branch in graph.branches for node in branch.nodes}
    before = {node.id: [a for a, b in graph.edges if b == node.id] for node in graph.nodes}

    def sources(node: str) -> set[str]:
        return {s for a in before[node] for s in (sources(a) if a in removed else {a})}

    nodes = [(node.id, node.kind, node.layer) for node in graph.nodes if node.id not in removed]
    return nodes, {(source, node) for node, *_ in nodes for source in sources(node)}


@pytest.mark.parametrize("quantizer", QUANTIZERS)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_groups_and_graph_are_those_of_the_float_twin(network: type[nn.Module], quantizer: str) -> None:
    twin = trace(built(network), IMAGE)
    model = built(network, quantizer)
    after, before = trace(model, IMAGE), trace(model, IMAGE, merge=False)
    assert twin.branches == () and twin.prunable_units > 0
    for graph in (after, before):
        assert described(graph) == described(twin)
        assert [(x.name, x.weight, x.macs) for x in graph.layers] == [(x.name, x.weight, x.macs) for x in twin.layers]
        assert without_quantizers(graph) == without_quantizers(twin)
    attached = {branch.id: branch for branch in after.branches if branch.kind == "attached"}
    layers = [name for name, module in built(network).named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))]
    assert {f"{name}.weight" for name in layers} == set(attached)
    assert all(branch.nodes == () for branch in attached.values())
    assert all(len(branch.nodes) == 1 for branch in after.branches if branch.kind == "inserted")
    assert [branch.id for branch in before.branches] == [branch.id for branch in after.branches]
    assert all(branch.nodes for branch in before.branches), "as traced, every quantizer has nodes"
    inserted = [branch for branch in after.branches if branch.kind == "inserted"]
    assert len(inserted) >= (0 if quantizer == "parametrized" else len(layers))


def test_both_pictures_of_getas_formula() -> None:
    model = built(Plain, "geta")
    before, after = trace(model, IMAGE, merge=False), trace(model, IMAGE)
    (branch,) = [branch for branch in before.branches if branch.id == "second.weight"]
    ran = [op.split(".")[1] for op in branch.operations]
    assert ran.count("round") == ran.count("sign") == ran.count("exp") - 1 == 1
    assert set(branch.parameters) == {f"second.quan_w.{name}" for name in ("d", "q_m", "t")}
    kinds = {node.id: node.kind for node in before.nodes}
    assert kinds["second.weight/round"] == "round"
    assert any(start.startswith("second.weight/mul") and end == "second" for start, end in before.edges)
    nodes = {node.id: node for node in after.nodes}
    assert set(nodes["second"].quantizers) == set(branch.parameters)
    assert nodes["second.quan_a:quantizer"].kind == "quantizer"
    assert ("second.quan_a:quantizer", "second") in after.edges
    assert len(before.nodes) > len(after.nodes) + 60
    assert {node["id"]: node["quantizers"] for node in after.to_dict()["nodes"]}["second"] == list(
        nodes["second"].quantizers
    )
    assert [branch["target"] for branch in after.to_dict()["branches"]][1] == ("first",)


SINGLE = ["torch", "learnable", "prepare_qat", "prepare_qat, fused"]  # torch's own kernels know fp32 only


@pytest.mark.parametrize("quantizer", [name for name in QUANTIZERS if name not in SINGLE])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_a_quantized_network_is_slimmed(network: type[nn.Module], quantizer: str) -> None:
    checked = check_removal(built(network, quantizer), IMAGE)
    assert checked.groups == {g.id: g.units for g in trace(built(network), IMAGE).prunable}


@pytest.mark.parametrize("quantizer", SINGLE)
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.__name__)
def test_torchs_quantizers_are_slimmed_in_single_precision(network: type[nn.Module], quantizer: str) -> None:
    model = built(network, quantizer)
    graph = trace(model, IMAGE)
    units = some_units(graph)
    zero_units(model, graph, units)
    small, report = slim_report(model, graph, IMAGE)
    assert report.units == units
    torch.testing.assert_close(small(IMAGE), model(IMAGE), rtol=0, atol=1e-5)
    first = next(layer for layer in graph.layers if layer.name in units)
    (scale,) = [
        tensor for name, tensor in [*small.named_parameters(), *small.named_buffers()]
        if name.startswith(first.name) and name.endswith(("quan_w.scale", "weight_fake_quant.scale"))
    ]  # fmt: skip
    assert scale.shape == (small.get_submodule(first.name).weight.shape[0],) < (first.shape[0],)


def test_a_step_per_channel_is_cut_but_never_zeroed() -> None:
    model = built(Plain, "lsq")
    graph = trace(model, IMAGE)
    zero_units(model, graph, {"first": [1, 2]})
    steps = model.get_parameter("first.quan_w.s")
    assert bool((steps != 0).all())
    small, _ = slim_report(model, graph, IMAGE)
    assert small.get_parameter("first.quan_w.s").shape == (6, 1, 1, 1)
    assert {m.name: m.role for m in graph.group("first").members}["first.quan_w.s"] == "quantizer"
    assert "first.quan_w.s" not in str(graph.group("first").to_dict())


class Around(nn.Module):
    """A layer, some function, a layer: what the function does must stay visible."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function
        self.first, self.last = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 4, 1)
        self.table = nn.Parameter(torch.randn(16, 6))
        self.scale = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: torch.Tensor) -> Any:
        x = self.function(self, self.first(x))
        return (self.last(x[0]), x[1]) if isinstance(x, tuple) else self.last(x)


def q(x: torch.Tensor, step: Any = 0.1) -> torch.Tensor:
    return torch.round(x / step) * step


def _by_position(self: Any, x: torch.Tensor) -> torch.Tensor:
    index = torch.round(torch.sigmoid(x.mean((1, 2, 3))) * 15 / 15 * 15).long()
    return x * self.table[index][:, :, None, None]


def _relative(self: Any, x: torch.Tensor) -> torch.Tensor:
    places = torch.round(torch.arange(6.0) / 2.0) * 2.0
    return x + self.table[places.long()][:, :6].sum(0)[None, :, None, None]


NOT_ONE = {
    "rounding alone": lambda self, x: torch.round(x),
    "whole numbers kept": lambda self, x: torch.round(x * 10),
    "scaled by another number": lambda self, x: torch.round(x / 0.1) * 0.2,
    "a learned offset, rounded": lambda self, x: x + torch.round(self.table[0])[None, :, None, None],
    "positions in a table": _by_position,
    "a relative position": _relative,
    "clamp alone": lambda self, x: torch.clamp(x, -1, 1),
    "binarised": lambda self, x: torch.sign(x),
    "binarised, straight-through": lambda self, x: x + (torch.sign(x) - x).detach(),
    "its codes are returned": lambda self, x: ((r := torch.round(x / 0.1)) * 0.1, r),
}


@pytest.mark.parametrize("name", NOT_ONE)
def test_what_is_no_quantizer_stays_as_it_is(name: str) -> None:
    model = Around(NOT_ONE[name]).eval()
    graph, traced = trace(model, IMAGE), trace(model, IMAGE, merge=False)
    assert graph.branches == ()
    assert graph.to_dict() == traced.to_dict()


STAYS: dict[str, tuple[Callable[[Any, torch.Tensor], torch.Tensor], list[str]]] = {
    "a residual add of the rounded": (lambda self, x: x + q(x), ["quantizer", "add"]),
    "a gate": (lambda self, x: q(x) * torch.sigmoid(x), ["quantizer", "sigmoid", "mul"]),
    "a ReLU6 before": (lambda self, x: q(F.relu6(x)), ["hardtanh", "quantizer"]),
    "a ReLU behind": (lambda self, x: F.relu(q(x)), ["quantizer", "relu"]),
    "a learned scale around": (lambda self, x: q(x * self.scale) * 3, ["mul", "quantizer", "mul#2"]),
    "two in a row": (lambda self, x: q(q(x), 0.3), ["quantizer", "quantizer#2"]),
    "two readers": (lambda self, x: F.relu(r := q(x)) + r, ["quantizer", "relu", "add"]),
    "half a sum": (lambda self, x: x + (q(x) - 0.5 * x).detach(), ["quantizer", "mul", "sub", "add"]),
    "a clip to its own bound": (lambda self, x: q(torch.minimum(x, self.scale), self.scale / 15), ["quantizer"]),
    "a measured range": (lambda self, x: q(x, x.abs().amax() / 127), ["quantizer"]),
    "bounds of 0 and 1 beside other work": (lambda self, x: q(x.clamp(0, 1)), ["clamp", "quantizer"]),
    "by way of whole numbers": (lambda self, x: torch.round(x / 0.1).to(torch.int8).float() * 0.1, ["quantizer"]),
    "its sign at the end": (lambda self, x: torch.sign(x) * q(x.abs()), ["quantizer"]),
}


@pytest.mark.parametrize("name", STAYS)
def test_what_stands_around_a_quantizer_stays(name: str) -> None:
    function, between = STAYS[name]
    graph = trace(Around(function).eval(), IMAGE)
    assert [node.id for node in graph.nodes][2:-2] == between
    assert len(graph.branches) == sum("quantizer" in node for node in between)


def test_an_observer_that_is_on_is_named() -> None:
    import torch.ao.quantization as ao

    model = built(Plain, "prepare_qat, fused").apply(ao.enable_observer)
    group = trace(model, IMAGE).group("first")
    assert group.cause == Reason(Code.observer_on)


def test_a_batch_norm_folded_into_the_weight_is_refused_by_name() -> None:
    import torch.ao.quantization as ao

    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Conv2d(6, 2, 3)).train()
    model.qconfig = ao.get_default_qat_qconfig("fbgemm")  # type: ignore[assignment]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ao.prepare_qat(ao.fuse_modules_qat(model, [["0", "1"]]))
    model(IMAGE)
    graph = trace(model.eval().apply(ao.disable_observer), IMAGE)
    assert graph.groups[0].cause == Reason(Code.divided_by_zeroed)
    zeroed = copy.deepcopy(shake(model))
    zeroed[0].activation_post_process = nn.Identity()  # which would round what is no number to some number
    zeroed[0].weight.data[0], zeroed[0].bn.weight.data[0], zeroed[0].bn.bias.data[0] = 0, 0, 0
    assert bool(zeroed[0](IMAGE).isnan().any()), "what the reason says: a zeroed unit gives no number"
