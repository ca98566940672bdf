"""One small network of every family, from torchvision, timm and transformers: traced, thinned at random, and equal."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from compression import zoo
from compression.errors import CompressionError
from compression.graph import Code, Reason
from tests.oracle import check_removal

TORCHVISION = [  # name, side of the image, how many groups can be cut
    ("alexnet", 64, 7),
    ("convnext_tiny", 32, 18),
    ("densenet121", 32, 120),
    ("efficientnet_b0", 32, 40),
    ("googlenet", 64, 57),
    ("inception_v3", 96, 94),
    ("maxvit_t", 224, 69),
    ("mnasnet0_5", 32, 25),
    ("mobilenet_v2", 32, 25),
    ("mobilenet_v3_small", 32, 27),
    ("regnet_y_400mf", 32, 53),
    ("resnet18", 32, 12),
    ("resnext50_32x4d", 32, 37),
    ("shufflenet_v2_x0_5", 32, 20),
    ("squeezenet1_1", 64, 25),
    ("swin_t", 64, 24),
    ("swin_v2_t", 64, 24),
    ("vgg11_bn", 32, 10),
    ("vit_b_16", 32, 24),
]


def narrowed(name: str) -> nn.Module:
    """The network with a narrow hidden layer in place of its hundred million parameters."""
    from torchvision import models

    with torch.device("meta"):
        model = models.get_model(name, weights=None, num_classes=5)
    linear = [i for i, layer in enumerate(model.classifier) if isinstance(layer, nn.Linear)]
    for place, rows, columns in zip(
        linear, (24, 16, 5), (model.classifier[linear[0]].in_features, 24, 16), strict=True
    ):
        model.classifier[place] = nn.Linear(columns, rows)
    model = model.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05, generator=generator)
    return model


@pytest.mark.parametrize(("name", "side", "groups"), TORCHVISION, ids=[entry[0] for entry in TORCHVISION])
def test_torchvision_classifier(name: str, side: int, groups: int) -> None:
    model = narrowed(name) if name in ("alexnet", "vgg11_bn") else zoo.build(f"torchvision:{name}", (3, side, side), 5)
    checked = check_removal(model, torch.randn(1, 3, side, side))
    assert len(checked.groups) == groups
    codes = {group.cause.code for group in checked.graph.groups if group.cause is not None and not group.prunable}
    assert Code.next_to_output in codes and Code.unknown_operation not in codes


def _fcn() -> nn.Module:
    from torchvision.models import segmentation

    return segmentation.fcn_resnet50(weights=None, weights_backbone=None)


def _lraspp() -> nn.Module:
    from torchvision.models import segmentation

    return segmentation.lraspp_mobilenet_v3_large(weights=None, weights_backbone=None)


def _deeplab() -> nn.Module:
    from torchvision.models import segmentation

    return segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None)


def _pyramid(norm: Callable[..., nn.Module]) -> nn.Module:
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    return resnet_fpn_backbone(backbone_name="resnet18", weights=None, norm_layer=norm)


@pytest.mark.parametrize(("build", "groups"), [(_fcn, 38), (_lraspp, 30), (_deeplab, 36)])
def test_segmentation(build: Callable[[], nn.Module], groups: int) -> None:
    checked = check_removal(build(), torch.randn(1, 3, 64, 64))
    assert len(checked.groups) == groups


DETECTORS = [("retinanet_resnet50_fpn", 64, 38), ("fasterrcnn_mobilenet_v3_large_fpn", 64, 30),
             ("ssdlite320_mobilenet_v3_large", 320, 31)]  # fmt: skip


@pytest.mark.parametrize(("name", "side", "groups"), DETECTORS, ids=[entry[0] for entry in DETECTORS])
def test_detection_backbones(name: str, side: int, groups: int) -> None:
    from torchvision import models

    backbone = models.get_model(name, weights=None, weights_backbone=None).backbone
    assert len(check_removal(backbone, torch.randn(1, 3, side, side)).groups) == groups


def test_every_level_of_a_pyramid_is_an_output() -> None:
    checked = check_removal(_pyramid(nn.BatchNorm2d), torch.randn(1, 3, 64, 64))
    assert len(checked.groups) == 13
    assert len([node for node in checked.graph.nodes if node.op == "output"]) == 5


def test_frozen_norms_keep_their_shift() -> None:
    from torchvision.ops import FrozenBatchNorm2d

    checked = check_removal(_pyramid(FrozenBatchNorm2d), torch.randn(1, 3, 64, 64))
    stem = checked.graph.group("body.conv1")  # its buffers shift a zeroed channel away from zero
    assert stem.cause == Reason(Code.not_zero_where_read) and not stem.exact


TIMM = [("resnet10t", 64, 10), ("test_vit", 160, 12), ("mobilenetv4_conv_small_035", 64, 21), ("convnext_atto", 64, 12)]


@pytest.mark.parametrize(("name", "side", "groups"), TIMM, ids=[entry[0] for entry in TIMM])
def test_timm(name: str, side: int, groups: int) -> None:
    pytest.importorskip("timm", reason="timm is an optional extra")
    checked = check_removal(zoo.build(f"timm:{name}", (3, side, side), classes=5), torch.randn(1, 3, side, side))
    assert len(checked.groups) == groups


TRANSFORMERS = [  # name, units of the heads' groups, why the trunk is frozen
    ("bert", 4, Reason(Code.norm_averages, {"norm": "a layer norm"})),
    ("vit", 4, Reason(Code.norm_averages, {"norm": "a layer norm"})),
    ("gpt2", 4, Reason(Code.norm_averages, {"norm": "a layer norm"})),
    ("llama", 2, Reason(Code.mean)),
    ("whisper-encoder", 4, Reason(Code.norm_averages, {"norm": "a layer norm"})),
    ("clip-vision", 4, Reason(Code.norm_averages, {"norm": "a layer norm"})),
]


@pytest.mark.parametrize(("name", "heads", "trunk"), TRANSFORMERS, ids=[entry[0] for entry in TRANSFORMERS])
def test_transformers(name: str, heads: int, trunk: Reason) -> None:
    pytest.importorskip("transformers", reason="transformers is an optional extra")
    checked = check_removal(zoo.build(f"hf:{name}"), zoo.example(f"hf:{name}", batch=2))
    sizes = sorted(checked.groups.values())
    assert sizes[:2] == [heads, heads]  # the heads of both blocks
    assert sizes.count(128) == 2  # the hidden layers of both blocks
    assert any(group.cause == trunk and group.units == 64 for group in checked.graph.groups)


def test_grouped_query_heads_share_their_keys() -> None:
    pytest.importorskip("transformers", reason="transformers is an optional extra")
    checked = check_removal(zoo.build("hf:llama"), zoo.example("hf:llama"))
    group = next(g for g in checked.graph.prunable if g.units == 2)
    rows = {(m.name.split(".")[-2], m.dim): m.positions.shape[1] for m in group.members}
    assert rows == {("q_proj", 0): 32, ("k_proj", 0): 16, ("v_proj", 0): 16, ("o_proj", 1): 32}


def test_specs_of_the_optional_packages() -> None:
    pytest.importorskip("transformers", reason="transformers is an optional extra")
    assert zoo.spec("hf:llama").vocabulary == 256 and zoo.spec("hf:vit").vocabulary == 0
    (ids,) = zoo.example("hf:llama", batch=3)
    assert ids.shape == (3, 16) and ids.dtype == torch.int64 and int(ids.max()) < 256
    assert zoo.spec("hf:bert").params == sum(p.numel() for p in zoo.build("hf:bert").parameters())
    with pytest.raises(CompressionError, match="hf: has bert"):
        zoo.spec("hf:nothing")
    with pytest.raises(CompressionError, match="no classifier"):
        zoo.build("hf:llama", classes=3)
    with pytest.raises(CompressionError, match="takes inputs like 3x32x32"):
        zoo.build("hf:vit", (3, 30, 30))
    pytest.importorskip("timm", reason="timm is an optional extra")
    with pytest.raises(CompressionError, match="timm has no model"):
        zoo.spec("timm:resnet_nothing")


@pytest.mark.parametrize(("name", "package"), [("timm:resnet18", "timm"), ("hf:vit", "transformers")])
def test_a_missing_package_is_named(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from compression.zoo import extra

    def missing(package: str, *rest: Any) -> Any:
        raise ImportError(package)

    monkeypatch.setattr(extra.importlib, "import_module", missing)
    extra.timm_spec.cache_clear()
    with pytest.raises(CompressionError, match=f"needs the package {package}: pip install -r requirements-extra.txt"):
        zoo.spec(name)
