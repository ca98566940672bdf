"""Product quantization against independent oracles: brute force, dynamic programming, autograd, the packed file."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from compression import methods
from compression.budget import Budget
from compression.encodings.codebook import ENCODING, CodebookWeight
from compression.errors import CompressionError
from compression.export import program
from compression.export.onnx_model import floats
from compression.export.onnx_model import integers as with_integers
from compression.graph import trace
from compression.graph.cuts import without
from compression.methods.pq.allocator import allocate, clustered, lengths, weights_of
from compression.methods.pq.clusters import assign, cluster
from compression.methods.pq.options import PqOptions
from compression.methods.pq.quantizer import BookQuantizer
from compression.methods.pq.run import attach
from compression.pack import integers, ledger, pack, unpack
from compression.pack.container import rows, to_bytes
from compression.pack.rows import is_weight
from compression.quant import fold, integer_weights
from compression.training.measure import sizes
from compression.training.setup import Reporter
from tests.alone import loader
from tests.contract.runs import budget, setup

OPTIONS = PqOptions(iterations=6)


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def squared(blocks: torch.Tensor, assignments: Any) -> float:
    """Σ‖v - mean of its cluster‖², cluster by cluster."""
    labels = np.asarray(assignments)
    return sum(float((part - part.mean(0)).square().sum()) for k in set(labels) for part in [blocks[labels == k]])


# Clusters -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("length", "count"), [(1, 16), (4, 32), (9, 8)])
def test_the_error_never_rises_and_is_that_of_the_means(length: int, count: int) -> None:
    blocks = seeded(600, length)
    result = cluster(blocks, count, seed=1)
    assert len(result.errors) > 3
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(result.errors))
    assert squared(blocks, result.assignments) == pytest.approx(
        float((blocks - result.centroids[result.assignments]).square().sum()), rel=1e-5
    )
    assert squared(blocks, result.assignments) <= result.errors[-1] * (1 + 1e-6)
    assert len(set(result.assignments.tolist())) == count, "no cluster is empty"


def test_one_centroid_is_the_mean() -> None:
    blocks = seeded(50, 4)
    torch.testing.assert_close(cluster(blocks, 1, seed=0).centroids, blocks.mean(0, keepdim=True))


def test_single_numbers_against_the_optimum_by_dynamic_programming() -> None:
    numbers = seeded(30, seed=3).double().sort().values.numpy()

    def within(low: int, high: int) -> float:
        return float(np.square(numbers[low:high] - numbers[low:high].mean()).sum())

    best = {(0, 0): 0.0}
    for k, high in itertools.product(range(1, 5), range(1, 31)):
        lows = [low for low in range(high) if (k - 1, low) in best]
        best[k, high] = min((best[k - 1, low] + within(low, high) for low in lows), default=9e9)
    blocks = torch.tensor(numbers)[:, None].float()
    result = [squared(blocks, cluster(blocks, 4, seed).assignments) for seed in range(20)]
    assert min(result) == pytest.approx(best[4, 30], rel=1e-5)
    assert all(best[4, 30] * (1 - 1e-6) <= error <= 2 * best[4, 30] for error in result)


def test_two_clusters_of_eight_blocks_against_all_partitions() -> None:
    blocks = seeded(8, 3, seed=5)
    every = min(squared(blocks, part) for part in itertools.product((0, 1), repeat=8) if 0 < sum(part) < 8)
    result = [squared(blocks, cluster(blocks, 2, seed).assignments) for seed in range(10)]
    assert min(result) == pytest.approx(every, rel=1e-5)
    assert all(error >= every * (1 - 1e-6) for error in result)


def test_a_layer_of_five_kernels_is_exact_with_five_centroids_and_more() -> None:
    kernels = seeded(5, 9)
    picked = torch.randint(5, (16 * 16,), generator=torch.Generator().manual_seed(0))
    weight = kernels[picked].reshape(16, 16, 3, 3)
    for count in (5, 8):
        result = clustered(weight, 9, count, 20, seed=2)
        assert len(result.centroids) == 5
        torch.testing.assert_close(
            result.centroids[result.assignments].reshape(weight.shape), weight, rtol=0, atol=1e-6
        )


def test_equal_distances_go_to_the_lowest_index() -> None:
    centroids = torch.tensor([[2.0], [1.0], [1.0], [-1.0]])
    nearest, distances = assign(torch.tensor([[0.0], [1.0], [1.5]]), centroids, exact=True)
    assert nearest.tolist() == [1, 1, 0]
    assert distances.tolist() == [1, 0, 0.25]


# The quantizer --------------------------------------------------------------------------------------------------------


def test_a_centroid_moves_by_the_mean_of_the_dense_gradients() -> None:
    weight = seeded(8, 4, 3, 3, seed=1).requires_grad_()
    result = clustered(weight, 9, 6, 20, seed=0)
    quantizer, dense = BookQuantizer(result.assignments, result.centroids), seeded(8, 4, 3, 3, seed=2)
    (quantizer(weight) * dense).sum().backward()
    # the oracle: autograd of a book that is a parameter, whose gradient is the sum, divided by how many blocks it has
    book = result.centroids.clone().requires_grad_()
    (book[result.assignments].reshape(weight.shape) * dense).sum().backward()
    assert book.grad is not None and weight.grad is not None
    mean = book.grad / torch.bincount(result.assignments, minlength=6)[:, None]
    inside = result.centroids.abs() <= 127.5 * quantizer.step()
    assert bool(inside.all()), "the step reaches to the largest number of the book"
    torch.testing.assert_close(weight.grad.reshape(-1, 9), mean[result.assignments])
    moved = clustered_means(weight.detach() - 0.5 * weight.grad, result.assignments)
    torch.testing.assert_close(moved, result.centroids - 0.5 * mean)


def clustered_means(weight: torch.Tensor, assignments: torch.Tensor) -> torch.Tensor:
    blocks = weight.reshape(len(assignments), -1)
    return torch.stack([blocks[assignments == k].mean(0) for k in range(int(assignments.max()) + 1)])


def test_values_are_8_bit_multiples_of_the_means_and_zero_blocks_stay_zero() -> None:
    weight = seeded(6, 4, seed=4)
    weight[2] = 0
    result = clustered(weight, 2, 4, 20, seed=0)
    assert bool((result.centroids[-1] == 0).all()) and len(result.centroids) == 4
    quantizer = BookQuantizer(result.assignments, result.centroids)
    value, step = quantizer(weight), quantizer.step()
    means = clustered_means(weight, result.assignments)[result.assignments].reshape(6, 4)
    assert torch.equal(value, torch.round(means / step).clamp(-127, 127) * step + 0.0)
    assert not value[2].any()
    later = weight.clone()
    later[5] = 0  # a unit that is removed after the books were made
    encoded = quantizer.encode("w", later)
    assert not quantizer(later)[5].any() and torch.equal(encoded.weight(), quantizer(later))
    remaining = [row for row in range(5) if row != 2]
    others = [j for j in range(12) if j // 2 != 5]
    means = clustered_means(later.reshape(-1, 2)[others], result.assignments[others])
    assert quantizer(later)[remaining[0], :2].tolist() == pytest.approx(means[result.assignments[0]].tolist(), abs=step)


def test_cuts_through_blocks_are_exact() -> None:
    book, indices = torch.tensor([[1, -2], [0, 5], [127, 3]]), torch.tensor([0, 1, 2, 1, 0, 2])
    weight = CodebookWeight("w", indices.int(), book.int(), 0.5, (3, 4))
    for dropped in ([(0, torch.tensor([1]))], [(1, torch.tensor([2]))], [(1, torch.tensor([0, 1]))]):
        small = ENCODING.cut(weight, dropped)
        assert torch.equal(small.weight(), without(weight.weight(), dropped))
        again = ENCODING.put_back(small, dropped, weight.shape)
        assert again.shape == weight.shape and torch.equal(without(again.weight(), dropped), small.weight())
        assert int(again.weight().count_nonzero()) == int(small.weight().count_nonzero())
        state = to_bytes({"w.weight": small.weight()}, {"w": small})
        assert torch.equal(loader()["weights"](state)["w.weight"], small.weight())
    assert ENCODING.cut(weight, [(0, torch.tensor([1]))]).length == 2


@pytest.mark.parametrize("change", [{"length": 5}, {"length": 0}, {"streams": {}}])
def test_rows_that_describe_no_codebook_are_refused(change: dict[str, Any]) -> None:
    weight = CodebookWeight("w", torch.tensor([0, 1, 2]).int(), torch.zeros(2, 4).int(), 0.5, (3, 4))
    streams = {"codes": {"coding": "fixed", "bytes": 3, "size": 3}, "book": {"coding": "fixed", "bytes": 2, "size": 8}}
    row = {"name": "w", "kind": "codebook", "shape": [3, 4], "bits": 8, "numbers": {"step": 1}, "streams": streams}
    ENCODING.check({**row, "length": 4})
    with pytest.raises((ValueError, CompressionError)):
        ENCODING.check({**row, "length": 4, **change})
    with pytest.raises(ValueError, match="beyond a book of 2 blocks"):
        ENCODING.verify({**row, "length": 4}, ENCODING.arrays(weight))


# The allocation and the file ------------------------------------------------------------------------------------------


def sentence_network() -> nn.Sequential:
    """A table of embeddings, one of which is zero, a convolution and a linear layer."""
    torch.manual_seed(0)
    table = nn.Embedding(300, 24, padding_idx=7)
    return nn.Sequential(table, nn.Conv1d(12, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 22, 5)).eval()


def stored_bits(path: Path) -> dict[str, int]:
    """Bits of streams and numbers of each quantized weight, recounted from the rows of the file."""
    coded = [row for row, _ in rows(path) if is_weight(row)]
    return {
        row["name"]: 8 * sum(stream["bytes"] for stream in row["streams"].values()) + 32 * sum(row["numbers"].values())
        for row in coded
    }


@pytest.mark.parametrize("bits", [0.75, 1.5, 3])
def test_the_file_stays_within_the_budget_and_gives_the_weights_back(bits: float, tmp_path: Path) -> None:
    model, path = sentence_network(), tmp_path / "p"
    dense = weights_of(sentence_network(), True)
    plan = allocate(weights_of(model, True), bits, OPTIONS, seed=3)
    attach(model, plan, OPTIONS, 3)
    counted, weights, expected = pack(model, path), integer_weights(model), fold(model).state_dict()
    used = stored_bits(path)
    numel = 300 * 24 + 16 * 12 * 3 + 16 * 22 * 5
    assert sum(used.values()) <= bits * numel == plan.budget
    assert {f"{layer.name}.weight" for layer in plan.layers} == set(used)
    assert all(used[f"{layer.name}.weight"] <= layer.option.cost for layer in plan.layers)
    assert plan.cost > 0.9 * plan.budget
    assert counted == ledger(path) and counted.codebooks > 0
    assert counted.total == sum(counted.to_dict().values()) - counted.total
    for state in (unpack(path), loader()["weights"](path.read_bytes())):
        assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    assert all(torch.equal(weight.weight(), expected[f"{name}.weight"]) for name, weight in integers(path).items())
    assert not expected["0.weight"][7].any()
    errors = sum(float((expected[f"{name}.weight"] - weight).square().sum()) for name, weight in dense.items())
    assert errors == pytest.approx(sum(layer.option.error for layer in plan.layers), rel=1e-3)
    present = sizes(model, trace(sentence_network(), torch.zeros(1, 12, dtype=torch.int64)))
    assert 0 <= counted.total - counted.container - present["bytes"] <= 40 * len(weights) + 0.05 * present["bytes"]


def test_lengths_divide_the_rows() -> None:
    assert lengths((64, 16, 3, 3), "auto") == [1, 2, 4, 8, 9]
    assert lengths((16, 3, 3, 3), "auto") == [1, 9]
    assert lengths((16, 3, 3, 3), "kernel") == [9]
    assert lengths((10, 24), "kernel") == lengths((10, 24), "auto") == [1, 2, 4, 8]
    assert lengths((10, 24), 16) == [1]
    assert lengths((10, 32), 16) == [16]


def test_what_cannot_be_is_refused_by_name() -> None:
    weights = {"a": seeded(8, 16), "b": seeded(8, 16, seed=1)}
    with pytest.raises(CompressionError, match=r"layers: no layer 'c'"):
        allocate(weights, 3, OPTIONS, layers={"c": {"weight_bits": (2, 4)}})
    with pytest.raises(CompressionError, match=r"layers\.a\.weight_bits"):
        allocate(weights, 3, OPTIONS, layers={"a": {"weight_bits": (9, 12)}})
    with pytest.raises(CompressionError, match="NaN"):
        weights_of(nn.Linear(2, 2).requires_grad_(False).apply(lambda m: m.weight.fill_(torch.nan)), True)
    with pytest.raises(CompressionError, match="budget"):
        allocate({"a": seeded(2, 4)}, 0.5, OPTIONS)
    plan = allocate(weights, 6, OPTIONS, layers={"a": {"weight_bits": (8, 8)}})
    assert plan.layers[0].option.centroids == 0
    with pytest.raises(CompressionError, match=r"coded_bits must lie in 0\.5\.\.16"):
        methods.get("pq").check_budget(Budget(method="pq", asks={"coded_bits": 0.4}))


def test_onnx_gathers_blocks_and_rows() -> None:
    model, x = sentence_network(), torch.randint(300, (6, 12), generator=torch.Generator().manual_seed(1))
    attach(model, allocate(weights_of(model, True), 2, OPTIONS), OPTIONS, 0)
    plain, weights = fold(model), integer_weights(model)
    assert {weight.kind for weight in weights.values()} == {"codebook"}
    exported = with_integers(floats(program.traced(plain, x)), weights)
    kinds = {placed.layer: placed.type.partition(" ")[2] for placed in exported.weights}
    assert kinds == dict.fromkeys(weights, "codebook")
    runner = onnxruntime.InferenceSession(exported.data, providers=["CPUExecutionProvider"])
    answer = runner.run(None, {runner.get_inputs()[0].name: x.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(answer, plain(x).numpy(), rtol=1e-4, atol=1e-5)


# The run --------------------------------------------------------------------------------------------------------------


class Recording(Reporter):
    """Keeps phases and steps."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.steps = 0

    def phase(self, name: str, step: int, epoch: float = 0.0) -> None:
        self.phases.append(name)

    def step(self, step: int, epoch: float, **values: Any) -> None:
        self.steps += 1


@pytest.mark.parametrize("chosen", [{"tuning": "none"}, {"noise": 0.5, "ema": 0.9, "distill": 0.5}])
def test_a_run_trains_the_books_or_nothing(chosen: dict[str, Any]) -> None:
    requested = budget("pq", options={"iterations": 4, **chosen})
    requested = requested.replace(epochs=0.1, asks={**requested.asks, "coded_bits": 2})
    work, report = setup(requested), Recording()
    before = {name: weight.clone() for name, weight in weights_of(work.model, True).items()}
    done = methods.get("pq").run(work, report)
    after = {name: work.model.get_submodule(name).parametrizations.weight.original for name in before}
    if chosen.get("tuning") == "none":
        assert report.phases == ["allocation", "statistics"] and report.steps == 0
        assert all(torch.equal(before[name], after[name]) for name in before)
        assert "epochs" not in methods.get("pq").describe(requested)
    else:
        assert report.phases == ["allocation", "statistics", "fine-tuning"] and report.steps > 0
        assert not all(torch.equal(before[name], after[name]) for name in before)
    books = done.facts["books"]
    assert books["cost"] <= books["budget"] == 2 * books["numel"]
    assert dataclasses.asdict(pack_of(done.model))["codebooks"] > 0


def pack_of(model: nn.Module) -> Any:
    from tempfile import TemporaryDirectory

    with TemporaryDirectory() as folder:
        return pack(model, Path(folder) / "p")
