"""Training learns, repeats bit for bit and resumes at any step; evaluation agrees with counting; recipes are obeyed."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from compression import data, zoo
from compression.data import DataSet, Split
from compression.errors import CompressionError, RunFailed
from compression.tasks.classification import Classification
from compression.training import loop
from compression.training.dense import EpochResult, evaluate, provenance, suited_optimizer, train_dense
from compression.training.recipe import Recipe, choose_recipe
from compression.zoo import weights

CLASSIFY = Classification(None)  # type: ignore[arg-type]  # losses need no data


@pytest.fixture(scope="module")
def digits() -> DataSet:
    return data.load("mnist5k")


@pytest.fixture(scope="module")
def few(digits: DataSet) -> DataSet:
    """A tenth of the digits."""
    train = Split(digits.train.images[:360], digits.train.labels[:360])
    values = {name: getattr(digits, name) for name in ("name", "label", "classes", "validation", "test", "mean", "std")}
    return DataSet(train=train, augment="shift", **values)


def test_training_learns_and_repeats_bit_for_bit(few: DataSet) -> None:
    epochs: list[EpochResult] = []
    first = train_dense(zoo.build("resnet8"), few, 4, seed=0, on_epoch=epochs.append, batch_size=16)
    torch.rand(3)  # the caller's random state must not matter
    again = train_dense(zoo.build("resnet8"), few, 4, seed=0, batch_size=16)
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(tensor, again.model.state_dict()[name]), name
    assert first.test == again.test
    assert [round(epoch.epoch) for epoch in epochs] == [1, 2, 3, 4]
    assert first.epochs == tuple(epochs)
    assert epochs[-1].loss < 0.7 * epochs[0].loss
    assert first.test.score > 0.5


def test_steps_resume_anywhere(few: DataSet) -> None:
    whole = list(loop.steps(few, 100, 2.5, seed=1))
    rest = list(loop.steps(few, 100, 2.5, seed=1, start=4))
    assert len(whole) == loop.total_steps(few, 100, 2.5) == 8
    assert [step.index for step in rest] == [4, 5, 6, 7]
    assert all(torch.equal(one.x, other.x) for one, other in zip(whole[4:], rest, strict=True))
    assert [step.ends_epoch for step in whole] == [False, False, True, False, False, True, False, True]
    assert whole[3].epoch == 1.0
    assert whole[4].fraction == 0.5


def test_learning_rate_by_hand() -> None:
    assert loop.learning_rate(0.1, 0.0) == 0.1
    assert loop.learning_rate(0.1, 0.5) == pytest.approx(0.05)
    assert loop.learning_rate(0.1, 0.25) == pytest.approx(0.05 * (1 + math.sqrt(0.5)))
    assert loop.learning_rate(0.1, 1.0) == pytest.approx(0)
    assert loop.learning_rate(0.1, 0.05, warmup=0.1) == pytest.approx(0.05)
    assert loop.learning_rate(0.1, 0.1, warmup=0.1) == pytest.approx(0.1)
    assert loop.learning_rate(0.1, 0.7, "constant") == 0.1
    with pytest.raises(CompressionError, match="cosine or constant"):
        loop.learning_rate(0.1, 0.1, "linear")


def test_train_step_gradient_against_autograd(few: DataSet) -> None:
    model = zoo.build("resnet8").eval()
    step = next(loop.steps(few, 8, 1, seed=0))
    loss, score = loop.train_step(CLASSIFY, model, step.x, step.y, Recipe())
    logits = model(step.x)
    expected = -logits.log_softmax(1)[torch.arange(8), step.y].mean()
    gradient = torch.autograd.grad(expected, model.linear.weight)[0]
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    assert score == int((logits.argmax(1) == step.y).sum()) / len(step.y)
    torch.testing.assert_close(model.linear.weight.grad, gradient)


class Answers(nn.Module):
    """Answers with the class whose number the mean of the image encodes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.one_hot((x.flatten(1).mean(1) * 255).round().long(), 3).float() * 10


def test_evaluation_by_counting() -> None:
    images = torch.tensor([0, 1, 2, 2, 1, 0, 0], dtype=torch.uint8).view(-1, 1, 1, 1).expand(-1, 1, 2, 2)
    split = Split(images, torch.tensor([0, 1, 2, 0, 0, 0, 1]))
    first = Split(images[:3], split.labels[:3])
    counted = DataSet("n", "n", ("a", "b", "c"), first, split, first, (0.0,), (1.0,), "none")
    model = Answers().train()
    result = evaluate(model, counted)
    assert result.details["confusion"] == [[2, 1, 1], [1, 1, 0], [0, 0, 1]]
    assert result.score == pytest.approx(4 / 7)
    right, wrong = math.log(1 + 2 * math.exp(-10)), 10 + math.log(1 + 2 * math.exp(-10))
    assert result.loss == pytest.approx((4 * right + 3 * wrong) / 7, rel=1e-5)
    assert evaluate(model, counted, limit=3).score == evaluate(model, counted, "test").score == 1.0
    assert model.training


@pytest.mark.parametrize(
    ("confusion", "chance"),
    [
        ([[50, 0], [50, 0]], True),  # always the first class
        ([[90, 0], [10, 0]], True),  # and it is by far the largest
        ([[88, 2], [4, 6]], True),  # 94 of 100, two standard errors above 90 being 96
        ([[89, 1], [1, 9]], False),
        ([[30, 20], [20, 30]], True),  # 60 of 100: coins do as well now and then
        ([[32, 18], [18, 32]], False),
    ],
)
def test_chance_is_the_largest_class(confusion: list[list[int]], chance: bool) -> None:
    none = Split(torch.zeros(0, 1, 2, 2, dtype=torch.uint8), torch.zeros(0, dtype=torch.long))
    scorer = Classification(DataSet("n", "n", ("a", "b"), none, none, none, (0.0,), (1.0,), "none")).scorer()
    for truth, row in enumerate(confusion):
        for answer, count in enumerate(row):
            scorer.add(torch.eye(2)[[answer] * count], torch.tensor([truth] * count, dtype=torch.long))
    assert scorer.result().is_chance == chance
    assert scorer.result().details["confusion"] == confusion


def test_shipped_weights_reach_their_accuracy(digits: DataSet) -> None:
    model = zoo.build("resnet8")
    path = weights.SHIPPED / "resnet8-mnist5k.safetensors"
    stored = weights.load(model, path)
    assert evaluate(model, digits, "test").score == pytest.approx(stored["test_accuracy"], abs=0.002)


def test_given_resnet20_reaches_its_published_accuracy(shared_data: Path) -> None:
    """87.77 % on the whole test set of CIFAR-10 (JPEG-75): decoding, normalisation and model agree with the source."""
    model = zoo.build("resnet20")
    weights.load(model, shared_data / "resnet20b_cifar10jpeg.pt")
    result = evaluate(model, data.load("cifar10"), "test", recipe=Recipe("bf16"))
    assert result.score == pytest.approx(0.8777, abs=0.002)
    assert sum(map(sum, result.details["confusion"])) == 10_000


def test_recipes() -> None:
    model, x = zoo.build("resnet8"), torch.randn(4, 1, 28, 28)
    larger = zoo.build("resnet20")
    before = {name: tensor.clone() for name, tensor in larger.state_dict().items()}
    chosen = choose_recipe(model, x)
    assert chosen.precision == "fp32"
    assert "small enough" in chosen.why
    assert choose_recipe(model, x) is chosen
    measured = choose_recipe(larger, torch.randn(4, 3, 32, 32))
    assert measured.precision in ("fp32", "bf16")
    assert "ms" in measured.why
    assert all(torch.equal(tensor, before[name]) for name, tensor in larger.state_dict().items())
    assert larger.conv1.weight.grad is None
    requested = choose_recipe(model, x, "bf16")
    with requested.autocast():
        assert model(requested.prepare(x)).dtype == torch.bfloat16
    assert requested.prepare(x.expand(4, 3, 28, 28)).is_contiguous(memory_format=torch.channels_last)
    with pytest.raises(CompressionError, match="precision must be one of"):
        choose_recipe(model, x, "fp8")


ROOT = Path(__file__).resolve().parents[1]
ODD = """
import torch
from compression import zoo
from compression.training.recipe import choose_recipe
torch.set_num_threads(2)
layouts = {count: choose_recipe(zoo.build("resnet8"), torch.randn(count, 1, 28, 28)).channels_last for count in (3, 4)}
assert layouts == {3: False, 4: True}, layouts
torch.set_num_threads(1)
assert choose_recipe(zoo.build("resnet8"), torch.randn(3, 1, 28, 28)).channels_last
torch.set_num_threads(2)
x = torch.randn(3, 1, 28, 28)
recipe = choose_recipe(zoo.build("resnet8"), x)
model = recipe.prepare_model(zoo.build("resnet8"))
for _ in range(60):
    model(recipe.prepare(x)).sum().backward()
"""


def test_steps_of_an_odd_number_of_images_leave_the_process_alive() -> None:
    """In channels_last oneDNN writes past its memory there, on processors with AVX-512."""
    subprocess.run([sys.executable, "-c", ODD], cwd=ROOT, check=True, timeout=300)


@pytest.mark.parametrize("epochs", [0, -1, math.nan])
def test_impossible_epochs(few: DataSet, epochs: float) -> None:
    with pytest.raises(CompressionError, match="epochs must be above 0"):
        train_dense(zoo.build("resnet8"), few, epochs)


def test_divergence_is_reported(few: DataSet) -> None:
    with pytest.raises(RunFailed, match="smaller learning rate"):
        train_dense(zoo.build("vgg7", (1, 28, 28)), few, 5, lr=1e12, batch_size=8)


def test_what_a_callback_raises_ends_the_training(few: DataSet) -> None:
    def stop(step: int, total: int, loss: float) -> None:
        assert (step, total) == (1, 5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_dense(zoo.build("resnet8"), few, 1, on_step=stop)


def test_provenance_says_how_to_repeat(few: DataSet) -> None:
    result = train_dense(zoo.build("resnet8"), few, 0.4)
    stored = provenance(
        result, model="resnet8", data="few", label="Few", input=(1, 28, 28), classes=10, epochs=0.4, seed=0
    )
    assert stored["command"] == "python -m compression train --model resnet8 --data few --epochs 0.4 --seed 0"
    assert stored["input"] == [1, 28, 28]
    assert stored["test_accuracy"] == round(result.test.score, 6)


@pytest.mark.parametrize(("name", "kind"), [("resnet8", "sgd"), ("vgg7_small", "sgd"), ("vit_tiny", "adamw")])
def test_networks_without_batch_norm_are_trained_by_adamw(name: str, kind: str) -> None:
    assert suited_optimizer(zoo.build(name)) == kind


@pytest.mark.parametrize("name", ["weight", "running_mean", "running_var"])
def test_a_norm_that_overflowed_is_reported_as_divergence(name: str) -> None:
    norm = torch.nn.BatchNorm2d(2)
    loop.check_finite(norm)
    getattr(norm, name).data[1] = float("inf")
    with pytest.raises(RunFailed, match=f"diverged .{name} is no longer finite"):
        loop.check_finite(norm)
