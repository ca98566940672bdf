"""A task of one's own: the one of ``docs/adding-a-task.md`` through every method and into a bundle; what is refused."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from opened import Open, errors
from safetensors.torch import load_file
from torch import nn

import compression as cx
from app.model import catalog
from compression import methods, owncode, tasks, zoo
from compression.asks import CODED_BITS
from compression.budget import Budget
from compression.cli import main
from compression.data import Batches, DataSet, Split
from compression.errors import CompressionError, RunFailed
from compression.runs.folder import RunFolder
from compression.runs.prepare import load, subject_digest
from compression.tasks import Metric, Task
from compression.training.dense import evaluate, train_dense
from compression.training.measure import measure
from compression.training.trainable import check_trainable
from tests.contract.runs import quick

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "adding-a-task.md"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the page, with weights that were trained by the command line."""
    folder = tmp_path_factory.mktemp("own")
    (code,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    (folder / "delivery.py").write_text(code, encoding="utf-8")
    words = f"train --model {folder}/delivery.py:net --task {folder}/delivery.py:task --epochs 20"
    assert main([*words.split(), "--out", str(folder / "w.safetensors"), "--json", str(folder / "t.json")]) == 0
    return folder


def run(place: Path, words: str) -> dict[str, Any]:
    """The result of a run of the page's network on the page's task."""
    about = f"--model {place}/delivery.py:net --task {place}/delivery.py:task --weights {place}/w.safetensors"
    where = ["--runs", str(place / "runs"), "--json", str(place / "r.json")]
    assert main([*f"run {about} {words}".split(), *where]) == 0
    result: dict[str, Any] = json.loads((place / "r.json").read_text())
    return result


def test_it_is_learnt_and_measured_by_its_own_metric(place: Path) -> None:
    stored = json.loads((place / "t.json").read_text())
    task = tasks.load(f"{place}/delivery.py:task")
    assert task.name == "delivery"
    model = zoo.build(f"{place}/delivery.py:net").eval()
    model.load_state_dict(load_file(place / "w.safetensors"))
    split = task.data.test
    with torch.no_grad():
        answer = model(**split.images).squeeze(1)
    by_hand = float((answer - split.labels).abs().mean())
    assert evaluate(model, task, "test").score == pytest.approx(by_hand, rel=1e-5)
    assert stored["test_mae"] == pytest.approx(by_hand, abs=1e-4)
    constant = float((split.labels - split.labels.mean()).abs().mean())
    assert by_hand < constant / 4, "it has learnt something"


@pytest.mark.usefixtures("in_this_process")
@pytest.mark.parametrize("name", list(methods.all_methods()))
def test_every_method_compresses_it(name: str, place: Path) -> None:
    asks = {ask.option for ask in methods.get(name).asks}
    coded = any(ask.field == CODED_BITS for ask in methods.get(name).asks)
    values = {"--sparsity": "0.25", "--bits": "9" if coded else "8", "--activation-bits": "8"}
    words = " ".join(f"{option} {value}" for option, value in values.items() if option in asks)
    trained = "--epochs 3" if methods.get(name).info.trains else ""
    few = " ".join(f"--option {option}={value}" for option, value in quick(name).items())
    result = run(place, f"--method {name} {words} {trained} {few}")
    metric = Metric.from_result(result)
    assert (result["task"], metric.better, metric.scale) == ("delivery", "lower", 10)
    assert result["final"]["mae"] == result["final"]["score"] < 2 * result["baseline"]["score"]
    assert result["final"]["bytes"] < result["baseline"]["bytes"] / 2.5
    assert result["equality"] < 1e-5
    if "--activation-bits" in asks:
        assert {bits["activation"] for bits in result["final"]["bits"].values()} == {8}
    if methods.get(name).removes_units and "--sparsity" in asks:
        assert sum(result["removed"].values()) == 10, "a quarter of 40"


@pytest.mark.usefixtures("in_this_process")
def test_less_is_better_in_searches(place: Path, tmp_path: Path) -> None:
    about = f"--model {place}/delivery.py:net --task {place}/delivery.py:task --weights {place}/w.safetensors"
    words = f"sweep {about} --method ptq --sparsity 0 --bits 2,4,8 --find smallest --min-score 0.06"
    assert main([*words.split(), "--runs", str(tmp_path), "--json", str(tmp_path / "s.json")]) == 0
    result = json.loads((tmp_path / "s.json").read_text())
    best = next(each for each in result["runs"] if each["run"] == result["found"])
    points = {each["run"]: each["final"] for each in result["runs"] if each.get("final")}
    smaller = [point for point in points.values() if point["bytes"] < best["final"]["bytes"]]
    assert best["final"]["score"] <= 0.06 + 1e-9
    assert all(point["score"] > 0.06 for point in smaller)


@pytest.fixture(scope="module")
def bundle(place: Path, in_this_process: None) -> Path:
    """The bundle of a run, unpacked."""
    result = run(place, "--method geta --sparsity 0.25 --bits 8 --activation-bits 8 --epochs 3")
    out = place / "b.zip"
    words = ["--runs", str(place / "runs"), "--out", str(out), "--json", str(place / "e.json")]
    assert main(["export", result["run"], "--no-latency", *words]) == 0
    with zipfile.ZipFile(out) as files:
        files.extractall(place / "bundle")
    return place / "bundle"


def test_the_file_has_named_inputs_and_answers_as_torch(bundle: Path, place: Path) -> None:
    example = load_file(bundle / "example.safetensors")
    assert example.keys() == {"input.traffic", "input.table", "output"}
    feed = {name: example[f"input.{name}"].numpy() for name in ("traffic", "table")}
    for file in ("model.onnx", "model.fp32.onnx"):
        session = onnxruntime.InferenceSession(bundle / file)
        assert {given.name for given in session.get_inputs()} == feed.keys()
        difference = np.abs(session.run(None, feed)[0] - example["output"].numpy()).max()
        assert difference < (0.01 if file == "model.onnx" else 0.1)
    measured = json.loads((place / "e.json").read_text())["onnx"]
    assert Metric.from_result(measured).name == "mae"
    assert measured["mae"] == pytest.approx(measured["torch_mae"], abs=0.005)
    rows = [line.split("|") for line in (bundle / "MODEL_CARD.md").read_text().splitlines()]
    (cells,) = [row[2:4] for row in rows if row[1:] and row[1].startswith(" mean error")]
    assert [cell.split()[1] for cell in cells] == ["min", "min"]
    assert all(0 < float(cell.split()[0]) < 1 for cell in cells)


def test_the_bundle_is_read_back(bundle: Path, place: Path) -> None:
    example = load_file(bundle / "example.safetensors")
    make = owncode.function(f"{place}/delivery.py:net")
    for model in (cx.load(place / "b.zip", model=make), cx.load(place / "b.zip", trust=True)):
        answer = model(traffic=example["input.traffic"], table=example["input.table"])
        assert torch.allclose(answer, example["output"], atol=0.02)
    subprocess.run([sys.executable, "load.py", "--trust"], cwd=bundle, check=True)


def test_one_call_takes_the_same_task(place: Path) -> None:
    function = owncode.function(f"{place}/delivery.py:net")
    model, _ = function()
    task = tasks.load(f"{place}/delivery.py:task")
    train_dense(model, task, 4, lr=0.01)
    done = cx.compress(model, task, method="geta", sparsity=0.25, weight_bits=(8, 8), epochs=2)
    assert sum(len(units) for units in done.removed.values()) == 10
    assert evaluate(done.model, task, "test").score < 0.2


class Pair(nn.Module):
    """Two tables, given by place; answers with more than one tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(3, 8), nn.Linear(2, 8), nn.Linear(8, 1)

    def forward(self, one: torch.Tensor, two: torch.Tensor) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        hidden = (self.a(one) * self.b(two)).relu()
        return self.c(hidden).squeeze(1), {"mean": one.mean(0)}


class Product(Task):
    metric = Metric("error", "error", "", better="lower", highest=float("inf"))

    def loss(self, answer: torch.Tensor, target: Any) -> torch.Tensor:
        return (answer - target).square().mean()

    def batch_score(self, answer: torch.Tensor, target: Any) -> float:
        return float((answer - target).abs().mean())


def products(count: int) -> Split:
    one, two = torch.rand(count, 3), torch.rand(count, 2)
    return Split((one, two), one[:, 0] * two[:, 1])


def test_a_tuple_is_the_arguments_by_place() -> None:
    torch.manual_seed(0)
    task, model = Product(DataSet("p", "p", (), products(400), products(50), products(50))), Pair()
    before = evaluate(model, task, "test").score
    result = train_dense(model, task, 10, batch_size=20, optimizer="adam", lr=0.01)
    assert result.test.score < before / 2
    done = cx.compress(model, task, method="sequential", sparsity=0.25, weight_bits=(8, 8), epochs=1)
    assert {len(units) for units in done.removed.values()} == {2}, "both tables go through the same 8 channels"
    assert evaluate(done.model, task, "test").score < before


class Computes(nn.Module):
    """The network of the other tasks; given targets it answers with its own loss, which is twice the usual one."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.losses = Pair(), 0

    def forward(self, one: torch.Tensor, two: torch.Tensor, target: Any = None) -> Any:
        answer, _ = self.pair(one, two)
        if target is None:
            return answer
        self.losses += 1
        return answer, 2 * (answer - target).square().mean()


class Inside(Product):
    def loss(self, answer: torch.Tensor, target: Any) -> torch.Tensor:
        assert not torch.is_grad_enabled(), "it is measured by, and not trained"
        return super().loss(answer, target)

    def training_answer(self, model: nn.Module, x: Any, target: Any) -> tuple[torch.Tensor, torch.Tensor | None]:
        answer, loss = model(*x, target)
        return answer, loss


def test_a_loss_inside_the_network_is_what_is_trained() -> None:
    """Twice the usual loss at half the rate takes the same steps; the small network has learnt, too."""
    data, models = DataSet("p", "p", (), products(400), products(50), products(50)), []
    for task, rate in ((Inside(data), 0.05), (Product(data), 0.1)):
        torch.manual_seed(0)
        model = Computes()
        how: dict[str, Any] = {"batch_size": 20, "optimizer": "sgd", "lr": rate, "weight_decay": 0.0}
        train_dense(model, task, 2, **how)
        models.append(model)
    inside, outside = models
    assert (inside.losses, outside.losses) == (40, 0)
    torch.testing.assert_close(inside.pair.state_dict(), outside.pair.state_dict())
    asks: dict[str, Any] = {"sparsity": 0.25, "weight_bits": (8, 8), "epochs": 1}
    for distill in (0.0, 0.5, 1.0):
        done = cx.compress(inside, Inside(data), method="sequential", options={"distill": distill}, **asks)
        assert evaluate(done.model, Inside(data), "test").score < 2 * evaluate(inside, Inside(data), "test").score


@pytest.mark.parametrize("order", ["first", "last"])
def test_the_mean_of_a_split_counts_every_example_once(order: str) -> None:
    """400 examples are batches of 250 and 150."""
    task = Product(DataSet("p", "p", (), products(4), products(4), Split(torch.zeros(400, 1), torch.zeros(400))))
    task.data.test.labels[slice(250) if order == "first" else slice(250, None)] = 1.0

    class Zero(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.squeeze(1)

    assert evaluate(Zero(), task, "test").score == pytest.approx(0.625 if order == "first" else 0.375)


HEAD = """
import torch
from compression.data import Batches, DataSet, Split
from compression.tasks import Metric, Task

SPLIT = Split(torch.zeros(4, 3), torch.zeros(4))
DATA = DataSet("d", "d", (), SPLIT, SPLIT, SPLIT)


class Whole(Task):
    metric = Metric("error", "error", "", better="lower")

    def loss(self, answer, target):
        return (answer - target).square().mean()

    def batch_score(self, answer, target):
        return float((answer - target).abs().mean())


class NoLoss(Task):
    metric = Whole.metric


class NoScore(Whole):
    batch_score = Task.batch_score


class NoMetric(Whole):
    metric = None


class WrongMetric(Whole):
    metric = "accuracy"


class Broken(Whole):
    def __init__(self, data):
        raise FileNotFoundError("no such file: prices.csv")


class Data(Whole):
    def __init__(self, data):
        self.data = data


class NotANumber(Whole):
    def batch_score(self, answer, target):
        return float("nan")


def unequal():
    return Whole(DataSet("d", "d", (), SPLIT, Split(torch.zeros(4, 3), torch.zeros(5)), SPLIT))
def turned():
    return Whole(DataSet("d", "d", (), SPLIT, SPLIT, SPLIT, augment="turn"))
def empty():
    return Whole(DataSet("d", "d", (), SPLIT, SPLIT, Split(torch.zeros(0, 3), torch.zeros(0))))
def listed():
    return Whole(DataSet("d", "d", (), [1, 2], SPLIT, SPLIT))
def numbers():
    return Whole(DataSet("d", "d", (), Split([1, 2], torch.zeros(2)), SPLIT, SPLIT))
def nothing(): ...
def no_loss(): return NoLoss(DATA)
def no_score(): return NoScore(DATA)
def no_metric(): return NoMetric(DATA)
def wrong_metric(): return WrongMetric(DATA)
def broken(): return Broken(DATA)
def no_data(): return Data({"train": SPLIT})
def whole(): return Whole(DATA)
def not_a_number(): return NotANumber(DATA)
def net():
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 1)), torch.zeros(1, 3)
def other():
    return torch.nn.Linear(5, 1), torch.zeros(1, 5)
"""
REFUSED = {
    "nothing": r"must return a compression\.tasks\.Task, not a NoneType",
    "no_loss": "abstract method '?loss",
    "no_score": r"no score: define batch_score\(answer, target\)",
    "turned": r"augment of its data must be one of none, shift, shift-flip, not 'turn'",
    "no_metric": "has no metric",
    "wrong_metric": "has no metric",
    "broken": r"fails when called: FileNotFoundError: no such file: prices\.csv",
    "no_data": r"has no data: .* not with dict",
    "unequal": "validation split has tensors of 4 and 5 examples",
    "empty": "test split is empty",
    "listed": r"train split must be a compression\.data\.Split, not a list",
    "numbers": "train split holds a int",
    "missing": "no function 'missing'",
}


@pytest.mark.parametrize(("name", "why"), REFUSED.items())
def test_what_is_missing_is_named(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(HEAD)
    with pytest.raises(CompressionError, match=why):
        tasks.load(f"{tmp_path}/own.py:{name}")


MORE = (
    HEAD
    + """
from dataclasses import dataclass, replace


@dataclass
class Settings:
    size: int = 4


class Images(Whole):
    def loss(self, answer, target):
        return (answer - target["y"]).square().mean()

    def batch_score(self, answer, target):
        return float((answer - target["y"]).abs().mean())


def images():
    split = Split(torch.randint(0, 255, (8, 3, 8, 8), dtype=torch.uint8), {"y": torch.zeros(8, 3, 16, 16)})
    return Images(DataSet("d", "d", (), split, split, split, (0.5,) * 3, (0.2,) * 3))
def enlarge():
    layers = torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.ConvTranspose2d(8, 3, 2, 2)
    return torch.nn.Sequential(*layers), (3, 8, 8)
def table():
    split = Split(torch.randint(0, 9, (8, 3), dtype=torch.uint8), torch.zeros(8))
    return Whole(DataSet("d", "d", (), split, split, split))
def named(name, **changes):
    class Named(Whole):
        metric = replace(Metric(name, name, "", better="lower"), **changes)
    return Named(DATA)
def called_bytes(): return named("bytes")
def called_accuracy(): return named("accuracy")
def odd_better(): return named("error", better="Higher")
def odd_decimals(): return named("error", decimals=99)
def nested():
    return Whole(DataSet("d", "d", (), Split((torch.zeros(4, 3), {"x": torch.zeros(4)}), torch.zeros(4)), SPLIT, SPLIT))
def no_std():
    split = Split(torch.zeros(4, 3, 8, 8, dtype=torch.uint8), torch.zeros(4))
    return Whole(DataSet("d", "d", (), split, split, split, mean=(0.5,) * 3))
class Zero(Whole):
    def batch_score(self, answer, target):
        return 1 / 0
def zero(): return Zero(DATA)
class Late(Whole):
    def batch_score(self, answer, target):
        return float("nan") if len(target) > 2 else 1.0
def late(): return Late(DATA)
"""
)


@pytest.mark.usefixtures("in_this_process")
def test_images_with_targets_by_name_and_answers_of_any_shape(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MORE)
    about = f"--model {tmp_path}/own.py:enlarge --task {tmp_path}/own.py:images"
    assert main(f"train {about} --epochs 1 --batch-size 4 --out {tmp_path / 'w.safetensors'}".split()) == 0
    words = f"run {about} --weights {tmp_path / 'w.safetensors'} --method geta --sparsity 0.25 --bits 8 --epochs 4"
    where = ["--batch-size", "4", "--runs", str(tmp_path / "r"), "--json", str(tmp_path / "r.json")]
    assert main([*words.split(), *where]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert sum(result["removed"].values()) == 2
    options = ["--no-latency", "--runs", str(tmp_path / "r"), "--out", str(tmp_path / "b.zip")]
    assert main(["export", result["run"], *options]) == 0
    assert cx.load(tmp_path / "b.zip", trust=True)(torch.zeros(1, 3, 8, 8)).shape == (1, 3, 16, 16)
    with pytest.raises(CompressionError, match="must map images"):
        load(Budget(model=f"{tmp_path}/own.py:enlarge", data="mnist5k"))


def test_numbers_of_eight_bits_that_are_no_images_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MORE)
    task = tasks.load(f"{tmp_path}/own.py:table")
    x, _ = Batches(task.data, "test", 8).batch(0, 0)
    assert torch.equal(x, task.data.test.images)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("called_bytes", "cannot be called 'bytes'"),
        ("called_accuracy", "cannot be called 'accuracy'"),
        ("odd_better", "better"),
        ("odd_decimals", "decimals"),
        ("nested", "is nested"),
        ("no_std", "mean and std"),
    ],
)
def test_more_that_no_result_could_hold(name: str, why: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MORE)
    with pytest.raises(CompressionError, match=why):
        tasks.load(f"{tmp_path}/own.py:{name}")


def test_what_a_task_raises_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MORE)
    model, _ = owncode.function(f"{tmp_path}/own.py:net")()
    with pytest.raises(CompressionError, match="division by zero"):
        check_trainable(model, tasks.load(f"{tmp_path}/own.py:zero"), "net", 2)
    with pytest.raises(RunFailed, match="not a number"):
        train_dense(model, tasks.load(f"{tmp_path}/own.py:late"), 1)


def test_a_network_that_says_what_it_takes_keeps_to_it(place: Path) -> None:
    about = f"--model {place}/delivery.py:net --task {place}/delivery.py:task --input 3x9x9"
    assert main(["train", *about.split()]) == 2
    with pytest.raises(CompressionError, match="leave --input out"):
        load(Budget(model=f"{place}/delivery.py:net", data=f"{place}/delivery.py:task", input=(3, 9, 9)))


def test_runs_are_listed_in_the_unit_of_their_own_metric(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = run(place, "--method ptq --bits 8")
    capsys.readouterr()
    assert main(["runs", "--runs", str(place / "runs")]) == 0
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(result["run"]))
    assert f"{10 * result['final']['score']:.2f} min" in row


def test_a_file_that_is_not_there_or_fails_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_this_name")
    for name, why in (("gone.py:f", "does not exist"), ("bad.py:f", "No module named 'nothing_of_this_name'")):
        with pytest.raises(CompressionError, match=why):
            tasks.load(f"{tmp_path}/{name}")
        assert main(["train", "--model", "resnet8", "--task", f"{tmp_path}/{name}"]) == 2


@pytest.mark.parametrize(
    ("net", "task", "why"),
    [
        ("other", "whole", "shapes cannot be multiplied"),
        ("net", "not_a_number", "error of a batch of notanumber must be a finite number, not nan"),
    ],
)
def test_a_network_that_does_not_fit_and_a_score_that_is_no_number(
    net: str, task: str, why: str, tmp_path: Path
) -> None:
    (tmp_path / "own.py").write_text(HEAD)
    model, _ = owncode.function(f"{tmp_path}/own.py:{net}")()
    with pytest.raises(CompressionError, match=why):
        check_trainable(model, tasks.load(f"{tmp_path}/own.py:{task}"), net, 2)
    assert main(["train", "--model", f"{tmp_path}/own.py:{net}", "--task", f"{tmp_path}/own.py:{task}"]) == 2


def test_preprocessing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(HEAD)
    with pytest.raises(CompressionError, match="preprocess is for images"):
        tasks.load(f"{tmp_path}/own.py:whole", preprocess={"mean": 0.5})


def test_a_score_that_ends_as_no_number_fails_the_run(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(HEAD)
    task = tasks.load(f"{tmp_path}/own.py:not_a_number")
    model = owncode.function(f"{tmp_path}/own.py:net")()[0]
    setup = methods.Setup(model, cx.trace(model, torch.zeros(1, 3)), task, Budget())
    with pytest.raises(RunFailed, match="error of the validation split is not a number"):
        measure(setup, model, step=1, epoch=1.0, phase="p")


def test_a_changed_task_is_another_subject(place: Path) -> None:
    about = Budget(model=f"{place}/delivery.py:net", data=f"{place}/delivery.py:task", weights=f"{place}/w.safetensors")
    subject = load(about)
    before = subject_digest(subject, about.model, about.data)
    text = (place / "delivery.py").read_text()
    try:
        (place / "delivery.py").write_text(text + "\n# changed\n")
        assert subject_digest(subject, about.model, about.data) != before
    finally:
        (place / "delivery.py").write_text(text)
    assert subject_digest(subject, about.model, about.data) == before


def test_code_is_run_only_where_it_was_named(
    place: Path, tmp_path: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shared budget names the task without its folder; a run folder with code in it is refused; so are pages."""
    result = run(place, "--method ptq --bits 8")
    shared = tmp_path / "shared.json"
    shared.write_text(json.dumps({**result["budget"], "data": "delivery.py:task"}))
    monkeypatch.chdir(place)
    assert main(["run", "--config", str(shared), "--runs", str(tmp_path / "r")]) == 2
    again = ["--task", f"{place}/delivery.py:task", "--runs", str(tmp_path / "r")]
    assert main(["run", "--config", str(shared), *again]) == 0
    inside = place / "runs" / result["run"] / "trap.py"
    inside.write_text((place / "delivery.py").read_text())
    spec = json.loads((place / "runs" / result["run"] / "spec.json").read_text())
    spec["budget"]["data"] = f"{inside}:task"
    other = place / "runs" / "ptq-other-20260101-0000-abcdef"
    other.mkdir()
    (other / "spec.json").write_text(json.dumps({**spec, "id": other.name}))
    with pytest.raises(CompressionError, match="never run"):
        RunFolder.open(place / "runs", other.name).budget()
    inside.unlink()
    model, task = f"{place}/delivery.py:net", f"{place}/delivery.py:task"
    with pytest.raises(CompressionError, match="not offered here"):
        catalog.allow("resnet8", task)
    assert len(errors(open_page("model", "--model", model, model=model, data=task))) == 1


def test_pages_of_a_task_that_the_operator_named(place: Path, open_page: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    from compression.zoo import weights

    model, task = f"{place}/delivery.py:net", f"{place}/delivery.py:task"
    monkeypatch.setenv("COMPRESSION_MODELS", str(place / "models"))
    path = weights.default_path(model, task)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes((place / "w.safetensors").read_bytes())
    named = ("--model", model, "--task", task)
    app = open_page("model", *named, model=model, data=task)
    assert errors(app) == []
    measured = {metric.label: metric.value for metric in app.metric}
    assert measured["Test mean error"].endswith(" min")
    for page in ("budget", "groups"):
        app = open_page(page, *named, model=model, data=task)
        assert errors(app) == []
    app = open_page("budget", *named, model=model, data=task)
    assert not app.button(key="start").disabled
