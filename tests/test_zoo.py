"""The zoo: sizes published or computed by hand, any input and class count, safe weights files, one-line refusals."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from compression import data, zoo
from compression.errors import CompressionError
from compression.zoo import weights


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("resnet8", 19_810, 2_364_864),
        ("resnet20", 272_474, 40_813_184),
        ("vgg7", 5_115_530, 608_053_248),
        ("vgg7_small", 323_498, 38_668_800),
        ("vit_tiny", 459_370, 28_607_424),
        ("minilm", 22_384_130, 424_674_048),
        ("siren", 16_963, 16_704),
        ("unet_small", 122_411, 41_943_040),
        ("causal_tiny", 229_952, 13_631_488),
        ("detector_tiny", 155_326, 12_263_424),
    ],
)
def test_sizes(name: str, params: int, macs: int) -> None:
    assert (zoo.spec(name).params, zoo.spec(name).macs) == (params, macs)
    assert sum(parameter.numel() for parameter in zoo.build(name).parameters()) == params


def test_macs_of_a_model_worked_out_by_hand() -> None:
    # stem 9*8; stage 1: 2*72*8; stage 2 (14x14): 72*16 + 144*16 + 8*16; stage 3 (7x7): 144*32 + 288*32 + 16*32; linear
    by_hand = 72 * 784 + 1152 * 784 + (1152 + 2304 + 128) * 196 + (4608 + 9216 + 512) * 49 + 320
    assert zoo.spec("resnet8").macs == by_hand


@pytest.mark.parametrize("name", [name for name in zoo.names() if zoo.spec(name).kind is data.IMAGE])
@pytest.mark.parametrize(("input", "classes"), [((1, 28, 28), 10), ((3, 32, 32), 7), ((4, 16, 24), 3)])
def test_any_input_and_class_count(name: str, input: tuple[int, ...], classes: int) -> None:
    model = zoo.build(name, input, classes)
    model.train()(torch.randn(2, *input)).sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    answer = model.eval()(torch.randn(2, *input)).shape
    expected = {"segmentation": (2, classes, *input[1:]), "detection": (2, answer[1], 4 + classes)}
    assert answer == expected.get(zoo.spec(name).task, (2, classes))


def test_initial_weights_repeat_and_leave_the_callers_random_state() -> None:
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first, again, other = (zoo.build("resnet8", seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first.conv1.weight, again.conv1.weight)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_attention_heads_can_be_removed() -> None:
    """Editing ``num_heads`` and slicing the weights must be enough: a head whose output is never read may go."""
    attention = zoo.build("vit_tiny").blocks[0].attention
    heads, size = attention.num_heads, attention.head_dim
    x = torch.randn(2, 5, 96)
    with torch.no_grad():
        attention.proj.weight.view(96, heads, size)[:, 1] = 0
        expected = attention(x)
        others = torch.tensor([head for head in range(heads) if head != 1])
        for name in ("weight", "bias"):
            tensor = getattr(attention.qkv, name)
            smaller = tensor.view(3, heads, size, *tensor.shape[1:])[:, others].flatten(0, 2)
            setattr(attention.qkv, name, nn.Parameter(smaller))
        attention.proj.weight = nn.Parameter(attention.proj.weight.view(96, heads, size)[:, others].flatten(1))
        attention.num_heads = heads - 1
        torch.testing.assert_close(attention(x), expected)


@pytest.mark.parametrize("name", zoo.names())
def test_no_activation_works_in_place(name: str) -> None:
    assert not any(getattr(module, "inplace", False) for module in zoo.build(name).modules())


@pytest.mark.parametrize(
    ("name", "input", "classes", "message"),
    [
        ("resnet9", None, None, "unknown model 'resnet9'"),
        ("resnet8", (1, 2, 2), None, "at least 4x4"),
        ("vgg7", (3, 4, 4), None, "at least 8x8"),
        ("vit_tiny", (3, 30, 32), None, "do not divide 30x32"),
        ("resnet8", (1, 28), None, "channels x height x width"),
        ("minilm", (1, 28, 28), None, "sentences of 40 tokens"),
        ("siren", (1, 28, 28), None, "coordinates of a pixel"),
        ("minilm", (48,), None, "sentences of 40 tokens"),
        ("resnet8", None, 1, "at least 2"),
        ("torchvision:resnet5O", None, None, "no classifier 'resnet5O'"),
        ("torchvision:resnet18", (1, 64, 64), None, "3 channels"),
        ("nowhere.py:make", None, None, "does not exist"),
    ],
)
def test_refusals(name: str, input: tuple[int, ...] | None, classes: int | None, message: str) -> None:
    with pytest.raises(CompressionError) as caught:
        zoo.build(name, input, classes)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_torchvision_models() -> None:
    spec = zoo.spec("torchvision:resnet18")
    assert (spec.params, spec.input, spec.classes) == (11_689_512, (3, 224, 224), 1000)
    assert zoo.spec("torchvision:inception_v3").input == (3, 299, 299)
    assert zoo.build("torchvision:resnet18", (3, 64, 64), 5)(torch.randn(2, 3, 64, 64)).shape == (2, 5)


MODEL_FILE = '''
from torch import nn

def plain():
    """Plain."""
    return nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 4))

def sized(input=(2, 8, 8), classes=5):
    return nn.Sequential(nn.Flatten(), nn.Linear(input[0] * input[1] * input[2], classes)), input

def broken():
    raise ValueError("oh")

def nothing():
    return 3
'''


def test_a_function_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(MODEL_FILE)
    plain, sized = f"{tmp_path}/mine.py:plain", f"{tmp_path}/mine.py:sized"
    assert (zoo.spec(plain).input, zoo.spec(plain).classes, zoo.spec(plain).params) == ((3, 32, 32), 4, 12_292)
    assert zoo.spec(plain).summary == "Plain."
    assert (zoo.spec(sized).input, zoo.spec(sized).classes) == ((2, 8, 8), 5)
    assert zoo.build(sized, (1, 4, 4), 3)(torch.randn(1, 1, 4, 4)).shape == (1, 3)
    for function, message in (("broken", "fails when called: ValueError: oh"), ("nothing", "must return an nn.Module")):
        with pytest.raises(CompressionError, match=message):
            zoo.build(f"{tmp_path}/mine.py:{function}")
    with pytest.raises(CompressionError, match="no function 'absent'"):
        zoo.build(f"{tmp_path}/mine.py:absent")
    with pytest.raises(CompressionError, match="gives 4 classes, not 9"):
        zoo.build(plain, classes=9)


def test_weights_come_back_bit_for_bit_with_their_provenance(tmp_path: Path) -> None:
    model, other = zoo.build("resnet8", seed=1), zoo.build("resnet8", seed=2)
    path = weights.save(model, tmp_path / "new" / "w.safetensors", {"model": "resnet8", "seed": 1})
    assert weights.load(other, path) == {"model": "resnet8", "seed": 1}
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name]), name
    before = path.read_bytes()
    assert weights.save(model, path, {"seed": 1, "model": "resnet8"}).read_bytes() == before


def test_torch_files_with_wrapper_and_prefix(tmp_path: Path) -> None:
    model, other = zoo.build("resnet8", seed=1), zoo.build("resnet8", seed=2)
    state = {f"module.{name}": tensor for name, tensor in model.state_dict().items() if "num_batches" not in name}
    torch.save({"state_dict": state, "best": 0.5}, tmp_path / "w.th")
    weights.load(other, tmp_path / "w.th")
    assert torch.equal(other.linear.weight, model.linear.weight)


class Trap:
    """Unpickling this would run code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return eval, ("1/0",)


@pytest.mark.parametrize(
    "kind", ["missing", "shape", "extra", "absent", "garbage", "garbage safetensors", "code", "no dict"]
)
def test_bad_weights_are_refused_by_name_and_change_nothing(tmp_path: Path, kind: str) -> None:
    model = zoo.build("resnet8")
    state = {name: tensor + 1 for name, tensor in model.state_dict().items()}
    path, message = tmp_path / "w.pt", "cannot be read"
    if kind == "missing":
        del state["layer2.0.bn1.weight"]
        message = "layer2.0.bn1.weight is missing"
    if kind == "shape":
        state["linear.weight"] = torch.zeros(7, 32)
        message = "linear.weight has shape 7x32, the model needs 10x32"
    if kind == "extra":
        state["head.bias"] = torch.zeros(3)
        message = "no parameter head.bias"
    torch.save(Trap() if kind == "code" else [1, 2] if kind == "no dict" else state, path)
    if kind == "no dict":
        message = "holds no state_dict"
    if kind == "absent":
        path, message = tmp_path / "none.pt", "does not exist"
    if kind.startswith("garbage"):
        path = path.with_suffix(".safetensors") if "safetensors" in kind else path
        path.write_bytes(b"not weights at all")
    before = model.linear.weight.clone()
    with pytest.raises(CompressionError) as caught:
        weights.load(model, path)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert torch.equal(model.linear.weight, before)


def test_weights_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CompressionError, match="cannot be written"):
        weights.save(zoo.build("resnet8"), tmp_path / "file" / "w.safetensors", {})


def test_find_prefers_own_weights_that_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COMPRESSION_MODELS", str(tmp_path))
    shipped = weights.find("resnet8", "mnist5k", (1, 28, 28), 10)
    assert shipped is not None
    assert shipped.parent.name == "weights"
    own = weights.default_path("resnet8", "mnist5k")
    weights.save(zoo.build("resnet8"), own, {"input": [1, 28, 28], "classes": 10})
    assert weights.find("resnet8", "mnist5k", (1, 28, 28), 10) == own
    assert weights.find("resnet8", "mnist5k", (1, 32, 32), 10) is None
    assert weights.find("resnet8", "cifar10", (3, 32, 32), 10) is None
    assert weights.default_path("a/b.py:f", "x") != weights.default_path("c/b.py:f", "x")


def test_shipped_weights_say_where_they_come_from() -> None:
    path = weights.SHIPPED / "resnet8-mnist5k.safetensors"
    provenance = weights.read_provenance(path)
    assert provenance["command"] == "python -m compression train --model resnet8 --data mnist5k --epochs 10 --seed 0"
    assert provenance["test_accuracy"] >= 0.975
    assert json.loads(json.dumps(provenance)) == provenance
    assert set(load_file(path)) == set(zoo.build("resnet8").state_dict())


def test_given_resnet20_has_the_zoos_names(shared_data: Path) -> None:
    weights.load(zoo.build("resnet20"), shared_data / "resnet20b_cifar10jpeg.pt")
