"""Groups of small topologies: what hangs together, what is frozen and why, and the oracle: zero, slim, same output."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compression import zoo
from compression.errors import CompressionError
from compression.graph import Code, Reason, slim, slim_report, trace, zero_units, zeroed_units


def shake(model: nn.Module) -> nn.Module:
    """Statistics and affine parameters away from their defaults, so that a wrong cut changes the output."""
    generator = torch.Generator().manual_seed(1)
    for tensor in [*model.parameters(), *model.buffers()]:
        if tensor.is_floating_point() and tensor.ndim == 1:
            tensor.data = torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype) + 0.5
    return model


def check_removal(model: nn.Module, x: torch.Tensor) -> dict[str, int]:
    """Zero every other unit of each prunable group; the slim model must compute the same in fp64. Returns group
    sizes.
    """
    model = shake(model.double().eval())
    x = x.double()
    graph = trace(model, x)
    units = {group.id: list(range(0, group.units, 2)) for group in graph.prunable}
    zero_units(model, graph, units)
    assert zeroed_units(model, graph) == units
    small = slim(model, graph, x)
    with torch.no_grad():
        torch.testing.assert_close(small(x), model(x), rtol=0, atol=1e-10)
    before, after = (sum(p.numel() for p in m.parameters()) for m in (model, small))
    assert after < before
    return {group.id: group.units for group in graph.groups if group.prunable}


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.outer = (
            nn.Conv2d(3, 8, 3),
            nn.Conv2d(8, 6, 3, padding=1),
            nn.Conv2d(6, 8, 3, padding=1),
        )
        self.norm, self.head = nn.BatchNorm2d(8), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = torch.relu(self.norm(self.outer(torch.relu(self.inner(x))))) + x
        return self.head(x.mean((2, 3)))


class ConcatNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 6, 1)
        self.norm, self.head = nn.BatchNorm2d(10), nn.Conv2d(10, 5, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.relu(self.norm(torch.cat([self.left(x), self.right(x)], 1))))


class Depthwise(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.depth = nn.Conv2d(3, 6, 1), nn.Conv2d(6, 12, 3, groups=6)
        self.head = nn.Conv2d(12, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.depth(self.stem(x))))


class Grouped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.grouped, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 3, groups=2), nn.Conv2d(12, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.grouped(F.relu(self.stem(x)))))


class Flattened(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.flatten(torch.relu_(self.conv(x)), 1))


class Chunked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = self.conv(x).chunk(2, 1)
        return self.head(left * torch.sigmoid(right))


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.head = nn.Conv2d(3, 6, 2, 2), nn.ConvTranspose2d(6, 4, 2, 2), nn.Conv2d(4, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.up(F.relu(self.down(x)))))


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.squeeze, self.excite = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
        self.head = nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        return self.head(x * torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3), keepdim=True))))))


class Shuffled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv(x)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.head(F.relu(x))


class SharedWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.loop, self.head = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for _ in range(3):
            x = x + F.relu(self.loop(x))
        return self.head(x)


IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))

TOPOLOGIES = [
    (Residual, IMAGE, {"stem": 8, "inner": 6}),
    (ConcatNorm, IMAGE, {"left": 4, "right": 6}),
    (Depthwise, IMAGE, {"stem": 6}),
    (Grouped, IMAGE, {"stem": 4, "grouped": 6}),
    (Flattened, IMAGE, {"conv": 6}),
    (Chunked, IMAGE, {"conv": 4}),
    (Transposed, IMAGE, {"down": 6, "up": 4}),
    (SqueezeExcite, IMAGE, {"conv": 8, "squeeze": 4}),
    (Shuffled, IMAGE, {"conv": 4}),
    (SharedWeights, torch.ones(2, 6), {"stem": 8}),
]


@pytest.mark.parametrize(("build", "x", "expected"), TOPOLOGIES, ids=lambda value: getattr(value, "__name__", ""))
def test_topology(build: type[nn.Module], x: torch.Tensor, expected: dict[str, int]) -> None:
    torch.manual_seed(0)
    assert check_removal(build(), x) == expected


@pytest.mark.parametrize(
    ("name", "groups", "units", "params", "macs"),
    [
        ("resnet20", 12, 448, 272_474, 40_813_184),
        ("vgg7", 7, 2816, 5_115_530, 608_053_248),
        ("vgg7_small", 7, 704, 323_498, 38_668_800),
        ("resnet8", 6, 112, 19_810, None),
        ("mobilenet_small", None, None, None, None),
        ("vit_tiny", 8, 4 * (4 + 384), None, None),
    ],
)
def test_zoo(name: str, groups: int | None, units: int | None, params: int | None, macs: int | None) -> None:
    model = zoo.build(name, seed=0)
    example = torch.randn(2, *zoo.spec(name).input)
    graph = trace(model, example)
    for got, expected in (
        (len(graph.prunable), groups),
        (graph.prunable_units, units),
        (graph.params, params),
        (graph.macs, macs),
    ):
        assert expected is None or got == expected
    check_removal(model, example)


def test_heads_are_units() -> None:
    model = zoo.build("vit_tiny", seed=0)
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    group = graph.group("blocks.0.attention.qkv")
    rows = next(m for m in group.members if m.name == "blocks.0.attention.qkv.weight")
    width = 24  # 96 channels in 4 heads: a head owns 24 rows in each of the three blocks of the fused projection
    expected = [block * 96 + 2 * width + i for block in range(3) for i in range(width)]
    assert rows.positions[2].tolist() == expected
    columns = next(m for m in group.members if m.role == "consumer")
    assert (columns.name, columns.dim) == ("blocks.0.attention.proj.weight", 1)
    assert columns.positions[2].tolist() == list(range(2 * width, 3 * width))
    assert any(tie.cause == Reason(Code.one_head) for tie in group.ties)
    zero_units(model, graph, {group.id: [1, 3]})
    small, report = slim_report(model, graph)
    assert report.removed == {group.id: 2} and report.equality <= 1e-5
    assert small.blocks[0].attention.num_heads == 2 and small.blocks[1].attention.num_heads == 4


def test_members_and_reasons() -> None:
    graph = trace(Residual(), IMAGE)
    trunk = graph.group("stem")
    members = {(m.name, m.dim, m.role) for m in trunk.members if not m.buffer}
    assert members == {
        ("stem.weight", 0, "producer"), ("stem.bias", 0, "producer"), ("outer.weight", 0, "producer"),
        ("outer.bias", 0, "producer"), ("norm.weight", 0, "norm"), ("norm.bias", 0, "norm"),
        ("inner.weight", 1, "consumer"), ("head.weight", 1, "consumer"),
    }  # fmt: skip
    assert ("add", Reason(Code.residual_add)) in [(tie.op, tie.cause) for tie in trunk.ties]
    numel = {m.name: m.numel for m in trunk.members}
    assert numel["stem.weight"] == 27 and numel["inner.weight"] == 6 * 9 and numel["norm.bias"] == 1
    head = graph.group("head")
    assert not head.prunable and head.cause == Reason(Code.next_to_output)


class InputAdd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x) + x)


class Unknown(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.head = nn.Linear(6, 5), nn.Linear(5, 4), nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.cumprod(self.first(x), dim=0)
        return self.head(F.relu(self.second(x)))


class PaddedShortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 8, 1), nn.Conv2d(8, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(F.relu(self.conv(x) + F.pad(x, (0, 0, 0, 0, 2, 2))))


class Biased(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = nn.Linear(6, 5), nn.Linear(5, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.sigmoid(self.first(x)))


@pytest.mark.parametrize(
    ("build", "x", "group", "cause"),
    [
        (InputAdd, IMAGE, "conv", Reason(Code.added_to_input)),
        (Unknown, torch.ones(3, 6), "first", Reason(Code.unknown_operation, {"name": "aten.cumprod"})),
        (PaddedShortcut, IMAGE, "stem", Reason(Code.padded)),
        (Biased, torch.ones(3, 6), "first", Reason(Code.not_zero_where_read)),
    ],
    ids=["input-add", "unknown-op", "padding", "sigmoid"],
)
def test_frozen_with_reason(build: type[nn.Module], x: torch.Tensor, group: str, cause: Reason) -> None:
    graph = trace(build(), x)
    assert not graph.group(group).prunable
    assert graph.group(group).cause == cause


def test_unknown_op_freezes_only_what_reaches_it() -> None:
    assert [group.id for group in trace(Unknown(), torch.ones(3, 6)).prunable] == ["second"]


def test_user_freezes_by_name() -> None:
    graph = trace(Residual(), IMAGE, frozen=["inner.weight"])
    assert graph.group("inner").cause == Reason(Code.requested) and graph.group("stem").cause == Reason(Code.requested)
    with pytest.raises(CompressionError, match="cannot freeze"):
        trace(Residual(), IMAGE, frozen=["no.such"])


class PlainQuantized(nn.Module):
    """Weight and activation quantizers written in plain operations: GETA's attached and inserted branches."""

    def __init__(self, quantized: bool) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.Conv2d(6, 4, 1)
        self.last = nn.Linear(4, 2)
        self.step, self.bound = nn.Parameter(torch.tensor(0.1)), nn.Parameter(torch.tensor(1.0))
        self.quantized = quantized

    def fake(self, x: torch.Tensor) -> torch.Tensor:
        if not self.quantized:
            return x
        size = torch.exp(torch.log(x.abs().clamp(min=1e-9)) * 1.0)
        size = torch.where(x.abs() > self.bound, self.bound, size)
        return torch.sign(x) * self.step * torch.round(size / self.step)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.norm(F.conv2d(self.fake(x), self.fake(self.conv.weight), self.conv.bias)))
        x = F.relu(F.conv2d(self.fake(x), self.fake(self.head.weight), self.head.bias))
        return F.linear(self.fake(x.mean((2, 3))), self.fake(self.last.weight), self.last.bias)


def test_quantizer_branches_leave_the_groups_alone() -> None:
    described, macs = [], []
    for quantized in (False, True):
        graph = trace(PlainQuantized(quantized), IMAGE)
        macs.append(graph.macs)
        described.append(
            {g.id: (g.units, g.prunable, g.exact, {(m.name, m.dim, m.role) for m in g.members}) for g in graph.groups}
        )
    assert described[0] == described[1] and macs[0] == macs[1]
    assert {name for name, (_, prunable, *_) in described[0].items() if prunable} == {"conv", "head"}


def test_attached_quantizers_leave_the_groups_alone() -> None:
    from compression.quant import quantize

    plain = trace(zoo.build("resnet8", seed=0), torch.zeros(2, 1, 28, 28))
    model = quantize(zoo.build("resnet8", seed=0), weight_bits=8, calibration=torch.randn(4, 1, 28, 28))
    graph = trace(model, torch.zeros(2, 1, 28, 28))
    assert [g.to_dict()["parameters"] for g in graph.groups] == [g.to_dict()["parameters"] for g in plain.groups]
    assert [g.id for g in graph.prunable] == [g.id for g in plain.prunable]
    assert graph.macs == plain.macs and graph.sizes == plain.sizes
    zero_units(model, graph, {g.id: [0, 2] for g in graph.prunable})
    _, report = slim_report(model, graph)
    assert report.equality <= 1e-5
    assert sum(report.removed.values()) == 2 * len(graph.prunable)


def test_tracing_leaves_the_model_alone() -> None:
    model = Residual().train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    trace(model, IMAGE)
    assert model.training and not model.stem._forward_hooks and not model.stem._forward_pre_hooks
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


class FixedSize(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 1), nn.Linear(4 * 64, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.conv(x).reshape(-1, 256))


def test_a_fixed_size_in_forward_is_rebuilt() -> None:
    model = FixedSize().eval()
    graph = trace(model, IMAGE[:1])
    zero_units(model, graph, {"conv": [1]})
    small, report = slim_report(model, graph, IMAGE[:1])
    assert report.rebuilt
    assert report.equality <= 1e-5
    assert {name: tuple(p.shape) for name, p in small.named_parameters()}["head.weight"] == (2, 3 * 64)
    for batch in (1, 2, 5):
        x = torch.randn(batch, 3, 8, 8)
        torch.testing.assert_close(small(x), model(x), rtol=0, atol=1e-5)


class NormedFixedSize(nn.Module):
    """A norm of one group per channel keeps its number of channels among its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 4, 1), nn.GroupNorm(4, 4), nn.Linear(4 * 64, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.norm(self.conv(x))).reshape(-1, 256))


def test_a_norm_per_channel_is_rebuilt() -> None:
    model = shake(NormedFixedSize().eval())
    graph = trace(model, IMAGE[:1])
    zero_units(model, graph, {"conv": [0, 2]})
    small, report = slim_report(model, graph, IMAGE[:1])
    assert report.rebuilt
    x = torch.randn(3, 3, 8, 8)
    torch.testing.assert_close(small(x), model(x), rtol=0, atol=1e-5)


class OtherForBatches(FixedSize):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if x.shape[0] < 3 else torch.tanh(x))


def test_slim_refuses_a_fixed_size_it_cannot_rebuild() -> None:
    model = OtherForBatches()
    graph = trace(model, IMAGE[:1])
    zero_units(model, graph, {"conv": [1]})
    with pytest.raises(CompressionError, match="other operations for another batch size"):
        slim(model, graph, IMAGE[:1])


ATTENTION = torch.randn(2, 10, 24, generator=torch.Generator().manual_seed(0))


class TorchAttention(nn.Module):
    """torch's own attention asserts its widths: its heads go through a rebuilt graph."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(24, 24), nn.Linear(24, 3)
        self.attention = nn.MultiheadAttention(24, 6, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.stem(x))
        return self.head(self.attention(x, x, x, need_weights=False)[0].mean(1))


def test_heads_of_torchs_attention() -> None:
    torch.manual_seed(0)
    model = TorchAttention().eval()
    graph = trace(model, ATTENTION)
    assert {group.id: group.units for group in graph.prunable} == {"stem": 24, "attention": 6, "attention.out_proj": 24}
    zero_units(model, graph, {"attention": [0, 3], "stem": [5]})
    small, report = slim_report(model, graph, ATTENTION)
    assert report.rebuilt
    assert report.equality <= 1e-5
    shapes = {name: tuple(p.shape) for name, p in small.named_parameters()}
    assert shapes["attention.in_proj_weight"] == (3 * 16, 23)
    assert shapes["attention.out_proj.weight"] == (24, 16)


def test_channels_can_stay_at_a_multiple() -> None:
    model = shake(zoo.build("resnet20", seed=0).eval())
    graph = trace(model, torch.zeros(1, 3, 32, 32))
    zero_units(model, graph, {group.id: list(range(group.units // 3)) for group in graph.prunable})
    small, report = slim_report(model, graph, multiple=8)
    assert report.equality <= 1e-5
    remaining = {group.id: group.units - report.removed.get(group.id, 0) for group in graph.prunable}
    assert set(remaining.values()) == {16, 24, 48}  # of 11, 22 and 43 that are not zero
    assert small.layer3[0].conv1.out_channels == 48
    with pytest.raises(CompressionError, match="multiple must be at least 1"):
        slim(model, graph, multiple=0)


def test_slim_refuses_what_it_cannot_do() -> None:
    model = Residual()
    graph = trace(model, IMAGE)
    with pytest.raises(CompressionError, match=r"units 0\.\.5"):
        zero_units(model, graph, {"inner": [6]})
    with pytest.raises(CompressionError, match="no group"):
        zero_units(model, graph, {"nothing": [0]})
    zero_units(model, graph, {"inner": list(range(6))})
    with pytest.raises(CompressionError, match="all 6 units of group inner"):
        slim(model, graph, IMAGE)
