"""The next byte of a text: perplexity against transformers, texts of one's own, heads with their keys, whole runs."""

from __future__ import annotations

import copy
import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from compression import data, methods, tasks, zoo
from compression.__main__ import main
from compression.budget import Budget
from compression.data.types import DataSet, Split
from compression.errors import CompressionError
from compression.graph import slim, trace, zero_units
from compression.methods import Reporter, Setup
from compression.tasks import PERPLEXITY, Metric
from compression.training.dense import evaluate, train_dense
from compression.zoo import weights
from compression.zoo.causal import Attention
from tests.contract.runs import quick

TEXT = "text:python-docs"


def shortened(count: int = 40) -> tasks.Task:
    """The shipped text with so many passages in each split."""
    whole = data.load(TEXT)
    parts = {
        name: Split(whole.split(name).images[:count], whole.split(name).labels[:count])
        for name in ("train", "validation", "test")
    }
    return tasks.task_of(DataSet(whole.name, whole.label, whole.classes, **parts, kind=whole.kind, task=whole.task))


def test_the_loss_is_that_of_transformers() -> None:
    """Their language models shift the labels by one themselves; here the data are shifted."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=256, n_positions=65, n_embd=32, n_layer=2, n_head=2)
    theirs = transformers.GPT2LMHeadModel(config).eval()
    task = shortened(10)
    passages = torch.cat([task.data.test.images, task.data.test.labels[:, -1:]], 1)  # 65 bytes each
    with torch.no_grad():
        expected = float(theirs(input_ids=passages, labels=passages).loss)

    class Logits(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = theirs(input_ids=x).logits
            return logits

    result = evaluate(Logits(), task, "test")
    assert result.loss == pytest.approx(expected, abs=1e-5)
    assert result.score == pytest.approx(math.exp(expected), rel=1e-5)


def test_perplexity_by_hand() -> None:
    """Two tokens that are certain to 1/2 and 1/8: their geometric mean is 1/4."""
    logits = torch.tensor([[[0.5, 0.5], [0.125, 0.875]]]).log()
    scorer = shortened(1).scorer()
    wide = F.pad(logits, (0, 254), value=-1e9)
    scorer.add(wide, torch.tensor([[0, 0]]))
    assert scorer.result().score == pytest.approx(4.0, rel=1e-6)


def test_the_frequencies_of_bytes_are_chance() -> None:
    task = shortened(200)
    target = task.data.test.labels
    counts = torch.bincount(target.flatten(), minlength=256).double()
    alone = (counts / counts.sum()).clamp(min=1e-12).log().float()
    for logits, chance in ((alone.expand(*target.shape, 256), True), (10.0 * F.one_hot(target, 256).float(), False)):
        scorer = task.scorer()
        scorer.add(logits, target)
        assert scorer.result().is_chance is chance


def test_the_shipped_text_is_cut_into_three_parts() -> None:
    from pydoc_data.topics import topics

    text = data.load(TEXT)
    whole = "\n\n".join(topics[name] for name in sorted(topics)).encode()
    read = bytes(text.train.images.flatten().tolist())
    assert whole.startswith(read)
    assert bytes(text.test.images[0].tolist()) in whole[round(0.9 * len(whole)) - 64 :]
    assert torch.equal(text.train.images[0, 1:], text.train.labels[0, :-1]), "the answer is the byte after each"
    assert torch.equal(text.train.labels[:-1, -1], text.train.images[1:, 0])
    sizes = [len(text.split(name)) for name in ("train", "validation", "test")]
    assert sizes[0] / sum(sizes) == pytest.approx(0.8, abs=0.001)


def test_a_text_of_ones_own(tmp_path: Path) -> None:
    (tmp_path / "own.txt").write_bytes(b"0123456789" * 1000)
    name = f"text:{tmp_path / 'own.txt'}"
    result = train_dense(zoo.build("causal_tiny"), data.load(name), 4, batch_size=8, optimizer="adamw", lr=3e-3)
    assert result.test.score < 1.2, "what repeats is predicted"
    assert (data.task(name), data.load(name).label) == ("language", "own.txt")
    (tmp_path / "own.txt").write_bytes(b"9876543210" * 1000)
    assert data.load(name).train.images[0, 0] == ord("9"), "a changed file is read again"


def test_texts_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    (tmp_path / "short.txt").write_text("too short")
    refused = {
        f"text:{tmp_path / 'short.txt'}": "has 9 bytes: give a text of 1,280 to",
        f"text:{tmp_path / 'gone.txt'}": "no such file, and no text on board: python-docs",
        "text:": "no text on board",
    }
    for name, why in refused.items():
        with pytest.raises(CompressionError, match=why):
            data.load(name)
    with pytest.raises(CompressionError, match="preprocess is for images"):
        data.load(TEXT, preprocess={"mean": 0.5})


def test_later_bytes_do_not_change_earlier_answers() -> None:
    model = zoo.build("causal_tiny").eval()
    one = torch.randint(256, (1, 64), generator=torch.Generator().manual_seed(0))
    other = one.clone()
    other[0, 40:] = 0
    with torch.no_grad():
        before, after = model(one), model(other)
    assert torch.allclose(before[:, :40], after[:, :40], atol=1e-6)
    assert not torch.allclose(before[:, 40:], after[:, 40:])


def test_rotary_positions_depend_on_the_distance_alone() -> None:
    attention = Attention(64)
    query, key = torch.randn(8), torch.randn(8)

    def product(at: int, distance: int) -> float:
        places = torch.zeros(64, 8)
        places[at], places[at - distance] = query, key
        turned = attention._turned(places)
        return float(turned[at] @ turned[at - distance])

    assert product(10, 3) == pytest.approx(product(50, 3), abs=1e-4)
    assert product(10, 3) != pytest.approx(product(10, 5), abs=1e-3)


def test_queries_leave_with_the_key_and_the_value_that_they_share() -> None:
    model = zoo.build("causal_tiny").eval()
    graph = trace(model, zoo.example("causal_tiny"))
    heads = [group for group in graph.prunable if group.id.endswith("attention.query")]
    assert [group.units for group in heads] == [4] * 4
    rows = {member.name.rsplit(".", 2)[1]: member.positions.shape[1] for member in heads[0].members}
    assert rows == {"query": 16, "key": 8, "value": 8, "out": 16}, "two queries of width 8 share a key"
    zero_units(model, graph, {heads[0].id: [0, 2]})
    small = slim(model, graph)
    assert small.get_submodule("blocks.0.attention.query").weight.shape == (32, 64)
    assert small.get_submodule("blocks.0.attention.key").weight.shape == (16, 64)
    ids = torch.randint(256, (3, 64))
    with torch.no_grad():
        assert torch.allclose(model(ids), small(ids), atol=1e-5)


@pytest.fixture(scope="module")
def trained() -> nn.Module:
    torch.set_num_threads(1)
    model = zoo.build("causal_tiny").eval()
    weights.load(model, weights.SHIPPED / "causal_tiny-text-python-docs.safetensors")
    return model


def test_the_shipped_network_predicts(trained: nn.Module) -> None:
    stored = weights.read_provenance(weights.SHIPPED / "causal_tiny-text-python-docs.safetensors")
    assert stored["test_perplexity"] < 5
    result = evaluate(trained, data.load(TEXT), "validation", limit=200)
    assert result.is_chance is False
    assert result.score < 6, "on the text of any version of Python"


@pytest.mark.parametrize("name", list(methods.all_methods()))
def test_every_method_compresses_it(name: str, trained: nn.Module) -> None:
    method = methods.get(name)
    asks = {ask.field for ask in method.asks}
    values = {"sparsity": 0.1, "weight_bits": (8, 8), "activation_bits": (8, 8), "bits": 8, "coded_bits": 8}
    fields = {"epochs": 0.1, "batch_size": 32, "precision": "fp32", "optimizer": "adamw", "lr": 1e-3}
    values |= {} if "sparsity" in asks else {"macs": 0.1}
    fields |= {k: v for k, v in values.items() if k in asks}
    macs = {"macs": fields.pop("macs")} if "macs" in fields else {}
    plain = Budget(method=name, model="causal_tiny", data=TEXT, options=quick(name), **fields)
    budget = method.complete(plain.replace(asks={**plain.asks, **macs}))
    whole = data.load(TEXT)
    few = Split(whole.validation.images[:40], whole.validation.labels[:40])
    task = tasks.task_of(
        DataSet(whole.name, whole.label, whole.classes, whole.train, few, few, kind=whole.kind, task=whole.task)
    )
    before = evaluate(trained, task).score
    graph = trace(trained, zoo.example("causal_tiny"))
    done = method.run(Setup(copy.deepcopy(trained), graph, task, budget), Reporter())
    assert before * 0.9 < evaluate(done.model, task).score < before * 3


@pytest.mark.usefixtures("in_this_process")
def test_the_command_line_from_a_run_to_a_bundle(tmp_path: Path) -> None:
    words = f"run --model causal_tiny --data {TEXT} --method ptq --bits 8 --runs {tmp_path}"
    assert main([*words.split(), "--json", str(tmp_path / "r.json")]) == 0
    result = json.loads((tmp_path / "r.json").read_text())
    assert Metric.from_result(result) == PERPLEXITY
    assert result["task"] == "language"
    assert result["final"]["perplexity"] == pytest.approx(result["baseline"]["perplexity"], rel=0.02)
    out = ["--out", str(tmp_path / "b.zip"), "--json", str(tmp_path / "e.json")]
    assert main(["export", result["run"], "--no-latency", "--runs", str(tmp_path), *out]) == 0
    compared = json.loads((tmp_path / "e.json").read_text())["onnx"]
    assert compared["same"] > 0.95
    assert compared["perplexity"] == pytest.approx(compared["torch_perplexity"], rel=0.02)
