"""Single topologies: what may be cut, what is frozen and why, and that removal never changes the output."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compression.errors import CompressionError
from compression.graph import Code, Reason, trace
from compression.graph.rules import Step, rule
from compression.graph.values import Value
from tests.oracle import check_removal

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
WORDS = torch.randn(2, 5, 12, generator=torch.Generator().manual_seed(1))
IDS = torch.arange(10).reshape(2, 5)

Forward = Callable[..., object]


def conv(rows: int, columns: int, size: int = 1, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(columns, rows, size, **options)


class Net(nn.Module):
    """A network of the given layers with the given forward(net, …)."""

    def __init__(self, run: Forward, **layers: nn.Module) -> None:
        super().__init__()
        self.call: Any = run
        for name, layer in layers.items():
            setattr(self, name, layer)

    def forward(self, *inputs: torch.Tensor) -> object:
        return self.call(self, *inputs)


def net(run: Forward, **layers: nn.Module) -> Any:
    torch.manual_seed(0)
    for layer in layers.values():
        part: Any
        for part in layer.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
    return Net(run, **layers)


def dense_concat() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.stem(x)
        for layer in (m.one, m.two):
            x = torch.cat([x, layer(F.relu(x))], 1)
        return m.head(F.relu(x))

    return net(run, stem=conv(6, 3), one=conv(4, 6, 3, padding=1), two=conv(4, 10, 3, padding=1), head=conv(2, 14))


def pixel_shuffle() -> nn.Module:
    return nn.Sequential(conv(16, 3), nn.PixelShuffle(2), nn.ReLU(), conv(2, 4))


def mean_over_space() -> nn.Module:
    return net(lambda m, x: m.head(F.relu(m.conv(x)).mean((2, 3))), conv=conv(8, 3, 3), head=nn.Linear(8, 3))


def unet() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        first = F.relu(m.down1(x))
        second = F.relu(m.down2(F.max_pool2d(first, 2)))
        bottom = F.relu(m.bottom(F.max_pool2d(second, 2)))
        x = F.relu(m.up1(torch.cat([F.interpolate(bottom, scale_factor=2), second], 1)))
        return m.head(torch.cat([m.grow(x), first], 1))

    return net(
        run, down1=conv(4, 3, 3, padding=1), down2=conv(6, 4, 3, padding=1), bottom=conv(8, 6, 3, padding=1),
        up1=conv(6, 14, 3, padding=1), grow=nn.ConvTranspose2d(6, 5, 2, 2), head=conv(2, 9),
    )  # fmt: skip


def attention(fused: bool, queries: int = 4, keys: int = 4) -> nn.Module:
    width = 3

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        if fused:
            q, k, v = m.qkv(x).reshape(n, t, 3, -1, width).permute(2, 0, 3, 1, 4).unbind(0)
        else:
            q, k, v = (layer(x).reshape(n, t, -1, width).transpose(1, 2) for layer in (m.q, m.k, m.v))
        if keys != queries:
            k, v = (y.repeat_interleave(queries // keys, dim=1) for y in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, scale=0.5)
        return m.out(y.transpose(1, 2).reshape(n, t, -1))

    full, few = queries * width, keys * width
    parts = {"qkv": nn.Linear(12, 3 * full)} if fused else {
        "q": nn.Linear(12, full), "k": nn.Linear(12, few), "v": nn.Linear(12, few)
    }  # fmt: skip
    return net(run, **parts, out=nn.Linear(full, 5))


def patches() -> nn.Module:
    """Overlapping patches weighed and added up again, as Outlooker does."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(m.first(x))
        weight = m.weigh(x.mean((2, 3))).sigmoid()
        x = F.unfold(x, 3, padding=1) * weight[:, :, None]
        return m.head(F.relu(m.second(F.fold(x, (8, 8), 3, padding=1))))

    layers = {"first": conv(6, 3), "weigh": nn.Linear(6, 1), "second": conv(5, 6), "head": conv(2, 5)}
    return net(run, **layers)


def unfolded() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(F.relu(m.first(x)).unfold(2, 3, 1).unfold(3, 3, 1).amax((4, 5)))

    return net(run, first=conv(6, 3), head=conv(2, 6))


class Blurred(nn.Module):
    """A fixed filter for every channel, kept as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.head = conv(6, 3), conv(2, 6)
        self.register_buffer("filter", torch.rand(6, 1, 3, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.conv2d(F.relu(self.first(x)), self.get_buffer("filter"), groups=self.first.out_channels))


def scaled_by_width() -> nn.Module:
    """One head, whose scores are divided by the square root of however wide the queries are."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.out(F.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x)))

    layers = {"q": nn.Linear(12, 6), "k": nn.Linear(12, 6), "v": nn.Linear(12, 5), "out": nn.Linear(5, 3)}
    return net(run, **layers)


def expanded_keys(rotary: int = 4) -> nn.Module:
    """Grouped-query attention with rotary angles on ``rotary`` of 4 places, as language models write it."""

    def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        half = x.shape[-1] // 2
        return x * cos + torch.cat([-x[..., half:], x[..., :half]], -1) * sin

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        angles = torch.outer(torch.arange(t).to(x), m.frequencies.weight[0])
        cos, sin = torch.cat([angles, angles], -1).cos(), torch.cat([angles, angles], -1).sin()
        q, k, v = (layer(x).view(n, t, -1, 4).transpose(1, 2) for layer in (m.q, m.k, m.v))
        q, k = (torch.cat([turned(y[..., :rotary], cos, sin), y[..., rotary:]], -1) for y in (q, k))
        k, v = (y[:, :, None].expand(n, y.shape[1], 2, t, 4).reshape(n, -1, t, 4) for y in (k, v))
        y = torch.softmax(q @ k.transpose(2, 3) * 0.5, -1) @ v
        return m.out(y.transpose(1, 2).reshape(n, t, -1))

    layers = {"q": nn.Linear(12, 16), "k": nn.Linear(12, 8), "v": nn.Linear(12, 8), "out": nn.Linear(16, 3)}
    return net(run, frequencies=nn.Embedding(1, rotary // 2), **layers)


def normed_heads() -> nn.Module:
    """Queries and keys normalised over the width of each head, written out."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        n, t, _ = x.shape
        q, k, v = m.qkv(x).reshape(n, t, 3, -1, 4).permute(2, 0, 3, 1, 4)
        q = m.norm(q)
        k = k * torch.rsqrt(k.pow(2).mean(-1, keepdim=True) + 1e-6) * m.scale.weight[0]
        y = torch.softmax(F.normalize(q, dim=-1) @ k.transpose(2, 3), -1) @ v
        return m.out(y.transpose(1, 2).flatten(2))

    return net(run, qkv=nn.Linear(12, 36), norm=nn.LayerNorm(4), scale=nn.Embedding(1, 4), out=nn.Linear(12, 3))


def instance_norm(affine: bool) -> nn.Module:
    return nn.Sequential(conv(6, 3, 3), nn.InstanceNorm2d(6, affine=affine), nn.ReLU(), conv(2, 6))


def group_norm(groups: int, affine: bool = True) -> nn.Module:
    return nn.Sequential(conv(6, 3, 3), nn.GroupNorm(groups, 6, affine=affine), nn.ReLU(), conv(2, 6))


def length() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.first(x)
        return m.head(x / torch.linalg.vector_norm(x, dim=-1, keepdim=True))

    return net(run, first=nn.Linear(12, 6), head=nn.Linear(6, 2))


def einsum() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(torch.einsum("btc,dc->btd", x, m.first.weight))
        return m.head(torch.einsum("bsd,btd->bst", x, x) @ x)

    return net(run, first=nn.Linear(12, 7, bias=False), head=nn.Linear(7, 2))


def loop() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        for layer in m.layers:
            x = F.relu(layer(x))
        return m.head(x)

    return net(run, layers=nn.ModuleList([nn.Linear(12, 6), nn.Linear(6, 5), nn.Linear(5, 4)]), head=nn.Linear(4, 2))


def in_place() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.first(x)
        flat = x.view(-1, 6)
        flat.relu_().mul_(0.5)
        flat += 2 * flat
        y = torch.zeros_like(x)
        y.copy_(x)
        y[:, 1:3] *= 3
        y[:, 0].zero_()
        return m.head(y)

    return net(run, first=nn.Linear(12, 6), head=nn.Linear(6, 2))


def no_key_bias() -> nn.Module:
    """A part of a copied bias is zeroed in place, as in Swin v2."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        bias = m.first.bias.clone()
        bias[4:].zero_()
        left, right = F.linear(x, m.first.weight, bias).chunk(2, -1)
        return m.head(left * right)

    return net(run, first=nn.Linear(12, 8), head=nn.Linear(4, 2))


def masked() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.first(x).masked_fill(torch.ones(5, 1, dtype=torch.bool).tril(-2), 0.0)
        return m.head(torch.cumsum(x, 1) * torch.where(x > 0, x, x.new_zeros(())))

    return net(run, first=nn.Linear(12, 6), head=nn.Linear(6, 2))


class Buffers(nn.Module):
    """A buffer of each kind: one that scales channels (cut with them), and one that shifts them (freezes them)."""

    scale: torch.Tensor
    shift: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.head = conv(6, 3), conv(6, 6), conv(2, 6)
        self.register_buffer("scale", torch.rand(6, 1, 1) + 0.5)
        self.register_buffer("shift", torch.rand(6, 1, 1) + 0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(F.relu(self.two(F.relu(self.one(x) * self.scale))) + self.shift)


def two_inputs() -> nn.Module:
    def run(m: Any, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, list[torch.Tensor]]:
        x, y = F.relu(m.left(x)), F.relu(m.right(y))
        both = F.relu(m.both(x + y))
        return m.first(both), [m.second(both), m.third(y)]

    layers = {"left": conv(6, 3), "right": conv(6, 3), "both": conv(5, 6)}
    return net(run, **layers, first=conv(2, 5), second=conv(3, 5), third=conv(2, 6))


def tied_autoencoder() -> nn.Module:
    """One parameter that first produces units and then reads them."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(F.linear(F.relu(m.first(x)), m.first.weight.t()))

    return net(run, first=nn.Linear(12, 6), head=nn.Linear(12, 2))


def normed_weight(norm: Callable[[nn.Module], nn.Module]) -> nn.Module:
    return nn.Sequential(conv(6, 3), nn.ReLU(), norm(conv(4, 6)), nn.ReLU(), conv(2, 4))


def positions() -> nn.Module:
    def run(m: Any, ids: torch.Tensor) -> torch.Tensor:
        x = m.words(ids) + m.places.weight[torch.arange(ids.shape[1])]
        return m.head(F.relu(m.hidden(x)))

    layers = {"words": nn.Embedding(10, 6), "places": nn.Embedding(5, 6), "hidden": nn.Linear(6, 8)}
    return net(run, **layers, head=nn.Linear(8, 2))


CUT: list[tuple[str, nn.Module, object, dict[str, int]]] = [
    ("dense-concat", dense_concat(), IMAGE, {"stem": 6, "one": 4, "two": 4}),
    ("pixel-shuffle", pixel_shuffle(), IMAGE, {"0": 4}),
    ("mean-over-space", mean_over_space(), IMAGE, {"conv": 8}),
    ("unet", unet(), IMAGE, {"down1": 4, "down2": 6, "bottom": 8, "up1": 6, "grow": 5}),
    ("fused-qkv", attention(True), WORDS, {"qkv": 4}),
    ("separate-qkv", attention(False), WORDS, {"q": 4}),
    ("grouped-query", attention(False, 6, 3), WORDS, {"q": 3}),
    ("patches", patches(), IMAGE, {"first": 6, "second": 5}),
    ("windows", unfolded(), IMAGE, {"first": 6}),
    ("fixed-filter", Blurred(), IMAGE, {"first": 6}),
    ("scaled-by-width", scaled_by_width(), WORDS, {"q": 6, "v": 5}),
    ("rotary", expanded_keys(), WORDS, {"q": 2}),
    ("partial-rotary", expanded_keys(2), WORDS, {"q": 2}),
    ("normed-heads", normed_heads(), WORDS, {"qkv": 3}),
    ("group-norm-per-channel", group_norm(6), IMAGE, {"0": 6}),
    ("group-norm", group_norm(3), IMAGE, {"0": 3}),
    ("group-norm-without-affine", group_norm(3, affine=False), IMAGE, {"0": 3}),
    ("length", length(), WORDS, {"first": 6}),
    ("instance-norm", instance_norm(True), IMAGE, {"0": 6}),
    ("einsum", einsum(), WORDS, {"first": 7}),
    ("loop", loop(), WORDS, {"layers.0": 6, "layers.1": 5, "layers.2": 4}),
    ("in-place", in_place(), WORDS, {"first": 6}),
    ("zeroed-part-of-a-bias", no_key_bias(), WORDS, {"first": 4}),
    ("masked", masked(), WORDS, {"first": 6}),
    ("buffers", Buffers(), IMAGE, {"one": 6}),
    ("several-inputs-and-outputs", two_inputs(), (IMAGE, IMAGE.flip(0)), {"left": 6, "both": 5}),
    ("embeddings", positions(), IDS, {"words": 6, "hidden": 8}),
    ("one-slope", nn.Sequential(conv(6, 3), nn.PReLU(), conv(2, 6)), IMAGE, {"0": 6}),
    ("channel-shuffle-op", nn.Sequential(conv(6, 3), nn.ChannelShuffle(2), conv(2, 6)), IMAGE, {"0": 3}),
    ("pixel-unshuffle", nn.Sequential(conv(6, 3), nn.PixelUnshuffle(2), conv(2, 24)), IMAGE, {"0": 6}),
    ("gated", nn.Sequential(nn.Linear(12, 8), nn.GLU(), nn.Linear(4, 2)), WORDS, {"0": 4}),
    ("tied-autoencoder", tied_autoencoder(), WORDS, {"first": 6}),
    (
        "largest",
        net(lambda m, x: m.head(m.first(x).max(1)[0]), first=nn.Linear(12, 6), head=nn.Linear(6, 2)),
        WORDS,
        {"first": 6},
    ),
]


@pytest.mark.parametrize(("model", "inputs", "expected"), [c[1:] for c in CUT], ids=[c[0] for c in CUT])
def test_cut(model: nn.Module, inputs: torch.Tensor, expected: dict[str, int]) -> None:
    assert check_removal(model, inputs).groups == expected


def test_instance_norm_without_affine() -> None:
    """Zero minus its own mean is zero: nothing shifts."""
    checked = check_removal(instance_norm(False), IMAGE)
    assert checked.groups == {"0": 6}


def test_buffer_that_shifts_freezes() -> None:
    group = trace(Buffers(), IMAGE).group("two")
    assert group.cause == Reason(Code.not_zero_where_read) and not group.exact


def trunk() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.stem(x)
        x = x + m.down(F.gelu(m.up(m.norm(x))))
        return m.head(x)

    layers = {"stem": nn.Linear(12, 6), "norm": nn.LayerNorm(6), "up": nn.Linear(6, 9), "down": nn.Linear(9, 6)}
    return net(run, **layers, head=nn.Linear(6, 2))


def rms_trunk() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.stem(x)
        normed = m.scale.weight[0] * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))
        return m.head(x + m.down(F.silu(m.gate(normed)) * m.up(normed)))

    layers = {"stem": nn.Linear(12, 6), "scale": nn.Embedding(1, 6), "gate": nn.Linear(6, 9), "up": nn.Linear(6, 9)}
    return net(run, **layers, down=nn.Linear(9, 6), head=nn.Linear(6, 2))


def tied_embedding() -> nn.Module:
    def run(m: Any, ids: torch.Tensor) -> torch.Tensor:
        x = m.words(ids)
        return m.head(x + m.down(F.relu(m.up(x))))

    layers = {"words": nn.Embedding(10, 6), "up": nn.Linear(6, 8), "down": nn.Linear(8, 6)}
    model = net(run, **layers, head=nn.Linear(6, 10, bias=False))
    model.head.weight = model.words.weight
    return model


def gathered() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.first(x)
        return m.head(F.relu(m.second(x.gather(2, torch.arange(5, -1, -1).expand(2, 5, 6)))))

    return net(run, first=nn.Linear(12, 6), second=nn.Linear(6, 4), head=nn.Linear(4, 2))


def indexed() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(F.relu(m.second(m.first(x)[:, :, [0, 2, 5]])))

    return net(run, first=nn.Linear(12, 6), second=nn.Linear(3, 4), head=nn.Linear(4, 2))


def index_put() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.first(x)
        x[:, :, [0, 2]] = 1.0
        return m.head(F.relu(m.second(x)))

    return net(run, first=nn.Linear(12, 6), second=nn.Linear(6, 4), head=nn.Linear(4, 2))


def into_a_slice() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        out = torch.zeros(2, 8, 8, 8, dtype=x.dtype, device=x.device)
        out[:, 2:6] = m.first(x)
        return m.head(F.relu(m.second(out)))

    return net(run, first=conv(4, 3), second=conv(5, 8), head=conv(2, 5))


def into_a_slice_of_data() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        out = m.first(x)
        out[:, :3] = m.other(x)
        out[:, 4:].add_(1)
        return m.head(F.relu(m.second(out)))

    return net(run, first=conv(8, 3), other=conv(3, 3), second=conv(5, 8), head=conv(2, 5))


def shifted_view() -> nn.Module:
    """A write through a view that changes zeros: seen by whoever holds the whole tensor."""

    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        x = m.first(x)
        x[:, :, :2].add_(1)
        return m.head(F.relu(m.second(x)))

    return net(run, first=conv(4, 3), second=conv(5, 4), head=conv(2, 5))


def unknown() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(F.relu(m.second(torch.cumprod(m.first(x), 1))))

    return net(run, first=nn.Linear(12, 6), second=nn.Linear(6, 4), head=nn.Linear(4, 2))


def shifted_weight() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(F.relu(m.second(F.conv2d(x, m.first.weight + 0.5))))

    return net(run, first=conv(6, 3), second=conv(4, 6), head=conv(2, 4))


def threshold() -> nn.Module:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(F.relu(m.second(F.threshold(m.first(x), 0.1, 7.0))))

    return net(run, first=nn.Linear(12, 6), second=nn.Linear(6, 4), head=nn.Linear(4, 2))


NORM = Reason(Code.norm_averages, {"norm": "a group norm"})
FROZEN: list[tuple[str, nn.Module, torch.Tensor, str, Reason, dict[str, int]]] = [
    ("group-norm-of-all", group_norm(1), IMAGE, "0", NORM, {}),
    ("layer-norm", trunk(), WORDS, "stem", Reason(Code.norm_averages, {"norm": "a layer norm"}), {"up": 9}),
    ("rms-norm", rms_trunk(), WORDS, "stem", Reason(Code.mean), {"gate": 9}),
    ("tied-embedding", tied_embedding(), IDS, "words", Reason(Code.picked_by_index), {"words#2": 6, "up": 8}),
    ("gather", gathered(), WORDS, "first", Reason(Code.by_index, {"name": "gather"}), {"second": 4}),
    ("index", indexed(), WORDS, "first", Reason(Code.picked_by_index), {"second": 4}),
    ("index-put", index_put(), WORDS, "first", Reason(Code.by_index, {"name": "index_put_"}), {"second": 4}),
    ("slice-of-zeros", into_a_slice(), IMAGE, "first", Reason(Code.written_into_fixed), {"second": 5}),
    ("slice-of-data", into_a_slice_of_data(), IMAGE, "first", Reason(Code.fixed_slice), {"second": 5}),
    ("shifted-view", shifted_view(), IMAGE, "first", Reason(Code.not_zero_where_read),
     {"second": 5}),
    ("unknown", unknown(), WORDS, "first", Reason(Code.unknown_operation, {"name": "aten.cumprod"}), {"second": 4}),
    ("weight-norm", normed_weight(torch.nn.utils.parametrizations.weight_norm), IMAGE, "0",
     Reason(Code.weight_norm), {}),
    ("spectral-norm", normed_weight(torch.nn.utils.parametrizations.spectral_norm), IMAGE, "0",
     Reason(Code.multiplied_with_fixed_axis), {}),
    ("shifted-weight", shifted_weight(), IMAGE, "first", Reason(Code.not_zero_where_read),
     {"second": 4}),
    ("threshold", threshold(), WORDS, "first", Reason(Code.not_zero_where_read), {"second": 4}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("model", "inputs", "group", "cause", "cut"), [f[1:] for f in FROZEN], ids=[f[0] for f in FROZEN]
)
def test_frozen(model: nn.Module, inputs: torch.Tensor, group: str, cause: Reason, cut: dict[str, int]) -> None:
    checked = check_removal(model, inputs)
    assert (checked.graph.group(group).cause, checked.groups) == (cause, cut)


@dataclass
class Answer:
    logits: torch.Tensor
    hidden: list[torch.Tensor]


torch.utils._pytree.register_dataclass(Answer)


@pytest.mark.parametrize("kind", [dict, Answer])
def test_dict_and_dataclass_outputs(kind: type) -> None:
    def run(m: Any, x: torch.Tensor) -> object:
        hidden = F.relu(m.first(x))
        shown = m.shown(hidden)
        return kind(logits=m.head(F.relu(shown)), hidden=[shown])

    layers = {"first": nn.Linear(12, 6), "shown": nn.Linear(6, 5), "head": nn.Linear(5, 2)}
    checked = check_removal(net(run, **layers), WORDS)
    assert checked.groups == {"first": 6}
    assert checked.graph.group("shown").cause == Reason(Code.next_to_output)


def test_shared_with_a_frozen_parameter() -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(F.relu(m.second(F.relu(m.first(F.relu(m.stem(x)))))))

    layers = {"stem": nn.Linear(12, 6), "first": nn.Linear(6, 6), "second": nn.Linear(6, 6), "head": nn.Linear(6, 2)}
    model = net(run, **layers)
    model.second.weight = model.first.weight
    assert set(trace(model, WORDS).group("stem").to_dict()) and trace(model, WORDS).group("stem").prunable
    graph = trace(model, WORDS, frozen=["second.weight"])
    assert graph.group("stem").cause == Reason(Code.shared_with_frozen)
    assert trace(model, WORDS, frozen=["first.weight"]).group("stem").cause == Reason(Code.requested)
    with pytest.raises(CompressionError, match=r"cannot freeze 'third\.weight'"):
        trace(model, WORDS, frozen=["third.weight"])


class Quantized(nn.Module):
    """The same network in floating point, with torch's own fake quantizers, and with somebody's own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.stem, self.inner, self.head = conv(8, 3, 3, padding=1), conv(8, 8, 3, padding=1), nn.Linear(8, 4)
        self.norm, self.kind = nn.BatchNorm2d(8), kind
        if kind == "torch":
            import torch.ao.quantization as ao

            def per_channel() -> nn.Module:
                module: nn.Module = ao.FakeQuantize(
                    ao.MovingAveragePerChannelMinMaxObserver, quant_min=-128, quant_max=127, dtype=torch.qint8,
                    qscheme=torch.per_channel_symmetric, ch_axis=0,
                )  # fmt: skip
                return module

            self.weights = nn.ModuleDict({name: per_channel() for name in ("stem", "inner", "head")})
            self.data = nn.ModuleDict({name: ao.FakeQuantize() for name in ("stem", "inner", "head")})
            for name in self.weights:
                self.weights[name](getattr(self, name).weight)
                self.data[name](IMAGE)
                self.weights[name].apply(ao.disable_observer)
                self.data[name].apply(ao.disable_observer)

    def fake(self, x: torch.Tensor, layer: str, weight: bool) -> torch.Tensor:
        if self.kind == "torch":
            rounded: torch.Tensor = (self.weights if weight else self.data)[layer](x)
            return rounded
        if self.kind == "own":
            step = 0.05
            return x + (torch.clamp(torch.round(x / step), -127, 127) * step - x).detach()
        return x

    def layer(self, x: torch.Tensor, name: str) -> torch.Tensor:
        layer = getattr(self, name)
        x, weight = self.fake(x, name, False), self.fake(layer.weight, name, True)
        if name == "head":
            return F.linear(x, weight, layer.bias)
        return F.conv2d(x, weight, layer.bias, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu(self.layer(x, "stem"))
        x = F.relu(x + self.norm(self.layer(x, "inner")))
        return self.layer(x.mean((2, 3)), "head")


@pytest.mark.parametrize("kind", ["torch", "own"])
def test_quantizers_written_by_others_leave_the_groups_alone(kind: str) -> None:
    described, macs = [], []
    for each in ("none", kind):
        graph = trace(Quantized(each), IMAGE)
        macs.append((graph.macs, [layer.name for layer in graph.layers]))
        described.append([
            (g.id, g.units, g.prunable, g.reason, g.exact,
             {(m.name, m.dim, m.role) for m in g.members if not m.buffer and "fake" not in m.name})
            for g in graph.groups
        ])  # fmt: skip
    assert described[0] == described[1] and macs[0] == macs[1]
    assert [g[0] for g in described[0] if g[2]] == ["stem"]
    assert check_removal(Quantized("own"), IMAGE).groups == {"stem": 8}


@torch.library.custom_op("topologies::double", mutates_args=())
def double(x: torch.Tensor) -> torch.Tensor:
    return x * 2


@double.register_fake
def _(x: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(x)


def test_a_rule_of_ones_own() -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return m.head(double(m.first(x)))

    from compression.graph.rules import registry

    model = net(run, first=nn.Linear(12, 6), head=nn.Linear(6, 2))
    group = trace(model, WORDS).group("first")
    assert group.cause == Reason(Code.unknown_operation, {"name": "topologies.double"})

    @rule("topologies.double")
    def doubled(step: Step) -> Value:
        return step.output(*step.args[0].factors)

    try:
        assert check_removal(model, WORDS).groups == {"first": 6}
    finally:
        del registry._RULES["topologies.double"]
