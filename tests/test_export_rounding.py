"""Channel counts at multiples of 8: more zeros, the same answers, every file of the bundle in step with it."""

from __future__ import annotations

import json
import re
import sys
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load
from streamlit.testing.v1 import AppTest

import compression as cx
from app import nav
from compression.cli import main
from compression.data import Batches
from compression.errors import CompressionError
from compression.export import findings
from compression.export.rounding import rounded
from compression.export.source import Source, read
from compression.jobs import export_run
from compression.pack import unpack
from compression.runs.execute import execute
from compression.runs.folder import RunFolder
from compression.runs.lifecycle import carry_out
from compression.training.dense import evaluate
from tests.waiting import ended

ASKED = {
    "plain": {"method": "geta", "sparsity": 0.4},
    "both": {"method": "geta", "sparsity": 0.4, "activation_bits": [6, 8], "options": {"weights": "channel"}},
    "opq": {"method": "opq", "sparsity": 0.5, "bits": 3},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """One finished run of each kind."""
    root, folders = tmp_path_factory.mktemp("runs"), {}
    for name, options in ASKED.items():
        budget = {**cx.Budget(epochs=0.3, precision="fp32").to_dict(), **options}
        folders[name] = RunFolder.create(root, {"id": name, "budget": budget, "created": 0.0})
        assert carry_out(folders[name], execute) == "done", folders[name].log_path.read_text()
    return folders


@pytest.mark.parametrize("kind", ["plain", "both"])
def test_every_group_keeps_a_multiple_and_answers_stay(
    folders: dict[str, RunFolder], kind: str, tmp_path: Path
) -> None:
    source = read(folders[kind])
    wider = rounded(source, 8)
    for group in source.graph.prunable:
        before, after = (group.units - len(network.units.get(group.id, ())) for network in (source, wider))
        assert after == min(group.units, -(-before // 8) * 8)
        assert set(wider.units.get(group.id, ())) <= set(source.units.get(group.id, ()))
    assert sum(map(len, wider.units.values())) < sum(map(len, source.units.values()))
    images, _ = next(iter(Batches(source.data, "test", 128, augment=False)))
    with torch.no_grad():
        assert torch.equal(wider.model(images).argmax(1), source.model(images).argmax(1))
    (tmp_path / "p").write_bytes(wider.packed)
    state = unpack(tmp_path / "p")
    assert all(torch.equal(tensor, state[name]) for name, tensor in wider.model.state_dict().items())
    assert len(wider.packed) == wider.result["ledger"]["total"] == wider.result["final"]["bytes"]
    assert wider.result["final"]["macs"] == macs(wider)
    for each in (source, wider):
        assert each.result["final"]["nominal_bytes"] == nominal_bytes(each)
    assert not torch.equal(state["conv1.weight"].flatten(1).any(1), torch.ones(len(state["conv1.weight"])) > 0)


def nominal_bytes(source: Source) -> float:
    """Weights at their bits, each step and everything else in 32-bit floats, counted from the slim model's tensors."""
    bits = source.result["final"]["bits"]
    plain = [tensor for name, tensor in source.model.named_parameters() if name in source.dense.state_dict()]
    whole = 4.0 * sum(tensor.numel() for tensor in plain)
    for name, known in source.integers.items():
        whole += known.codes.numel() * (bits[name]["weight"] - 32) / 8 + 4 * torch.as_tensor(known.step).numel()
    return whole


def macs(source: Source) -> float:
    """Multiply-accumulates counted by hooks while the slim model runs."""
    total = [0.0]

    def count(module: torch.nn.Module, _: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        weight = module.weight
        assert isinstance(weight, torch.Tensor)
        total[0] += weight.numel() * (output[0, 0].numel() if output.dim() == 4 else 1)

    handles = [
        module.register_forward_hook(count)
        for module in source.model.modules()
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)
    ]
    with torch.no_grad():
        source.model(torch.zeros(1, *source.input))
    for handle in handles:
        handle.remove()
    return total[0]


def test_the_command_rounds_and_the_bundle_loads(
    folders: dict[str, RunFolder], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = tmp_path / "b.zip", ["--runs", str(folders["plain"].path.parent), "--no-onnx"]
    assert main(["export", "plain", *options, "--multiple", "8", "--out", str(out), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out)["multiple"] == 8
    with zipfile.ZipFile(out) as archive:
        about, state = json.loads(archive.read("config.json")), load(archive.read("model.safetensors"))
        assert re.search(r"multiples of 8\b", archive.read("MODEL_CARD.md").decode())
    assert about["multiple"] == 8
    for name, layer in about["layers"].items():
        assert list(state[f"{name}.weight"].shape) == layer["shape"]
    stored = json.loads(folders["plain"].result_path.read_text())
    assert evaluate(cx.load(out), read(folders["plain"]).data, "test").score == stored["final"]["accuracy"]
    for run, number, words in (("opq", "8", "no channels that would come back"), ("plain", "0", "at least 1")):
        assert main(["export", run, *options, "--multiple", number, "--out", str(tmp_path / "c.zip")]) == 2
        stored = capsys.readouterr().err
        assert len(stored.splitlines()) == 1
        assert words in stored
    assert [path.name for path in tmp_path.iterdir()] == ["b.zip"]


def test_the_job_rounds_and_the_page_says_so(folders: dict[str, RunFolder], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folders["plain"]
    export_run.start(folder, multiple=8)
    now = ended(lambda: export_run.status(folder), export_run.DONE)
    assert now.result["multiple"] == 8
    assert len(now.result["latency"]["variants"]) == 4  # nothing is left to round
    with zipfile.ZipFile(export_run.bundle_path(folder)) as archive:
        assert json.loads(archive.read("config.json"))["multiple"] == 8
    monkeypatch.setattr(sys, "argv", ["app/main.py", "--runs", str(folder.path.parent)])
    app = AppTest.from_file(str(nav.ROOT / "app" / "main.py"), default_timeout=120)
    app.switch_page("../pages/export.py")
    app.query_params["run"] = folder.id
    app.run()
    assert not app.exception
    assert [str(element.value) for element in app.error] == []
    assert app.checkbox(key=f"multiple-{folder.id}").value is True
    assert any(findings.stored(now.result["onnx"])[-1] in element.value for element in app.markdown)


def test_a_network_that_answers_otherwise_is_refused(
    folders: dict[str, RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = read(folders["plain"])
    from compression.export import rounding

    monkeypatch.setattr(rounding, "put_back", lambda tensor, dropped, shape, fill: tensor.new_ones(tuple(shape)))
    with pytest.raises(CompressionError, match="differs from the one with fewer channels"):
        rounded(source, 8)


def test_rounding_is_offered_where_it_was_faster() -> None:
    medians = {"dense": 4.0, "floats": 2.0, "whole": 3.0, "eight": 2.5}
    for wider, offered in (((1.5, 3.0), True), ((2.2, 1.9), True), ((1.99, 2.4), False), ((2.5, 2.0), False)):
        named = {**medians, **dict(zip(findings.WIDER, wider, strict=True))}
        times = {name: {"name": name, "median": value} for name, value in named.items()}
        assert findings.rounding_helps(times) == offered
        (line,) = [line for line in findings.verdicts(times, {"method": "geta"}) if "at multiples of 8" in line]
        assert re.findall(r"[\d.]+(?= times)", line) == [f"{2 / wider[0]:.2f}", f"{2.5 / wider[1]:.2f}"]
        assert ("`--multiple 8`" in line) == offered
    assert not findings.rounding_helps({name: {"name": name, "median": value} for name, value in medians.items()})
