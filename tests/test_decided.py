"""What a user can ask is decided before the start: bounds of every number, networks that cannot be, divergence."""

from __future__ import annotations

import copy
import json
import math
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from compression import methods, tasks, zoo
from compression.budget import Budget
from compression.cli import main
from compression.cli.options import priority
from compression.data import DataSet, Split
from compression.errors import CompressionError, RunFailed
from compression.graph import trace
from compression.methods.base import Reporter, Setup
from compression.methods.geta.options import GetaOptions
from compression.methods.geta.schedule import Schedule
from compression.quant import quantize, weight_quantizers
from compression.runs.preflight import check
from compression.training.dense import train_dense
from compression.training.loop import check_finite
from compression.training.measure import measure
from compression.training.recalibrate import recompute_statistics, settle_statistics
from compression.training.trainable import check_compressible, check_prunable, check_trainable
from tests.stripes import striped

DATA = striped()
TASK = tasks.task_of(DATA)
HUGE = 10**400


@pytest.mark.parametrize(
    ("field", "allowed", "refused"),
    [
        ("epochs", (1e-9, 1, 1e6), (0, -1, 1e9, math.inf, math.nan, HUGE, True, "3", None)),
        ("batch_size", (1, 1_000_000), (0, -1, 2.5, 10**9, HUGE, True)),
        ("lr", (1e-300, 1000, None), (0, 1e6, math.inf, math.nan, HUGE)),
        ("lr_quant", (1e-300, 1000, None), (0, -1e-9, 1e6, math.nan, HUGE)),
        ("weight_decay", (0, 100), (-1e-9, 1e9, math.inf, HUGE)),
        ("seed", (1 - 2**63, 0, 2**63 - 1), (2**63, -(2**63), HUGE, 1.0, False)),
        ("sparsity", (0, 0.999), (1, -0.1, math.nan, HUGE)),
        ("bits", (1, 16), (0.9, 17, math.nan, HUGE)),
        ("weight_bits", ((1, 2), [4, 8]), ((8, 4), (0, 4), (4, HUGE), (4.2, 4.8), 0, "4:8", (4, 5, 6))),
        ("classes", (2, 100_000, None), (1, 0, 100_001, 10**12, HUGE, 2.0, True)),
        ("input", ((1, 1, 1), (1, 16_384, 16_384)), ((1, 10**5, 10**5), (1, 28), (0, 1, 1), (1, HUGE, 1), (1, 2, 2.0))),
        ("weights", ("a.pt", "function", None), ("", 3, ["a"])),
        ("preprocess", ({"mean": 0.5}, None), ({"mean": HUGE}, [], {"x": 1})),
        ("schedule", (Schedule(projection_periods=10_000),), ()),
    ],
)  # fmt: skip
def test_every_number_of_a_budget_has_bounds(field: str, allowed: tuple[Any, ...], refused: tuple[Any, ...]) -> None:
    for value in allowed:
        changed = Budget(**{field: value})
        assert Budget.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed
    for value in refused:
        with pytest.raises(CompressionError, match=field) as caught:
            Budget(**{field: value})
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("field", ["projection_periods", "pruning_periods"])
@pytest.mark.parametrize("value", [0, True, 10**9, HUGE, 2.0])
def test_periods_have_bounds(field: str, value: Any) -> None:
    with pytest.raises(CompressionError, match=field):
        Budget(schedule=Schedule(**{field: value}))


def test_options_and_priorities_have_bounds() -> None:
    for name in ("saliency_batches", "recalibrate"):
        with pytest.raises(CompressionError, match=name):
            GetaOptions.read({name: 10**12}, "geta")
    assert priority("-1000000") == -1_000_000
    for text in ("99999999999999999999", "x", "1.5"):
        with pytest.raises(Exception, match="whole number"):
            priority(text)


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("graph resnet8 --classes 1000000000", "classes must be"),
        ("graph resnet8 --input 1x100000x100000", "input must have"),
        ("graph hf:bert --classes 1000000000", "classes must be"),
        ("graph resnet8 --weights initial", "is for a function of your own"),
        ("train --model resnet8 --data mnist5k --seed 9223372036854775808", "seed must be"),
        ("run --model resnet8 --data mnist5k --seed 9223372036854775808", "seed must be"),
        ("run --model resnet8 --data mnist5k --lr 1e6", "lr must be"),
        ("run --model resnet8 --data mnist5k --priority 99999999999999999999", "whole number"),
    ],
)
def test_the_command_line_refuses_in_one_line(
    command: str, problem: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    try:
        status = main(command.split())
    except SystemExit as ended:
        status = int(str(ended.code))
    errors = capsys.readouterr().err
    assert (status, errors.count("\n")) == (2, 1)
    assert problem in errors
    assert list(tmp_path.iterdir()) == [], "nothing was started"


class Reshaped(nn.Module):
    """Gives back its first pixels: a network without parameters."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)[:, :4]


def narrow(width: int = 8, last: int = 4) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, width, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(width), nn.Flatten(),
        nn.Linear(width, last),
    )  # fmt: skip


def test_networks_that_cannot_be_compressed_or_trained() -> None:
    x = torch.zeros(1, 1, 12, 12)
    with pytest.raises(CompressionError, match="nothing can be compressed"):
        check_compressible(Reshaped(), trace(Reshaped(), x), "it")
    with pytest.raises(CompressionError, match="no parameters to train"):
        check_trainable(Reshaped(), TASK, "it", 4)
    with warnings.catch_warnings(action="ignore"):
        empty = nn.Sequential(nn.Flatten(), nn.Linear(144, 0), nn.Linear(0, 4))
    with pytest.raises(CompressionError, match="layer 1 is empty"):
        check_compressible(empty, trace(empty, x), "it")
    frozen = narrow().requires_grad_(False)
    with pytest.raises(CompressionError, match="no parameters to train"):
        check_trainable(frozen, TASK, "it", 4)
    frozen[4].requires_grad_(True)
    check_trainable(frozen, TASK, "it", 4)
    with pytest.raises(CompressionError, match=r"0\.weight is not trained"):
        check_prunable(frozen, trace(frozen, x), "it")
    good, states = narrow(), narrow().state_dict()
    check_trainable(good, TASK, "it", 2)
    check_prunable(good, trace(good, x), "it")
    with pytest.raises(CompressionError, match=r"batches of 1: Expected more.*larger batch size"):
        check_trainable(good, TASK, "it", 1)
    assert all(torch.equal(value, states[name]) for name, value in good.state_dict().items()), "it was tried on a copy"
    with torch.no_grad():
        good[4].bias[0] = math.inf
    for refused in (lambda: check_trainable(good, TASK, "it", 2), lambda: check_compressible(good, trace(good, x), "")):
        with pytest.raises(CompressionError, match=r"4\.bias holds NaN or infinite"):
            refused()


def test_a_run_that_cannot_train_is_refused_before_it_is_written(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "import torch\nfrom torch import nn\n\ndef one():\n    torch.manual_seed(0)\n    return nn.Sequential(\n"
        "        nn.Conv2d(1, 8, 3, stride=2), nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(8), nn.Flatten(),"
        " nn.Linear(8, 10)), (1, 28, 28)\n"
    )
    budget = Budget(model=f"{tmp_path}/net.py:one", method="opq", batch_size=1, epochs=0.01)
    with pytest.raises(CompressionError, match="use a larger batch size"):
        check(budget)
    assert check(budget.replace(method="ptq"))["weights"].split()[-1] == "one"


# Divergence -----------------------------------------------------------------------------------------------------------


def unnormed() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(8, 4),
    )  # fmt: skip


TRAINED = ("geta", "opq", "magnitude", "sequential", "hesso", "qap")
STEEP, DECAYING = {"lr": 1e38}, {"lr": 1000.0, "weight_decay": 100.0}


@pytest.mark.parametrize("rates", [STEEP, DECAYING], ids=str)
@pytest.mark.parametrize("method", TRAINED)
def test_a_run_that_diverges_says_so(method: str, rates: dict[str, float]) -> None:
    """Rates beyond the bounds of a budget stand for the many ways to diverge within them."""
    budget = Budget(method=method, epochs=1, batch_size=32, precision="fp32", activation_bits=(4, 8))
    for name, value in rates.items():
        object.__setattr__(budget, name, value)
    work = Setup(unnormed(), trace(unnormed(), torch.zeros(1, 1, 12, 12)), DATA, budget)
    with pytest.raises(RunFailed, match="training diverged"):
        methods.get(method).run(work, Reporter())


def test_ranges_that_diverge_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compression.methods.geta.run.LR_QUANT", 1e200)
    budget = Budget(method="geta", epochs=1, batch_size=32, precision="fp32", activation_bits=(4, 8), lr=0.1)
    work = Setup(unnormed(), trace(unnormed(), torch.zeros(1, 1, 12, 12)), DATA, budget)
    with pytest.raises(RunFailed, match="training diverged"):
        methods.get("geta").run(work, Reporter())


def test_a_broken_model_is_not_measured_nor_kept() -> None:
    model = unnormed()
    work = Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), DATA, Budget())
    quantize(model, 8)
    next(iter(weight_quantizers(model).values())).clip.data.fill_(math.nan)
    for broken in (
        lambda: measure(work, model, step=0, epoch=0.0, phase="x"),
        lambda: next(iter(weight_quantizers(model).values())).bits(),
        lambda: check_finite(model),
    ):
        with pytest.raises(RunFailed, match=r"training diverged \("):
            broken()


def test_dense_training_never_ends_with_weights_that_are_not_finite() -> None:
    """The last step has no loss after it that would tell."""
    model = unnormed()

    def harm(step: int, total: int, loss: float) -> None:
        if step == total:
            model[0].bias.data.fill_(math.inf)

    with pytest.raises(RunFailed, match=r"training diverged \(0\.bias"):
        train_dense(model, DATA, 0.5, on_step=harm, precision="fp32", batch_size=64)


def test_a_method_that_fails_on_a_broken_model_is_reported_as_divergence(tmp_path: Path) -> None:
    from compression import runs
    from compression.runs.execute import execute
    from compression.runs.folder import RunFolder
    from compression.runs.lifecycle import carry_out
    from compression.runs.store import Store
    from compression.runs.submit import new_spec

    class Breaks(methods.Method):
        info = methods.Info("breaks", "Breaks", "For tests.", "quantization", slot=91)

        def __init__(self, harm: float) -> None:
            self.harm = harm

        def run(self, task: Setup, report: Any) -> Any:
            next(task.model.parameters()).data.fill_(self.harm)
            return int(math.nan)

    store = Store(tmp_path)
    for harm, message in ((math.nan, "training diverged (conv1"), (1.0, "cannot convert float NaN")):
        folder = RunFolder.create(tmp_path, new_spec(Budget(), store))
        carry_out(folder, lambda folder, events, harm=harm: execute(folder, events, method=Breaks(harm)))  # type: ignore[arg-type]
        assert message in runs.result(folder)["error"]


# Statistics -----------------------------------------------------------------------------------------------------------


def batches(count: int, size: int = 64, noise: float = 1.0) -> list[torch.Tensor]:
    """Images whose brightness varies from image to image by ``noise``."""
    generator = torch.Generator().manual_seed(0)
    level = torch.randn(count * size, 1, 1, 1, generator=generator) * noise
    return list((torch.randn(count * size, 1, 6, 6, generator=generator) + level).split(size))


def test_statistics_stop_where_they_have_settled_and_say_after_how_many() -> None:
    norm, all_of = nn.BatchNorm2d(1), batches(100)
    taken = settle_statistics(norm, all_of, tolerance=0.05)
    used = taken.inputs // 64
    assert 4 <= used < 100
    plain = nn.BatchNorm2d(1)
    recompute_statistics(plain, all_of[:used])
    torch.testing.assert_close(norm.state_dict(), plain.state_dict())
    means = torch.stack([x.mean() for x in all_of[:used]]).double()
    variances = torch.stack([x.var() for x in all_of[:used]]).double()
    errors = (means.std() / variances.mean().sqrt(), variances.std() / variances.mean())
    assert taken.error == pytest.approx(float(max(errors)) / used**0.5, rel=1e-3)
    closer = settle_statistics(nn.BatchNorm2d(1), all_of, tolerance=0.02)
    assert closer.inputs > 2 * taken.inputs
    assert settle_statistics(nn.BatchNorm2d(1), all_of, tolerance=0).batches == 100, "never more than there are"
    assert settle_statistics(nn.BatchNorm2d(1), batches(100, noise=0.0)).inputs == 256, "the fewest"


def test_statistics_of_small_batches_take_enough_inputs_and_none_without_norms() -> None:
    assert settle_statistics(nn.BatchNorm2d(1), batches(200, size=4, noise=0.0), tolerance=1).inputs == 256
    model = copy.deepcopy(zoo.build("vit_tiny"))
    assert settle_statistics(model, iter(batches(2))).batches == 0
    seen: list[int] = []
    settle_statistics(nn.BatchNorm2d(1), batches(6), 0, lambda taken: seen.append(taken.inputs))
    assert seen == [64, 128, 192, 256, 320, 384]


def test_rounding_says_how_many_inputs_its_statistics_took() -> None:
    class Told(Reporter):
        def __init__(self) -> None:
            self.lines: list[str] = []

        def log(self, message: str) -> None:
            self.lines.append(message)

    model = zoo.build("resnet8", input=(1, 12, 12), classes=4, seed=0).eval()
    report, budget = Told(), Budget(method="ptq", batch_size=8)
    done = methods.get("ptq").run(Setup(model, trace(model, torch.zeros(1, 1, 12, 12)), DATA, budget), report)
    inputs = done.facts["statistics"]["inputs"]
    assert 256 <= inputs <= len(DATA.train)
    assert f"from {inputs:,} inputs" in report.lines[-1]
    assert sum("inputs" in line for line in report.lines) >= 5, "1, 2, 4, 8 ... batches and the end"


def test_a_data_set_of_one_image_a_class_beside_others_works() -> None:
    images = torch.zeros(4, 1, 12, 12, dtype=torch.uint8)
    split = Split(images, torch.tensor([0, 1, 2, 3]))
    few = DataSet("few", "few", tuple("abcd"), split, split, split, (0.5,), (0.5,), "none")
    trained = train_dense(narrow(), few, 1, batch_size=1000, precision="fp32")
    assert sum(map(sum, trained.test.details["confusion"])) == 4
