"""Attributions against gradients worked out by hand, loops and theorems; similarities of maps made for the purpose."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

import compression as cx
from compression import data as datasets
from compression import explain, zoo
from compression.errors import CompressionError
from compression.explain import METHODS, Explainer, Pair, stored
from compression.explain.attribution import passes
from compression.explain.comparison import AGAINST, compare, sample
from compression.explain.models import Scan, affordable
from compression.jobs import explain_run
from compression.quant import attach_input_quantizers
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from tests.waiting import ended


class Perceptron(nn.Module):
    """Images to classes through one hidden layer; ``bend`` is the nonlinearity."""

    def __init__(self, input: tuple[int, int, int], bend: nn.Module) -> None:
        super().__init__()
        self.first, self.bend, self.last = nn.Linear(int(np.prod(input)), 7), bend, nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.bend(self.first(x.flatten(1))))


class Mapped(nn.Module):
    """Two convolutions, the mean over places, a linear classifier: what Grad-CAM has a closed form for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.relu = nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True)
        self.conv2, self.linear = nn.Conv2d(4, 5, 3, padding=1), nn.Linear(5, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(self.conv2(self.relu(self.conv1(x))).mean((2, 3)))


@pytest.fixture
def net() -> Perceptron:
    torch.manual_seed(0)
    return Perceptron((2, 5, 4), nn.ReLU()).double()


def by_hand(net: Perceptron, x: torch.Tensor, targets: torch.Tensor) -> np.ndarray:
    """The gradient of each image's logit, [B, C, H, W], by matrix products."""
    first, bias, last = net.first.weight.detach().numpy(), net.first.bias.detach().numpy(), net.last.weight.detach()
    flat = x.flatten(1).numpy()
    open_ = (flat @ first.T + bias) > 0
    return np.asarray(((last.numpy()[targets.numpy()] * open_) @ first).reshape(x.shape))


def batch(count: int, *size: int) -> torch.Tensor:
    return torch.randn(count, *size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_saliency_and_input_x_gradient_are_the_gradients_worked_out_by_hand(net: Perceptron) -> None:
    x, targets = batch(6, 2, 5, 4), torch.tensor([0, 1, 2, 2, 1, 0])
    gradient = by_hand(net, x, targets)
    explainer = Explainer(net, (2, 5, 4))
    np.testing.assert_allclose(explainer.attribute("saliency", x, targets), np.abs(gradient).sum(1), atol=1e-12)
    np.testing.assert_allclose(
        explainer.attribute("input_x_gradient", x, targets), (x.numpy() * gradient).sum(1), atol=1e-12
    )


def test_integrated_gradients_add_up_to_the_rise_of_the_logit() -> None:
    torch.manual_seed(0)
    net = Perceptron((2, 5, 4), nn.Tanh()).double()
    x, targets = batch(6, 2, 5, 4), torch.tensor([0, 1, 2, 2, 1, 0])
    maps = explain.attribute(net, x, targets, "integrated_gradients")
    with torch.no_grad():
        rise = (net(x) - net(torch.zeros_like(x)))[torch.arange(6), targets]
    np.testing.assert_allclose(maps.sum((1, 2)), rise, atol=1e-4)
    assert explain.completeness(net, x, targets, maps).max() < 1e-4
    assert explain.completeness(net, x, targets, 2 * maps) == pytest.approx(rise.abs(), abs=1e-4)
    part = explain.attribute(net, x[:1], targets[:1], "integrated_gradients")
    np.testing.assert_allclose(part, maps[:1], atol=1e-12, err_msg="an image is explained alike, whatever is beside it")


@pytest.mark.parametrize(("side", "window"), [(28, 4), (33, 4), (10, 1)])
def test_occlusion_is_the_loop_over_windows(side: int, window: int) -> None:
    torch.manual_seed(0)
    net = Perceptron((2, side, side), nn.ReLU()).double()
    x, targets = batch(3, 2, side, side), torch.tensor([2, 0, 1])
    step = max(1, window // 2)
    starts = [i * step for i in range(-(-(side - window) // step) + 1)]
    total, count = np.zeros((3, side, side)), np.zeros((side, side))
    with torch.no_grad():
        whole = net(x)[torch.arange(3), targets].numpy()
        for top in starts:
            for left in starts:
                covered = x.clone()
                covered[:, :, top : top + window, left : left + window] = 0
                drop = whole - net(covered)[torch.arange(3), targets].numpy()
                total[:, top : top + window, left : left + window] += drop[:, None, None]
                count[top : top + window, left : left + window] += 1
    maps = explain.attribute(net, x, targets, "occlusion")
    np.testing.assert_allclose(maps, total / count, atol=1e-10)
    assert passes("occlusion", (2, side, side)) == 1 + len(starts) ** 2


def test_grad_cam_is_the_class_activation_map() -> None:
    """With a mean over places before a linear layer, α is the weight over h·w (Selvaraju et al. 2017, section 3.1)."""
    torch.manual_seed(0)
    net = Mapped().double()
    x, targets = batch(4, 1, 12, 12), torch.tensor([2, 0, 1, 1])
    with torch.no_grad():
        maps = net.conv2(torch.relu(net.conv1(x)))
        coarse = torch.einsum("bk,bkij->bij", net.linear.weight[targets], maps) / 36
        expected = F.interpolate(coarse[:, None], (12, 12), mode="bilinear")[:, 0]
    explainer = Explainer(net, (1, 12, 12))
    assert explainer.layer.name == "conv2"
    assert explainer.layer.size == (6, 6)
    np.testing.assert_allclose(explainer.attribute("grad_cam", x, targets), expected, atol=1e-12)
    assert float(expected.min()) < 0, "what speaks against the class is kept"


def test_the_model_is_left_as_it_was() -> None:
    net = Mapped().train()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    x, targets = batch(2, 1, 12, 12).float(), torch.tensor([0, 1])
    for method in METHODS:
        explain.attribute(net, x, targets, method)
    assert net.training
    assert net.relu.inplace
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in net.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert x.grad is None and not x.requires_grad


def test_a_gradient_passes_a_quantizer_straight_through_and_stops_at_its_bound() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 2)).eval()
    attach_input_quantizers(net, ["1"])
    quantizer = next(module for name, module in net.named_modules() if hasattr(module, "step_size"))
    with torch.no_grad():
        quantizer.step_size.fill_(0.5)  # type: ignore[union-attr, operator]
        quantizer.clip.fill_(1.0)  # type: ignore[union-attr, operator]
    x = torch.tensor([0.1, -0.3, 0.9, 1.7, -2.0, 0.6]).view(1, 1, 2, 3)
    explainer = Explainer(net, (1, 2, 3))
    assert explainer.straight_through
    weight = net[1].weight.detach()[1].abs()
    inside = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    gradient = explainer.attribute("saliency", x, torch.tensor([1]))
    np.testing.assert_allclose(gradient.flatten(), weight * inside, atol=1e-6)
    assert not Explainer(Mapped(), (1, 12, 12)).straight_through


@pytest.mark.parametrize(
    ("name", "input", "layer", "size"),
    [
        ("resnet8", (1, 28, 28), "layer3", 7),
        ("resnet20", (3, 32, 32), "layer3", 8),
        ("vgg7_small", (3, 32, 32), "features.19", 8),
        ("mobilenet_small", (3, 32, 32), "head", 4),
        ("torchvision:mobilenet_v3_small", (3, 64, 64), "features", 2),
    ],
)
def test_grad_cam_looks_at_the_last_map_with_places(name: str, input: tuple[int, ...], layer: str, size: int) -> None:
    last = explain.cam_layer(zoo.build(name, input, 10).eval(), input)
    assert (last.name, last.size) == (layer, (size, size))


def test_grad_cam_says_why_a_transformer_has_no_map() -> None:
    model, x = zoo.build("vit_tiny", (3, 32, 32), 10), torch.randn(2, 3, 32, 32)
    explainer = Explainer(model, (3, 32, 32))
    assert "tokens" in explainer.refusal("grad_cam")
    with pytest.raises(CompressionError, match="tokens"):
        explainer.attribute("grad_cam", x, torch.tensor([0, 1]))
    for method in ("saliency", "input_x_gradient", "integrated_gradients"):
        assert explainer.attribute(method, x, torch.tensor([0, 1])).shape == (2, 32, 32)
    with pytest.raises(CompressionError, match="unknown attribution 'lime'"):
        explainer.attribute("lime", x, torch.tensor([0, 1]))


def test_grad_cam_says_that_there_is_no_convolution(net: Perceptron) -> None:
    assert "no convolution" in Explainer(net.float(), (2, 5, 4)).refusal("grad_cam")


def smooth(seed: int) -> np.ndarray:
    """A map [32, 32] with structure: noise, blurred."""
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(np.random.default_rng(seed).normal(size=(32, 32)), 2.0))


@pytest.mark.parametrize("signed", [True, False])
def test_maps_that_are_the_same_score_one_whatever_their_scale(signed: bool) -> None:
    one = smooth(0) if signed else np.abs(smooth(0))
    for other in (one, 1000 * one, one.astype(np.float32)):
        for measure, value in explain.similarity(one, other, signed).items():
            assert value == pytest.approx(1.0, abs=1e-5), measure


def test_maps_without_anything_in_common_score_as_chance_does() -> None:
    one, rng = smooth(0), np.random.default_rng(1)
    samples = [explain.similarity(one, rng.permutation(one.ravel()).reshape(32, 32), True) for _ in range(50)]
    means = {name: np.mean([scores[name] for scores in samples]) for name in samples[0]}
    assert abs(means["spearman"]) < 0.02
    assert abs(means["ssim"]) < 0.1
    assert means["overlap"] == pytest.approx(1 / 19, abs=0.01)


def test_each_measure_on_a_case_with_a_known_answer() -> None:
    one = smooth(0)
    assert explain.spearman(one, -one) == pytest.approx(-1.0)
    assert explain.spearman(one, np.exp(3 * one)) == pytest.approx(1.0), "only the order counts"
    assert explain.ssim(one, -one, True) < -0.5, "opposite maps are not alike"
    assert explain.overlap(one, -one) == 1.0, "the strongest pixels, whatever their sign"
    left, right = np.zeros((10, 10)), np.zeros((10, 10))
    left[0], right[0, :5], right[1, :5] = 1 + np.arange(10), 1 + np.arange(5), 1 + np.arange(5)
    assert explain.overlap(left, right) == pytest.approx(5 / 15)
    shifted = np.roll(one, 3, axis=1)
    assert 0 < explain.ssim(one, shifted, True) < explain.ssim(one, np.roll(one, 1, axis=1), True) < 1
    flat = np.zeros((32, 32))
    assert explain.spearman(one, flat) == 0.0
    assert explain.spearman(flat, flat + 1) == 1.0
    assert np.isfinite(list(explain.similarity(one, flat, True).values())).all()


@pytest.fixture(scope="module")
def pair() -> Pair:
    """The shipped digit classifier, a copy of it with some noise on its weights, and a random one."""
    from compression.zoo import weights

    dense = zoo.build("resnet8", (1, 28, 28), 10)
    path = weights.find("resnet8", "mnist5k", (1, 28, 28), 10)
    assert path is not None
    weights.load(dense, path)
    small = zoo.build("resnet8", (1, 28, 28), 10)
    generator = torch.Generator().manual_seed(0)
    state = {
        name: value + 0.1 * value.std() * torch.randn(value.shape, generator=generator) if value.dim() == 4 else value
        for name, value in dense.state_dict().items()
    }
    small.load_state_dict(state)
    random = zoo.build("resnet8", (1, 28, 28), 10, seed=99)
    return Pair(dense.eval(), small.eval(), random.eval(), datasets.load("mnist5k"), (1, 28, 28))


QUICK = ("saliency", "grad_cam")


def test_a_comparison_lies_between_its_floors_and_its_ceiling(pair: Pair) -> None:
    comparison = compare(pair, 32, 0, QUICK)
    assert len(comparison.images) == len(set(comparison.images)) == 32
    assert comparison.layer == "layer3"
    for by_measure in comparison.scores.values():
        for measure, scores in by_measure.items():
            mean = {key: float(np.mean(scores[key])) for key in AGAINST}
            assert max(mean["random"], mean["shuffled"]) < mean["compressed"] < mean["ceiling"] < 1, (measure, mean)


def test_a_comparison_of_a_model_with_itself_and_with_the_random_one(pair: Pair) -> None:
    same = compare(Pair(pair.dense, pair.dense, pair.random, pair.data, pair.input), 8, 0, QUICK)
    assert same.changed == 0
    for scores in same.scores["saliency"].values():
        np.testing.assert_allclose(scores["compressed"], 1.0, atol=1e-9)
    lost = compare(Pair(pair.dense, pair.random, pair.random, pair.data, pair.input), 8, 0, QUICK)
    assert lost.changed > 4
    assert lost.scores["saliency"]["ssim"]["compressed"] == lost.scores["saliency"]["ssim"]["random"]


def test_a_comparison_repeats_with_its_seed(pair: Pair) -> None:
    first, again, other = (compare(pair, 8, seed, ("saliency",)) for seed in (3, 3, 4))
    assert first == again
    assert first.images != other.images
    assert sample(100, 5, 3) == sample(100, 5, 3) != sample(100, 5, 4)
    with pytest.raises(CompressionError, match="at least 2"):
        compare(pair, 1, 0, ("saliency",))


def test_the_same_computation_in_fp64_gives_the_same_map(pair: Pair) -> None:
    """What fp32 rounds is no scale for anything: the numerical ceiling is 1."""
    from copy import deepcopy

    x = pair.images([0, 1, 2, 3])
    targets = pair.dense(x).argmax(1)
    for method in METHODS:
        single = explain.attribute(pair.dense, x, targets, method)
        double = explain.attribute(deepcopy(pair.dense).double(), x.double(), targets, method)
        for one, other in zip(single.numpy(), double.numpy(), strict=True):
            assert explain.spearman(one, other) > 0.999, method


def test_images_whose_class_changed_come_first(pair: Pair) -> None:
    scanned = explain.scan(pair, 300)
    with torch.no_grad():
        before, after = (model(pair.images(list(range(300)))).argmax(1) for model in (pair.dense, pair.small))
    expected = torch.nonzero(before != after).flatten().tolist()
    assert expected, "the noise changes some answers"
    assert scanned.changed == scanned.order[: len(expected)] == expected
    assert sorted(scanned.order) == list(range(300))
    assert Scan((0, 1), (0, 1), (0, 1)).order == [0, 1]
    assert (affordable(1), affordable(600e6), affordable(4e9)) == (1000, 66, 32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run with quantized activations."""
    root = tmp_path_factory.mktemp("runs")
    fields = {"method": "geta", "sparsity": 0.4, "weight_bits": [3, 6], "activation_bits": [6, 8]}
    budget = {**cx.Budget(epochs=0.3, precision="fp32").to_dict(), **fields}
    run = RunFolder.create(root, {"id": "both", "budget": budget, "created": 0.0})
    assert carry_out(run, execute) == "done", run.log_path.read_text()
    return run


def test_a_job_finds_what_a_direct_computation_finds(folder: RunFolder) -> None:
    assert explain_run.status(folder).state == explain_run.NONE
    assert stored.comparison(folder) is None
    explain_run.start(folder, images=4, seed=5)
    explain_run.start(folder, images=4, seed=5)  # goes on already: nothing happens
    assert ended(lambda: explain_run.status(folder), explain_run.DONE).result == {"images": 4, "seed": 5}
    comparison, shown = stored.comparison(folder), stored.shown(folder)
    direct = explain.pair(folder, 5)
    torch.set_num_threads(1)
    expected = compare(direct, 4, 5)
    assert comparison is not None and shown is not None
    assert (comparison.images, comparison.changed) == (expected.images, expected.changed)
    assert comparison.straight_through is True
    for method, by_measure in expected.scores.items():
        for measure, scores in by_measure.items():
            for key in AGAINST:
                np.testing.assert_allclose(comparison.scores[method][measure][key], scores[key], atol=1e-6)
    answers = explain.scan(direct, 1000)
    assert list(shown.images) == answers.order[: explain_run.SHOWN]
    chosen = list(shown.images[:3])
    maps = shown.maps_of("occlusion", chosen)
    assert maps is not None
    targets = torch.tensor([answers.before[i] for i in chosen])
    small = explain.attribute(direct.small, direct.images(chosen), targets, "occlusion")
    np.testing.assert_allclose(maps[1], small, atol=1e-5)
    assert shown.maps_of("occlusion", [99_999]) is None
    assert folder.state == "done"


def test_a_job_can_be_cancelled_and_leaves_what_was_there(folder: RunFolder) -> None:
    stored.folder_of(folder).mkdir(exist_ok=True)
    path = stored.result_path(folder)
    before = path.read_bytes() if path.is_file() else None
    explain_run.start(folder, images=500)
    assert explain_run.status(folder).state == explain_run.RUNNING
    assert explain_run.cancel(folder).state == explain_run.CANCELLED
    assert (path.read_bytes() if path.is_file() else None) == before
    assert explain_run.cancel(folder).state == explain_run.CANCELLED, "nothing to stop any more"
    assert not list(stored.folder_of(folder).glob(".*"))


def test_a_job_that_fails_or_dies_says_so(tmp_path: Path, folder: RunFolder) -> None:
    unfinished = RunFolder.create(tmp_path, {"id": "u", "budget": cx.Budget().to_dict(), "created": 0.0})
    assert explain_run.main([str(unfinished.path)]) == 1
    assert "only a run that is done" in explain_run.status(unfinished).error
    explain_run.start(unfinished, command=[sys.executable, "-c", "import os; os.abort()"])
    assert "ended without a word" in ended(lambda: explain_run.status(unfinished), explain_run.FAILED).error


def test_damaged_results_are_refused_by_name(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path, {"id": "d", "budget": cx.Budget().to_dict(), "created": 0.0})
    stored.folder_of(run).mkdir()
    stored.result_path(run).write_text(json.dumps({"version": 99}))
    with pytest.raises(CompressionError, match="version 99"):
        stored.comparison(run)
    stored.result_path(run).write_text(json.dumps({"version": 1}))
    with pytest.raises(CompressionError, match="damaged"):
        stored.comparison(run)
    (stored.folder_of(run) / "maps.safetensors").write_bytes(b"no")
    with pytest.raises(CompressionError, match="cannot be read"):
        stored.shown(run)


def test_listing_the_methods_imports_no_torch() -> None:
    import subprocess

    code = "import sys\nfrom compression.explain import METHODS\nfrom compression.jobs import explain_run\n"
    code += "print(len(METHODS), 'torch' in sys.modules)"
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=zoo.__path__[0] + "/../.."
    )
    assert process.stdout.split() == ["5", "False"]
