"""Units behind a norm, allowed on request: labelled, cut soundly, and how much the output changes is returned."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compression import zoo
from compression.errors import CompressionError
from compression.graph import Code, Reason, slim_report, trace, zero_units
from tests.oracle import as_double, shake

WORDS = torch.randn(5, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


class Normed(nn.Module):
    """A trunk of ``width`` behind a layer norm, with a residual layer."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.stem, self.norm, self.inner = nn.Linear(12, width), nn.LayerNorm(width), nn.Linear(width, width)
        self.head = nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(F.gelu(x + self.inner(self.norm(x))))


def narrowed(model: Normed, remaining: list[int]) -> Normed:
    """The same network made with fewer units by hand."""
    small = Normed(len(remaining)).double()
    whole = model.state_dict()
    cut = ("stem", "norm", "inner")
    rows = {name: tensor[remaining] for name, tensor in whole.items() if name.split(".")[0] in cut}
    rows["inner.weight"] = whole["inner.weight"][remaining][:, remaining]
    small.load_state_dict({**whole, **rows, "head.weight": whole["head.weight"][:, remaining]})
    return small


def test_frozen_unless_asked_for() -> None:
    model = Normed().double()
    assert not trace(model, WORDS).prunable
    group = trace(model, WORDS, inexact=True).group("stem")
    assert group.prunable and not group.exact and group.units == 8
    assert (group.cause, group.place) == (Reason(Code.norm_averages, {"norm": "a layer norm"}), "norm")


def test_a_trunk_is_cut_as_by_hand() -> None:
    model = shake(Normed().double().eval())
    graph = trace(model, WORDS, inexact=True)
    zero_units(model, graph, {"stem": [1, 2, 6]})
    small, report = slim_report(model, graph, WORDS)
    by_hand = narrowed(model, [0, 3, 4, 5, 7])
    torch.testing.assert_close(small(WORDS), by_hand(WORDS), rtol=0, atol=1e-12)
    assert report.units == {"stem": [1, 2, 6]} and not report.rebuilt
    assert report.equality <= 1e-12 and report.change > 1e-3
    assert report.change == pytest.approx((small(WORDS) - model(WORDS)).abs().max().item())


class Grouped(nn.Module):
    def __init__(self, groups: int) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 12, 3), nn.GroupNorm(groups, 12), nn.Conv2d(12, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.norm(self.conv(x))))


@pytest.mark.parametrize(("groups", "units"), [(3, 4), (1, 12)])
def test_places_of_a_group_norm(groups: int, units: int) -> None:
    model, image = shake(Grouped(groups).double().eval()), torch.randn(2, 3, 6, 6, dtype=torch.float64)
    graph = trace(model, image, inexact=True)
    group = graph.group("conv")
    assert (group.units, group.prunable, group.exact) == (units, True, False)
    assert group.cause == Reason(Code.norm_averages, {"norm": "a group norm"})
    assert (groups > 1) == (Reason(Code.every_norm_group) in [tie.cause for tie in group.ties])
    zero_units(model, graph, {"conv": [0, 2]})
    small, report = slim_report(model, graph, image)
    remaining = [c for c in range(12) if c % units not in (0, 2)]
    x = F.group_norm(model.conv(image)[:, remaining], groups, model.norm.weight[remaining], model.norm.bias[remaining])
    expected = F.conv2d(F.relu(x), model.head.weight[:, remaining], model.head.bias)
    torch.testing.assert_close(small(image), expected, rtol=0, atol=1e-12)
    assert small.norm.num_groups == groups and report.change > 1e-3


class Attentive(nn.Module):
    """A transformer block with its sizes written into ``forward``."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.attend = nn.Linear(6, 8), nn.LayerNorm(8), nn.MultiheadAttention(8, 2)
        self.head = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        y = self.norm(x)
        return self.head(x + self.attend(y, y, y, need_weights=True)[0])


def test_a_trunk_with_sizes_in_forward_is_replayed() -> None:
    model, x = shake(Attentive().double().eval()), torch.randn(4, 3, 6, dtype=torch.float64)
    graph = trace(model, x, inexact=True)
    zero_units(model, graph, {"embed": [0, 5, 6]})
    small, report = slim_report(model, graph, x)
    assert report.rebuilt and report.equality <= 1e-12
    remaining = [1, 2, 3, 4, 7]
    start = model.embed(x)[..., remaining]
    normed = F.layer_norm(start, (5,), model.norm.weight[remaining], model.norm.bias[remaining])
    parts = F.linear(normed, model.attend.in_proj_weight[:, remaining], model.attend.in_proj_bias)
    q, k, v = (part.unflatten(-1, (2, 4)).permute(1, 2, 0, 3) for part in parts.chunk(3, -1))
    mixed = F.scaled_dot_product_attention(q, k, v).permute(2, 0, 1, 3).flatten(2)
    out = F.linear(mixed, model.attend.out_proj.weight[remaining], model.attend.out_proj.bias[remaining])
    expected = F.linear(start + out, model.head.weight[:, remaining], model.head.bias)
    torch.testing.assert_close(small(x), expected, rtol=0, atol=1e-10)


class Scaled(Normed):
    """Computes with a size that cutting the module changes and replaying its operations does not."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * self.norm.normalized_shape[0]


def test_two_ways_that_disagree_are_refused() -> None:
    model = shake(Scaled().double().eval())
    graph = trace(model, WORDS, inexact=True)
    zero_units(model, graph, {"stem": [1]})
    with pytest.raises(CompressionError, match="differs from the same cut made in another way"):
        slim_report(model, graph, WORDS)


@pytest.mark.parametrize("name", ["vit_tiny", "hf:bert", "hf:llama"])
def test_trunks_of_transformers(name: str) -> None:
    if name.startswith("hf:"):
        pytest.importorskip("transformers", reason="transformers is an optional extra")
    model, x = shake(zoo.build(name).double().eval()), as_double(zoo.example(name, batch=2))
    graph = trace(model, x, inexact=True)
    trunk = max(graph.prunable, key=lambda group: len(group.members))
    assert not trunk.exact and trunk.id not in {group.id for group in trace(model, x).prunable}
    zero_units(model, graph, {trunk.id: [0, 3]})
    small, report = slim_report(model, graph, x)
    assert report.equality <= 1e-10 and report.change > 0
    norms = [p for name, p in small.named_parameters() if "norm" in name.lower() and p.ndim == 1]
    assert norms and {p.numel() for p in norms} == {trunk.units - 2}


class HandWritten(nn.Module):
    """Attention as it is often written: a number of heads in ``forward``, which any number of rows can be split into.

    ``gated``: a sigmoid behind the values, so that heads are inexact, too.
    """

    def __init__(self, width: int = 8, heads: int = 4, gated: bool = False) -> None:
        super().__init__()
        self.heads, self.gated, rows = heads, gated, 4 * heads
        self.embed, self.norm, self.qkv = nn.Linear(6, width), nn.LayerNorm(width), nn.Linear(width, 3 * rows)
        self.out, self.head = nn.Linear(rows, width), nn.Linear(width, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        b, n, _ = x.shape
        parts = self.qkv(self.norm(x)).chunk(3, -1)
        q, k, v = (part.view(b, n, self.heads, -1).transpose(1, 2) for part in parts)
        v = v.sigmoid() if self.gated else v
        mixed = (q @ k.transpose(-1, -2) / 2).softmax(-1) @ v
        return self.head(x + self.out(mixed.transpose(1, 2).reshape(b, n, -1)))


def by_hand(model: HandWritten, units: list[int], heads: list[int]) -> HandWritten:
    """The network made with the remaining trunk units and heads."""
    small = HandWritten(len(units), len(heads), model.gated).double().eval()
    rows = [4 * head + place for head in heads for place in range(4)]
    three = [16 * part + row for part in range(3) for row in rows]
    whole = dict(model.state_dict())
    for name in ("embed.weight", "embed.bias", "norm.weight", "norm.bias", "out.weight", "out.bias"):
        whole[name] = whole[name][units]
    whole["qkv.weight"], whole["qkv.bias"] = whole["qkv.weight"][three][:, units], whole["qkv.bias"][three]
    whole["out.weight"], whole["head.weight"] = whole["out.weight"][:, rows], whole["head.weight"][:, units]
    small.load_state_dict(whole)
    return small


@pytest.mark.parametrize("gated", [False, True])
def test_heads_written_as_a_number_are_cut_as_by_hand(gated: bool) -> None:
    model, x = shake(HandWritten(gated=gated).double().eval()), torch.randn(2, 5, 6, dtype=torch.float64)
    graph = trace(model, x, inexact=True)
    assert {group.id: (group.units, group.exact) for group in graph.prunable} == {
        "embed": (8, False), "qkv": (4, not gated)
    }  # fmt: skip
    zero_units(model, graph, {"embed": [0, 5], "qkv": [1, 2]})
    small, report = slim_report(model, graph, x)
    assert report.rebuilt and report.equality <= 1e-12 and report.change > 1e-3
    assert report.removed == {"embed": 2, "qkv": 2}
    expected = by_hand(model, [1, 2, 3, 4, 6, 7], [0, 3])
    torch.testing.assert_close(small(x), expected(x), rtol=0, atol=1e-12)


def test_a_table_that_nothing_sets_to_zero_is_no_unit() -> None:
    class Timed(Normed):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("frequencies", torch.rand(6))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            angles = x[:, :1] * self.frequencies
            return super().forward(torch.cat([angles.cos(), angles.sin()], -1))

    model = shake(Timed().double().eval())
    graph = trace(model, WORDS, inexact=True)
    assert {group.id for group in graph.prunable} == {"stem"}
    zero_units(model, graph, {"stem": [0, 1]})
    assert slim_report(model, graph, WORDS)[1].removed == {"stem": 2}
