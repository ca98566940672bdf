"""A finished run as one file of many qualities: what is nested, what prefixes score, bundle, command, page."""

from __future__ import annotations

import dataclasses
import json
import shutil
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import compression as cx
from compression.budget import Budget
from compression.cli import main
from compression.errors import CompressionError
from compression.export import layered as module
from compression.export.bundle import layers
from compression.export.layered import Layering, keep, layered, shares
from compression.export.layered_table import EACH, FILE, INTEGERS, LOADER, ONE, TABLE, TRAINED, stored
from compression.export.nesting import nest
from compression.export.source import read
from compression.jobs import layered_run
from compression.pack import layered as files
from compression.pack import unpack
from compression.pack.layered_header import Part
from compression.plots import candidates, choice, front, front_data
from compression.plots.axes import AXES
from compression.plots.layered import LayeredLine, layered_figure
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.runs.prepare import find_weights
from compression.tasks import ACCURACY
from compression.training.dense import evaluate
from tests.opened import Open


def finished(root: Path, method: str, **options: Any) -> RunFolder:
    """A run of the small residual network on digits."""
    torch.set_num_threads(1)
    budget = Budget(method=method, epochs=0.1, precision="fp32", **options).to_dict()
    folder = RunFolder.create(root, {"id": f"{method}-run", "budget": budget, "created": 0.0})
    assert carry_out(folder, execute) == "done", folder.log_path.read_text()
    return folder


@pytest.fixture(autouse=True, scope="module")
def _few() -> Iterator[None]:
    """Four prefixes instead of seven, measured on 100 examples."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "PREFIXES", 4)
        patch.setattr(module, "evaluate", partial(evaluate, limit=100))
        yield


@pytest.fixture(scope="module")
def rounded(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that only rounded: the dense weights are those before its quantizers."""
    return finished(tmp_path_factory.mktemp("rounded"), "ptq", bits=4)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that trained and removed units: what it trained is not in its folder."""
    return finished(tmp_path_factory.mktemp("trained"), "geta", sparsity=0.3, weight_bits=(4, 6))


def test_of_a_run_that_only_rounded_the_dense_weights_are_nested(rounded: RunFolder, tmp_path: Path) -> None:
    source = read(rounded, trained=False)
    export = layered(source, Layering(bits=7, statistics=EACH))
    table, path = export.table, tmp_path / FILE
    path.write_bytes(export.data)
    assert (table.source, table.statistics, table.bytes) == (TRAINED, EACH, len(export.data))
    assert 4 <= len(table.prefixes) <= 8
    dense = find_weights(Budget()).model.state_dict()
    for weight in files.integers(path).values():  # cells of the dense weights, of 6 bits and a sign
        own = dense[f"{weight.name}.weight"]
        assert (own - weight.weight()).abs().max() <= float(own.abs().max()) / 2**6
    model = source.model
    for point in table.prefixes:
        model.load_state_dict(files.read(path, point.bytes))
        assert evaluate(model, source.task, "test", limit=100).score == point.score
        assert sum(list(point.ledger.values())[:-1]) == point.ledger["total"] == point.bytes
    errors, sizes = ([getattr(point, name) for point in table.prefixes] for name in ("error", "bytes"))
    assert errors == sorted(errors, reverse=True) and sizes == sorted(sizes)


def test_of_a_run_that_trained_its_integers_are_nested(trained: RunFolder, tmp_path: Path) -> None:
    source, path = read(trained, trained=False), tmp_path / FILE
    export = layered(source)
    path.write_bytes(export.data)
    assert export.table.source == INTEGERS
    packed, whole = unpack(trained.bundle / "weights.packed"), files.read(path)
    assert list(packed) == list(whole)
    assert all(torch.equal(tensor, whole[name]) for name, tensor in packed.items())
    last = export.table.prefixes[-1]
    assert last.bytes == len(export.data)
    assert last.score == evaluate(source.model, source.task, "test", limit=100).score
    for name, weight in files.integers(path, export.table.prefixes[0].bytes).items():
        own = source.integers[name]
        assert torch.equal(weight.codes, own.codes.sign() * (own.codes.abs() >> (own_planes(own) - weight.bits + 1)))


def own_planes(weight: Any) -> int:
    return int(weight.codes.abs().max()).bit_length()


def test_one_set_of_statistics_is_the_runs(rounded: RunFolder, tmp_path: Path) -> None:
    source, path = read(rounded, trained=False), tmp_path / FILE
    export = layered(source, Layering(statistics=ONE))
    path.write_bytes(export.data)
    state, first = source.model.state_dict(), files.read(path, export.table.prefixes[0].bytes)
    statistics = [name for name in state if name.endswith(("running_mean", "running_var"))]
    assert statistics and all(torch.equal(state[name], first[name]) for name in statistics)


@pytest.mark.parametrize("wrong", [{"bits": 1}, {"bits": 40}, {"statistics": "some"}])
def test_impossible_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CompressionError, match="must be"):
        Layering(**wrong)


def test_weights_without_planes_are_refused(rounded: RunFolder) -> None:
    source = read(rounded, trained=False)

    class Codebook:
        kind = "codebook"

    for integers, reason in (
        ({}, "no quantized weights"),
        ({"conv1": Codebook()}, "conv1: weights of the encoding codebook"),
    ):
        with pytest.raises(CompressionError, match=reason):
            nest(dataclasses.replace(source, integers=integers), 8)


def test_the_command_adds_the_file_to_the_bundle(
    rounded: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, answer = tmp_path / "bundle.zip", tmp_path / "answer.json"
    command = ["export", rounded.id, "--runs", str(rounded.path.parent), "--out", str(out), "--no-onnx"]
    assert main([*command, "--layered-bits", "6"]) == 2
    assert "add --layered" in capsys.readouterr().err
    assert main([*command, "--layered", "--layered-bits", "6", "--json", str(answer)]) == 0
    table = json.loads(answer.read_text())["layered"]
    assert str(table["prefixes"][0]["bytes"]) in capsys.readouterr().out
    with zipfile.ZipFile(out) as bundle:
        assert {FILE, TABLE, LOADER} <= set(bundle.namelist())
        assert json.loads(bundle.read(TABLE)) == table
        assert bundle.read(FILE) == (rounded.bundle / FILE).read_bytes()
    assert cx.load(out) is not None
    again, about = layers(rounded, read(rounded, trained=False), None, lambda text, share: None)
    assert (again[FILE], about["layered"]) == ((rounded.bundle / FILE).read_bytes(), table)  # in the next bundle too


def test_a_table_of_other_weights_is_none(rounded: RunFolder, tmp_path: Path) -> None:
    keep(rounded, layered(read(rounded, trained=False)))
    assert stored(rounded) is not None
    other = RunFolder(tmp_path / "other")
    other.bundle.mkdir(parents=True)
    for name in (FILE, TABLE):
        (other.bundle / name).write_bytes((rounded.bundle / name).read_bytes())
    (other.bundle / "weights.packed").write_bytes(b"others")
    assert stored(other) is None
    (rounded.bundle / TABLE).write_text('{"version": 1}')
    with pytest.raises(CompressionError, match="layered table"):
        stored(rounded)
    (rounded.bundle / TABLE).unlink()


LINE = LayeredLine("a", "geta", "GETA 50 %", ((1_000, 0.3), (2_000, 0.9), (4_000, 0.95)), ACCURACY)


def test_prefixes_are_a_thin_line_on_the_fronts() -> None:
    point = {"bytes": 5_000, "score": 0.96, "split": "test", "rel_bops": 0.1, "macs": 1, "nominal_bytes": 1}
    one = candidates.Candidate("a", "50 %", "geta", {**point, "bytes": 50_000}, point)
    for field, drawn in (("bytes", 1), ("macs", 0)):
        info = candidates.candidates_info([one], AXES[field])
        traces = [trace for trace in choice.choice_figure(info, layered=[LINE]).data if trace.name == base_name()]
        assert len(traces) == drawn
        if drawn:
            assert list(traces[0].x) == [2_000, 4_000]  # the first is far worse than the run
    run = front_data.FrontRun("a", "50 %", "geta", (), {**point, "bytes": 50_000}, point)
    figure = front.front_figure(front_data.front_info([run], ["a"]), layered=[LINE])
    assert any(trace.name == base_name() for trace in figure.data)


def base_name() -> str:
    return "one layered file"


def test_the_chosen_prefix_is_ringed() -> None:
    figure = layered_figure(LINE, 1, (4_500, 0.94))
    rings = [trace for trace in figure.data if trace.name == "what is read"]
    assert [(tuple(ring.x), tuple(ring.y)) for ring in rings] == [((2_000,), (90.0,))]


def test_the_page_makes_it_as_a_job_and_slides_over_its_prefixes(
    rounded: RunFolder, open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "runs" / rounded.id
    shutil.copytree(rounded.path, target)
    begun: list[RunFolder] = []
    monkeypatch.setattr(layered_run, "start", begun.append)
    page = open_page("export", run=rounded.id)
    page.button(key="make_layered").click().run()
    assert [folder.id for folder in begun] == [rounded.id]
    assert layered_run.main([str(target)]) == 0  # what the job does
    assert layered_run.status(RunFolder(target)).state == layered_run.DONE
    page = open_page("export", run=rounded.id)
    slider = page.select_slider(key=f"layered-{rounded.id}")
    before = [metric.value for metric in page.metric]
    slider.set_value(slider.options[0]).run()
    assert not page.exception
    assert [metric.value for metric in page.metric] != before


def test_shares_of_statistics_fall_with_the_error_behind_a_stop() -> None:
    order = [Part(0, b""), Part(1, b""), Part(0, b""), Part(1, b"")]
    errors = [np.array([8.0, 4.0, 1.0]), np.array([4.0, 4.0, 0.0])]
    assert [part.share for part in shares(order, [2], errors)] == [171, 171, 160, 32]  # 8/12, 8/12; 5/8, 1/8
