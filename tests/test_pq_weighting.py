"""Product quantization whose errors count by the inputs, and bounds of embeddings, against brute force and sums."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import compression as cx
from compression import methods
from compression.budget import Budget
from compression.errors import CompressionError
from compression.graph import trace
from compression.methods import Setup
from compression.methods.pq.allocator import allocate, clustered, weights_of
from compression.methods.pq.candidates import seen_by
from compression.methods.pq.clusters import cluster
from compression.methods.pq.options import PqOptions
from compression.methods.pq.quantizer import rounded_book
from compression.methods.pq.run import attach
from compression.methods.pq.weighting import RIDGE, input_roots
from compression.quant import fold
from compression.runs.preflight import check_setup
from compression.training.setup import Reporter
from compression.zoo import build
from tests.contract.runs import budget, setup
from tests.contract.test_method_contract import Stopping

OPTIONS = PqOptions(iterations=6)
INPUTS = PqOptions(iterations=6, weighting="inputs")


def seeded(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moments(length: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Second moments S of inputs that depend on each other, and its symmetric root."""
    x = seeded(40, length, seed=seed).double() @ torch.diag(torch.arange(1.0, length + 1).double())
    x[:, 1] += x[:, 0]
    s = x.T @ x / len(x)
    values, vectors = torch.linalg.eigh(s)
    return s, (vectors @ torch.diag(values.sqrt()) @ vectors.T).float()


def weighed(blocks: torch.Tensor, assignments: Any, s: torch.Tensor) -> float:
    """Σ (v - c)ᵀ S (v - c) of the means of clusters, cluster by cluster."""
    labels, total = np.asarray(assignments), 0.0
    for k in set(labels.tolist()):
        part = blocks[labels == k].double()
        apart = part - part.mean(0)
        total += float(torch.einsum("bi,ij,bj->", apart, s, apart))
    return total


# Clusters -------------------------------------------------------------------------------------------------------------


def test_the_weighed_error_never_rises() -> None:
    s, root = moments(4)
    blocks = seeded(500, 4, seed=1)
    result = cluster(seen_by(blocks, root), 12, seed=2)
    assert len(result.errors) > 3
    assert all(after <= before * (1 + 1e-6) for before, after in itertools.pairwise(result.errors))
    learned = clustered(blocks, 4, 12, 20, 2, root)
    assert torch.equal(learned.assignments, result.assignments)
    error = weighed(blocks, learned.assignments, s)
    assert error <= result.errors[-1] * (1 + 1e-5)
    assert error < 0.95 * weighed(blocks, clustered(blocks, 4, 12, 20, 2).assignments, s)
    apart = (blocks - learned.centroids[learned.assignments]).double()
    assert float(torch.einsum("bi,ij,bj->", apart, s, apart)) == pytest.approx(error, rel=1e-5), "centroids are means"


def test_equal_inputs_weigh_nothing() -> None:
    blocks = seeded(200, 4, seed=3)
    blocks[5] = 0
    plain, same = clustered(blocks, 4, 8, 20, 1), clustered(blocks, 4, 8, 20, 1, torch.eye(4))
    assert torch.equal(plain.assignments, same.assignments)
    assert torch.equal(plain.centroids, same.centroids)


def test_two_clusters_of_eight_blocks_against_all_partitions() -> None:
    s, root = moments(3, seed=4)
    blocks = seeded(8, 3, seed=5)
    partitions = [part for part in itertools.product((0, 1), repeat=8) if 0 < sum(part) < 8]
    every = min(weighed(blocks, part, s) for part in partitions)
    result = [weighed(blocks, clustered(blocks, 3, 2, 20, seed, root).assignments, s) for seed in range(12)]
    assert min(result) == pytest.approx(every, rel=1e-5)
    assert all(error >= every * (1 - 1e-6) for error in result)
    plain = min(partitions, key=lambda part: weighed(blocks, part, torch.eye(3).double()))
    assert weighed(blocks, plain, s) > every * 1.01, "the plain optimum is another one"


# What is learned of the inputs ----------------------------------------------------------------------------------------


def test_moments_are_the_mean_diagonal_blocks_of_the_inputs() -> None:
    """Against rows unfolded by torch, of a convolution in two groups and of a linear layer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2), nn.Flatten(), nn.Linear(96, 3)).eval()
    x = torch.rand(5, 4, 8, 8)
    roots = input_roots(model, {"0": [1, 2, 9], "2": [4]}, [x[:2], x[2:]])
    assert {name: sorted(each) for name, each in roots.items()} == {"0": [1, 2, 9], "2": [4]}
    with torch.no_grad():
        unfolded = nn.functional.unfold(x, 3, padding=1, stride=2).mT.reshape(-1, 36)
        flat = model[:2](x)
    for name, rows, length in (("0", unfolded, 2), ("0", unfolded, 9), ("2", flat, 4)):
        blocks = rows.double().reshape(-1, length)
        s = blocks.T @ blocks
        s = s / s.diagonal().mean()
        s = (s + RIDGE * torch.eye(length)) / (1 + RIDGE)
        root = roots[name][length].double()
        torch.testing.assert_close(root @ root, s, rtol=1e-4, atol=1e-5)


def test_what_has_no_inputs_of_its_own_counts_as_it_is() -> None:
    model = nn.Sequential(nn.ConvTranspose1d(4, 4, 3), nn.Conv1d(4, 2, 1)).eval()
    assert set(input_roots(model, {"0": [1], "1": [2]}, [torch.randn(2, 4, 9)])) == {"1"}
    dead = input_roots(model, {"1": [2]}, [torch.full((1, 4, 3), 0.0)])["1"][2]
    assert bool(torch.isfinite(dead).all())
    with pytest.raises(CompressionError, match="layer 1: its inputs are not finite"):
        input_roots(model, {"1": [2]}, [torch.full((1, 4, 3), torch.nan)])


def test_outputs_err_less_at_the_same_size() -> None:
    """Where neighbouring inputs are alike, through the public call; blocks of all positions share one S."""
    torch.manual_seed(1)
    dense = nn.Sequential(nn.Linear(32, 64)).eval()
    x = torch.randn(300, 8).repeat_interleave(4, 1) + 0.3 * torch.randn(300, 32)
    errors = {}
    for weighting in ("none", "inputs"):
        model = copy.deepcopy(dense)
        options = {"weighting": weighting, "block": 4, "iterations": 8}
        cx.apply(model, Budget(method="pq", asks={"coded_bits": 3}, options=options), calibration=x)
        with torch.no_grad():
            errors[weighting] = float((model(x) - dense(x)).square().mean())
    assert errors["inputs"] < 0.9 * errors["none"]
    with pytest.raises(CompressionError, match="pass calibration="):
        cx.apply(dense, Budget(method="pq", options={"weighting": "inputs"}))


def test_the_plan_counts_the_weighed_error() -> None:
    torch.manual_seed(2)
    model = nn.Sequential(nn.Linear(16, 40), nn.ReLU(), nn.Linear(40, 24)).eval()
    roots = input_roots(model, {"0": [1, 2, 4, 8], "2": [1, 2, 4, 8]}, [torch.randn(50, 16) * torch.arange(16)])
    weights = {name: weight.clone() for name, weight in weights_of(model, True).items()}
    plan = allocate(weights, 2.5, INPUTS, 3, roots=roots)
    attach(model, plan, INPUTS, 3, roots)
    state = fold(model).state_dict()
    for layer in plan.layers:
        difference = (weights[layer.name] - state[f"{layer.name}.weight"]).reshape(-1, layer.option.length)
        error = float((difference @ roots[layer.name][layer.option.length]).square().sum())
        assert layer.option.centroids > 0
        assert error == pytest.approx(layer.option.error, rel=1e-4)
    book = clustered(weights["0"], 4, 8, 6, 3, roots["0"][4]).centroids
    assert float((rounded_book(book) - book).abs().max()) <= float(book.abs().max()) / 254 * 1.001


def test_a_run_reads_inputs_and_is_the_same_again() -> None:
    requested = budget("pq", options={"iterations": 2, "block": 4, "tuning": "none", "weighting": "inputs"})
    states = [methods.get("pq").run(setup(requested), Reporter()).model.state_dict() for _ in range(2)]
    assert all(torch.equal(states[0][name], each) for name, each in states[1].items())
    plain = methods.get("pq").run(
        setup(requested.replace(options={"iterations": 2, "block": 4, "tuning": "none"})), Reporter()
    )
    assert any(
        name not in states[0] or each.shape != states[0][name].shape or not torch.equal(states[0][name], each)
        for name, each in plain.model.state_dict().items()
    )


def test_a_killed_run_goes_on_bit_for_bit(tmp_path: Path) -> None:
    requested = budget("pq", options={"iterations": 2, "block": 4, "weighting": "inputs"}).replace(epochs=0.2)

    def attempt(folder: Path, number: int, stop: int | None = None) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        with Stopping(folder, number, stop) as report:
            work = setup(requested)
            torch.manual_seed(requested.seed)
            return methods.get("pq").run(work, report).model.state_dict()

    whole = attempt(tmp_path / "whole", 1)
    with pytest.raises(KeyboardInterrupt):
        attempt(tmp_path / "killed", 1, 2)
    resumed = attempt(tmp_path / "killed", 2)
    assert all(torch.equal(resumed[name], each) for name, each in whole.items())


# Bounds of embeddings -------------------------------------------------------------------------------------------------


def of_language(layers: dict[str, Any], method: str = "pq", **options: Any) -> Setup:
    model = build("causal_tiny").eval()
    requested = Budget(method=method, data="text:python-docs", model="causal_tiny", layers=layers, options=options)
    graph = trace(model, torch.zeros(1, 64, dtype=torch.int64))
    return Setup(model, graph, setup(budget("pq")).task, methods.get(method).complete(requested))


def test_a_bound_of_a_table_of_embeddings_is_met_or_refused_in_words() -> None:
    layers = {"embedding": {"weight_bits": (4, 6)}}
    check_setup(of_language(layers, tuning="none"), "causal_tiny")
    weights = {"embedding": seeded(64, 32), "layer": seeded(32, 32)}
    for bound in ((2, 3), (4, 6), (8, 8)):
        plan = allocate(weights, 9, PqOptions(iterations=2), layers={"embedding": {"weight_bits": bound}})
        table = plan.layers[0]
        assert bound[0] <= table.option.bits(table.numel) <= bound[1]
    with pytest.raises(CompressionError, match=r"no layer 'embedding' takes part"):
        check_setup(of_language(layers, tuning="none", embeddings=False), "causal_tiny")
    with pytest.raises(CompressionError, match=r"layers: 'embedding' takes no part; .* and \d+ more$"):
        check_setup(of_language(layers, "ptq"), "causal_tiny")
    with pytest.raises(CompressionError, match=r"layers\.embedding\.weight_bits: no codebook takes"):
        allocate(weights, 4, OPTIONS, layers={"embedding": {"weight_bits": (12, 14)}})
