"""What a graph promises is kept: of strange networks, either random units can be cut out and nothing changes, or the
units are frozen for the right reason.

The oracle is the masked network itself: both run in fp64 from one seed, twice, so that what is left behind counts.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm
from torch.utils.checkpoint import checkpoint

from compression.graph import Code, Reason, slim_report, trace, zero_units
from tests.oracle import some_units, tensors

ROWS = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))

SUMMED = Reason(Code.summed_not_zeroed)
DIVIDED = Reason(Code.divided_by_zeroed)
NO_NUMBER = Reason(Code.not_a_number)
RANDOM = Reason(Code.random_numbers)
NOT_ZERO = Reason(Code.not_zero_where_read)
BOTH = {"a": 16, "b": 12}


def replaced(parameter: str) -> Reason:
    """A parameter that forward() writes anew."""
    return Reason(Code.parameter_replaced, {"parameter": parameter})


class Net(nn.Module):
    """Three linear layers ``a``, ``b``, ``c`` (6 to 16 to 12 to 3), further parts, and a forward of its own."""

    def __init__(self, run: Callable[..., Any], **parts: Any) -> None:
        super().__init__()
        self.a, self.b, self.c, self.run = nn.Linear(6, 16), nn.Linear(16, 12), nn.Linear(12, 3), run
        for name, part in parts.items():
            if isinstance(part, torch.Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.run(self, *args, **kwargs)

    def inner(self, x: torch.Tensor) -> torch.Tensor:
        """What layer ``b`` reads."""
        return torch.relu(self.a(x))

    def after(self, x: torch.Tensor) -> torch.Tensor:
        """What follows layer ``b``."""
        return self.c(torch.relu(x))

    def plain(self, x: torch.Tensor) -> torch.Tensor:
        return self.after(self.b(self.inner(x)))

    def weighing(self, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """The network with another weight in ``b``."""
        return self.after(F.linear(self.inner(x), weight, self.b.bias))


@dataclass(frozen=True)
class Case:
    """A network, and what is expected: prunable groups and their units, and why other groups are frozen."""

    make: Callable[[], nn.Module]
    prunable: dict[str, int]
    frozen: dict[str, Reason] = field(default_factory=dict)
    rebuilt: bool = False


CASES: dict[str, Case] = {}


def case(prunable: dict[str, int], rebuilt: bool = False, **frozen: Reason) -> Callable[[Any], Any]:
    """The function below is the forward of a :class:`Net`."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        CASES[run.__name__] = Case(lambda: Net(run), prunable, frozen, rebuilt)
        return run

    return register


def network(prunable: dict[str, int], rebuilt: bool = False, **frozen: Reason) -> Callable[[Any], Any]:
    """The function below makes a network."""

    def register(make: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
        CASES[make.__name__] = Case(make, prunable, frozen, rebuilt)
        return make

    return register


# --- parameters written in forward


@case(BOTH)
def clipped_in_place(net: Any, x: torch.Tensor) -> torch.Tensor:
    net.a.weight.clamp_(-0.1, 0.1)
    return net.plain(x)


@case(BOTH)
def halved_at_every_pass(net: Any, x: torch.Tensor) -> torch.Tensor:
    net.b.weight.data.mul_(0.5)
    return net.plain(x)


@case({"b": 12}, a=SUMMED)
def rows_set_to_length_one(net: Any, x: torch.Tensor) -> torch.Tensor:
    net.b.weight.data.div_(net.b.weight.data.norm(dim=1, keepdim=True) + 1e-6)
    return net.plain(x)


@case({}, b=replaced("b.weight"), a=replaced("b.weight"))
def replaced_data(net: Any, x: torch.Tensor) -> torch.Tensor:
    net.b.weight.data = net.b.weight.data * 0.5
    return net.plain(x)


@case({}, b=replaced("b.weight"), a=replaced("b.weight"))
def replaced_parameter(net: Any, x: torch.Tensor) -> torch.Tensor:
    net.b.weight = nn.Parameter(net.b.weight * 0.5)
    return net.plain(x)


@network({}, a=replaced("target.weight"), b=replaced("target.weight"))
def weights_of_another_layer() -> nn.Module:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        net.target.weight.data = net.b.weight.data
        return net.after(net.target(net.inner(x)))

    return Net(run, target=nn.Linear(16, 12))


@network({"target": 12, "target#2": 16})
def weights_copied_from_another_layer() -> nn.Module:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        net.target.weight.copy_(net.b.weight)
        net.target.bias.copy_(net.b.bias)
        return net.after(net.target(net.inner(x)))

    return Net(run, target=nn.Linear(16, 12))


class Merging(nn.Module):
    """Two branches that are merged into a third layer when it is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.narrow, self.merged = nn.Linear(8, 8), nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            return self.wide(x) + self.narrow(x)
        self.merged.weight.data = (self.wide.weight + self.narrow.weight).detach()
        self.merged.bias.data = (self.wide.bias + self.narrow.bias).detach()
        return self.merged(x)


@network({}, **{"0": replaced("2.merged.weight"), "2.wide": replaced("2.merged.weight")})
def branches_merged_in_evaluation() -> nn.Module:
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), Merging(), nn.ReLU(), nn.Linear(8, 3))


class Adapter(nn.Linear):
    """A low-rank addition that is merged into the weight in evaluation mode, and taken out again for training."""

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__(columns, rows)
        self.up, self.down = nn.Parameter(torch.randn(rows, 2)), nn.Parameter(torch.randn(2, columns))
        self.merged = False

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        if self.merged == mode:
            self.weight.data += (self.up @ self.down) * (-1 if self.merged else 1)
            self.merged = not mode
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = super().forward(x)
        return out if self.merged else out + x @ self.down.T @ self.up.T


@network({}, a=Reason(Code.switched_with_mode), b=Reason(Code.switched_with_mode))
def adapters_merged_in_evaluation() -> nn.Module:
    net = Net(Net.plain)
    net.b = Adapter(12, 16)
    return net


# --- statistics of weights


@case({"b": 12}, a=SUMMED)
def divided_by_its_norm(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.weighing(x, net.b.weight / net.b.weight.norm())


@case({"b": 12}, a=SUMMED)
def scaled_by_its_sum(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.plain(x) * net.b.weight.sum()


@case({"b": 12}, a=SUMMED)
def norm_of_weights_returned(net: Any, x: torch.Tensor) -> Any:
    return net.plain(x), net.b.weight.pow(2).sum()


@case({"b": 12}, a=SUMMED)
def divided_by_its_gram_matrix(net: Any, x: torch.Tensor) -> torch.Tensor:
    gram = net.b.weight @ net.b.weight.T
    return net.weighing(x, net.b.weight / (gram.pow(2).sum() + 1e-3).sqrt())


@case({}, a=SUMMED, b=DIVIDED)
def rows_over_their_sum(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.weighing(x, net.b.weight / net.b.weight.abs().sum(1, keepdim=True))


@case({"a": 16}, b=SUMMED)
def cosine_classifier(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = torch.relu(net.b(net.inner(x)))
    return x @ (net.c.weight / (net.c.weight.norm(dim=1, keepdim=True) + 1e-6)).T


@case(BOTH)
def columns_of_length_one(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = torch.relu(net.b(net.inner(x)))
    return x @ F.normalize(net.c.weight, dim=0).T


@case({"b": 12}, a=Reason(Code.mean))
def standardized_weights(net: Any, x: torch.Tensor) -> torch.Tensor:
    weight = net.b.weight - net.b.weight.mean(1, keepdim=True)
    return net.weighing(x, weight / (weight.std(1, keepdim=True) + 1e-5))


@case({"a": 16, "b": 12})
def far_columns_of_prototypes(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = torch.relu(net.b(net.inner(x)))
    return F.cosine_similarity(x[:, None], net.c.weight[None], dim=-1)


def normed(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    net = Net(Net.plain)
    net.b = norm(net.b)
    net(ROWS)  # leaves a weight with a gradient history behind
    return net


@network({}, a=Reason(Code.weight_norm), b=Reason(Code.weight_norm))
def weight_norm_by_hooks() -> nn.Module:
    return normed(weight_norm)


@network({"b": 12}, a=SUMMED)
def spectral_norm_by_hooks() -> nn.Module:
    return normed(spectral_norm)


@network(BOTH)
def pruning_masks() -> nn.Module:
    return normed(lambda layer: prune.l1_unstructured(layer, "weight", 0.3))


@network({}, a=Reason(Code.weight_norm))
def weight_norm_parametrization() -> nn.Module:
    return normed(parametrizations.weight_norm)


@network({}, a=Reason(Code.multiplied_with_fixed_axis), b=Reason(Code.combined_with_fixed_axis))
def orthogonal_parametrization() -> nn.Module:
    return normed(parametrizations.orthogonal)


class Tanh(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.tanh()


class Exp(nn.Module):
    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight.exp()


@network(BOTH)
def parametrization_that_keeps_zero() -> nn.Module:
    return normed(lambda layer: parametrize.register_parametrization(layer, "weight", Tanh()))


@network({"a": 16}, b=NOT_ZERO)
def parametrization_that_moves_zero() -> nn.Module:
    return normed(lambda layer: parametrize.register_parametrization(layer, "weight", Exp()))


# --- zero where no zero may be


@case({"b": 12}, a=NO_NUMBER)
def channels_over_their_largest(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.a(x).abs()
    return net.after(net.b(x / x.amax(0, keepdim=True)))


@case({"b": 12}, a=NO_NUMBER)
def square_root_by_a_negative_power(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.a(x).square()
    return net.after(net.b(x * x**-0.5))


# --- random numbers


@case({"a": 16}, b=RANDOM)
def noise_from_one_seed(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.b(net.inner(x))
    return net.after(x + torch.randn_like(x) * 0.1)


@case({}, a=RANDOM, b=RANDOM)
def dropout_in_evaluation(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.c(F.dropout(net.b(F.dropout(net.inner(x), 0.3, True)), 0.3, True))


@network(BOTH)
def a_generator_of_its_own() -> nn.Module:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.plain(x) + torch.randn(3, generator=net.generator)

    return Net(run, generator=torch.Generator().manual_seed(0))


# --- state


@network(BOTH)
def counter() -> nn.Module:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        net.count += 1
        net.passes = net.passes + 1
        return net.plain(x) * net.count + net.passes

    return Net(run, count=torch.zeros(()), passes=0)


@network({"b": 12}, a=NOT_ZERO)
def running_mean() -> nn.Module:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.inner(x)
        net.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
        return net.after(net.b(x - net.mean))

    return Net(run, mean=torch.rand(16))


@network(BOTH)
def buffer_replaced_at_every_pass() -> nn.Module:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.inner(x)
        net.mean = 0.9 * net.mean + 0.1 * x.mean(0)
        return net.after(net.b(x * net.mean))

    return Net(run, mean=torch.rand(16))


@network(BOTH)
def caches_with_a_history() -> nn.Module:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        x = net.inner(x)
        net.cache["last"] = [x]
        return net.after(net.b(x))

    net = Net(run, cache={})
    net(ROWS)
    return net


# --- other ways to run


@case(BOTH)
def checkpointed(net: Any, x: torch.Tensor) -> torch.Tensor:
    return checkpoint(net.plain, x, use_reentrant=False)


@case(BOTH)
def inference_mode(net: Any, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return net.plain(x)


@case(BOTH)
def branch_on_values(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.plain(x) if float(x.abs().sum()) > 0 else net.after(net.inner(x)[:, :12])


@case(BOTH, rebuilt=True)
def sizes_written_down(net: Any, x: torch.Tensor) -> Any:
    return {"logits": net.after(net.b(net.inner(x).view(-1, 16))), "none": None}


@case(BOTH, rebuilt=True)
def one_batch_size_only(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.after(net.b(net.inner(x).view(5, 16)))


@case(BOTH, rebuilt=True)
def rolled_along_the_units(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.after(net.b(net.inner(x).roll((1, -5), (0, 1))))


@case({"b": 12}, a=Reason(Code.rolled_flat))
def rolled_as_one_row(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.after(net.b(net.inner(x).roll(3)))


@case({"b": 12}, a=Reason(Code.unknown_operation, {"name": "aten._to_sparse"}))
def through_a_sparse_tensor(net: Any, x: torch.Tensor) -> torch.Tensor:
    return net.after(net.b(net.inner(x).to_sparse().to_dense()))


@case(BOTH, rebuilt=True)
def width_as_a_number(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.inner(x)
    return net.after(net.b(x / x.shape[-1] ** 0.5))


@network(BOTH)
def hooks_that_change_the_data() -> nn.Module:
    net = Net(Net.plain)
    net.b.register_forward_pre_hook(lambda _, args: (args[0].clamp(max=1),))
    net.b.register_forward_hook(lambda _, args, out: out * 2)
    return net


@network(BOTH)
def made_in_inference_mode() -> nn.Module:
    with torch.inference_mode():
        return Net(Net.plain).double()


@network(BOTH)
def odd_parameters() -> nn.Module:
    shapes: dict[str, Any] = {"empty": torch.zeros(0, 3), "number": torch.tensor(2.0)}
    shapes["spread"] = torch.ones(1, dtype=torch.float64).expand(16)
    parts = {name: nn.Parameter(tensor) for name, tensor in shapes.items()}
    return Net(lambda net, x: net.after(net.b(net.inner(x) * net.spread)) * net.number, **parts)


@network({}, a=Reason(Code.eight_bit_float), small=Reason(Code.eight_bit_float))
def floats_of_8_bits() -> nn.Module:
    def run(net: Any, x: torch.Tensor) -> torch.Tensor:
        return net.after(F.linear(net.inner(x), net.small.to(x.dtype)))

    return Net(run, small=nn.Parameter(torch.randn(12, 16).to(torch.float8_e4m3fn), requires_grad=False))


@network({"0": 8})
def norm_without_shift() -> nn.Module:
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    model[1].register_parameter("bias", None)
    return model


def seeded(model: nn.Module, inputs: torch.Tensor) -> list[torch.Tensor]:
    """What two passes return, the random numbers from one seed."""
    torch.manual_seed(3)
    with torch.no_grad():
        return [out for _ in range(2) for out in tensors(model(inputs))]


@pytest.mark.parametrize("name", sorted(CASES))
def test_promised_units_can_be_cut_and_others_are_frozen(name: str) -> None:
    torch.manual_seed(0)
    expected, inputs = CASES[name], ROWS.double()
    model = expected.make()
    model = model.eval() if name in ("floats_of_8_bits", "made_in_inference_mode") else model.double().eval()
    if name == "floats_of_8_bits":
        inputs = ROWS
    graph = trace(model, inputs)
    assert {group.id: group.units for group in graph.prunable} == expected.prunable
    causes = {group.id: group.cause for group in graph.groups if not group.prunable}
    assert expected.frozen.items() <= causes.items()
    zero_units(model, graph, some_units(graph))
    small, report = slim_report(model, graph, inputs)
    assert report.removed == {group: len(units) for group, units in some_units(graph).items()}
    assert report.rebuilt == expected.rebuilt
    left, right = seeded(model, inputs), seeded(small, inputs)
    assert all(bool(torch.isfinite(out).all()) for out in left)
    for one, other in zip(left, right, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10 * max(1.0, float(one.abs().max())))
