"""One training for every bit-width: nesting, gradients, the search, and what is exported at fewer bits."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from opened import errors, opener
from torch import nn

import compression as cx
from compression import methods
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.methods.anybits.freezing import Freezing, instability
from compression.methods.anybits.run import EveryWidth
from compression.methods.anybits.search import ORIGINAL, averages, mixture
from compression.pack import integers, unpack
from compression.quant.integers import IntegerWeight
from compression.quant.nested import NestedWeight
from compression.quant.nested_quantizer import NestedQuantizer, attach, first_bound, nested_quantizers, set_widths
from compression.runs.folder import RunFolder
from compression.runs.prepare import load_task
from compression.runs.read_at import read_at, row_at, widths_served
from compression.training.dense import evaluate
from tests.contract.runs import finished, network

TOP = 8


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def run(root: Path) -> tuple[RunFolder, dict[str, Any]]:
    """The run of the contract: 3 to 6 bits a weight, 8 an activation."""
    return finished(root, "anybits")


def layer(weight: torch.Tensor, clip: float = 0.5) -> tuple[nn.Linear, NestedQuantizer]:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    module.weight.data = weight.clone()
    attach(nn.Sequential(module), {"0": range(2, TOP + 1)})
    quantizer = nested_quantizers(nn.Sequential(module))["0"]
    quantizer.clip.data.fill_(clip)
    return module, quantizer


def reference(weight: np.ndarray, clip: float, bits: int) -> np.ndarray:
    """The codes by fractions of the range, in exact arithmetic on double precision."""
    cells = np.floor(np.abs(weight) / clip * 2 ** (bits - 1))
    return (np.sign(weight) * np.minimum(cells, 2 ** (bits - 1) - 1)).astype(int)


def test_fewer_bits_are_the_high_bits_of_more() -> None:
    """For every pair of widths, from codes computed apart for each; and each is a prefix of the layered file's form."""
    torch.manual_seed(0)
    weight = torch.cat([torch.randn(40, 25) * 0.2, torch.zeros(1, 25), torch.tensor([[0.5, -0.5, 0.25] + [3.0] * 22])])
    _, quantizer = layer(weight)
    codes = {}
    for bits in range(2, TOP + 1):
        quantizer.width = bits
        encoded = quantizer.encode("0", weight)
        assert encoded.codes.tolist() == reference(weight.double().numpy(), 0.5, bits).tolist()
        assert torch.equal(encoded.weight(), quantizer(weight)), "what is stored is what is computed with"
        assert not quantizer(weight)[40].any(), "zeros stay zeros"
        codes[bits] = encoded
    for more, fewer in itertools.combinations(sorted(codes, reverse=True), 2):
        high = codes[more].codes.abs().bitwise_right_shift(more - fewer) * codes[more].codes.sign()
        assert torch.equal(high, codes[fewer].codes)
        whole = codes[more]
        prefix = NestedWeight("0", whole.codes, whole.step, more - 1, "offset", whole.offset).prefix(fewer - 1)
        assert torch.equal(prefix.weight(), codes[fewer].weight())
    inside = weight.abs() < 0.5
    assert float((codes[4].weight() - weight).abs()[inside].max()) <= 0.5 / 8, (
        "a cell of 4 bits, beside zero a whole one"
    )


@pytest.mark.parametrize("bits", [2, 4])
def test_gradients_are_those_of_the_surrogate(bits: int) -> None:
    """Central differences of Q with every weight's place within its cell held, which is what training follows."""
    torch.manual_seed(1)
    weight, upstream = torch.randn(6, 5) * 0.3, torch.randn(6, 5)
    module, quantizer = layer(weight)
    quantizer.width = bits
    (module.weight * upstream).sum().backward()
    step, value = 0.5 / 2 ** (bits - 1), quantizer(weight).detach().double()
    wide = weight.double()
    inside = wide.abs() <= 0.5
    residue, level = (value - wide) / step, value / step

    def surrogate(clip: float) -> float:
        cell = clip / 2 ** (bits - 1)
        return float((torch.where(inside, wide + cell * residue, cell * level) * upstream).sum())

    slope = (surrogate(0.5 + 1e-4) - surrogate(0.5 - 1e-4)) / 2e-4
    scale = 1 / math.sqrt(weight.numel() * 2 ** (bits - 1))
    assert quantizer.clip.grad is not None
    assert quantizer.clip.grad.item() == pytest.approx(slope * scale, rel=1e-4)
    original = module.parametrizations.weight.original.grad
    assert torch.equal(original, upstream * inside.float())


def test_the_first_bound_errs_least_over_all_widths() -> None:
    torch.manual_seed(2)
    weight = torch.randn(50, 40) * 0.1
    chosen = first_bound(weight, range(2, 9))

    def error(clip: float) -> float:
        wide, total = weight.double().numpy(), 0.0
        for bits in range(2, 9):
            codes = reference(wide, clip, bits)
            total += float(((np.sign(codes) * (np.abs(codes) + 0.5) * clip / 2 ** (bits - 1) - wide) ** 2).sum())
        return total

    largest = float(weight.abs().max())
    assert error(chosen) <= min(error(largest * share) for share in np.linspace(0.1, 1, 181)) * 1.01
    assert chosen < 0.9 * largest, "the largest weight is too far out for two bits"
    assert first_bound(torch.zeros(3, 3), [2, 8]) > 0


def test_every_step_reads_other_widths_and_the_run_goes_on_with_the_same() -> None:
    model = network()
    served = {"conv1": [2, 3, 4], "linear": [4, 5]}
    attach(model, served)
    quantizers = nested_quantizers(model)
    inputs, optimizer = SimpleNamespace(step=lambda lr: None), torch.optim.SGD(model.parameters(), lr=0.1)
    algorithm = EveryWidth(quantizers, served, inputs, optimizer, 0.1, seed=3)  # type: ignore[arg-type]
    assert [algorithm.widths(step) for step in (0, 1)] == [{"conv1": 4, "linear": 5}, {"conv1": 2, "linear": 4}]
    drawn = [tuple(algorithm.widths(step).values()) for step in range(400) if step % 4 > 1]
    assert set(drawn) == set(itertools.product([2, 3, 4], [4, 5])), "layers differ in all ways"
    assert algorithm.widths(7) == algorithm.widths(7)
    algorithm.before_step(1)
    assert [q.width for q in quantizers.values()] == [2, 4]
    algorithm.after_step(1)
    assert [q.width for q in quantizers.values()] == [4, 5], "points on the way are measured at the most bits"


def test_a_shared_weight_has_one_width() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    attach(model, {"0": [2, 3], "1": [2, 3]})
    assert list(nested_quantizers(model)) == ["0"]
    set_widths(model, {"0": 2})
    assert torch.equal(model[0].weight, model[1].weight)


def test_mixtures_are_the_best_within_their_average() -> None:
    """Against all 3^4 mixtures, with losses that do not even fall evenly."""
    rng = np.random.default_rng(5)
    served = {name: [2, 3, 5] for name in "abcd"}
    sizes = {name: int(rng.integers(10, 90)) for name in served}
    table = {name: np.sort(rng.random(3))[::-1].tolist() for name in served}
    total = sum(sizes.values())
    for average in averages(served, sizes):
        chosen = mixture(table, served, sizes, average)
        assert sum(chosen[name] * sizes[name] for name in served) <= average * total + 1e-6
        allowed = [
            sum(table[name][pick] for name, pick in zip(served, picks, strict=True))
            for picks in itertools.product(range(3), repeat=4)
            if sum(served[n][p] * sizes[n] for n, p in zip(served, picks, strict=True)) <= average * total + 1e-6
        ]
        reached = sum(table[name][served[name].index(chosen[name])] for name in served)
        assert reached == pytest.approx(min(allowed))
    assert averages(served, sizes) == [2, 2.5, 3, 3.5, 4, 4.5, 5]


def test_a_run_is_a_whole_front_whose_files_are_prefixes_of_one(run: tuple[RunFolder, dict[str, Any]]) -> None:
    folder, result = run
    rows = result["precisions"]
    assert [row["bits"] for row in rows] == sorted({row["bits"] for row in rows})
    assert (rows[0]["bits"], rows[-1]["bits"]) == (3, 6)
    assert rows[-1]["point"]["score"] == result["final"]["score"]
    whole = integers(folder.bundle / "weights.packed")
    for row in rows:
        path = folder.bundle / row["file"]
        assert row["point"]["bytes"] == path.stat().st_size == row["ledger"]["total"]
        assert (row["point"]["split"], row["point"]["phase"]) == ("test", "precision")
        read = integers(path)
        sizes = {name: weight.codes.numel() for name, weight in read.items()}
        counted = sum(read[name].bits * size for name, size in sizes.items()) / sum(sizes.values())
        assert row["bits"] == pytest.approx(counted)
        for name, weight in read.items():
            most = whole[name]
            assert isinstance(weight, IntegerWeight)
            assert isinstance(most, IntegerWeight)
            assert weight.bits == row["widths"][name]
            high = most.codes.abs().bitwise_right_shift(most.bits - weight.bits) * most.codes.sign()
            assert torch.equal(weight.codes, high), f"{name} at {weight.bits} bits"
    assert rows[0]["point"]["bytes"] < rows[-1]["point"]["bytes"]
    means = [unpack(folder.bundle / row["file"])["bn1.running_mean"] for row in rows]
    assert torch.equal(means[-1], unpack(folder.bundle / "weights.packed")["bn1.running_mean"])
    assert not torch.equal(means[0], means[-1]), "each has statistics of its own"


def test_the_bundle_of_fewer_bits_scores_what_was_measured(
    run: tuple[RunFolder, dict[str, Any]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, result = run
    out = tmp_path / "four.zip"
    words = ["export", folder.id, "--runs", str(folder.path.parent), "--out", str(out), "--bits", "4.2", "--no-onnx"]
    assert main(words) == 0
    row = row_at(result, 4.2)
    assert 3.5 < row["bits"] <= 4.2
    model = cx.load(out)
    assert evaluate(model, load_task(folder.budget()), "test").score == pytest.approx(row["point"]["score"], abs=1e-9)
    state = unpack(folder.bundle / row["file"])
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    capsys.readouterr()
    for number, reason in (("2", "3.00 to 6.00 bits"), ("x", "--bits")):
        assert main([*words[:-2], number, "--no-onnx"]) == 2
        line = capsys.readouterr().err.strip()
        assert reason in line
        assert "\n" not in line
    assert main([*words, "--layered"]) == 2
    assert "leave the bits out" in capsys.readouterr().err


def test_only_such_runs_are_read_at_other_bits(root: Path, run: tuple[RunFolder, dict[str, Any]]) -> None:
    _, result = run
    assert widths_served({"run": "a"}) == []
    with pytest.raises(CompressionError, match="one precision"):
        row_at({"run": "a"}, 4)
    read = read_at(result, 3)
    assert (read["read_at"], read["final"]["bytes"]) == (3, result["precisions"][0]["point"]["bytes"])
    assert "precisions" not in read
    assert "confusion" not in read


def test_what_it_cannot_is_refused() -> None:
    method = methods.get("anybits")
    with pytest.raises(CompressionError, match="oscillation"):
        method.check_budget(Budget(method="anybits", options={"oscillation": "freeze"}))
    with pytest.raises(CompressionError, match="weight_bits"):
        method.check_budget(Budget(method="anybits", asks={"weight_bits": (1, 8)}))


def test_the_page_answers_at_once_at_fewer_bits(
    run: tuple[RunFolder, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slider after the run on Export, Compare and Runs; a link opens what it names."""
    folder, result = run
    open_page = opener(folder.path.parent, monkeypatch)
    first = result["precisions"][0]["point"]
    page = open_page("export", run=folder.id)
    slider = next(each for each in page.select_slider if each.key == f"read_at-{folder.id}")
    assert len(slider.options) == len(result["precisions"])
    before = [metric.value for metric in page.metric]
    slider.set_value(slider.options[0]).run()
    assert not errors(page)
    after = [metric.value for metric in page.metric]
    assert before != after
    assert page.query_params["read_at"] == "3"
    for name in ("export", "compare", "runs"):
        linked = open_page(name, run=folder.id, model=result["model"], data=folder.budget().data, read_at="3")
        sizes = [metric.value for metric in linked.metric]
        assert f"{first['bytes'] / 1000:.2f} kB" in sizes or f"{first['bytes'] / 1000:.1f} kB" in sizes, name


def test_instability_by_counting() -> None:
    """A layer made by hand, q = 1: at 2 bits the only edge is ½, at 3 bits there are ¼, ½ and ¾."""
    weight = torch.tensor([0.0, 0.02, 0.125, 0.23, 0.27, 0.45, 0.56, -0.57, -0.75, 0.99, 1.5])
    near_half = [0.45, 0.56]  # within 1/16
    near_any = [0.23, 0.27, 0.75]  # within 1/32 of ¼, ½ or ¾; 0 and q are no edges
    clip = torch.tensor(1.0)
    assert instability(weight, clip, [2]) == pytest.approx(len(near_half) / 11 / 2)
    assert instability(weight, clip, [3]) == pytest.approx(len(near_any) / 11 / 3)
    assert instability(weight, clip, [2, 3]) == pytest.approx((2 / 22 + 3 / 33) / 2)
    assert instability(3 * weight, 3 * clip, [2, 3]) == pytest.approx((2 / 22 + 3 / 33) / 2)


def freezing(total: int = 300) -> tuple[Freezing, dict[str, torch.Tensor]]:
    """Ten layers of one weight each at 2 to 4 bits, and an eleventh that has but one width."""
    model = nn.Sequential(*(nn.Linear(1, 1, bias=False) for _ in range(11)))
    served = {str(index): [2, 3, 4] if index < 10 else [2] for index in range(11)}
    attach(model, served)
    quantizers = nested_quantizers(model)
    for quantizer in quantizers.values():
        quantizer.clip.data.fill_(1.0)
    weights = {name: model.get_submodule(name).get_parameter(ORIGINAL) for name in quantizers}
    for weight in weights.values():
        weight.data.fill_(0.3)  # near no edge
    return Freezing(quantizers, weights, served, total), weights


def test_unstable_layers_train_without_their_fewest_bits_until_others_are_worse() -> None:
    chosen, weights = freezing()
    for name in "37":
        weights[name].data.fill_(0.5)
    chosen.before_step(0)
    assert not chosen.frozen, "the first choice comes after 4 % of the run"
    chosen.before_step(12)
    assert {"3", "7"} <= chosen.frozen and len(chosen.frozen) == 4, "just below half of ten"
    assert chosen.widths("3") == [3, 4] and chosen.widths("10") == [2]
    weights["3"].data.fill_(0.3)
    weights["10"].data.fill_(0.5)
    chosen.before_step(13)
    assert "3" in chosen.frozen, "it is not yet time"
    chosen.before_step(160)
    assert chosen.frozen >= {"7"} and len(chosen.frozen) == 2 and "10" not in chosen.frozen
    other, _ = freezing()
    other.load_state_dict(chosen.state_dict())
    assert other.frozen == chosen.frozen and other.choices == chosen.choices


def test_when_and_how_many_layers_are_frozen() -> None:
    """As published for 150 epochs: from 6 on every 2, after 72 % every 15; half, by a cosine to a fifth at 75."""
    chosen, _ = freezing(150)
    due = [step for step in range(150) if chosen.due(step)]
    assert due == [*range(6, 108, 2), 111, 126, 141]
    assert [chosen.share(step) for step in (0, 75, 149)] == pytest.approx([0.5, 0.2, 0.2])
    assert chosen.share(25) == pytest.approx(0.2 + 0.15 * (1 + math.cos(math.pi / 3)))


def test_training_reads_what_is_not_frozen() -> None:
    model = network()
    served = {"conv1": [2, 3, 4], "linear": [2, 3]}
    attach(model, served)
    quantizers = nested_quantizers(model)
    weights = {name: model.get_submodule(name).get_parameter(ORIGINAL) for name in quantizers}
    unstable = Freezing(quantizers, weights, served, 100)
    unstable.frozen = frozenset({"conv1"})
    inputs, optimizer = SimpleNamespace(step=lambda lr: None), torch.optim.SGD(model.parameters(), lr=0.1)
    algorithm = EveryWidth(quantizers, served, inputs, optimizer, 0.1, 3, unstable)  # type: ignore[arg-type]
    assert algorithm.widths(1) == {"conv1": 3, "linear": 2}
    drawn = {tuple(algorithm.widths(step).values()) for step in range(400) if step % 4 > 1}
    assert drawn == set(itertools.product([3, 4], [2, 3]))
