"""Every method that is registered, through the same checks: what it says of itself is what comes out.

The method of ``docs/adding-a-method.md`` is one of them, written as one new file.
"""

from __future__ import annotations

import contextlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import load

import compression as cx
from compression import methods
from compression.asks import BitsAsk, CostSaved, Sparsity
from compression.budget import Budget
from compression.cli import main
from compression.encodings import all_encodings
from compression.errors import CompressionError
from compression.export import export
from compression.forecast import Forecast, Subject
from compression.graph import trace
from compression.graph.factors import FIRST, LAST
from compression.pack import unpack
from compression.pack.container import rows
from compression.plots import unit_life
from compression.quant import activation_quantizers, weight_quantizers
from compression.runs.folder import RunFolder
from compression.runs.reporter import RunReporter
from compression.training.setup import Reporter
from tests.contract import hello
from tests.contract.runs import budget, finished, network, setup

pytestmark = pytest.mark.usefixtures("with_hello")


# What it says of itself -----------------------------------------------------------------------------------------------


def test_it_describes_itself(name: str) -> None:
    method = methods.get(name)
    info = method.info
    assert (info.name, bool(info.label), info.sentence.strip().endswith(".")) == (name, True, True)
    assert len({each.info.slot for each in methods.all_methods().values()}) == len(methods.all_methods())
    assert len({stage.name for stage in info.stages}) == len(info.stages)
    assert set(method.encodings) <= set(all_encodings())
    plain = method.to_dict()
    assert plain["name"] == name
    assert set(plain["options"]) == {option.name for option in method.Config.table()}


def test_its_options_explain_themselves_and_refuse_by_name(name: str) -> None:
    method = methods.get(name)
    for option in method.Config.table():
        assert option.help.endswith("."), option.name
        method.check_budget(budget(name, options={option.name: option.default}))
        with pytest.raises(CompressionError, match=option.name):
            method.check_budget(budget(name, options={option.name: object.__name__ * 3}))
    with pytest.raises(CompressionError, match="no_such"):
        method.check_budget(budget(name, options={"no_such": 1}))


def test_its_asks_have_all_their_faces(name: str) -> None:
    method = methods.get(name)
    for ask in method.asks:
        assert ask.accept(ask.default) == ask.default or ask.default is None
        control = ask.control()
        if control is not None:
            assert control.low < control.high
            assert ask.accept(control.default) is not None
            assert ask.words(ask.accept(control.default)), "what a form can ask has words"
        with pytest.raises(CompressionError, match=ask.field):
            ask.accept("nonsense")
        assert ask.value({ask.field: ask.default}) == ask.value({})


def test_a_budget_of_it_survives_the_file_and_conversion_to_every_other(name: str) -> None:
    method, requested = methods.get(name), budget(name)
    assert Budget.from_dict(requested.to_dict()) == requested
    assert method.values(requested) == method.values(Budget.from_dict(requested.to_dict()))
    for other in methods.all_methods().values():
        converted = other.convert(requested, method)
        other.check_budget(converted)
        assert converted.method == other.info.name
        for ask in other.asks:
            mine = next((each for each in method.asks if type(each) is type(ask) and each.field == ask.field), None)
            if mine is not None and ask.control() is not None:
                assert ask.value(converted.asks) == mine.value(requested.asks)


# What comes out -------------------------------------------------------------------------------------------------------


def test_the_run_is_what_was_asked_for(name: str, root: Path) -> None:
    method, (folder, result) = methods.get(name), finished(root, name)
    requested, final = folder.budget(), result["final"]
    for ask in method.asks:
        value = ask.value(requested.asks)
        if isinstance(ask, Sparsity) and method.removes_units:
            assert sum(map(len, result["units"].values())) == int(value * _graph().prunable_units + 1e-9)
        elif isinstance(ask, Sparsity):
            assert final["weight_sparsity"] == pytest.approx(value, abs=0.005)
        elif isinstance(ask, CostSaved) and value is not None:
            assert final[ask.field] <= (1 - value) * result["baseline"][ask.field] * (1 + 1e-9)
        elif isinstance(ask, BitsAsk) and value is not None and not ask.layer_bound.startswith("activation"):
            _check_bits(ask, requested, {layer: each["weight"] for layer, each in final["bits"].items()})
    for ask in method.asks:
        if isinstance(ask, BitsAsk) and ask.layer_bound.startswith("activation") and ask.value(requested.asks):
            _check_bits(ask, requested, {layer: each["activation"] for layer, each in final["bits"].items()})
    if method.ask("--activation-bits") is None:
        assert {each["activation"] for each in final["bits"].values()} == {None}
    if not method.info.trains:
        assert not any(event["kind"] == "step" and "lr" in event for event in folder.events())


def test_it_tells_which_units_leave_and_when(name: str, root: Path) -> None:
    """Before the end does, which names all that were cut: a page that follows the run can draw them."""
    folder, result = finished(root, name)
    decisions = [event for event in folder.events() if event["kind"] == "group"]
    if not methods.get(name).removes_units:
        assert not any("sizes" in event or "removed" in event for event in decisions[:-1])
        return
    first, *between, last = decisions
    assert first["sizes"] == {group.id: group.units for group in _graph().prunable}
    assert set(first["layers"]) == set(first["sizes"])
    assert last["removed"] == result["units"]
    life = unit_life.units_info([first, *between], [], [], last["step"], last["step"])
    assert {(each.group, unit) for each in life.leaving for unit in each.units if each.end <= last["step"]} == {
        (group, unit) for group, units in result["units"].items() for unit in units
    }
    units = _graph().prunable_units
    # the model's own zeros at each point; before the first is told of, a search may close units for the moment
    first_known = min((each.start for each in life.leaving), default=0)
    for point in (each for each in folder.points() if each.phase != "baseline" and each.step >= first_known):
        assert life.zero_after(point.step) == pytest.approx(point.unit_sparsity * units, abs=0.1), point.step


def _check_bits(ask: BitsAsk, requested: Budget, widths: dict[str, float]) -> None:
    for layer, bits in widths.items():
        low, high = ask.layer_limits(requested.asks, requested.layers, layer) or (32, 32)
        assert bits == round(bits)
        if ask.control() is not None and ask.control().kind == "range":  # type: ignore[union-attr]
            assert low <= bits <= high
        else:
            assert 2 <= bits <= 16


def _graph() -> Any:
    model = cx.zoo.build("resnet8")
    return trace(model, cx.zoo.example("resnet8"))


def test_the_forecast_agrees_with_the_run(name: str, root: Path) -> None:
    method, (folder, result) = methods.get(name), finished(root, name)
    requested, final = folder.budget(), result["final"]
    forecast = method.forecast(Subject(*_trained()), requested)
    if forecast.certainty == "unknown":
        assert forecast.notes
        assert forecast.bytes is None
        return
    assert forecast.dense is not None and forecast.low is not None and forecast.high is not None
    assert forecast.dense.macs == result["baseline"]["macs"]
    if any(isinstance(ask, Sparsity) for ask in method.asks) or not method.removes_units:
        assert forecast.units == sum(map(len, result["units"].values()))
    for layer in forecast.layers:
        parts = (FIRST, LAST) if layer.name in result["ranks"] else ()
        for name in [f"{layer.name}.{part}" for part in parts] or [layer.name]:
            assert layer.bits[0] <= final["bits"][name]["weight"] <= layer.bits[1]
    if forecast.certainty == "exact":
        _check_exact(forecast, final)
    else:
        assert forecast.low.nominal_bytes <= forecast.high.nominal_bytes
        assert 0.5 < forecast.low.macs / final["macs"] < 2, "units spread evenly: about the MACs of the run"


def _check_exact(forecast: Forecast, final: dict[str, Any]) -> None:
    assert forecast.low is not None and forecast.bytes is not None
    assert (forecast.low.macs, forecast.low.bops) == (final["macs"], final["bops"])
    assert forecast.low.nominal_bytes == pytest.approx(final["nominal_bytes"], rel=0.01)
    assert final["bytes"] < 1.15 * forecast.bytes[0] + 3000, "the file: an ideal coder's bytes, names and shapes"
    assert forecast.error is not None and 0 < forecast.error < 1


def _trained() -> tuple[torch.nn.Module, Any]:
    from compression.zoo.origin import weighted

    trained = weighted("resnet8", (1, 28, 28), 10, None, ("mnist5k",))
    assert trained is not None
    return trained.model, trace(trained.model, cx.zoo.example("resnet8"))


class Stopping(RunReporter):
    """Writes a checkpoint after every step, and is killed when ``stop`` steps are done."""

    def __init__(self, folder: Path, attempt: int, stop: int | None = None) -> None:
        super().__init__(folder / "events", attempt, checkpoint_path=folder / "checkpoint.pt", clock=lambda: 7.0)
        self.stop, self.checkpoints = stop, 0
        self.load()

    def checkpoint(self, step: int, capture: Callable[[], dict[str, Any]], *, due: bool = False) -> None:
        super().checkpoint(step, capture, due=True)
        self.checkpoints += 1
        if self.checkpoints == self.stop:
            raise KeyboardInterrupt


def _attempt(folder: Path, requested: Budget, number: int, stop: int | None = None) -> tuple[dict[str, Any], int]:
    with Stopping(folder, number, stop) as report:
        work = setup(requested)
        torch.manual_seed(requested.seed)
        done = methods.get(requested.method).run(work, report)
        return done.model.state_dict(), report.checkpoints


def test_a_killed_run_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    requested = budget(name).replace(epochs=0.6)
    (tmp_path / "whole").mkdir()
    expected, steps = _attempt(tmp_path / "whole", requested, 1)
    assert steps > 0 or not methods.get(name).info.trains
    for stop in sorted({max(1, steps // 3), max(1, steps - 1)}) if steps else ():
        folder = tmp_path / f"killed {stop}"
        folder.mkdir()
        with contextlib.suppress(KeyboardInterrupt):
            _attempt(folder, requested, 1, stop)
        resumed, _ = _attempt(folder, requested, 2)
        assert resumed.keys() == expected.keys()
        assert all(torch.equal(resumed[key], expected[key]) for key in expected), stop
    again, _ = _attempt(_made(tmp_path / "again"), requested, 1)
    assert all(torch.equal(again[key], expected[key]) for key in expected), "the same seed gives the same model"


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def test_it_runs_without_a_run_folder(name: str) -> None:
    work = setup(budget(name).replace(epochs=0.6))
    methods.get(name).check(work)
    done = methods.get(name).run(work, Reporter())
    assert set(weight_quantizers(done.model)) == {layer.name for layer in done.setup(work).graph.layers}


# What one takes home --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundle(name: str, root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder, _ = finished(root, name)
    path = export(folder, tmp_path_factory.mktemp("bundle") / "bundle.zip", latency=False).path
    with zipfile.ZipFile(path) as archive:
        return {member: archive.read(member) for member in archive.namelist()}


def test_the_packed_file_holds_the_model(name: str, root: Path, bundle: dict[str, bytes], tmp_path: Path) -> None:
    _, result = finished(root, name)
    path = tmp_path / "weights.packed"
    path.write_bytes(bundle["weights.packed"])
    assert len(bundle["weights.packed"]) == result["final"]["bytes"] == result["ledger"]["total"]
    assert sum(result["ledger"][part] for part in result["ledger"] if part != "total") == result["ledger"]["total"]
    kinds = {row["kind"] for row, _ in rows(path) if row.get("kind") in all_encodings()}
    assert kinds <= methods.get(name).encodings
    stored, plain = unpack(path), load(bundle["model.safetensors"])
    assert stored.keys() == plain.keys()
    assert all(torch.equal(stored[key], plain[key]) for key in plain)


def test_onnx_agrees_with_torch(name: str, root: Path, bundle: dict[str, bytes], tmp_path: Path) -> None:
    example = load(bundle["example.safetensors"])
    runner = onnxruntime.InferenceSession(bundle["model.onnx"], providers=["CPUExecutionProvider"])
    answer = runner.run(None, {"x": example["input"].numpy()})[0]
    quantized = any(each["activation"] for each in finished(root, name)[1]["final"]["bits"].values())
    difference = np.abs(answer - example["output"].numpy()).max()
    assert difference < (0.5 if quantized else 1e-3)
    path = tmp_path / "bundle.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in bundle.items():
            archive.writestr(member, data)
    with torch.no_grad():
        assert torch.allclose(cx.load(path)(example["input"]), example["output"], atol=1e-5)


def test_the_card_says_what_was_done_and_nothing_else(name: str, root: Path, bundle: dict[str, bytes]) -> None:
    method, (folder, result) = methods.get(name), finished(root, name)
    card = bundle["MODEL_CARD.md"].decode()
    described = method.describe(folder.budget())
    assert f"Asked for: {described}." in card
    assert f"compressed with {method.info.label}" in card
    assert all(f"- {caveat}" in card for caveat in method.caveats(result))
    if any(isinstance(ask, Sparsity) for ask in method.asks) or not method.removes_units:
        assert ("units removed" in described) == (result["final"]["unit_sparsity"] > 0)
    zeroes = any(isinstance(ask, Sparsity) and not method.removes_units for ask in method.asks)
    assert ("weights at zero" in described) == zeroes == any("unstructured" in each for each in method.caveats(result))
    assert ("nothing is trained" in described) == (not method.info.trains)
    for ask in method.asks:
        words = ask.words(ask.value(folder.budget().asks))
        assert words in described


def test_its_budget_in_the_bundle_makes_the_run_again(name: str, root: Path, bundle: dict[str, bytes]) -> None:
    folder, _ = finished(root, name)
    again = Budget.from_dict(json.loads(bundle["budget.json"]))
    assert methods.get(name).values(again) == methods.get(name).values(folder.budget())


def test_apply_puts_it_on_a_model_or_says_how_to_run_it(name: str) -> None:
    model, requested = network(), budget(name)
    batch = torch.randn(8, 1, 12, 12)
    try:
        ready = cx.apply(model, requested, calibration=batch)
    except CompressionError as error:
        assert f"--method {name}" in str(error)
        assert not weight_quantizers(model), "refused before the first change"
        return
    assert ready is model
    assert set(weight_quantizers(ready))
    activations = methods.get(name).ask("--activation-bits")
    assert bool(activation_quantizers(ready)) == (activations is not None)


# The command line -----------------------------------------------------------------------------------------------------


def test_the_command_line_lists_forecasts_and_refuses(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    method = methods.get(name)
    assert main(["methods", name]) == 0
    shown = capsys.readouterr().out
    assert all(option.name in shown for option in method.Config.table())
    assert main(["forecast", "--model", "resnet8", "--data", "mnist5k", "--method", name, "--json", "-"]) == 0
    assert f'"method": "{name}"' in capsys.readouterr().out
    words = ["run", "--model", "resnet8", "--data", "mnist5k", "--method", name, "--option", "no_such=1"]
    assert main(words) == 2
    assert "no_such" in capsys.readouterr().err


def test_its_run_is_listed_and_shown(name: str, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, _ = finished(root, name)
    assert isinstance(folder, RunFolder)
    assert main(["show", folder.id, "--runs", str(root)]) == 0
    assert folder.id in capsys.readouterr().out


def test_the_reference_is_what_the_methods_say(tmp_path: Path) -> None:
    from compression.methods.document import markdown

    page = (hello.ROOT / "docs" / "methods.md").read_text(encoding="utf-8")
    before, _, after = markdown().partition("\n## Two widths")
    mine = before + after[after.index("\n## Not among them") :]
    assert page == mine, "python -m compression.methods.document > docs/methods.md"
    assert "| `extra` | a whole number in 0..8 | 2 |" in markdown()
