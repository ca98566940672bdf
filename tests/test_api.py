"""The public API: lazy at run time, typed for checkers, complete in ``dir``; renamed arguments still work."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from torch import nn

import compression as cx
from compression.errors import CompressionError
from compression.quant import activation_quantizers

ROOT = Path(__file__).resolve().parents[1]
HEAD = """\
from collections.abc import Callable

import torch
from torch import nn

import compression as cx


def readme(
    model: nn.Module, trained: nn.Module, example_input: torch.Tensor, data: str, steps: int,
    my_function: Callable[[], nn.Module],
) -> None:
"""
MISUSES = """\
cx.traec(model, example_input)
cx.trace(model)
cx.quantize(model, weight_bits="16")
cx.quantize(model, calibration_range="median")
cx.quantize(model, nonsense=1)
cx.QASSO(model, graph, sparsity=0.5, bits=4, total_steps=steps, lr=0.1)
cx.slim(graph, model)
cx.opq.allocate(model, sparsity=0.7, bits=4, grids="plain")
plan.nonsense
cx.load(7)
cx.compress(model)
cx.apply(trained)
"""


@dataclass
class Report:
    """What a type checker says of a file: the lines with errors, and the type revealed at each line (from 1)."""

    errors: dict[int, str] = field(default_factory=dict)
    revealed: dict[int, str] = field(default_factory=dict)


def _run(command: list[str], cwd: Path, **variables: str) -> str:
    result = subprocess.run(command, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True)
    assert result.returncode in (0, 1), result.stdout + result.stderr  # 1: there are errors; more: the checker failed
    return result.stdout


def _mypy(path: Path) -> Report:
    options = ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    command = [sys.executable, "-m", "mypy", *options, "--output", "json", str(path)]
    report = Report()
    for line in map(json.loads, _run(command, ROOT, MYPYPATH=str(ROOT)).splitlines()):
        assert Path(line["file"]).name == path.name, line
        if line["severity"] == "error":
            report.errors[line["line"]] = line["message"]
        elif line["message"].startswith("Revealed type is"):
            report.revealed[line["line"]] = line["message"].split('"')[1]
    return report


def _basedpyright(path: Path) -> Report:
    beside = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    program = shutil.which("basedpyright", path=beside)
    if program is None:
        pytest.skip("basedpyright is not installed (requirements-dev.txt)")
    settings = {
        "typeCheckingMode": "standard",
        "extraPaths": [str(ROOT)],
        "pythonVersion": "3.11",  # from 3.14 on pyright takes the standard library's package of the same name
        "reportUnusedExpression": "none",
    }
    (path.parent / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [program, "-p", str(path.parent), "--pythonpath", sys.executable, "--outputjson", str(path)]
    report = Report()
    for entry in json.loads(_run(command, path.parent))["generalDiagnostics"]:
        line = entry["range"]["start"]["line"] + 1
        if entry["severity"] == "error":
            report.errors[line] = entry["message"]
        elif entry["message"].startswith("Type of"):
            report.revealed[line] = entry["message"].split(" is ", 1)[1].strip('"')
    return report


@pytest.mark.parametrize("page", ["README.md", "docs/api.md"])
@pytest.mark.parametrize("check", [_mypy, _basedpyright])
def test_the_snippet_of_a_page_is_typed_and_misuse_is_an_error(
    check: Callable[[Path], Report], page: str, tmp_path: Path
) -> None:
    snippets = re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    snippet = "\n".join(text for text in snippets if "import compression as cx" in text)
    assert "cx.trace(" in snippet and "cx.quantize(" in snippet and "cx.load(" in snippet
    names = "".join(f"reveal_type(cx.{name})\n" for name in cx.__all__)
    path = tmp_path / "readme.py"
    path.write_text(HEAD + textwrap.indent(snippet + names + MISUSES, "    "))
    report = check(path)
    lines = path.read_text().splitlines()
    assert {lines[number - 1].strip() for number in report.errors} == set(MISUSES.splitlines()), report.errors
    types = {lines[number - 1].strip(): shown for number, shown in report.revealed.items()}
    assert len(types) == len(cx.__all__)
    assert not [name for name, shown in types.items() if shown in ("Any", "Unknown", "object", "builtins.object")]


def test_type_checkers_and_the_run_time_see_the_same_names() -> None:
    tree = ast.parse((ROOT / "compression" / "__init__.py").read_text())
    (guard,) = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [node for node in guard.body if isinstance(node, ast.ImportFrom)]
    typed = {alias.name: str(node.module) for node in imports for alias in node.names}
    lazy: Mapping[str, str] = {**cx._OBJECTS, **{name: path.rpartition(".")[0] for name, path in cx._MODULES.items()}}
    assert typed.pop("runs") == "compression.runs.typed"  # a module that can be called is a class to type checkers
    assert typed == {name: module for name, module in lazy.items() if name != "runs"}
    assert {*typed, "runs", "__version__"} == set(cx.__all__)
    assert (ROOT / "compression" / "py.typed").is_file()


def test_dir_is_complete_before_anything_was_imported() -> None:
    code = (
        "import sys, compression as cx\nmissing = set(cx.__all__) - set(dir(cx))\nassert 'torch' not in sys.modules\n"
        "print(sorted(missing), [name for name in cx.__all__ if getattr(cx, name, None) is None])"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (result.stdout.strip(), result.returncode) == ("[] []", 0), result.stderr
    with pytest.raises(AttributeError, match="nonsense"):
        cx.nonsense  # noqa: B018


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.body(x)


BATCH = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def _input_bounds(model: nn.Module) -> dict[str, float]:
    return {name: quantizer.clip.item() for name, quantizer in activation_quantizers(model).items()}


def test_quantize_accepts_the_old_names_and_warns_with_the_new_ones() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        largest = _input_bounds(cx.quantize(Net(), 8, calibration=BATCH))
        narrow = _input_bounds(cx.quantize(Net(), 8, BATCH, calibration_range="percentile"))
    assert largest["body.0"] == pytest.approx(1.05 * float(BATCH.abs().max()))
    assert 0 < narrow["body.0"] < largest["body.0"]
    with pytest.warns(DeprecationWarning, match=r"activations=….*calibration=…") as caught:
        assert _input_bounds(cx.quantize(Net(), 8, activations=BATCH)) == largest
    assert [Path(warning.filename) for warning in caught] == [Path(__file__)], "the line to change is named"
    with pytest.warns(DeprecationWarning) as both:
        assert _input_bounds(cx.quantize(Net(), 8, activations=[BATCH], calibration="percentile")) == narrow
    assert ["calibration_range=" in str(w.message) for w in both] == [True, False]
    with pytest.warns(DeprecationWarning, match="calibration_range"):
        assert _input_bounds(cx.quantize(Net(), 8, calibration="max")) == {}


def test_quantize_refuses_two_names_for_one_argument_and_unknown_ranges() -> None:
    with pytest.raises(TypeError, match="activations"):
        cx.quantize(Net(), 8, activations=BATCH, calibration=BATCH)
    with pytest.raises(CompressionError, match="calibration_range"):
        cx.quantize(Net(), 8, BATCH, calibration_range="median")
    with pytest.warns(DeprecationWarning), pytest.raises(CompressionError, match="calibration_range"):
        cx.quantize(Net(), 8, BATCH, calibration="median")
