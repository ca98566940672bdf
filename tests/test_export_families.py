"""Export of torchvision's families, cut down to a block or two: dense, inverted and shuffled blocks, with both methods.

What ONNX says of integer weights and of quantized activations is compared with torch, and so is the reloaded program.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models
from torchvision.models.convnext import CNBlockConfig
from torchvision.models.efficientnet import MBConvConfig
from torchvision.models.mobilenetv3 import InvertedResidualConfig

from compression.encodings import cut_weights
from compression.export import program
from compression.export.config import activations
from compression.export.onnx_int8 import calibrated
from compression.export.onnx_model import floats, integers
from compression.graph import slim_report, trace, zero_units
from compression.methods.opq import allocate, attach
from compression.pack import integers as stored
from compression.pack import pack, unpack
from compression.pack.restore import restore_slim
from compression.quant import fold, integer_weights, quantize
from tests.test_export_models import answers

SIZE = (3, 32, 32)
FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "densenet": lambda: models.DenseNet(8, (2, 2), 16, 2, num_classes=10),
    "mobilenet_v3": lambda: models.MobileNetV3(
        [
            InvertedResidualConfig(16, 3, 16, 16, True, "RE", 1, 1, 1),
            InvertedResidualConfig(16, 5, 48, 24, True, "HS", 2, 1, 1),
        ],
        64,
        num_classes=10,
    ),
    "shufflenet": lambda: models.ShuffleNetV2([2, 1, 1], [16, 24, 32, 48, 64], num_classes=10),
    "convnext": lambda: models.ConvNeXt([CNBlockConfig(16, 24, 1), CNBlockConfig(24, None, 1)], num_classes=10),
    "efficientnet": lambda: models.EfficientNet(
        [MBConvConfig(1, 3, 1, 16, 16, 1, 1.0, 1.0), MBConvConfig(4, 3, 2, 16, 24, 1, 1.0, 1.0)],
        0.2,
        num_classes=10,
        last_channel=64,
    ),
}


def images(count: int) -> torch.Tensor:
    return torch.randn(count, *SIZE, generator=torch.Generator().manual_seed(0))


def network(family: str) -> nn.Module:
    """Seeded weights of a size that gives different logits, and the statistics of norms that belong to them."""
    torch.manual_seed(0)
    model = FAMILIES[family]()
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.3)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        model.train()(images(32))
    return model.eval()


def masked(family: str, kind: str, dense: nn.Module) -> nn.Module:
    """A third of the units at zero, 6-bit weights and 8-bit activations; or OPQ's zeros and widths."""
    if kind == "opq":
        compressed = network(family)
        attach(compressed, allocate(compressed, 0.5, 3))
        return compressed
    compressed = quantize(network(family), 6, [images(32)], 8)
    graph = trace(dense, images(1))
    zero_units(compressed, graph, {group.id: range(0, group.units, 3) for group in graph.prunable if group.units > 3})
    return compressed


@pytest.mark.parametrize("kind", ["both", "opq"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_exported(family: str, kind: str, tmp_path: Path) -> None:
    dense, x = network(family), images(16)
    graph, compressed = trace(dense, x[:1]), masked(family, kind, network(family))
    slim, cut = slim_report(fold(compressed.eval()), graph)
    assert bool(cut.units) == (kind != "opq")
    pack(slim, tmp_path / "p", cut_weights(integer_weights(compressed), graph, cut.units))
    state, known = unpack(tmp_path / "p"), stored(tmp_path / "p")
    model = restore_slim(dense, graph, cut.units, state)
    with torch.no_grad():
        expected = slim.eval()(x).numpy()
        assert np.array_equal(model(x).numpy(), expected)

    traced = program.traced(model, torch.zeros(2, *SIZE))
    loaded = torch.export.load(io.BytesIO(program.saved(program.plain(traced)))).module()
    with torch.no_grad():
        assert np.allclose(loaded(x).numpy(), expected, atol=1e-5 * np.abs(expected).max())

    raw = floats(traced, activations(model))
    file = integers(raw, known)
    assert {placed.layer for placed in file.weights} == set(known)
    assert "fp32" not in {placed.type for placed in file.weights}
    eight, _ = calibrated(integers(raw, known, arithmetic=True), [images(32)])
    spread = np.abs(expected - expected.mean(0)).mean()  # what tells one image from another
    for data, most in ((file.data, 0.1 if kind == "both" else 1e-4), (eight.data, 0.5)):
        assert np.abs(answers(data, x) - expected).mean() < most * spread
