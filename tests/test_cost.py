"""Counting, against counts taken from the slim model itself."""

import math

import pytest
import torch
from scipy.stats import entropy
from torch import nn

from compression import zoo
from compression.counting.cost import cost
from compression.counting.entropy import entropy_bytes
from compression.graph import slim, trace, zero_units
from compression.training.measure import curve_images, sizes


def hooked_macs(model: nn.Module, x: torch.Tensor) -> int:
    """MACs of conv and linear modules counted from the shapes they really see."""
    total = 0

    def count(module: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        nonlocal total
        total += output.numel() * module.weight[0].numel()

    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(count)
    with torch.no_grad():
        model.eval()(x)
    return total


@pytest.mark.parametrize("name", ["resnet8", "mobilenet_small", "vit_tiny", "vgg7"])
def test_cost_of_removed_units_is_the_slim_models(name: str) -> None:
    model = zoo.build(name, seed=0)
    x = torch.randn(1, *zoo.spec(name).input)
    graph = trace(model, x)
    assert cost(graph).macs == graph.macs == hooked_macs(zoo.build(name, seed=0), x)
    units = {group.id: list(range(group.units // 3)) for group in graph.prunable}
    zero_units(model, graph, units)
    small = slim(model, graph)
    counted = cost(graph, units)
    assert counted.params == sum(p.numel() for p in small.parameters())
    assert counted.macs == hooked_macs(small, x)
    assert counted == cost(graph, {name: len(chosen) for name, chosen in units.items()})
    assert counted.unit_sparsity == sum(map(len, units.values())) / graph.prunable_units


def test_bits_by_hand() -> None:
    model = nn.Sequential(nn.Linear(10, 6), nn.ReLU(), nn.Linear(6, 2))
    graph = trace(model, torch.zeros(1, 10))
    result = cost(graph, {"0": [1, 2]}, {"0": (4, None), "2": (8, 6)})
    assert result.params == 4 * 10 + 4 + 2 * 4 + 2
    assert result.macs == 40 + 8
    assert result.bops == 40 * 4 * 32 + 8 * 8 * 6
    assert result.rel_bops == result.bops / ((60 + 12) * 1024)
    assert result.nominal_bytes == 40 * 4 / 8 + 8 * 8 / 8 + 4 * (4 + 2) + 4 * 2


def test_entropy_against_scipy() -> None:
    codes = torch.randint(-7, 8, (31, 17), generator=torch.Generator().manual_seed(0))
    counts = torch.unique(codes, return_counts=True)[1]
    assert math.isclose(entropy_bytes(codes), entropy(counts.numpy(), base=2) * codes.numel() / 8, rel_tol=1e-12)
    assert entropy_bytes(torch.zeros(5, dtype=torch.int32)) == 0


@pytest.mark.parametrize("factor", [1, 2**28])
def test_entropy_of_codes_that_lie_far_apart(factor: int) -> None:
    """Before steps are bound a layer may have 32-bit codes; counting them takes no memory for their whole range."""
    codes = torch.randint(-7, 8, (31, 17), generator=torch.Generator().manual_seed(0), dtype=torch.int64)
    assert math.isclose(entropy_bytes(codes * factor), entropy_bytes(codes), rel_tol=1e-12)


def test_sizes_of_a_dense_model() -> None:
    model = zoo.build("resnet8", seed=0)
    graph = trace(model, torch.zeros(1, 1, 28, 28))
    result = sizes(model, graph)
    floats = sum(t.numel() for t in model.state_dict().values() if t.is_floating_point())
    assert result["bytes"] == 4 * floats and result["rel_bops"] == 1 and result["bits"] == {}
    assert result["weight_sparsity"] == 0 and result["unit_sparsity"] == 0


def test_sizes_count_removed_rows_and_columns_as_zero_weights() -> None:
    model = zoo.build("resnet8", seed=0)
    graph = trace(model, torch.zeros(1, 1, 28, 28))
    units = {group.id: [0] for group in graph.prunable}
    zero_units(model, graph, units)
    result = sizes(model, graph)
    small = slim(model, graph)
    remaining = sum(module.weight.numel() for module in small.modules() if isinstance(module, (nn.Conv2d, nn.Linear)))
    all_weights = sum(math.prod(layer.shape) for layer in graph.layers)
    assert result["weight_sparsity"] == pytest.approx(1 - remaining / all_weights)
    assert result["bytes"] == 4 * sum(t.numel() for t in small.state_dict().values() if t.is_floating_point())


@pytest.mark.parametrize(
    ("name", "images"),
    [("resnet8", 1000), ("resnet20", 1000), ("minilm", 117), ("vgg7", 100), ("torchvision:resnet18", 100)],
)
def test_points_on_the_way_measure_fewer_images_of_heavy_networks(name: str, images: int) -> None:
    """2.4, 41, 425, 608 and 1,814 million MACs an image: 50 billion a point, but 100 images at least."""
    assert curve_images(trace(zoo.build(name), zoo.example(name))) == images
